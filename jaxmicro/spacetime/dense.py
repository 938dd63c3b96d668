"""A map of the classes where nothing was sampled, with its uncertainty.

At an unvisited pixel the class probabilities are the proportions that the sampled pixels near it
in space and time suggest (the same kernel sums as in `local`); at a visited pixel they are its own
posterior. A map to look at: it smooths what it did not see, so areas are never read off it.
"""

from __future__ import annotations

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.spacetime.local import DEFAULT, Local
from jaxmicro.spacetime.local_em import FLOOR, Coupling, gathered
from jaxmicro.spacetime.smooth import (
    Cells,
    Places,
    cells_for,
    over_time,
    places,
    read,
    smooth,
    taps_of,
)


def dense_maps(
    responsibilities: Float[Array, "t K n"],
    pixels: Pixels,
    weights: Float[Array, "t K"],
    local: Local = DEFAULT,
    coupling: Coupling | None = None,
) -> Iterator[Float[np.ndarray, "K y x"]]:
    """Class probabilities at every pixel, frame by frame.

    Args:
      responsibilities: of the sampled pixels, from a local or a plain fit.
      pixels: batch axes (frames,).
      weights: the frames' class weights, which the map takes where no pixel was visited nearby.
      local: kernel and pseudo-count, as in the fit.
      coupling: strength and field, as in the fit; None for a plain fit.

    Raises:
      UsageError: pixels with replicates.
    """
    if pixels.values.ndim != 2:
        raise UsageError("a dense map needs (frames,) of pixels; index the replicates first")
    kernel = local.kernel(
        float(np.mean(np.asarray(pixels.n_pixels))), pixels.shape, pixels.n_frames
    )
    cells = cells_for(kernel.width, pixels.shape)
    dtype = responsibilities.dtype
    numbers = [jnp.asarray(v, dtype) for v in (kernel.width, kernel.decay, local.pseudo_count)]
    if coupling is None:
        none = jnp.zeros(weights.shape, dtype)
        coupling = Coupling(jnp.ones((), dtype), none)
    maps = _maps(responsibilities, pixels, cells, local.causal, numbers[1])
    everywhere = np.indices(pixels.shape).reshape(2, 1, -1).astype(np.int32)
    grid = places(cells, jnp.asarray(everywhere[0]), jnp.asarray(everywhere[1]), dtype)
    for t in range(pixels.n_frames):
        of_frame = Coupling(coupling.strength, coupling.field[t])
        out = np.array(_frame(maps[t], weights[t].astype(dtype), grid, cells, of_frame, *numbers))
        frame = pixels.at(t)
        seen = np.asarray(frame.weight) > 0
        spots = np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]
        out = out.reshape(-1, *pixels.shape)
        out[:, spots[0], spots[1]] = np.asarray(responsibilities[t])[:, seen]
        yield out


def entropy_bits(foreground: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Entropy of a foreground probability: 0 sure, 1 bit where it could be either."""
    p = np.clip(np.asarray(foreground, np.float64), 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


@eqx.filter_jit
def _maps(
    responsibilities: Float[Array, "t K n"],
    pixels: Pixels,
    cells: Cells,
    causal: bool,
    decay: Float[Array, ""],
) -> Float[Array, "t K Y X"]:
    """Sums of the K-1 first classes' responsibilities and of ones, on the cells, over time."""
    n_frames, k, n = responsibilities.shape
    rows, cols, weight = (
        a[None] if pixels.shared else a for a in (pixels.rows, pixels.cols, pixels.weight)
    )
    weight = weight.astype(responsibilities.dtype)
    where = places(cells, rows, cols, weight.dtype)
    ones = jnp.broadcast_to(weight[:, None], (n_frames, 1, n))
    values = jnp.concatenate([responsibilities[:, : k - 1] * ones, ones], axis=1)
    return over_time(gathered(cells, where.cell, values, n_frames), decay, causal)[0]


@eqx.filter_jit
def _frame(
    maps: Float[Array, "K Y X"],
    weights: Float[Array, " K"],
    grid: Places,
    cells: Cells,
    coupling: Coupling,
    width,
    decay,
    pseudo_count,
) -> Float[Array, "K pixels"]:
    smoothed = smooth(maps, taps_of(width, cells, maps.dtype))
    sums = read(smoothed, grid.cell[0], grid.down[0], grid.right[0], cells.side)
    count = jnp.maximum(sums[-1:], 0)
    mixed = (pseudo_count * weights[:-1, None] + jnp.maximum(sums[:-1], 0)) / (pseudo_count + count)
    mixed = jnp.concatenate([mixed, 1 - jnp.sum(mixed, axis=0, keepdims=True)])
    known = count / (pseudo_count + count)
    power = 1 + (coupling.strength - 1) * known
    log_pi = power * jnp.log(jnp.maximum(mixed, FLOOR)) + coupling.field[:, None] * known
    return jax.nn.softmax(log_pi, axis=0)
