"""Safeguarded SQUAREM around ECM, and the extrapolated gap that stops it.

Source: Varadhan and Roland (2008), Scand. J. Statist. 35:335, scheme S3.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.mixture.batch import Item, e_steps
from jaxmicro.mixture.gmrm import GMRM, Params, Stats, choose
from jaxmicro.mixture.m_step import m_step
from jaxmicro.mixture.student import LEAST_DOF, MOST_DOF


class State(eqx.Module):
    """Where a SQUAREM run stands: `at` is the next point to evaluate."""

    at: Params
    base: Params
    first: Params
    best: Params
    fallback: Params
    reference: Float[Array, ""]
    phase: Int[Array, ""]
    step: Int[Array, ""]
    kept: Int[Array, ""]
    gap: Float[Array, ""]
    ratio: Float[Array, ""]
    trace: Float[Array, " steps"]


def begin(params: Params, max_steps: int) -> State:
    """The state before the first step from `params`."""
    zero, dtype = jnp.zeros((), jnp.int32), params.means.dtype
    inf = jnp.asarray(jnp.inf, dtype)
    return State(
        params, params, params, params, params, -inf, zero, zero, zero, inf,
        jnp.asarray(0.5, dtype), jnp.full(max_steps, jnp.nan, dtype),
    )  # fmt: skip


def unfinished(state: State, tolerance: Float[Array, ""], max_steps: int) -> Bool[Array, ""]:
    return (state.step < max_steps) & (state.gap > tolerance)


def advance(
    model: GMRM,
    item: Item,
    state: State,
    tolerance: Float[Array, ""],
    sd_floor: Float[Array, ""],
    max_steps: int,
    tied_steps: int,
    budget: Int[Array, ""],
) -> State:
    """At most `budget` steps of safeguarded SQUAREM, until the gap falls below the tolerance."""
    count = jnp.maximum(jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)), 1)
    slack = 4 * jnp.finfo(item.values.dtype).eps

    def body(s: State) -> State:
        log_likelihood, stats = e_steps(s.at, item, model.family)
        level = jnp.sum(log_likelihood) / count
        tied = s.step < tied_steps
        mapped = m_step(model, s.at, stats, tied=tied, sd_floor=sd_floor)
        # Phase 0 judges an extrapolated (or first) point, phase 1 the plain step after it.
        worse = ~(level >= s.reference - slack * jnp.abs(s.reference))
        rejected = (s.phase == 0) & worse & (s.step > 0)
        second = s.phase == 1

        jump, gap, ratio = _extrapolate(
            model, (s.base, s.first, mapped), stats, count, s.ratio, sd_floor
        )
        plain = tied | (s.step + 1 < tied_steps)
        go_plain = plain | ~second
        next_at = choose(rejected, s.fallback, choose(go_plain, mapped, jump))
        trace = s.trace.at[s.kept].set(jnp.where(rejected, s.trace[s.kept], level))
        return State(
            at=next_at,
            base=choose(second, s.base, s.at),
            first=choose(second, s.first, mapped),
            best=choose(rejected, s.best, mapped),
            fallback=choose(second, mapped, s.fallback),
            reference=jnp.where(rejected, s.reference, level),
            phase=jnp.where(rejected | second | plain, 0, 1).astype(s.phase.dtype),
            step=s.step + 1,
            kept=s.kept + (~rejected).astype(s.kept.dtype),
            gap=jnp.where(second & ~plain, gap, s.gap),
            ratio=jnp.where(second & ~plain, ratio, s.ratio),
            trace=trace,
        )

    last = state.step + budget

    def going(s: State) -> Bool[Array, ""]:
        return unfinished(s, tolerance, max_steps) & (s.step < last)

    return jax.lax.while_loop(going, body, state)


def _free(model: GMRM, p: Params) -> tuple[Array, ...]:
    """Coordinates in which any extrapolation gives legal parameters."""
    tiny = jnp.finfo(p.weights.dtype).tiny
    out = (jnp.log(jnp.maximum(p.weights, tiny)), p.means, jnp.log(p.sds), p.trend, p.gain)
    if p.law is None:
        return out
    return (*out, jnp.log(p.law) if model.family.heavy_tailed else p.law)


def _extrapolate(
    model: GMRM,
    points: tuple[Params, Params, Params],
    stats: Stats,
    count: Float[Array, ""],
    old_ratio: Float[Array, ""],
    sd_floor: Float[Array, ""],
) -> tuple[Params, Float[Array, ""], Float[Array, ""]]:
    """SQUAREM point after two steps, and the gap to the optimum they foretell.

    Lengths are measured in the complete-data information I_c, so they are in nats. With
    contraction ratio rho, the likelihood still to gain after a step d is at most
    d' I_c d / (2 (1 - rho)): Aitken's extrapolation without differences of log-likelihoods,
    which float32 could not resolve.
    """
    t1 = points[1]
    u0, u1, u2 = (_free(model, p) for p in points)
    d0 = [b - a for a, b in zip(u0, u1, strict=True)]
    d1 = [b - a for a, b in zip(u1, u2, strict=True)]
    v = [b - a for a, b in zip(d0, d1, strict=True)]
    q0, q1, qv = (_information(d, t1, stats) / count for d in (d0, d1, v))
    tiny = jnp.finfo(q0.dtype).tiny
    now = jnp.sqrt(q1 / jnp.maximum(q0, tiny))
    # A jump mixes fast and slow directions: the slowest ratio seen lately is the honest one.
    ratio = jnp.clip(jnp.maximum(now, 0.9 * old_ratio), 0, 0.999)
    gap = 0.5 * q1 / (1 - ratio)
    alpha = -jnp.clip(jnp.sqrt(q0 / jnp.maximum(qv, tiny)), 1, 64)
    jump = [a - 2 * alpha * b + alpha**2 * c for a, b, c in zip(u0, d0, v, strict=True)]
    weights = jax.nn.softmax(jump[0], axis=-1)
    log_sd = jnp.clip(jump[2], u2[2] - 2, u2[2] + 2)
    sds, law = jnp.exp(log_sd), None
    if len(jump) > 5 and model.family.heavy_tailed:
        law = jnp.clip(jnp.exp(jnp.clip(jump[5], u2[5] - 1, u2[5] + 1)), LEAST_DOF, MOST_DOF)
        law = law if model.family.free else t1.law
    elif len(jump) > 5:
        law = jump[5]
        sds = model.family.sds(sds, law, jump[1], sd_floor)
    return Params(weights, jump[1], sds, jump[3], jump[4], law), gap, ratio


def _information(d: list[Array], at: Params, stats: Stats) -> Float[Array, ""]:
    """d' I_c d with the complete-data information at `at`, summed over frames."""
    d_weight, d_mean, d_sd, d_trend, d_gain = d[:5]
    slope = at.gain[..., None] * d_trend[..., None, :] + d_gain[..., None] * at.trend[..., None, :]
    sff = jnp.einsum("tkpq,tkp,tkq->tk", stats.sff, slope, slope)
    cross = 2 * d_mean * jnp.sum(stats.sf * slope, axis=-1)
    location = (stats.s0 * d_mean**2 + cross + sff) / at.sds**2
    total = jnp.sum(location + stats.class_counts * (2 * d_sd**2 + d_weight**2))
    if stats.log_less is not None and len(d) > 5:
        total = total + jnp.sum(0.5 * jnp.sum(stats.class_counts, axis=-1) * d[5][:, 0] ** 2)
    return total
