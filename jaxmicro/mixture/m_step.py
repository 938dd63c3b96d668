"""The conditional maximisations of ECM, on sufficient statistics (Meng and Rubin 1993).

All functions take one item: T frames that may share class means, sds and gains. They work on
K x P numbers only, so they run to convergence in every step at no cost next to the E-step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmicro.mixture.detector import law_step, mean_step
from jaxmicro.mixture.gmrm import GMRM, Params, Stats
from jaxmicro.mixture.student import next_dof

_ROUNDS = 3  # conditional maximisations settle to rounding in two or three rounds
_ALIVE = 1e-2  # a class with less than this many pixels keeps its mean and sd


def m_step(
    model: GMRM,
    params: Params,
    stats: Stats,
    *,
    tied: Bool[Array, ""],
    sd_floor: Float[Array, ""],
) -> Params:
    """New parameters of one item; leading axis of everything is its T frames.

    Rounds of: (means, trend) given (sds, gain), exact weighted least squares; gain; sds. While
    `tied` all classes share one sd. No sd falls below `sd_floor`. With a family that ties the sds
    the rounds are: trend given means and line; means given the line; the line.
    """
    tiny = jnp.finfo(stats.s0.dtype).tiny
    pool_means, pool_sds = "means" in model.share, "sds" in model.share
    weights = stats.class_counts / jnp.maximum(
        jnp.sum(stats.class_counts, axis=-1, keepdims=True), tiny
    )
    if model.family.ties_sds:
        return _detector_step(model, params, stats, weights, tied, sd_floor)
    variance = params.sds**2
    closed_form = not model.trend.n_terms and (pool_sds or not pool_means)

    def a_round(_: Any, at: tuple[Array, ...]) -> tuple[Array, ...]:
        shift, slope, trend, gain, variance = at  # `slope`: change of each class's slope g_k beta
        rest = recentred(stats, shift, slope)
        d_shift, d_trend = _means_and_trend(rest, gain, variance, pool_means)
        if model.gain:
            d_slope = gain[..., None] * d_trend[..., None, :]
            trend, slope, shift = trend + d_trend, slope + d_slope, shift + d_shift
            rest = recentred(stats, shift, slope)
            d_gain, d_shift = _gains(rest, trend, variance, model)
            gain = gain + d_gain
            slope = slope + d_gain[..., None] * trend[..., None, :]
            shift = shift + d_shift
        else:
            trend = trend + d_trend
            slope = slope + jnp.broadcast_to(d_trend[..., None, :], slope.shape)
            shift = shift + d_shift
        rss = recentred(stats, shift, slope).suu
        variance = _variances(rss, stats.class_counts, variance, pool_sds, tied, sd_floor)
        return shift, slope, trend, gain, variance

    zero = jnp.zeros_like(params.means), jnp.zeros_like(stats.sf)
    at = (*zero, params.trend, params.gain, params.sds**2)
    # A loop, where three rounds written out would triple the time to compile.
    rounds = 1 if closed_form else _ROUNDS
    shift, _, trend, gain, variance = jax.lax.fori_loop(0, rounds, a_round, at)
    if model.gain:  # fix the scale that gain and trend share
        scale = jnp.mean(gain, axis=-1, keepdims=True)
        if "gain" in model.share:
            scale = jnp.mean(scale, axis=0, keepdims=True)
        gain, trend = gain / scale, trend * scale
    law = _degrees_of_freedom(model, params, stats, tied)
    return Params(weights, params.means + shift, jnp.sqrt(variance), trend, gain, law)


def _degrees_of_freedom(
    model: GMRM, params: Params, stats: Stats, tied: Bool[Array, ""]
) -> Float[Array, "T L"] | None:
    """The law of a heavy-tailed family; pooled over frames where they share the sds.

    It stays while `tied`: about means that are not yet in place, tails would swallow rare classes.
    """
    if stats.log_less is None or params.law is None or not model.family.free:
        return params.law
    count, less = jnp.sum(stats.class_counts, axis=-1), stats.log_less
    if "sds" in model.share:
        count, less = (jnp.broadcast_to(jnp.sum(a), a.shape) for a in (count, less))
    new = next_dof(params.law[:, 0], less / jnp.maximum(count, 1))[:, None]
    return jnp.where(tied, params.law, new)


def _detector_step(
    model: GMRM,
    params: Params,
    stats: Stats,
    weights: Float[Array, "T K"],
    tied: Bool[Array, ""],
    sd_floor: Float[Array, ""],
) -> Params:
    """The M-step of a family whose sds follow from means and law."""
    pool_means, pool_law = "means" in model.share, "sds" in model.share
    family, start = model.family, params.law
    if start is None:
        raise ValueError(f"parameters of family {family.name!r} need a law")

    def sds(law: Array, shift: Array) -> Array:
        return family.sds(params.sds, law, params.means + shift, sd_floor)

    def a_round(_: Any, at: tuple[Array, ...]) -> tuple[Array, ...]:
        shift, trend, law = at
        slope = jnp.broadcast_to((trend - params.trend)[..., None, :], stats.sf.shape)
        rest = recentred(stats, shift, slope)
        if model.trend.n_terms:
            precision = 1 / sds(law, shift) ** 2
            normal = jnp.einsum("tkpq,tk->tpq", rest.sff, precision)
            d_trend = solve_spd(normal, jnp.einsum("tkp,tk->tp", rest.suf, precision))
            trend, slope = trend + d_trend, slope + d_trend[..., None, :]
            rest = recentred(stats, shift, slope)
        line = sds(law, shift) ** 2, jnp.broadcast_to(law[:, 1:2], shift.shape)
        shift = shift + mean_step(stats.class_counts, rest.su, rest.suu, line, sd_floor, pool_means)
        rss = recentred(stats, shift, slope).suu
        how = tied, sd_floor, pool_law
        law = law_step(family, law, params.means + shift, stats.class_counts, rss, how)
        return shift, trend, law

    at = jnp.zeros_like(params.means), params.trend, start
    shift, trend, law = jax.lax.fori_loop(0, _ROUNDS, a_round, at)
    return Params(weights, params.means + shift, sds(law, shift), trend, params.gain, law)


def recentred(stats: Stats, shift: Float[Array, "T K"], slope: Float[Array, "T K P"]) -> Stats:
    """The statistics about means moved by `shift` and slopes moved by `slope`."""
    sff_slope = jnp.einsum("tkpq,tkq->tkp", stats.sff, slope)
    sf_slope = jnp.sum(stats.sf * slope, axis=-1)
    suf_slope = jnp.sum(stats.suf * slope, axis=-1)
    suu = (
        stats.suu
        - 2 * shift * stats.su
        - 2 * suf_slope
        + shift**2 * stats.s0
        + 2 * shift * sf_slope
        + jnp.sum(slope * sff_slope, axis=-1)
    )
    return Stats(
        stats.class_counts,
        stats.s0,
        stats.su - shift * stats.s0 - sf_slope,
        jnp.maximum(suu, 0),
        stats.sf,
        stats.suf - shift[..., None] * stats.sf - sff_slope,
        stats.sff,
        stats.log_less,
    )


def _means_and_trend(
    stats: Stats, gain: Float[Array, "T K"], variance: Float[Array, "T K"], pool_means: bool
) -> tuple[Float[Array, "T K"], Float[Array, "T P"]]:
    """Jointly best change of class means and trend, given sds and gains."""
    precision = 1 / variance
    n_terms = stats.sf.shape[-1]
    if not pool_means:
        alive = stats.s0 > _ALIVE
        inverse = jnp.where(alive, 1 / jnp.where(alive, stats.s0, 1), 0)
        if not n_terms:
            return stats.su * inverse, jnp.zeros((stats.s0.shape[0], 0), stats.s0.dtype)
        centred = stats.sff - jnp.einsum("tkp,tkq,tk->tkpq", stats.sf, stats.sf, inverse)
        normal = jnp.einsum("tkpq,tk->tpq", centred, gain**2 * precision)
        right = stats.suf - stats.sf * (stats.su * inverse)[..., None]
        d_trend = solve_spd(normal, jnp.einsum("tkp,tk->tp", right, gain * precision))
        along = jnp.sum(stats.sf * d_trend[..., None, :], axis=-1)
        return (stats.su - gain * along) * inverse, d_trend
    count = jnp.sum(stats.s0 * precision, axis=0)
    alive = jnp.sum(stats.s0, axis=0) > _ALIVE
    right_mean = jnp.sum(stats.su * precision, axis=0)
    n_frames, n_classes = stats.s0.shape
    if not n_terms:
        d_mean = jnp.where(alive, right_mean / jnp.where(alive, count, 1), 0)
        d_trend = jnp.zeros((n_frames, 0), stats.s0.dtype)
    else:
        # Eliminate each frame's trend: what is left is one K x K system for the shared means.
        normal = jnp.einsum("tkpq,tk->tpq", stats.sff, gain**2 * precision)
        cross = jnp.einsum("tkp,tk->tpk", stats.sf, gain * precision)
        right = jnp.einsum("tkp,tk->tp", stats.suf, gain * precision)
        both = solve_spd(normal, jnp.concatenate([cross, right[..., None]], axis=-1))
        pulled = jnp.einsum("tpk,tpj->kj", cross, both)
        matrix = jnp.diag(jnp.where(alive, count, 1)) - pulled[:, :n_classes]
        matrix = jnp.where(
            alive[:, None] & alive[None, :], matrix, jnp.eye(n_classes, dtype=matrix.dtype)
        )
        rhs = jnp.where(alive, right_mean - pulled[:, n_classes], 0)
        d_mean = solve_spd(matrix[None], rhs[None])[0]
        d_trend = both[..., n_classes] - jnp.einsum("tpk,k->tp", both[..., :n_classes], d_mean)
    return jnp.broadcast_to(d_mean[None, :], (n_frames, n_classes)), d_trend


def _gains(
    stats: Stats, trend: Float[Array, "T P"], variance: Float[Array, "T K"], model: GMRM
) -> tuple[Float[Array, "T K"], Float[Array, "T K"]]:
    """Best change of the gains (and of the means with them), given trend and sds."""
    along = jnp.einsum("tkp,tp->tk", stats.sf, trend)
    square = jnp.einsum("tkpq,tp,tq->tk", stats.sff, trend, trend)
    moment = jnp.einsum("tkp,tp->tk", stats.suf, trend)
    safe = jnp.maximum(stats.s0, _ALIVE)
    free_means = "means" not in model.share
    if free_means:  # the class mean moves with its gain
        moment = moment - along * stats.su / safe
        square = square - along**2 / safe
    if "gain" in model.share:
        moment = jnp.broadcast_to(jnp.sum(moment / variance, axis=0), moment.shape)
        square = jnp.broadcast_to(jnp.sum(square / variance, axis=0), square.shape)
    reliable = square > 1e-6 * jnp.max(square)
    d_gain = jnp.where(reliable, moment / jnp.where(reliable, square, 1), 0)
    if not free_means:
        return d_gain, jnp.zeros_like(d_gain)
    return d_gain, jnp.where(stats.s0 > _ALIVE, (stats.su - d_gain * along) / safe, 0)


def _variances(
    rss: Float[Array, "T K"],
    class_counts: Float[Array, "T K"],
    old: Float[Array, "T K"],
    pool_frames: bool,
    tied: Bool[Array, ""],
    sd_floor: Float[Array, ""],
) -> Float[Array, "T K"]:
    """Class variances: pooled over frames where shared, over classes while tied."""
    shape = rss.shape
    if pool_frames:
        rss, class_counts = (
            jnp.sum(rss, axis=0, keepdims=True),
            jnp.sum(class_counts, axis=0, keepdims=True),
        )
    alive = class_counts > _ALIVE
    free = jnp.where(alive, rss / jnp.where(alive, class_counts, 1), old[: rss.shape[0]])
    total = jnp.maximum(jnp.sum(class_counts, axis=-1, keepdims=True), _ALIVE)
    common = jnp.sum(rss, axis=-1, keepdims=True) / total
    new = jnp.where(tied, jnp.broadcast_to(common, free.shape), free)
    return jnp.broadcast_to(jnp.maximum(new, sd_floor**2), shape)


def solve_spd(
    matrix: Float[Array, "T P P"], right: Float[Array, "T P *columns"]
) -> Float[Array, "T P *columns"]:
    """Solve batches of small symmetric positive definite systems.

    Small systems are eliminated in line: a library call per system costs more than the whole
    M-step on CPU. A relative ridge of a few rounding errors keeps a collinear design finite.
    """
    size = matrix.shape[-1]
    scale = jnp.max(jnp.abs(jnp.diagonal(matrix, axis1=-2, axis2=-1)), axis=-1)
    eps = 8 * jnp.finfo(matrix.dtype).eps
    ridge = eps * scale + jnp.finfo(matrix.dtype).tiny
    matrix = matrix + ridge[:, None, None] * jnp.eye(size, dtype=matrix.dtype)[None]
    vector = right.ndim == 2
    b = right[..., None] if vector else right
    if size > 6:
        factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
        x = jax.scipy.linalg.cho_solve(factor, b)
        return x[..., 0] if vector else x
    rows = [[matrix[:, i, j] for j in range(size)] for i in range(size)]
    rhs = [b[:, i, :] for i in range(size)]
    for i in range(size):
        for r in range(i + 1, size):
            ratio = rows[r][i] / rows[i][i]
            for j in range(i + 1, size):
                rows[r][j] = rows[r][j] - ratio * rows[i][j]
            rhs[r] = rhs[r] - ratio[:, None] * rhs[i]
    solution: list[Array] = [b[:, 0, :]] * size
    for i in reversed(range(size)):
        left = rhs[i]
        for j in range(i + 1, size):
            left = left - rows[i][j][:, None] * solution[j]
        solution[i] = left / rows[i][i][:, None]
    x = jnp.stack(solution, axis=1)
    return x[..., 0] if vector else x
