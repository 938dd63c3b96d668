"""Batch items: independent fits side by side, and one E-step over the frames of an item."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.family import GAUSSIAN, Family
from jaxmicro.mixture.gmrm import GMRM, Params, Stats, e_step

CHUNK = 32_768  # pixels of small frames worked on together where no matrix product is in the way
BLOCK = 8192  # pixels of a frame worked on together: some forty rows of them stay in cache
THIN = 16_384  # pixels a frame that the first stage of a large fit looks at


class Item(eqx.Module):
    """The pixels of one independent fit; `design` and `weight` may be shared by its frames.

    `n_blocks` equal blocks of pixels are worked on one after the other; see `padded`.
    """

    values: Float[Array, "T n"]
    design: Float[Array, "P S n"]
    weight: Float[Array, "S n"]
    n_blocks: int = eqx.field(static=True, default=1)


def batched_map(function: Callable[[Any], Any], args: Any, batch_size: int) -> Any:
    """`jax.lax.map` over the leading axis, `batch_size` items at a time by `vmap`.

    Unlike `lax.map` it takes arrays with an empty axis (a model without a trend has one).
    """
    size = jax.tree.leaves(args)[0].shape[0]
    batch_size = max(1, min(size, batch_size))
    if size == 1:  # a batched matrix product is slower than a plain one
        return jax.tree.map(lambda a: a[None], function(jax.tree.map(lambda a: a[0], args)))
    if batch_size == size:
        return jax.vmap(function)(args)
    blocks = -(-size // batch_size)
    pick = jnp.minimum(jnp.arange(blocks * batch_size), size - 1).reshape(blocks, batch_size)
    body = function if batch_size == 1 else jax.vmap(function)

    def step(_: None, index: Array) -> tuple[None, Any]:
        index = index[0] if batch_size == 1 else index
        return None, body(jax.tree.map(lambda a: a[index], args))

    _, out = jax.lax.scan(step, None, pick)
    if batch_size == 1:
        return out
    return jax.tree.map(lambda a: a.reshape(blocks * batch_size, *a.shape[2:])[:size], out)


def thinned(item: Item) -> Item:
    """A fixed random choice of THIN pixels of each frame."""
    pick = np.sort(np.random.default_rng(0).permutation(item.values.shape[1])[:THIN])
    return padded(Item(item.values[:, pick], item.design[:, :, pick], item.weight[:, pick]))


def e_steps(
    params: Params, item: Item, family: Family = GAUSSIAN
) -> tuple[Float[Array, " T"], Stats]:
    """E-step of every frame of an item."""
    return over_frames(functools.partial(e_step, family=family), params, item)


def blocks_of(n: int) -> tuple[int, int]:
    """Number of blocks that the n pixels of a frame are cut into, and pixels in each.

    The last block may reach beyond n. Sizes are multiples of 64: rows that start on a vector's
    boundary are several times faster.
    """
    n_blocks = max(1, round(n / BLOCK))
    return n_blocks, 64 * max(1, -(-n // (64 * n_blocks)))


def over_frames(function: Callable[..., Any], params: Any, item: Item) -> Any:
    """`function(params, values, design, weight)` of each frame, summed over blocks of its pixels.

    The number of pixels must be a multiple of `item.n_blocks`; `padded` sees to that.
    """
    n_frames, n = item.values.shape
    shared = item.weight.shape[0] == 1
    n_blocks = item.n_blocks
    size = n // n_blocks
    if size * n_blocks != n:
        raise ValueError(f"{n} pixels are not {n_blocks} equal blocks; use `padded` first")

    def one(args):
        frame_params, z, design, weight = args
        if shared:
            design, weight = item.design[:, 0], item.weight[0]
        if n_blocks == 1:
            return function(frame_params, z, design, weight)

        def block(start):
            def cut(a):
                return jax.lax.dynamic_slice_in_dim(a, start, size, axis=-1)

            return function(frame_params, cut(z), cut(design), cut(weight))

        def add(total, start):
            return jax.tree.map(jnp.add, total, block(start)), None

        shape = jax.eval_shape(block, jnp.zeros((), jnp.int32))
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)
        return jax.lax.scan(add, zero, size * jnp.arange(n_blocks, dtype=jnp.int32))[0]

    place = (None, None) if shared else (jnp.moveaxis(item.design, 1, 0), item.weight)
    if n_frames == 1:
        out = one(jax.tree.map(lambda a: a[0], (params, item.values, *place)))
        return jax.tree.map(lambda a: a[None], out)
    return batched_map(one, (params, item.values, *place), at_once(n))


def at_once(n_pixels: int) -> int:
    """How many frames or items of that size to work on together.

    A CPU multiplies plain matrices faster than batches of them, so only tiny frames go together;
    an accelerator wants to be filled.
    """
    room = 2048 if jax.default_backend() == "cpu" else 2**22
    return max(1, room // n_pixels)


def padded(item: Item) -> Item:
    """The item with pixels of weight 0 added until its blocks are of one size."""
    n = item.values.shape[1]
    n_blocks, size = blocks_of(n)
    more = n_blocks * size - n

    def pad(a: Array) -> Array:
        return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)])

    return Item(pad(item.values), pad(item.design), pad(item.weight), n_blocks)


def over_items(
    function: Callable[[Any], Any],
    model: GMRM,
    pixels: Pixels,
    more: Any,
    terms: Float[Array, " P"] | None = None,
) -> Any:
    """`function((item, part of more))` of every independent fit of the batch.

    `terms` (0 or 1) say which terms of the trend are in use; None: all.
    """
    values = pixels.values
    n = values.shape[-1]
    design = model.design(pixels)
    if terms is not None:
        design = design * terms.reshape(-1, *[1] * (design.ndim - 1))
    weight = pixels.weight.astype(values.dtype)
    z = by_item(model, values, 1)
    if pixels.shared:
        place = None
        fixed = design.reshape(design.shape[0], 1, n), weight.reshape(1, n)
    else:
        moved = by_item(model, jnp.moveaxis(design, 0, -2), 2)
        place = jnp.moveaxis(moved, 2, 1), by_item(model, weight, 1)

    def one(args):
        z, place, rest = args
        return function((Item(z, *(fixed if place is None else place)), rest))

    return batched_map(one, (z, place, more), at_once(z.shape[1] * n))


def by_item(model: GMRM, a: Array, tail: int) -> Array:
    """(frames, replicates, ...) -> (fits, frames of the fit, ...); `tail` axes stay."""
    batch, rest = a.shape[: a.ndim - tail], a.shape[a.ndim - tail :]
    n_frames, n_rep = batch[0], int(np.prod(batch[1:]))  # an empty axis allows no -1
    a = a.reshape(n_frames, n_rep, *rest)
    return jnp.moveaxis(a, 1, 0) if model.share else a.reshape(n_frames * n_rep, 1, *rest)


def by_fit(model: GMRM, pixels: Pixels, init: Params) -> Params:
    """Parameters of the frames (and replicates), or of one frame for all, as items have them."""
    batch, dtype = pixels.values.shape[:-1], pixels.values.dtype
    full = jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, a.shape[-1])), init)
    return jax.tree.map(lambda a: by_item(model, a.astype(dtype), 1), full)


def by_frame(model: GMRM, pixels: Pixels, found: Any) -> Any:
    """What `over_items` returned, with the batch axes of the pixels again."""
    batch = pixels.values.shape[:-1]

    def back(a: Array) -> Array:
        if model.share:
            a = jnp.moveaxis(a, 0, 1)
        return a.reshape(*batch, *a.shape[2:])

    return jax.tree.map(back, found)
