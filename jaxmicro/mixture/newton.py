"""Newton steps on the observed information: the last digits of a fit, and their certificate.

ECM slows down exactly where classes overlap, and there a certificate drawn from its own steps is
least to be trusted. The observed information of the mixture (Louis 1982) costs about two more
E-steps; with it the last steps are quadratic, and the likelihood still to be gained is known from
the gradient g as g' I^-1 g / 2. Levenberg's damping, in the metric of the complete-data
information, leads from ECM-like steps (safe) to Newton's (fast).

Sources: Louis (1982), J. R. Statist. Soc. B 44:226. Lange (1995), J. R. Statist. Soc. B 57:425.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.mixture.batch import Item, e_steps
from jaxmicro.mixture.gmrm import GMRM, Params, Stats, choose
from jaxmicro.mixture.information import (
    coordinates,
    gradient_and_information,
    missing_of_frames,
    move,
    shared,
    slices,
)
from jaxmicro.mixture.m_step import m_step
from jaxmicro.mixture.student import LEAST_DOF, MOST_DOF

MAX_ROUNDS = 80  # an item that needs more sits on a ridge that float32 cannot resolve
CONTRACTING = 0.1  # a round that leaves more of the gap than this asks for fresh information
CAUTION = 20.0  # how much the change of curvature between two points counts against the gap
LEAST = 1.1  # factor on a predicted gain at the least, for the ridge in it
UNVERIFIED = 4.0  # factor on a predicted gain that no step before it has borne out
RIDGE = 32.0  # rounding errors of an information whose diagonal is 1, and of its factor
MAX_DAMPING = 2.0  # there a step is a third of ECM's


def solve(
    model: GMRM,
    gradient: Float[Array, "T q"],
    matrix: Float[Array, "T q q"],
    apart: bool = False,
) -> Float[Array, "T q"]:
    """matrix^-1 gradient, with the coordinates that frames share solved for once.

    With `apart` the gradient stays out of what depends on the matrix alone, which transposing the
    solution (reverse-mode derivatives) needs and costs one more triangular solution.

    A few rounding errors are added to the diagonal, which is scaled to 1. NaN where the matrix is
    not positive definite.
    """
    names = [name for name, count in coordinates(model) for _ in range(count)]
    common = np.isin(names, shared(model))
    mine = np.flatnonzero(~common)
    if not common.any():
        return _cho_solve(matrix, gradient[..., None])[..., 0]
    ours = np.flatnonzero(common)
    corner = matrix[:, ours][:, :, ours]
    border = matrix[:, mine][:, :, ours]
    inner, right = matrix[:, mine][:, :, mine], gradient[:, mine][..., None]
    if apart:
        across, own = _cho_solve(inner, border), _cho_solve(inner, right)[..., 0]
    else:
        both = _cho_solve(inner, jnp.concatenate([border, right], axis=-1))
        across, own = both[..., :-1], both[..., -1]
    schur = jnp.sum(corner, axis=0) - jnp.einsum("tab,tac->bc", border, across)
    target = jnp.sum(gradient[:, ours], axis=0) - jnp.einsum("tab,ta->b", border, own)
    together = _cho_solve(schur[None], target[None, :, None])[0, :, 0]
    local = own - jnp.einsum("tab,b->ta", across, together)
    same = jnp.broadcast_to(together[None], (matrix.shape[0], len(ours)))
    order = np.argsort(np.concatenate([mine, ours]))
    return jnp.concatenate([local, same], axis=1)[:, order]


def _cho_solve(matrix: Float[Array, "T q q"], right: Float[Array, "T q c"]) -> Array:
    """Cholesky solution after scaling the diagonal to 1, which float32 needs."""
    diagonal = jnp.diagonal(matrix, axis1=-2, axis2=-1)
    scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    unit = matrix * scale[..., :, None] * scale[..., None, :]
    ridge = RIDGE * jnp.finfo(matrix.dtype).eps * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    factor = jnp.linalg.cholesky(unit + ridge[None])
    half = jax.scipy.linalg.solve_triangular(factor, right * scale[..., None], lower=True)
    full = jax.scipy.linalg.solve_triangular(factor, half, lower=True, trans=1)
    return full * scale[..., None]


class State(eqx.Module):
    """Where a run of Newton steps stands; `best` has been evaluated, `at` comes next.

    `predicted` is the gain of log-likelihood that the last information promises, `gap` the bound
    made of it, both in nats per pixel. The run ends at step `last` at the latest.
    """

    at: Params
    best: Params
    fallback: Params
    log_likelihood: Float[Array, " T"]
    class_counts: Float[Array, "T K"]
    reference: Float[Array, ""]
    damping: Float[Array, ""]
    predicted: Float[Array, ""]
    gap: Float[Array, ""]
    complete: Float[Array, "T q q"]
    missing: Float[Array, "T q q"]
    stale: Bool[Array, ""]
    step: Int[Array, ""]
    last: Int[Array, ""]
    kept: Int[Array, ""]
    trace: Float[Array, " steps"]


def begin(
    model: GMRM,
    params: Params,
    max_steps: int,
    step: Int[Array, ""],
    kept: Int[Array, ""],
    trace: Float[Array, " steps"],
) -> State:
    """The state before the first Newton step from `params`, after `step` steps of another kind."""
    dtype = params.means.dtype
    n_frames, k = params.means.shape
    q = sum(n for _, n in coordinates(model))
    inf = jnp.asarray(jnp.inf, dtype)
    return State(
        at=params,
        best=params,
        fallback=params,
        log_likelihood=jnp.full(n_frames, jnp.nan, dtype),
        class_counts=jnp.zeros((n_frames, k), dtype),
        reference=-inf,
        damping=jnp.zeros((), dtype),
        predicted=inf,
        gap=inf,
        complete=jnp.zeros((n_frames, q, q), dtype),
        missing=jnp.zeros((n_frames, q, q), dtype),
        stale=jnp.asarray(True),
        step=step,
        # One evaluation at least: the likelihood and the gap that are reported come from it.
        last=jnp.maximum(jnp.minimum(max_steps, step + MAX_ROUNDS), step + 1),
        kept=kept,
        trace=trace,
    )


def unfinished(state: State, tolerance: Float[Array, ""]) -> Bool[Array, ""]:
    ended = (state.gap <= tolerance) | jnp.isnan(state.reference)
    return (state.step < state.last) & ~ended


def advance(
    model: GMRM,
    item: Item,
    state: State,
    tolerance: Float[Array, ""],
    sd_floor: Float[Array, ""],
    budget: Int[Array, ""],
) -> State:
    """At most `budget` damped Newton steps, until the gap falls below the tolerance.

    A step that lowers the likelihood is undone by one of plain ECM from the point before it.
    """
    count = jnp.maximum(jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)), 1)
    slack = 4 * jnp.finfo(item.values.dtype).eps

    def body(s: State) -> State:
        log_likelihood, stats = e_steps(s.at, item, model.family)
        level = jnp.sum(log_likelihood) / count
        worse = ~(level >= s.reference - slack * jnp.abs(s.reference))
        mapped = m_step(model, s.at, stats, tied=jnp.asarray(False), sd_floor=sd_floor)
        score, complete = gradient_and_information(model, s.at, stats)
        # The information costs two E-steps: while steps contract well an earlier one will do.
        complete, missing = jax.lax.cond(
            s.stale,
            lambda: (complete, missing_of_frames(model, s.at, item)),
            lambda: (s.complete, s.missing),
        )
        known = (score, complete, missing)
        gain, damped = _directions(model, s.at, stats, known, sd_floor, s.damping)
        predicted = gain / count
        # A negative or infinite predicted gain means that no maximum is near.
        predicted = jnp.where(jnp.isfinite(predicted) & (predicted >= 0), predicted, jnp.inf)
        moved = move(model, s.at, damped)
        moved = eqx.tree_at(lambda p: p.sds, moved, jnp.maximum(moved.sds, sd_floor))
        usable = jnp.all(jnp.isfinite(damped))
        next_at = choose(worse, s.fallback, choose(usable, moved, mapped))
        up = jnp.maximum(8 * s.damping, 0.02)
        down = jnp.where(s.damping > 3e-3, 0.4 * s.damping, 0)
        return State(
            at=next_at,
            best=choose(worse, s.best, s.at),
            fallback=choose(worse, s.fallback, mapped),
            log_likelihood=jnp.where(worse, s.log_likelihood, log_likelihood),
            class_counts=jnp.where(worse, s.class_counts, stats.class_counts),
            reference=jnp.where(worse, s.reference, level),
            damping=jnp.where(worse | ~usable, jnp.minimum(up, MAX_DAMPING), down),
            predicted=jnp.where(worse, s.predicted, predicted),
            gap=jnp.where(worse, s.gap, _upper_bound(predicted, s.predicted, s.damping)),
            complete=complete,
            missing=missing,
            stale=worse | ~usable | (s.damping > 0) | ~(predicted < CONTRACTING * s.predicted),
            step=s.step + 1,
            last=s.last,
            kept=s.kept + (~worse).astype(s.kept.dtype),
            trace=s.trace.at[s.kept].set(jnp.where(worse, s.trace[s.kept], level)),
        )

    end = state.step + budget

    def going(s: State) -> Bool[Array, ""]:
        return unfinished(s, tolerance) & (s.step < end)

    return jax.lax.while_loop(going, body, state)


def _upper_bound(
    predicted: Float[Array, ""], before: Float[Array, ""], damping: Float[Array, ""]
) -> Float[Array, ""]:
    """Bound on the likelihood still to be gained, from its prediction here and one step before.

    The prediction takes the log-likelihood as quadratic. A Newton step on a quadratic would leave
    nothing to gain, so what it left, `predicted / before`, tells how far the curvature changed on
    the way: by its square root, relatively, and by more in directions that are nearly flat. Where
    the last step left much of what it found, or was damped, rounding may be all that is left and
    the prediction counts several times.
    """
    left = jnp.where(jnp.isfinite(before), predicted / before, 1)
    left = jnp.where(damping > 0, 1, left)
    return predicted * jnp.minimum(LEAST + CAUTION * jnp.sqrt(left), UNVERIFIED)


def _directions(
    model: GMRM,
    params: Params,
    stats: Stats,
    known: tuple[Array, Array, Array],
    sd_floor: Float[Array, ""],
    damping: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, "T q"]]:
    """Predicted gain of log-likelihood and the damped step; coordinates that cannot move stay."""
    fixed, complete, observed = system(model, params, stats, known, sd_floor)
    score = jnp.where(fixed, 0, known[0])
    newton = solve(model, score, observed)
    damped = solve(model, score, observed + damping * complete)
    return 0.5 * jnp.sum(score * newton), jnp.where(damping > 0, damped, newton)


def system(
    model: GMRM,
    params: Params,
    stats: Stats,
    known: tuple[Array, Array, Array],
    sd_floor: Float[Array, ""],
) -> tuple[Bool[Array, "T q"], Float[Array, "T q q"], Float[Array, "T q q"]]:
    """Which coordinates cannot move, and the complete and the observed information of the others.

    `known` are the score, the complete and the missing information at `params`.
    """
    at, k = slices(model), model.n_classes
    score, complete, missing = known
    # Adding a constant to all logits, or trading gain for trend, changes nothing: pin both.
    total = jnp.sum(stats.class_counts, axis=-1)
    pin = jnp.einsum("t,tk,tj->tkj", total, params.weights, params.weights)
    complete = complete.at[:, :k, :k].add(pin)
    if model.gain:
        block = at["gain"]
        size = jnp.mean(jnp.diagonal(complete, axis1=1, axis2=2)[:, block], axis=1)
        complete = complete.at[:, block, block].add(
            jnp.broadcast_to(size[:, None, None], (size.shape[0], k, k))
        )

    def pooled(a: Float[Array, "T K"], name: str) -> Float[Array, "T K"]:
        return jnp.broadcast_to(jnp.sum(a, axis=0), a.shape) if name in shared(model) else a

    empty = {
        name: pooled(stats.class_counts, name) < 1e-2
        for name in ("weights", "means", "sds", "gain")
    }
    frozen = [empty["weights"], empty["means"]]
    if not model.family.ties_sds:
        slope = pooled(score[:, at["sds"]], "sds")
        at_floor = (params.sds <= sd_floor * 1.0001) & (slope <= 0)
        frozen.append(empty["sds"] | at_floor)
    # A trend term that is 0 at every visited pixel cannot move either.
    frozen.append(~(jnp.diagonal(complete, axis1=1, axis2=2)[:, at["trend"]] > 0))
    if model.gain:
        frozen.append(empty["gain"])
    if model.family.free:
        frozen.append(_at_bound(model, params, pooled(score[:, at["law"]], "law")))
    fixed = jnp.concatenate(frozen, axis=1)
    free = ~(fixed[:, :, None] | fixed[:, None, :])
    eye = fixed[:, :, None] * jnp.eye(score.shape[1], dtype=score.dtype)[None]
    complete = jnp.where(free, complete, 0) + eye
    return fixed, complete, complete - jnp.where(free, missing, 0)


def _at_bound(model: GMRM, params: Params, slope: Float[Array, "T F"]) -> Bool[Array, "T F"]:
    """Degrees of freedom that have reached a bound and are pulled beyond it."""
    if params.law is None or not model.family.heavy_tailed:
        return jnp.zeros(slope.shape, bool)
    over = (params.law >= MOST_DOF * 0.9999) & (slope >= 0)
    return over | ((params.law <= LEAST_DOF * 1.0001) & (slope <= 0))
