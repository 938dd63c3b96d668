"""The iteration to a fixed point of proportions and parameters, for all frames of one movie."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.mixture.batch import Item, batched_map
from jaxmicro.mixture.gmrm import GMRM, Params, Stats, moments
from jaxmicro.mixture.m_step import m_step
from jaxmicro.mixture.problem import Scale, by_mean, judge, record, standardise
from jaxmicro.spacetime.coupling import newton_step, squared_length
from jaxmicro.spacetime.local_em import (
    Coupling,
    Sums,
    Surroundings,
    inherited,
    make_level,
    movie_step,
)
from jaxmicro.spacetime.local_state import Best, Found, Observed, Past, Seen, Settings, State

PATIENCE = 8  # steps without a higher pseudo-likelihood after which its top lies behind
CLIMB = 0.1  # tolerances by which a step must rise to count as higher
SETTLE = 6  # passes that carry the responsibilities to the parameters of the top
HELD = 8  # passes over pixels left out, by which their density stands to 1e-4 nats a pixel
CLIMBING = -1
DAMPING = 0.2  # all pixels move at once: undamped, neighbours can swap classes for ever


def begin(model: GMRM, movie: Observed, start: Params, settings: Settings) -> State:
    """The state before the first step: the responsibilities of the frames' own weights."""
    item, scale = standardise(movie.item, settings.sd_floor)
    params = scale.standardised(start, model.family)
    n_frames, n = item.values.shape
    weight = jnp.broadcast_to(item.weight, item.values.shape)

    def plain(args):
        p, z, f, w = args
        joint = jnp.stack(model.log_joint(p, z, f))
        return jax.nn.softmax(joint, axis=0)[: model.n_classes - 1] * w[None]

    design = jnp.broadcast_to(jnp.moveaxis(item.design, 1, 0), (n_frames, item.design.shape[0], n))
    old = batched_map(plain, (params, item.values, design, weight), 1)
    dtype = item.values.dtype
    inf = jnp.asarray(jnp.inf, dtype)
    trace = jnp.full(settings.max_steps, jnp.nan, dtype)
    zero = jnp.zeros((), jnp.int32)
    first = settings.coupling
    best = Best(params, first, -inf, zero)
    left = jnp.where(settings.held, HELD, CLIMBING)
    seen = _nothing(model, params, item)
    return State(params, old, first, zero, inf, inf, trace, jnp.asarray(True), best, left, seen)


def _nothing(model: GMRM, params: Params, item: Item) -> Seen:
    """Sums before the first pass."""

    def one(p: Params, z: Array, f: Array, w: Array) -> Stats:
        resp = jnp.zeros((model.n_classes, z.shape[0]), z.dtype)
        return moments(p, resp, resp, f, model.family)

    n_frames, n = item.values.shape
    like = jax.ShapeDtypeStruct((n_frames, n), item.values.dtype)
    design = jax.ShapeDtypeStruct((n_frames, item.design.shape[0], n), item.design.dtype)
    stats = jax.eval_shape(jax.vmap(one), params, like, design, like)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), stats)
    return Seen(jnp.zeros(n_frames, item.values.dtype), zeros)


def advance(
    model: GMRM,
    movie: Observed,
    state: State,
    past: Past | None,
    settings: Settings,
    budget: Int[Array, ""],
) -> tuple[Found, State]:
    """At most `budget` passes towards the end of the fit; what was found so far, and the state.

    The parameters move to the fixed point, or to where the pseudo-likelihood was highest;
    a few passes more bring the responsibilities to the parameters found.
    """
    item, scale = standardise(movie.item, settings.sd_floor)
    around, counts = _surroundings(movie, past, settings)

    def going(carry: tuple[State, Array]) -> Bool[Array, ""]:
        return (carry[0].left != 0) & (carry[1] < budget)

    def body(carry: tuple[State, Array]) -> tuple[State, Array]:
        return _step(model, item, scale, around, settings, carry[0]), carry[1] + 1

    state, _ = jax.lax.while_loop(going, body, (state, jnp.zeros((), jnp.int32)))
    state = eqx.tree_at(lambda s: s.unfinished, state, state.left != 0)
    return _found(model, item, scale, around, settings, state, counts), state


def _done(state: State, settings: Settings) -> Bool[Array, ""]:
    """At the fixed point, or past the top of the pseudo-likelihood."""
    past_top = state.steps > state.best.step + PATIENCE
    return (state.gap <= settings.tolerance) | past_top


def _ended(settings: Settings, state: State) -> State:
    """A fit that has ended goes back to the top of its pseudo-likelihood, if that lies behind.

    The parameters maximise the pseudo-likelihood at given proportions only. Where the model is not
    quite true (blurred edges, say) the fixed point may lie far from the top, downhill.
    """
    end = _done(state, settings) | (state.steps >= settings.steps)
    back = end & (state.gap > settings.tolerance) & (state.best.step < state.steps)
    params, coupling = jax.tree.map(
        lambda top, last: jnp.where(back, top, last),
        (state.best.params, state.best.coupling),
        (state.params, state.coupling),
    )
    left = jnp.where(end, jnp.where(back, SETTLE + 1, 1), CLIMBING)
    fields = (params, coupling, left)
    return eqx.tree_at(lambda s: (s.params, s.coupling, s.left), state, fields)


def _surroundings(
    movie: Observed, past: Past | None, settings: Settings
) -> tuple[Surroundings, list[Float[Array, "Y X"]]]:
    """The kernels over the movie's pixels, and the count maps for later frames."""
    pixels, fold = movie.pixels, settings.fold
    if fold is not None:
        pixels = eqx.tree_at(lambda p: p.weight, pixels, pixels.weight * fold.told)
    made = [
        make_level(
            cells,
            pixels,
            width,
            settings.decay,
            settings.causal,
            None if past is None else past.maps[i],
            settings.buffer,
        )
        for i, (cells, width) in enumerate(zip(settings.cells, settings.widths, strict=True))
    ]
    levels = tuple(level for level, _ in made)
    around = Surroundings(levels, settings.pseudo_count, settings.causal, fold)
    return around, [last for _, last in made]


def _step(
    model: GMRM,
    item: Item,
    scale: Scale,
    around: Surroundings,
    settings: Settings,
    s: State,
) -> State:
    """One pass: new proportions and responsibilities and, while it climbs, new parameters."""
    sums = movie_step(model, s.params, item, around, s.old, s.coupling)
    new = m_step(model, s.params, sums.stats, tied=jnp.asarray(False), sd_floor=scale.floor)
    coupling = newton_step(s.coupling, sums, item) if settings.learn else s.coupling
    after = _ended(settings, _climbed(s, new, coupling, sums, item, settings))
    climbing = s.left == CLIMBING
    # in the last passes parameters stay; the coupling is fitted to pixels left out
    kept = jnp.where(settings.held & (s.left > 1), coupling.strength, s.coupling.strength)
    field = jnp.where(settings.held & (s.left > 1), coupling.field, s.coupling.field)
    ended = eqx.tree_at(
        lambda t: (t.coupling, t.left), s, (Coupling(kept, field), jnp.maximum(s.left - 1, 0))
    )
    damped = sums.responsibilities + DAMPING * (s.old - sums.responsibilities)
    state = jax.tree.map(lambda a, b: jnp.where(climbing, a, b), after, ended)
    old = jnp.where(climbing, damped, sums.responsibilities)
    fields = (old, Seen(sums.log_likelihood, sums.stats))
    return eqx.tree_at(lambda t: (t.old, t.seen), state, fields)


def _climbed(
    s: State, new: Params, coupling: Coupling, sums: Sums, item: Item, settings: Settings
) -> State:
    """The state after a step of the parameters; the responsibilities are still the old ones."""
    pixels = jnp.maximum(jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)), 1)
    moved = _moved(s.params, new, sums) + squared_length(s.coupling, coupling, sums, item)
    length = (jnp.sum(sums.change) + moved) / pixels
    tiny = jnp.finfo(length.dtype).tiny
    ratio = jnp.clip(jnp.sqrt(length / jnp.maximum(s.length, tiny)), 0.3, 0.95)
    value = jnp.sum(sums.log_likelihood) / pixels
    higher = value > s.best.value + CLIMB * settings.tolerance
    here = Best(s.params, s.coupling, value, s.steps)
    best = jax.tree.map(lambda a, b: jnp.where(higher, a, b), here, s.best)
    gap = 0.5 * length / (1 - ratio)
    trace = s.trace.at[s.steps].set(value)
    fields = (new, coupling, s.steps + 1, gap, length, trace, best)
    return eqx.tree_at(
        lambda t: (t.params, t.coupling, t.steps, t.gap, t.length, t.trace, t.best), s, fields
    )


def _found(
    model: GMRM,
    item: Item,
    scale: Scale,
    around: Surroundings,
    settings: Settings,
    state: State,
    counts: list[Float[Array, "Y X"]],
) -> Found:
    """The record of the fit, in grey values, from its last pass."""
    seen = state.seen
    weight = jnp.broadcast_to(item.weight, item.values.shape)
    rest = jnp.maximum(weight - jnp.sum(state.old, axis=1), 0)
    resp = jnp.concatenate([state.old, rest[:, None]], axis=1)
    order = by_mean(state.params)
    of_frames = seen.stats.class_counts
    converged = _done(state, settings)
    gap = jnp.where(state.gap > settings.tolerance, _around_top(state), state.gap)
    gap = jnp.where(converged, gap, state.gap)
    judged = judge(
        model,
        item,
        scale,
        state.params,
        jnp.sum(of_frames, axis=0),
        seen.log_likelihood,
        converged,
        settings.classes,
    )
    run = (state.trace, state.steps + 1, gap)
    weights = of_frames / jnp.maximum(jnp.sum(of_frames, axis=-1, keepdims=True), 1)
    params = eqx.tree_at(lambda p: p.weights, state.params, weights)
    counted = item
    if around.fold is not None:
        counted = eqx.tree_at(lambda i: i.weight, item, item.weight * around.fold.judged)
    fit = record(counted, scale, params, seen.log_likelihood, judged, model.family, run)
    neighbours = jnp.where(weight > 0, around.levels[0].neighbours, 0)
    past = None
    if settings.causal:
        pairs = zip(inherited(around, state.old), counts, strict=True)
        past = Past(tuple(jnp.concatenate([m, c[None]]) for m, c in pairs))
    coupling = Coupling(state.coupling.strength, state.coupling.field[:, order])
    return Found(fit, resp[:, order], neighbours, coupling, past)


def _around_top(state: State) -> Float[Array, ""]:
    """How much the pseudo-likelihood changes from its top to the next step, nats per pixel."""
    last = state.trace.shape[0] - 1
    after = state.trace[jnp.minimum(state.best.step + 1, last)]
    return jnp.abs(state.best.value - after)


def _moved(old: Params, new: Params, sums: Sums) -> Float[Array, ""]:
    """Squared length of a parameter step in the complete-data information, nats."""
    s = sums.stats
    d_mean = new.means - old.means
    slope = (
        new.gain[..., None] * new.trend[..., None, :]
        - old.gain[..., None] * old.trend[..., None, :]
    )
    along = 2 * d_mean * jnp.sum(s.sf * slope, axis=-1)
    square = jnp.einsum("tkpq,tkp,tkq->tk", s.sff, slope, slope)
    location = (s.s0 * d_mean**2 + along + square) / old.sds**2
    total = jnp.sum(location + 2 * s.class_counts * jnp.log(new.sds / old.sds) ** 2)
    if s.log_less is not None and new.law is not None and old.law is not None:
        turn = jnp.log(new.law[:, 0] / old.law[:, 0])
        total = total + jnp.sum(0.5 * jnp.sum(s.class_counts, axis=-1) * turn**2)
    return total
