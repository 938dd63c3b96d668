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

from jaxmicro.mixture.gmrm import (
    GMRM,
    Params,
    Stats,
    moment_table,
    pair_columns,
    posterior,
    product,
)
from jaxmicro.mixture.lanes import Lane, e_lane, over_frames
from jaxmicro.mixture.maximise import m_step, recentred

MAX_ROUNDS = 80  # a lane that needs more sits on a ridge that float32 cannot resolve
CONTRACTING = 0.1  # a round that leaves more of the gap than this asks for fresh information
CAUTION = 20.0  # how much the change of curvature between two points counts against the gap
LEAST = 1.1  # factor on a predicted gain at the least, for the ridge in it
UNVERIFIED = 4.0  # factor on a predicted gain that no step before it has borne out
RIDGE = 32.0  # rounding errors of an information whose diagonal is 1, and of its factor
MAX_DAMPING = 2.0  # there a step is a third of ECM's


class Step(eqx.Module):
    """Gradient and information of one frame, in the coordinates of `coordinates`."""

    gradient: Float[Array, "T q"]
    complete: Float[Array, "T q q"]
    missing: Float[Array, "T q q"]


def coordinates(model: GMRM) -> list[tuple[str, int]]:
    """The free coordinates of a frame: (name, count), weights as logits and sds as logarithms."""
    k, p = model.n_classes, model.trend.n_terms
    out = [("weights", k), ("means", k), ("sds", k), ("trend", p)]
    return [*out, ("gain", k)] if model.gain else out


def move(model: GMRM, params: Params, step: Float[Array, "T q"]) -> Params:
    """Parameters moved by `step`, always legal."""
    k, p = model.n_classes, model.trend.n_terms
    tiny = jnp.finfo(step.dtype).tiny
    weights = jax.nn.softmax(jnp.log(jnp.maximum(params.weights, tiny)) + step[:, :k], axis=-1)
    means = params.means + step[:, k : 2 * k]
    sds = params.sds * jnp.exp(jnp.clip(step[:, 2 * k : 3 * k], -2, 2))
    trend, gain = params.trend + step[:, 3 * k : 3 * k + p], params.gain
    if model.gain:
        gain = gain + step[:, 3 * k + p :]
    return Params(weights, means, sds, trend, gain)


def gradient_and_information(model: GMRM, params: Params, stats: Stats) -> tuple[Array, Array]:
    """Score (T, q) by Fisher's identity and expected complete-data information (T, q, q).

    Both are derivatives of the expected complete-data log-likelihood, a function of the
    sufficient statistics alone.
    """
    k, q = model.n_classes, sum(count for _, count in coordinates(model))

    def expected(step: Float[Array, " q"], at: Params, of: Stats) -> Float[Array, ""]:
        new = move(model, jax.tree.map(lambda a: a[None], at), step[None])
        shift = new.means - at.means[None]
        slope = new.gain[..., None] * new.trend[..., None, :]
        slope = slope - (at.gain[:, None] * at.trend[None, :])[None]
        rss = recentred(jax.tree.map(lambda a: a[None], of), shift, slope).suu
        # log of a softmax has derivatives that hold for a class of no weight at all
        logits = jnp.log(jnp.maximum(at.weights, jnp.finfo(step.dtype).tiny)) + step[:k]
        gain = jax.nn.log_softmax(logits)[None] - jnp.log(new.sds)
        return jnp.sum(of.s0[None] * gain) - jnp.sum(0.5 * rss / new.sds**2)

    zero = jnp.zeros(q, stats.s0.dtype)
    score = jax.vmap(jax.grad(expected), (None, 0, 0))(zero, params, stats)
    hessian = jax.vmap(jax.hessian(expected), (None, 0, 0))(zero, params, stats)
    return score, -hessian


def missing_information(
    model: GMRM,
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
) -> Float[Array, "q q"]:
    """Information lost with the labels: the posterior covariance of the complete-data score."""
    resp, u, _ = posterior(params, values, design, weight)
    k, p = resp.shape[0], design.shape[0]
    inverse = 1 / params.sds
    gain = params.gain * inverse
    powers = [resp]
    for _ in range(4):
        powers.append(powers[-1] * u)
    # sums of r u^a and of r u^a f, a = 0..4, and of r u^2 f f': every block is made of these
    sums = product(jnp.concatenate(powers), moment_table(design, order=1)).reshape(5, k, 1 + p)
    m0, m1, m2, m3, m4 = sums[:, :, 0]
    f1, f2, f3 = sums[1:4, :, 1:]
    along = params.trend
    own = [slice(i * k, (i + 1) * k) for i in range(3)] + [slice(3 * k + p, 4 * k + p)]
    trend = slice(3 * k, 3 * k + p)
    # scores of a class's own parameters: 1 (weight), u/s (mean), u^2 - 1 (sd), u/s f.beta (gain)
    blocks = {
        (0, 0): m0,
        (0, 1): inverse * m1,
        (0, 2): m2 - m0,
        (1, 1): inverse**2 * m2,
        (1, 2): inverse * (m3 - m1),
        (2, 2): m4 - 2 * m2 + m0,
    }
    crosses = [f1, inverse[:, None] * f2, f3 - f1]
    mean = [resp, powers[1] * inverse[:, None], powers[2] - resp]
    q = (4 if model.gain else 3) * k + p
    second = jnp.zeros((q, q), u.dtype)
    if p:
        pairs = product(powers[2], moment_table(design))[:, pair_columns(p)]
        for a, cross in enumerate(crosses):
            block = gain[:, None] * cross
            second = second.at[own[a], trend].set(block).at[trend, own[a]].set(block.T)
        second = second.at[trend, trend].set(jnp.einsum("k,kij->ij", gain**2, pairs))
        slope = jnp.sum(powers[1] * gain[:, None], axis=0)
        mean.append(slope[None] * design)
    if model.gain:
        turned = (inverse * gain)[:, None] * jnp.einsum("kij,j->ki", pairs, along)
        second = second.at[own[3], trend].set(turned).at[trend, own[3]].set(turned.T)
        for a, cross in enumerate(crosses):
            blocks[a, 3] = inverse * (cross @ along)
        blocks[3, 3] = inverse**2 * jnp.einsum("kij,i,j->k", pairs, along, along)
        mean.append(mean[1] * (along @ design)[None])
    for (a, b), block in blocks.items():
        second = second.at[own[a], own[b]].set(jnp.diag(block))
        second = second.at[own[b], own[a]].set(jnp.diag(block))
    # resp holds the pixel's weight once; the outer product of two means would hold it twice
    root = jnp.where(weight > 0, jax.lax.rsqrt(jnp.where(weight > 0, weight, 1)), 0)
    rows = jnp.concatenate(mean) * root[None]
    return second - product(rows, rows)


def _missing(model: GMRM, params: Params, lane: Lane) -> Float[Array, "T q q"]:
    """Missing information of every frame of a lane."""

    def one(frame_params, z, design, weight):
        return missing_information(model, frame_params, z, design, weight)

    return over_frames(one, params, lane)


def solve(
    model: GMRM, gradient: Float[Array, "T q"], matrix: Float[Array, "T q q"]
) -> Float[Array, "T q"]:
    """matrix^-1 gradient, with the coordinates that frames share solved for once.

    A few rounding errors are added to the diagonal, which is scaled to 1. NaN where the matrix is
    not positive definite.
    """
    names = np.concatenate([[name] * count for name, count in coordinates(model)])
    common = np.isin(names, model.share)
    mine = np.flatnonzero(~common)
    if not common.any():
        return _cho_solve(matrix, gradient[..., None])[..., 0]
    ours = np.flatnonzero(common)
    corner = matrix[:, ours][:, :, ours]
    border = matrix[:, mine][:, :, ours]
    right = jnp.concatenate([border, gradient[:, mine][..., None]], axis=-1)
    both = _cho_solve(matrix[:, mine][:, :, mine], right)
    pulled = jnp.einsum("tab,tac->bc", border, both)
    schur = jnp.sum(corner, axis=0) - pulled[:, :-1]
    target = jnp.sum(gradient[:, ours], axis=0) - pulled[:, -1]
    shared = _cho_solve(schur[None], target[None, :, None])[0, :, 0]
    local = both[..., -1] - jnp.einsum("tab,b->ta", both[..., :-1], shared)
    out = jnp.zeros_like(gradient).at[:, mine].set(local)
    return out.at[:, ours].set(jnp.broadcast_to(shared[None], (matrix.shape[0], len(ours))))


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
    held: Float[Array, "T K"]
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
        held=jnp.zeros((n_frames, k), dtype),
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
    lane: Lane,
    state: State,
    tolerance: Float[Array, ""],
    sd_floor: Float[Array, ""],
    budget: Int[Array, ""],
) -> State:
    """At most `budget` damped Newton steps, until the gap falls below the tolerance.

    A step that lowers the likelihood is undone by one of plain ECM from the point before it.
    """
    count = jnp.maximum(jnp.sum(jnp.broadcast_to(lane.weight, lane.values.shape)), 1)
    slack = 4 * jnp.finfo(lane.values.dtype).eps

    def body(s: State) -> State:
        log_likelihood, stats = e_lane(s.at, lane)
        level = jnp.sum(log_likelihood) / count
        worse = ~(level >= s.reference - slack * jnp.abs(s.reference))
        mapped = m_step(model, s.at, stats, tied=jnp.asarray(False), sd_floor=sd_floor)
        score, complete = gradient_and_information(model, s.at, stats)
        # The information costs two E-steps: while steps contract well an earlier one will do.
        complete, missing = jax.lax.cond(
            s.stale,
            lambda: (complete, _missing(model, s.at, lane)),
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
            held=jnp.where(worse, s.held, stats.s0),
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
    the last step left much of what it found, rounding may be all that is left and the prediction
    counts several times; while steps fail it says nothing.
    """
    left = jnp.where(jnp.isfinite(before), predicted / before, 1)
    bound = predicted * jnp.minimum(LEAST + CAUTION * jnp.sqrt(left), UNVERIFIED)
    return jnp.where(damping > 0, jnp.inf, bound)


def choose(condition: Bool[Array, ""], yes: Params, no: Params) -> Params:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _directions(
    model: GMRM,
    params: Params,
    stats: Stats,
    known: tuple[Array, Array, Array],
    sd_floor: Float[Array, ""],
    damping: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, "T q"]]:
    """Predicted gain of log-likelihood and the damped step; coordinates that cannot move stay."""
    k, p = model.n_classes, model.trend.n_terms
    score, complete, missing = known
    # Adding a constant to all logits, or trading gain for trend, changes nothing: pin both.
    total = jnp.sum(stats.s0, axis=-1)
    pin = jnp.einsum("t,tk,tj->tkj", total, params.weights, params.weights)
    complete = complete.at[:, :k, :k].add(pin)
    if model.gain:
        block = slice(3 * k + p, 4 * k + p)
        size = jnp.mean(jnp.diagonal(complete, axis1=1, axis2=2)[:, block], axis=1)
        complete = complete.at[:, block, block].add(
            jnp.broadcast_to(size[:, None, None], (size.shape[0], k, k))
        )

    def pooled(a: Float[Array, "T K"], name: str) -> Float[Array, "T K"]:
        return jnp.broadcast_to(jnp.sum(a, axis=0), a.shape) if name in model.share else a

    slope = pooled(score[:, 2 * k : 3 * k], "sds")
    at_floor = (params.sds <= sd_floor * 1.0001) & (slope <= 0)
    empty = {name: pooled(stats.s0, name) < 1e-2 for name in ("weights", "means", "sds", "gain")}
    frozen = [empty["weights"], empty["means"], empty["sds"] | at_floor]
    # A trend term that is 0 at every visited pixel cannot move either.
    frozen.append(~(jnp.diagonal(complete, axis1=1, axis2=2)[:, 3 * k : 3 * k + p] > 0))
    if model.gain:
        frozen.append(empty["gain"])
    fixed = jnp.concatenate(frozen, axis=1)
    free = ~(fixed[:, :, None] | fixed[:, None, :])
    eye = fixed[:, :, None] * jnp.eye(score.shape[1], dtype=score.dtype)[None]
    score = jnp.where(fixed, 0, score)
    complete = jnp.where(free, complete, 0) + eye
    observed = complete - jnp.where(free, missing, 0)
    newton = solve(model, score, observed)
    damped = solve(model, score, observed + damping * complete)
    return 0.5 * jnp.sum(score * newton), jnp.where(damping > 0, damped, newton)
