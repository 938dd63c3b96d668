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
    `hole` are the taps of the narrower Gaussian that is taken off in the pixel's own frame, where
    noise is correlated; None takes off the pixel itself only. `past` holds the K-1 class maps and
    the count map of the frames before the first.
    """

    cells: Cells = eqx.field(static=True)
    places: Places
    taps: Float[Array, " R"]
    hole: Float[Array, " H"] | None
    decay: Float[Array, ""]
    own: Float[Array, "S n"]
    neighbours: Float[Array, "T n"]
    past: Float[Array, "K Y X"] | None

    def others(
        self,
        total: Float[Array, "k Y X"],
        frame: Float[Array, "k Y X"] | None,
        at: Places,
        own: Float[Array, " n"],
        values: Float[Array, "k n"],
    ) -> Float[Array, "k n"]:
        """Kernel sums at a frame's pixels over the other pixels.

        `total` are the cells' sums over time, `frame` those of the present frame alone (needed
        where there is a hole), `own` what a pixel of value 1 adds to the sum at itself.
        """

        def read_at(maps: Array, taps: Array) -> Array:
            return read(smooth(maps, taps), at.cell, at.down, at.right, self.cells.side)

        sums = read_at(total, self.taps)
        if self.hole is None or frame is None:
            return jnp.maximum(sums - own[None] * values, 0)
        return jnp.maximum(sums - read_at(frame, self.hole), 0)


class Fold(eqx.Module):
    """Pixels (1, or 0) whose classes the others are told of, and those whose density counts."""

    told: Float[Array, "S n"]
    judged: Float[Array, "S n"]


class Surroundings(eqx.Module):
    """Where proportions come from: the kernels, and what the frame's weights count beside them.

    `fold` parts the pixels in those that vote and those that are judged; None: all do both.
    """

    levels: tuple[Level, ...]
    pseudo_count: Float[Array, ""]
    causal: bool = eqx.field(static=True)
    fold: Fold | None


class Coupling(eqx.Module):
    """How proportions follow the neighbours: log pi_k = power log m_k + known field_k + constant.

    `known` goes from 0 without neighbours to 1 with many, and `power` with it from 1 to `strength`.
    All frames share the strength; each has a field of its own, because neighbours in other frames
    show more of what shrinks and less of what grows.
    """

    strength: Float[Array, ""]
    field: Float[Array, "*T K"]


class Sums(eqx.Module):
    """What one pass over the pixels of a frame yields.

    `slope` and `curvature` are those of the pseudo-likelihood in the coupling: strength, field.
    """

    log_likelihood: Float[Array, "*T"]
    stats: Stats
    responsibilities: Float[Array, "*T k n"]
    slope: Float[Array, "*T C"]
    curvature: Float[Array, "*T C C"]
    change: Float[Array, "*T"]


def gathered(
    cells: Cells, cell: Int[Array, "S n"], values: Float[Array, "R k n"], n_frames: int
) -> Float[Array, "T k Y X"]:
    """Values of each frame's pixels on the cells.

    R is T, or 1 where all frames hold the same values at the same places.
    """

    def binned(args):
        return bin_frame(cells, *args)

    rows, _, n = values.shape
    cell = jnp.broadcast_to(cell, (rows, n))
    maps = batched_map(binned, (cell, values), max(1, CHUNK // n))
    return jnp.broadcast_to(maps, (n_frames, *maps.shape[1:]))


def make_level(
    cells: Cells,
    pixels: Pixels,
    width: Float[Array, ""],
    decay: Float[Array, ""],
    causal: bool,
    past: Float[Array, "K Y X"] | None,
    buffer: Float[Array, ""] | None = None,
) -> tuple[Level, Float[Array, "Y X"]]:
    """What is fixed about one kernel during a fit, and the counts for later frames.

    Places and weights of `pixels` are (S, n): S is 1 where all frames share them. `buffer` is the
    sd of the hole in the kernel, if there is one; cells are then single pixels.
    """
    weight, n_frames = pixels.weight, pixels.n_frames
    where = places(cells, pixels.rows, pixels.cols, weight.dtype)
    taps = taps_of(width, cells, weight.dtype)
    own = own_share(taps, where)
    hole = None if buffer is None else taps_of(buffer, cells, weight.dtype)
    before = None if past is None else past[-1:]
    frames = gathered(cells, where.cell, weight[:, None], n_frames)
    maps, last = over_time(frames, decay, causal, before)
    n = weight.shape[1]
    none = jnp.zeros((n_frames, n), weight.dtype)
    level = Level(cells, where, taps, hole, decay, own, none, past)

    def at(args):
        total, frame, place, share, w = args
        return level.others(total, frame, place, share, w[None])[0]

    def of_frames(a: Array) -> Array:
        return jnp.broadcast_to(a, (n_frames, n))

    fixed = jax.tree.map(of_frames, (where, own, weight))
    only = None if hole is None else frames
    neighbours = batched_map(at, (maps, only, *fixed), max(1, CHUNK // n))
    return eqx.tree_at(lambda v: v.neighbours, level, neighbours), last[0]


def proportions(
    levels: tuple[Level, ...],
    maps: tuple[Float[Array, "k Y X"], ...],
    frames: tuple[Float[Array, "k Y X"] | None, ...],
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
    for level, total, frame, where, share, count in reversed(
        list(zip(levels, maps, frames, at, own, neighbours, strict=True))
    ):
        others = level.others(total, frame, where, share, old)
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
    around: tuple[Float[Array, "K n"], Float[Array, " n"], Coupling],
    old: Float[Array, "k n"],
    judged: Float[Array, " n"] | None,
) -> Sums:
    """E-step of one frame, with proportions from the neighbours: `around` is log m, `known` and
    the coupling. Its `slope` and `curvature` come from every s-th pixel of large frames.
    """
    log_m, known, coupling = around
    k = log_m.shape[0]
    power = 1 + (coupling.strength - 1) * known
    high = jax.lax.Precision.HIGHEST
    unnormalised_pi = power[None] * log_m + coupling.field[:, None] * known[None]
    log_weights = jax.lax.dot(jnp.eye(k, dtype=log_m.dtype), unnormalised_pi, precision=high)
    # FLOOR**10 is still a float32 above 0, so no largest term need be taken out
    norm = jax.lax.dot(jnp.ones((1, k), log_m.dtype), jnp.exp(log_weights), precision=high)[0]
    resp, u, unnormalised = posterior(params, values, design, weight, log_weights, family, judged)
    counted = weight if judged is None else weight * judged
    log_likelihood = unnormalised - pairwise_sum(counted * jnp.log(norm))
    new = resp[:-1]
    step = (new - old).reshape(-1)
    change = 4 * jnp.dot(step, step, precision=high)

    some = slice(None, None, max(1, values.shape[0] // FEW))
    pi = jnp.exp(log_weights[:, some]) / norm[some][None]
    labels = resp if judged is None else resp * judged[None]
    slope, curvature = _in_coupling(log_m[:, some], pi, labels[:, some], counted[some], known[some])
    stats = moments(params, resp, u, design, family)
    return Sums(log_likelihood, stats, new, slope, curvature, change)


def _in_coupling(
    log_m: Float[Array, "K n"],
    pi: Float[Array, "K n"],
    resp: Float[Array, "K n"],
    weight: Float[Array, " n"],
    known: Float[Array, " n"],
) -> tuple[Float[Array, " C"], Float[Array, "C C"]]:
    """Slope and negative curvature of sum r log pi in strength and field, C = 1 + K."""
    high = jax.lax.Precision.HIGHEST
    mean = jnp.sum(pi * log_m, axis=0)
    off = pi * (log_m - mean[None])
    more = known[None] * (resp - weight[None] * pi)
    slope = jnp.concatenate([jnp.sum(more * log_m)[None], jnp.sum(more, axis=1)])
    square = (weight * known**2)[None]
    both = jnp.sum(square * off, axis=1)
    of_strength = jnp.sum(square * off * log_m)[None]
    of_field = jnp.diag(jnp.sum(square * pi, axis=1)) - jax.lax.dot(
        square * pi, pi.T, precision=high
    )
    top = jnp.concatenate([of_strength, both])[None]
    rest = jnp.concatenate([both[:, None], of_field], axis=1)
    return slope, jnp.concatenate([top, rest])


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
    around: Surroundings,
    old: Float[Array, "T k n"],
    coupling: Coupling,
) -> Sums:
    """Proportions from the old responsibilities, then the E-step of every frame."""
    n = item.values.shape[1]
    fold, levels = around.fold, around.levels
    told = old if fold is None else old * fold.told[:, None]
    frames = _of_frames(around, told)
    maps = tuple(
        over_time(f, v.decay, around.causal, None if v.past is None else v.past[:-1])[0]
        for v, f in zip(levels, frames, strict=True)
    )
    only = tuple(None if v.hole is None else f for v, f in zip(levels, frames, strict=True))
    shared = item.weight.shape[0] == 1

    def one(args):
        frame_params, z, frame_maps, frame_only, neighbours, frame_old, field, place = args
        if shared:
            place = _first(item, around)
        design, weight, where, own, parts = place
        votes = frame_old if parts is None else frame_old * parts.told[None]
        log_m = proportions(
            levels,
            frame_maps,
            frame_only,
            where,
            own,
            neighbours,
            votes,
            frame_params.weights,
            around.pseudo_count,
        )
        known = neighbours[0] / (neighbours[0] + around.pseudo_count)
        here = log_m, known, Coupling(coupling.strength, field)
        judged = None if parts is None else parts.judged
        return frame_step(model.family, frame_params, z, design, weight, here, frame_old, judged)

    place = None
    if not shared:
        where = tuple(level.places for level in levels)
        own = tuple(level.own for level in levels)
        place = (jnp.moveaxis(item.design, 1, 0), item.weight, where, own, fold)
    neighbours = tuple(v.neighbours for v in levels)
    args = (params, item.values, maps, only, neighbours, old, coupling.field, place)
    return batched_map(one, args, max(1, CHUNK // n))


def _of_frames(
    around: Surroundings, told: Float[Array, "T k n"]
) -> tuple[Float[Array, "T k Y X"], ...]:
    """The responsibilities that are told, on the cells of each kernel."""
    return tuple(gathered(v.cells, v.places.cell, told, len(told)) for v in around.levels)


def _first(item: Item, around: Surroundings) -> tuple:
    """Design, weights, places and fold that all frames share."""
    where = tuple(jax.tree.map(lambda a: a[0], level.places) for level in around.levels)
    own = tuple(level.own[0] for level in around.levels)
    fold = jax.tree.map(lambda a: a[0], around.fold)
    return item.design[:, 0], item.weight[0], where, own, fold


def inherited(
    around: Surroundings, old: Float[Array, "T k n"]
) -> tuple[Float[Array, "k Y X"], ...]:
    """Decayed class maps of each kernel that frames after the last start from."""
    return tuple(
        over_time(f, v.decay, True, None if v.past is None else v.past[:-1])[1]
        for v, f in zip(around.levels, _of_frames(around, old), strict=True)
    )
