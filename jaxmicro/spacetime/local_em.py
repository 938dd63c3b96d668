"""One step of ECM with local class proportions, over all frames of a movie at once."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import CHUNK, Item, batched_map
from jaxmicro.mixture.family import Family
from jaxmicro.mixture.gmrm import GMRM, Params, Stats, moments, posterior
from jaxmicro.spacetime.smooth import (
    Cells,
    Places,
    bin_frame,
    over_time,
    own_share,
    places,
    read,
    smooth,
    taps_of,
)

FEW = 4096  # pixels a frame that decide the interaction's strength
FLOOR = 1e-6  # least proportion of a class anywhere: the likelihood can still decide against it


class Level(eqx.Module):
    """One kernel width: where the pixels lie, their neighbours, what they add to themselves.

    `neighbours` is the kernel-weighted number of other sampled pixels, 1 for one at distance 0.
    `past` holds the K-1 class maps and the count map of the frames before the first.
    """

    cells: Cells = eqx.field(static=True)
    places: Places
    taps: Float[Array, " R"]
    decay: Float[Array, ""]
    own: Float[Array, "S n"]
    neighbours: Float[Array, "T n"]
    past: Float[Array, "K Y X"] | None


class Sums(eqx.Module):
    """What one pass over the pixels of a frame yields."""

    log_likelihood: Float[Array, "*T"]
    stats: Stats
    responsibilities: Float[Array, "*T k n"]
    slope: Float[Array, "*T"]
    curvature: Float[Array, "*T"]
    change: Float[Array, "*T"]


def gathered_over_time(
    cells: Cells,
    cell: Int[Array, "S n"],
    values: Float[Array, "R k n"],
    n_frames: int,
    decay: Float[Array, ""],
    causal: bool,
    past: Float[Array, "k Y X"] | None,
) -> tuple[Float[Array, "T k Y X"], Float[Array, "k Y X"]]:
    """Values of all frames' pixels on the cells, summed over time, and the sums for later frames.

    R is T, or 1 where all frames hold the same values at the same places.
    """

    def binned(args):
        return bin_frame(cells, *args)

    rows, _, n = values.shape
    cell = jnp.broadcast_to(cell, (rows, n))
    maps = batched_map(binned, (cell, values), max(1, CHUNK // n))
    maps = jnp.broadcast_to(maps, (n_frames, *maps.shape[1:]))
    return over_time(maps, decay, causal, past)


def make_level(
    cells: Cells,
    pixels: Pixels,
    width: Float[Array, ""],
    decay: Float[Array, ""],
    causal: bool,
    past: Float[Array, "K Y X"] | None,
) -> tuple[Level, Float[Array, "Y X"]]:
    """What is fixed about one kernel during a fit, and the counts for later frames.

    Places and weights of `pixels` are (S, n): S is 1 where all frames share them.
    """
    weight, n_frames = pixels.weight, pixels.n_frames
    where = places(cells, pixels.rows, pixels.cols, weight.dtype)
    taps = taps_of(width, cells, weight.dtype)
    own = own_share(taps, where)
    before = None if past is None else past[-1:]
    maps, last = gathered_over_time(
        cells, where.cell, weight[:, None], n_frames, decay, causal, before
    )

    def at(args):
        frame_map, cell, down, right, share, w = args
        total = read(smooth(frame_map, taps), cell, down, right, cells.side)[0]
        return jnp.maximum(total - share * w, 0)

    n = weight.shape[1]
    of_frames = [
        jnp.broadcast_to(a, (n_frames, n))
        for a in (where.cell, where.down, where.right, own, weight)
    ]
    neighbours = batched_map(at, (maps, *of_frames), max(1, CHUNK // n))
    return Level(cells, where, taps, decay, own, neighbours, past), last[0]


def proportions(
    levels: tuple[Level, ...],
    maps: tuple[Float[Array, "k Y X"], ...],
    at: tuple[Places, ...],
    own: tuple[Float[Array, " n"], ...],
    neighbours: tuple[Float[Array, " n"], ...],
    old: Float[Array, "k n"],
    weights: Float[Array, " K"],
    pseudo_count: Float[Array, ""],
) -> Float[Array, "K n"]:
    """Log of the proportions m that the other pixels' responsibilities `old` suggest.

    m = (c m' + sum of the others' responsibilities) / (c + number of neighbours), from the widest
    kernel (where m' is the frame's weights) to the narrowest.
    """
    k = old.shape[0]
    m = jnp.broadcast_to(weights[:k, None], old.shape)
    for level, frame, where, share, count in reversed(
        list(zip(levels, maps, at, own, neighbours, strict=True))
    ):
        smoothed = smooth(frame, level.taps)
        sums = read(smoothed, where.cell, where.down, where.right, level.cells.side)
        others = jnp.maximum(sums - share[None] * old, 0)
        m = (pseudo_count * m + others) * (1 / (pseudo_count + count))[None]
    # The last class is what is left of 1. The matrix product also stores its result, where fused
    # loops would gather and smooth again for every reader.
    to_all = jnp.concatenate([jnp.eye(k), -jnp.ones((1, k))]).astype(old.dtype)
    rest = (jnp.arange(k + 1) == k).astype(old.dtype)
    every = jax.lax.dot(to_all, m, precision=jax.lax.Precision.HIGHEST) + rest[:, None]
    return jnp.log(jnp.maximum(every, FLOOR))


def frame_step(
    family: Family,
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
    around: tuple[Float[Array, "K n"], Float[Array, " n"], Float[Array, ""]],
    old: Float[Array, "k n"],
) -> Sums:
    """E-step of one frame; log pi = b log m + constant.

    `around` is log m, `known` and `interaction`: b goes from 1 without neighbours to `interaction`
    with many, and `known` is how far. `slope` and `curvature` are those of the pseudo-likelihood of
    the responsibilities in `interaction`, from every s-th pixel of large frames.
    """
    log_m, known, interaction = around
    k = log_m.shape[0]
    power = 1 + (interaction - 1) * known
    high = jax.lax.Precision.HIGHEST
    log_weights = jax.lax.dot(jnp.eye(k, dtype=log_m.dtype), power[None] * log_m, precision=high)
    # FLOOR**10 is still a float32 above 0, so no largest term need be taken out
    norm = jax.lax.dot(jnp.ones((1, k), log_m.dtype), jnp.exp(log_weights), precision=high)[0]
    resp, u, unnormalised = posterior(params, values, design, weight, log_weights, family)
    log_likelihood = unnormalised - pairwise_sum(weight * jnp.log(norm))
    new = resp[:-1]
    step = (new - old).reshape(-1)

    some = slice(None, None, max(1, values.shape[0] // FEW))
    lm, r, w, q = log_m[:, some], resp[:, some], weight[some], known[some]
    pi = jnp.exp(log_weights[:, some]) / norm[some][None]
    mean = jnp.sum(pi * lm, axis=0)
    slope = jnp.sum(q * (jnp.sum(r * lm, axis=0) - w * mean))
    spread = jnp.sum(pi * lm * lm, axis=0) - mean**2
    curvature = jnp.sum(w * q**2 * jnp.maximum(spread, 0))
    change = 4 * jnp.dot(step, step, precision=high)
    stats = moments(params, resp, u, design, family)
    return Sums(log_likelihood, stats, new, slope, curvature, change)


def pairwise_sum(terms: Float[Array, " n"]) -> Float[Array, ""]:
    """Sum of partial sums: rounding errors in float32 grow with the terms in a row."""
    n = terms.shape[0]
    width = max(1, int(n**0.5))
    head = terms[: n - n % width].reshape(-1, width)
    return jnp.sum(jnp.sum(head, axis=1)) + jnp.sum(terms[n - n % width :])


def movie_step(
    model: GMRM,
    params: Params,
    item: Item,
    levels: tuple[Level, ...],
    old: Float[Array, "T k n"],
    strength: tuple[Float[Array, ""], Float[Array, ""]],
    causal: bool,
) -> tuple[Sums, tuple[Float[Array, "k Y X"], ...]]:
    """Proportions from the old responsibilities, then the E-step of every frame.

    `strength` is the pseudo-count and the interaction.
    """
    pseudo_count, interaction = strength
    n_frames, n = item.values.shape
    pairs = [
        gathered_over_time(
            level.cells,
            level.places.cell,
            old,
            n_frames,
            level.decay,
            causal,
            None if level.past is None else level.past[:-1],
        )
        for level in levels
    ]
    maps = tuple(m for m, _ in pairs)
    shared = item.weight.shape[0] == 1

    def one(args):
        frame_params, z, frame_maps, neighbours, frame_old, place = args
        if shared:
            design, weight = item.design[:, 0], item.weight[0]
            where = tuple(jax.tree.map(lambda a: a[0], level.places) for level in levels)
            own = tuple(level.own[0] for level in levels)
        else:
            design, weight, where, own = place
        log_m = proportions(
            levels,
            frame_maps,
            where,
            own,
            neighbours,
            frame_old,
            frame_params.weights,
            pseudo_count,
        )
        known = neighbours[0] / (neighbours[0] + pseudo_count)
        around = log_m, known, interaction
        return frame_step(model.family, frame_params, z, design, weight, around, frame_old)

    place = None
    if not shared:
        where = tuple(level.places for level in levels)
        place = (jnp.moveaxis(item.design, 1, 0), item.weight, where, tuple(v.own for v in levels))
    args = (params, item.values, maps, tuple(v.neighbours for v in levels), old, place)
    out = batched_map(one, args, max(1, CHUNK // n))
    return out, tuple(last for _, last in pairs)
