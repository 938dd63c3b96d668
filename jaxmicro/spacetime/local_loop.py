"""The iteration to a fixed point of proportions and parameters, for all frames of one movie."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import Item, batched_map
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.m_step import m_step, solve_spd
from jaxmicro.mixture.problem import Fit, Scale, by_mean, judge, record, standardise
from jaxmicro.spacetime.local_em import FEW, Coupling, Level, Sums, make_level, movie_step
from jaxmicro.spacetime.smooth import Cells

PATIENCE = 8  # steps without a higher pseudo-likelihood after which its top lies behind
CLIMB = 0.1  # tolerances by which a step must rise to count as higher
SETTLE = 6  # passes that carry the responsibilities to the parameters of the top
DAMPING = 0.2  # all pixels move at once: undamped, neighbours can swap classes for ever
INTERACTION_RANGE = (0.3, 6.0)  # fitted strengths stay inside
FIELD_RANGE = (-5.0, 5.0)  # and fields: at 5 a class is 150 times as likely as its neighbours say
RIDGE = 1e-4  # a pixel, on the curvature in the strength
TOGETHER = 2.0  # pixels' worth by which the fields of the frames are held together


class Settings(eqx.Module):
    """How one local fit runs: numbers as arrays, so that new values do not compile again.

    `widths` (pixels) and `cells` belong to the kernels from the narrowest to the widest; `buffer`
    is the sd of the hole in them, or None; `classes` and `terms` (0 or 1) say what of the model is
    in use, `places` where pixels lie for the kernel if not where they lie in the frame, `learn`
    whether the coupling is fitted; `decay` is the weight of the next frame;
    `sd_floor` is in grey values, `tolerance` in nats per pixel.
    """

    widths: tuple[Float[Array, ""], ...]
    decay: Float[Array, ""]
    pseudo_count: Float[Array, ""]
    interaction: Float[Array, ""]
    tolerance: Float[Array, ""]
    sd_floor: Float[Array, ""]
    buffer: Float[Array, ""] | None
    classes: Int[Array, ""]
    terms: Float[Array, " P"]
    places: tuple[Int[Array, "*#batch n"], Int[Array, "*#batch n"]] | None
    cells: tuple[Cells, ...] = eqx.field(static=True)
    causal: bool = eqx.field(static=True)
    learn: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


class Observed(eqx.Module):
    """Pixels of one movie and the trend's design there.

    Places, weights and design have an axis S: the frames, or 1 where all share the same places.
    """

    pixels: Pixels
    design: Float[Array, "P S n"]

    @property
    def item(self) -> Item:
        return Item(self.pixels.values, self.design, self.pixels.weight)


class Past(eqx.Module):
    """Decayed class and count maps of each kernel, where a causal fit of later frames starts."""

    maps: tuple[Float[Array, "K Y X"], ...]


class Best(eqx.Module):
    """The parameters of the highest pseudo-likelihood so far, nats per pixel, and their step."""

    params: Params
    coupling: Coupling
    value: Float[Array, "*B"]
    step: Int[Array, "*B"]


class State(eqx.Module):
    """Where a fit stands; parameters are standardised, `old` holds responsibilities."""

    params: Params
    old: Float[Array, "*B T k n"]
    coupling: Coupling
    steps: Int[Array, "*B"]
    gap: Float[Array, "*B"]
    length: Float[Array, "*B"]
    trace: Float[Array, "*B steps"]
    unfinished: Bool[Array, "*B"]
    best: Best


class Found(eqx.Module):
    """What a fit leaves; see `jaxmicro.spacetime.local.LocalFit`."""

    fit: Fit
    responsibilities: Float[Array, "*batch K n"]
    neighbours: Float[Array, "*batch n"]
    coupling: Coupling
    past: Past | None


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
    coupling = Coupling(settings.interaction, jnp.zeros((n_frames, model.n_classes), dtype))
    best = Best(params, coupling, -inf, zero)
    return State(params, old, coupling, zero, inf, inf, trace, jnp.asarray(True), best)


def advance(
    model: GMRM,
    movie: Observed,
    state: State,
    past: Past | None,
    settings: Settings,
    budget: Int[Array, ""],
) -> tuple[Found, State]:
    """At most `budget` steps towards the fixed point; what was found so far and the new state."""
    item, scale = standardise(movie.item, settings.sd_floor)
    levels, counts = _levels(movie, past, settings)
    last = state.steps + budget

    def going(s: State) -> Bool[Array, ""]:
        return _unfinished(s, settings) & (s.steps < last)

    def body(s: State) -> State:
        return _step(model, item, scale, levels, settings, s)

    state = jax.lax.while_loop(going, body, state)
    state = eqx.tree_at(lambda s: s.unfinished, state, _unfinished(state, settings))
    state = _settled(model, item, levels, settings, state)
    found = _found(model, item, scale, levels, settings, state, counts)
    return found, state


def _unfinished(state: State, settings: Settings) -> Bool[Array, ""]:
    return (state.steps < settings.max_steps) & ~_done(state, settings)


def _done(state: State, settings: Settings) -> Bool[Array, ""]:
    """At the fixed point, or past the top of the pseudo-likelihood."""
    past_top = state.steps > state.best.step + PATIENCE
    return (state.gap <= settings.tolerance) | past_top


def _settled(
    model: GMRM, item: Item, levels: tuple[Level, ...], settings: Settings, state: State
) -> State:
    """A finished fit goes back to the top of its pseudo-likelihood, if that lies behind.

    The parameters maximise the pseudo-likelihood at given proportions only. Where the model is not
    quite true (blurred edges, say) the fixed point may lie far from the top, downhill.
    """
    back = ~state.unfinished & (state.gap > settings.tolerance) & (state.best.step < state.steps)
    params, coupling = jax.tree.map(
        lambda top, last: jnp.where(back, top, last),
        (state.best.params, state.best.coupling),
        (state.params, state.coupling),
    )
    fixed = settings.pseudo_count, coupling, settings.causal

    def one(_: Any, old: Array) -> Array:
        sums, _ = movie_step(model, params, item, levels, old, *fixed)
        return sums.responsibilities

    old = jax.lax.fori_loop(0, jnp.where(back, SETTLE, 0), one, state.old)
    fields = (params, coupling, old)
    return eqx.tree_at(lambda s: (s.params, s.coupling, s.old), state, fields)


def _levels(
    movie: Observed, past: Past | None, settings: Settings
) -> tuple[tuple[Level, ...], list[Float[Array, "Y X"]]]:
    """The kernels over the movie's pixels, and the count maps for later frames."""
    made = [
        make_level(
            cells,
            movie.pixels,
            width,
            settings.decay,
            settings.causal,
            None if past is None else past.maps[i],
            settings.buffer,
        )
        for i, (cells, width) in enumerate(zip(settings.cells, settings.widths, strict=True))
    ]
    return tuple(level for level, _ in made), [last for _, last in made]


def _step(
    model: GMRM,
    item: Item,
    scale: Scale,
    levels: tuple[Level, ...],
    settings: Settings,
    s: State,
) -> State:
    """New proportions, responsibilities, parameters and coupling."""
    pixels = jnp.maximum(jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)), 1)
    sums, _ = movie_step(
        model,
        s.params,
        item,
        levels,
        s.old,
        settings.pseudo_count,
        s.coupling,
        settings.causal,
    )
    new = m_step(model, s.params, sums.stats, tied=jnp.asarray(False), sd_floor=scale.floor)
    coupling = _coupled(s.coupling, sums, item) if settings.learn else s.coupling
    moved = _moved(s.params, new, sums) + _turned(s.coupling, coupling, sums, item)
    length = (jnp.sum(sums.change) + moved) / pixels
    tiny = jnp.finfo(length.dtype).tiny
    ratio = jnp.clip(jnp.sqrt(length / jnp.maximum(s.length, tiny)), 0.3, 0.95)
    value = jnp.sum(sums.log_likelihood) / pixels
    higher = value > s.best.value + CLIMB * settings.tolerance
    here = Best(s.params, s.coupling, value, s.steps)
    return State(
        new,
        sums.responsibilities + DAMPING * (s.old - sums.responsibilities),
        coupling,
        s.steps + 1,
        0.5 * length / (1 - ratio),
        length,
        s.trace.at[s.steps].set(value),
        s.unfinished,
        jax.tree.map(lambda a, b: jnp.where(higher, a, b), here, s.best),
    )


def _every(item: Item) -> int:
    """One pixel in this many decides the coupling."""
    return max(1, item.values.shape[1] // FEW)


def _coupled(old: Coupling, sums: Sums, item: Item) -> Coupling:
    """A damped Newton step of the pseudo-likelihood in the strength and the frames' fields."""
    dtype = sums.slope.dtype
    ridge = RIDGE * jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)) / _every(item)
    # A frame's field is held to the mean of all by as much as a few of its pixels would say.
    off = old.field - jnp.mean(old.field, axis=0)[None]
    slope = sums.slope[:, 1:] - TOGETHER * off
    curvature = sums.curvature[:, 1:, 1:] + TOGETHER * jnp.eye(off.shape[1], dtype=dtype)[None]
    cross = sums.curvature[:, 0, 1:]
    both = solve_spd(curvature, jnp.stack([slope, cross], axis=-1))
    rest = jnp.sum(sums.curvature[:, 0, 0]) - jnp.sum(cross * both[..., 1]) + ridge
    step = (jnp.sum(sums.slope[:, 0]) - jnp.sum(cross * both[..., 0])) / rest
    step = jnp.clip(step, -0.5, 0.5)
    strength = jnp.clip(old.strength + step, *INTERACTION_RANGE)
    move = jnp.clip(both[..., 0] - both[..., 1] * step, -0.5, 0.5)
    return Coupling(strength, jnp.clip(old.field + move, *FIELD_RANGE))


def _turned(old: Coupling, new: Coupling, sums: Sums, item: Item) -> Float[Array, ""]:
    """Squared length of a coupling step in the curvature of the pseudo-likelihood, nats."""
    field = new.field - old.field
    strength = jnp.broadcast_to(new.strength - old.strength, field.shape[:1])
    step = jnp.concatenate([strength[:, None], field], axis=1)
    return _every(item) * jnp.einsum("tc,tcd,td->", step, sums.curvature, step)


def _found(
    model: GMRM,
    item: Item,
    scale: Scale,
    levels: tuple[Level, ...],
    settings: Settings,
    state: State,
    counts: list[Float[Array, "Y X"]],
) -> Found:
    """One more pass with the last parameters, and the record of the fit in grey values."""
    fixed = settings.pseudo_count, state.coupling, settings.causal
    sums, inherited = movie_step(model, state.params, item, levels, state.old, *fixed)
    weight = jnp.broadcast_to(item.weight, item.values.shape)
    rest = jnp.maximum(weight - jnp.sum(sums.responsibilities, axis=1), 0)
    resp = jnp.concatenate([sums.responsibilities, rest[:, None]], axis=1)
    order = by_mean(state.params)
    class_counts = jnp.sum(sums.stats.class_counts, axis=0)
    converged = _done(state, settings)
    gap = jnp.where(state.gap > settings.tolerance, _around_top(state), state.gap)
    gap = jnp.where(converged, gap, state.gap)
    judged = judge(
        model,
        item,
        scale,
        state.params,
        class_counts,
        sums.log_likelihood,
        converged,
        settings.classes,
    )
    run = (state.trace, state.steps + 1, gap)
    counts_of_frames = sums.stats.class_counts
    weights = counts_of_frames / jnp.maximum(jnp.sum(counts_of_frames, axis=-1, keepdims=True), 1)
    params = eqx.tree_at(lambda p: p.weights, state.params, weights)
    fit = record(item, scale, params, sums.log_likelihood, judged, model.family, run)
    neighbours = jnp.where(weight > 0, levels[0].neighbours, 0)
    past = None
    if settings.causal:
        pairs = zip(inherited, counts, strict=True)
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
