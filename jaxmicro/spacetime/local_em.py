"""One step of ECM with local class proportions, over all frames of a movie at once."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.mixture.gmrm import GMRM, Params, Stats
from jaxmicro.mixture.lanes import CHUNK, Lane, batched_map
from jaxmicro.spacetime.smooth import Cells, Places, bin_frame, over_time, read, smooth

FLOOR = 1e-6  # least proportion of a class anywhere: the likelihood can always outvote it


class Level(eqx.Module):
    """One kernel width: where the pixels lie, their neighbours, what they add to themselves.

    `neighbours` is the kernel-weighted number of other sampled pixels, 1 for one at distance 0.
    `past` holds the K-1 class maps and the count map that the first frame inherits.
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


def counted(
    cells: Cells,
    where: Places,
    taps: Float[Array, " R"],
    decay: Float[Array, ""],
    own: Float[Array, "S n"],
    weight: Float[Array, "S n"],
    n_frames: int,
    causal: bool,
    past: Float[Array, "Y X"] | None,
) -> tuple[Float[Array, "T n"], Float[Array, "Y X"]]:
    """Kernel-weighted number of other sampled pixels at each pixel, and the count map to inherit."""

    def binned(args):
        cell, w = args
        return bin_frame(cells, cell, w[None])

    maps = batched_map(binned, (where.cell, weight), max(1, CHUNK // weight.shape[1]))
    maps = jnp.broadcast_to(maps, (n_frames, *maps.shape[1:]))
    maps, last = over_time(maps, decay, causal, None if past is None else past[None])

    def at(args):
        frame_map, cell, down, right, share, w = args
        total = read(smooth(frame_map, taps), cell, down, right, cells.side)[0]
        return jnp.maximum(total - share * w, 0)

    spread = jax.tree.map(
        lambda a: jnp.broadcast_to(a, (n_frames, a.shape[1])),
        (where.cell, where.down, where.right, own, weight),
    )
    size = max(1, CHUNK // weight.shape[1])
    return batched_map(at, (maps, *spread), size), last[0]


def class_maps(
    level: Level, responsibilities: Float[Array, "T k n"], causal: bool
) -> tuple[Float[Array, "T k Y X"], Float[Array, "k Y X"]]:
    """Responsibilities of all frames on the level's cells, summed over time."""

    def binned(args):
        cell, r = args
        return bin_frame(level.cells, cell, r)

    n_frames, _, n = responsibilities.shape
    cell = jnp.broadcast_to(level.places.cell, (n_frames, n))
    maps = batched_map(binned, (cell, responsibilities), max(1, CHUNK // n))
    past = None if level.past is None else level.past[:-1]
    return over_time(maps, level.decay, causal, past)


def proportions(
    levels: tuple[Level, ...],
    maps: tuple[Float[Array, "k Y X"], ...],
    places: tuple[Places, ...],
    own: tuple[Float[Array, " n"], ...],
    neighbours: tuple[Float[Array, " n"], ...],
    old: Float[Array, "k n"],
    weights: Float[Array, " K"],
    pseudo_count: float,
    interaction: Float[Array, ""],
) -> tuple[list[Float[Array, " n"]], list[Float[Array, " n"]], Float[Array, " n"]]:
    """Log proportions log pi_k of one frame's pixels, the log m_k they come from, and d log pi.

    m = (c m' + sum of the others' responsibilities) / (c + number of neighbours), from the widest
    kernel (where m' is the frame's weights) to the narrowest; log pi_k = b log m_k + constant, where
    b goes from 1 without neighbours to `interaction` with many. The third array is db/d interaction.
    """
    k = weights.shape[0]
    m = [jnp.broadcast_to(weights[j], old.shape[1:]) for j in range(k - 1)]
    for level, frame, where, share, count in reversed(
        list(zip(levels, maps, places, own, neighbours, strict=True))
    ):
        sums = read(
            smooth(frame, level.taps), where.cell, where.down, where.right, level.cells.side
        )
        inverse = 1 / (pseudo_count + count)
        others = jnp.maximum(sums - share[None] * old, 0)
        m = [(pseudo_count * m[j] + others[j]) * inverse for j in range(k - 1)]
    last = 1 - sum(m[1:], m[0]) if k > 1 else jnp.ones(old.shape[1:], old.dtype)
    log_m = [jnp.log(jnp.maximum(p, FLOOR)) for p in (*m, last)]
    known = neighbours[0] / (neighbours[0] + pseudo_count)
    power = 1 + (interaction - 1) * known
    scaled = [power * lm for lm in log_m]
    top = scaled[0]
    for s in scaled[1:]:
        top = jnp.maximum(top, s)
    norm = top + jnp.log(sum([jnp.exp(s - top) for s in scaled[1:]], jnp.exp(scaled[0] - top)))
    return [s - norm for s in scaled], log_m, known


def frame_step(
    model: GMRM,
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
    log_pi: list[Float[Array, " n"]],
    log_m: list[Float[Array, " n"]],
    known: Float[Array, " n"],
    old: Float[Array, "k n"],
) -> Sums:
    """E-step of one frame given its local proportions."""
    even = Params(
        jnp.ones_like(params.weights), params.means, params.sds, params.trend, params.gain
    )
    log_density = model.log_joint(even, values, design)
    joint = [a + b for a, b in zip(log_density, log_pi, strict=True)]
    top = joint[0]
    for j in joint[1:]:
        top = jnp.maximum(top, j)
    part = [jnp.exp(j - top) for j in joint]
    total = sum(part[1:], part[0])
    log_likelihood = pairwise_sum(weight * (top + jnp.log(total)))
    share = weight / total
    resp = [p * share for p in part]
    new = jnp.stack(resp[:-1]) if len(resp) > 1 else jnp.zeros_like(old)

    pi = [jnp.exp(p) for p in log_pi]
    mean = sum([p * lm for p, lm in zip(pi[1:], log_m[1:], strict=True)], pi[0] * log_m[0])
    square = sum(
        [p * lm**2 for p, lm in zip(pi[1:], log_m[1:], strict=True)], pi[0] * log_m[0] ** 2
    )
    under = sum([r * lm for r, lm in zip(resp[1:], log_m[1:], strict=True)], resp[0] * log_m[0])
    slope = jnp.sum(known * (under - weight * mean))
    curvature = jnp.sum(weight * known**2 * jnp.maximum(square - mean**2, 0))
    moved = 2 * (new - old) ** 2 / jnp.maximum(new + old, 1e-6)
    return Sums(
        log_likelihood,
        moments(params, resp, values, design),
        new,
        slope,
        curvature,
        jnp.sum(moved),
    )


def moments(
    params: Params,
    resp: list[Float[Array, " n"]],
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
) -> Stats:
    """Sufficient statistics about the current class means, from weighted responsibilities."""
    p = design.shape[0]
    slope = jnp.zeros_like(values)
    for j in range(p):
        slope = slope + params.trend[j] * design[j]
    residuals = [values - params.gain[k] * slope - params.means[k] for k in range(len(resp))]
    first = jnp.stack(resp)
    moment = jnp.stack([r * u for r, u in zip(resp, residuals, strict=True)])
    suu = jnp.stack([jnp.sum(m * u) for m, u in zip(moment, residuals, strict=True)])
    pairs = [design[i] * design[j] for i in range(p) for j in range(i + 1)]
    table = jnp.stack([jnp.ones_like(values), *design, *pairs])
    sums = jnp.dot(first, table.T, precision=jax.lax.Precision.HIGHEST)
    sums_u = jnp.dot(moment, table[: p + 1].T, precision=jax.lax.Precision.HIGHEST)
    sff = jnp.zeros((len(resp), p, p), values.dtype)
    for i in range(p):
        for j in range(i + 1):
            entry = sums[:, 1 + p + i * (i + 1) // 2 + j]
            sff = sff.at[:, i, j].set(entry).at[:, j, i].set(entry)
    return Stats(sums[:, 0], sums_u[:, 0], suu, sums[:, 1 : p + 1], sums_u[:, 1:], sff)


def pairwise_sum(terms: Float[Array, " n"]) -> Float[Array, ""]:
    """Sum in two levels: float32 error grows with the length of a run, so keep the runs short."""
    n = terms.shape[0]
    width = max(1, int(n**0.5))
    head = terms[: n - n % width].reshape(-1, width)
    return jnp.sum(jnp.sum(head, axis=1)) + jnp.sum(terms[n - n % width :])


def movie_step(
    model: GMRM,
    params: Params,
    lane: Lane,
    levels: tuple[Level, ...],
    old: Float[Array, "T k n"],
    pseudo_count: float,
    interaction: Float[Array, ""],
    causal: bool,
) -> tuple[Sums, tuple[Float[Array, "k Y X"], ...]]:
    """Proportions from the old responsibilities, then the E-step of every frame."""
    n_frames, n = lane.values.shape
    pairs = [class_maps(level, old, causal) for level in levels]
    maps = tuple(m for m, _ in pairs)
    shared = lane.weight.shape[0] == 1

    def one(args):
        frame_params, z, frame_maps, neighbours, frame_old, place = args
        if shared:
            design, weight = lane.design[:, 0], lane.weight[0]
            where = tuple(jax.tree.map(lambda a: a[0], level.places) for level in levels)
            own = tuple(level.own[0] for level in levels)
        else:
            design, weight, where, own = place
        log_pi, log_m, known = proportions(
            levels,
            frame_maps,
            where,
            own,
            neighbours,
            frame_old,
            frame_params.weights,
            pseudo_count,
            interaction,
        )
        return frame_step(model, frame_params, z, design, weight, log_pi, log_m, known, frame_old)

    place = None
    if not shared:
        where = tuple(level.places for level in levels)
        place = (jnp.moveaxis(lane.design, 1, 0), lane.weight, where, tuple(v.own for v in levels))
    args = (params, lane.values, maps, tuple(v.neighbours for v in levels), old, place)
    out = batched_map(one, args, max(1, CHUNK // n))
    return out, tuple(last for _, last in pairs)
