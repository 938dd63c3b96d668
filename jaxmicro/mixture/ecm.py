"""Fitting a GMRM by ECM: deterministic start, safeguarded SQUAREM, a certificate of the optimum.

Batch items are independent fits: one frame each, or a whole movie where class means or
sds are shared. An item that goes wrong says so in its own result and leaves the others alone.

Sources: ECM, Meng and Rubin (1993), Biometrika 80:267. SQUAREM, Varadhan and Roland (2008),
Scand. J. Statist. 35:335, scheme S3.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.arguments import is_traced, refuse_traced, whole
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture import newton, squarem
from jaxmicro.mixture.batch import THIN, Item, by_fit, by_frame, over_items, padded, thinned
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.grey import grey_step as grey_step
from jaxmicro.mixture.grey import traced_grey_step
from jaxmicro.mixture.implicit import follow
from jaxmicro.mixture.inputs import check_inputs, check_stopping
from jaxmicro.mixture.problem import Fit as Fit
from jaxmicro.mixture.problem import Result as Result
from jaxmicro.mixture.problem import Scale, judge, record, standardise

TIED_STEPS = 20  # steps with one sd for all classes: long enough to place the means
LOOSE = 1e-4  # gap in nats per pixel at which Newton steps take over
THIN_LOOSE = 1e-5  # the same for the thin sample, whose optimum starts the full fit
OUT_OF_REACH = 1e6  # mean of an unused class, in sds: of n pixels none lies beyond sqrt(n)
PART_S = 3.0  # a fit that is watched reports about this often
PASS_S = 50e-9  # a step's time per pixel, for the first guess of how many steps that is

Progress = Callable[[str], None]


def fit(
    model: GMRM,
    pixels: Pixels,
    *,
    init: Params | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 500,
    quantum: float | None = None,
    classes: int | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Fit `model` to the pixels by ECM, every frame and replicate at once.

    It can stand inside `jax.jit`, `jax.vmap` and `jax.grad`. `params` and `log_likelihood` have
    derivatives by the pixels' values and weights, by the implicit function theorem: those of the
    optimum, right where `result` is converged and as near as `tolerance` is small.

    Args:
      model: which GMRM.
      pixels: batch axes (frames,) or (frames, replicates).
      init: parameters to start from, with the same batch axes or one frame's; default is a
        deterministic start: means spread over the grey values, one sd for all classes at first.
      tolerance: stop where the optimum is known to be nearer than this, nats per pixel.
      max_steps: passes over the pixels allowed.
      quantum: grey-level step of the data; sds stay above quantum / sqrt(12), the sd of rounding.
        Default: read off the values.
      classes: use only this many of the model's classes, from the default start. The others hold
        no pixels and come last, with weight 0: one compiled program tries several numbers.
      progress: called every few seconds with a sentence on how far the fit has come.

    Returns:
      `Fit`. Never raises for numerical trouble; see `Fit.result`.

    Raises:
      UsageError: `classes` is not between 1 and the model's, or is given together with `init`; an
        argument of another type; `progress` inside jax.jit, vmap or grad.
    """
    check_inputs("fit", model, pixels, init)
    check_stopping("fit", tolerance, max_steps, quantum)
    if classes is not None:
        refuse_traced(classes, "fit: classes", "give a plain number")
        classes = whole(classes, "classes", 1, model.n_classes)
    if classes is not None and init is not None:
        raise UsageError("classes and init cannot go together; init says how many there are")
    traced = is_traced((pixels, init))
    given = pixels
    if traced:  # derivatives come from the optimum, not from the way there: see `implicit`
        pixels, init = jax.lax.stop_gradient((pixels, init))
    step: Any = quantum
    if step is None:
        step = traced_grey_step(pixels.values) if traced else grey_step(np.asarray(pixels.values))
    dtype = pixels.values.dtype
    stop = jnp.asarray(tolerance, dtype)  # as arrays: a new value must not compile again
    floor = jnp.asarray(step / 12**0.5, dtype)
    used = Used(jnp.asarray(classes or model.n_classes, jnp.int32), None)

    state = _begin(model, pixels, init, floor, used, max_steps)

    def advance(state: State, budget: int) -> tuple[Fit, State]:
        limit = jnp.asarray(budget, jnp.int32)
        return _advance(model, pixels, state, stop, floor, used, limit, max_steps)

    if traced:
        refuse_traced(pixels if progress is not None else None, "fit with progress", "leave it out")
        return follow(model, given, advance(state, max_steps)[0], floor)
    if progress is None:
        return advance(state, max_steps)[0]
    return in_parts(advance, state, max_steps, pixels.values.size, progress)


class Used(eqx.Module):
    """The part of a model that is in use: its first classes, and terms of its trend (None: all)."""

    classes: Int[Array, ""]
    terms: Float[Array, " P"] | None


def fit_part(
    model: GMRM,
    pixels: Pixels,
    classes: int,
    terms: Sequence[bool],
    *,
    init: Params | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 500,
    quantum: float,
) -> Fit:
    """`fit` of a part of a model: its first `classes` classes, those of its `terms` that are true.

    The other classes hold no pixels and come last, the coefficients of the other terms are 0. One
    compiled program fits every number of classes and every trend that is a part of the model's.

    Args:
      init: parameters of the whole model to start from; default is the deterministic start.
      quantum: grey-level step of the data.
    """
    check_inputs("fit_part", model, pixels, init)
    dtype = pixels.values.dtype
    in_use = jnp.asarray(terms, dtype)
    used = Used(jnp.asarray(classes, jnp.int32), in_use)
    floor, stop = (jnp.asarray(v, dtype) for v in (quantum / 12**0.5, tolerance))
    if init is not None:
        init = dataclasses.replace(init, trend=init.trend * in_use)
    state = _begin(model, pixels, init, floor, used, max_steps)
    budget = jnp.asarray(max_steps, jnp.int32)
    return _advance(model, pixels, state, stop, floor, used, budget, max_steps)[0]


def in_parts(
    advance: Callable[[Any, int], tuple[Any, Any]],
    state: Any,
    max_steps: int,
    size: int,
    progress: Progress,
) -> Any:
    """Run a fit a few steps at a time, so that it can be watched and interrupted.

    `advance(state, budget)` goes on by at most `budget` steps and returns the fit so far and the
    new state, whose `unfinished` says which items go on. `size` is the number of values that a
    step passes over. How the steps are cut into parts changes nothing in the result.
    """
    budget = min(max_steps, max(2, int(PART_S / (size * PASS_S))))
    while True:
        began = time.perf_counter()
        found, state = advance(state, budget)
        if not np.asarray(state.unfinished).any():
            return found
        progress(_so_far(state))
        seconds = max(time.perf_counter() - began, 1e-3)
        budget = int(np.clip(budget * np.clip(PART_S / seconds, 0.5, 4), 2, max_steps))


def _so_far(state: Any) -> str:
    going = np.asarray(state.unfinished)
    steps = int(np.max(np.asarray(state.steps)))
    done = "" if going.size == 1 else f", {going.size - going.sum()} of {going.size} fits done"
    return f"step {steps}{done}"


class State(eqx.Module):
    """Where the fits of a batch stand; `squarem` is None where parameters to start from were given.

    `steps` are those made so far, on a thin sample or on all pixels.
    """

    squarem: squarem.State | None
    newton: newton.State
    steps: Int[Array, "*items"]
    unfinished: Bool[Array, "*items"]


@eqx.filter_jit
def _begin(
    model: GMRM,
    pixels: Pixels,
    init: Params | None,
    sd_floor: Float[Array, ""],
    used: Used,
    max_steps: int,
) -> State:
    """The states before the first step, from `init` or from the default start."""
    start = None if init is None else by_fit(model, pixels, init)

    def one(args) -> State:
        item, scale = standardise(args[0], sd_floor)
        if args[1] is None:
            begun = scale.begin(_start(model, item, used.classes), model.family)
            first = squarem.begin(begun, max_steps)
            params = first.best
        else:
            first, params = None, scale.standardised(args[1], model.family)
        zero = jnp.zeros((), jnp.int32)
        trace = jnp.full(max_steps, jnp.nan, item.values.dtype)
        second = newton.begin(model, params, max_steps, zero, zero, trace)
        return State(first, second, zero, jnp.asarray(True))

    return over_items(one, model, pixels, start, used.terms)


@eqx.filter_jit
def _advance(
    model: GMRM,
    pixels: Pixels,
    state: State,
    tolerance: Float[Array, ""],
    sd_floor: Float[Array, ""],
    used: Used,
    budget: Int[Array, ""],
    max_steps: int,
) -> tuple[Fit, State]:
    """At most `budget` steps of every fit; the fits so far and the new states."""

    def one(args) -> tuple[Fit, State]:
        item, scale = standardise(args[0], sd_floor)
        after = _steps(model, item, scale, args[1], tolerance, budget, max_steps)
        return _found(model, item, scale, after.newton, tolerance, used.classes), after

    found, after = over_items(one, model, pixels, state, used.terms)
    return by_frame(model, pixels, found), after


def _steps(
    model: GMRM,
    item: Item,
    scale: Scale,
    state: State,
    tolerance: Float[Array, ""],
    budget: Int[Array, ""],
    max_steps: int,
) -> State:
    """SQUAREM, then Newton steps; from a given start Newton steps alone.

    A thin sample of a large frame finds the optimum; the full frame then needs only a few steps.
    """
    thin, full = _stages(item)
    if state.squarem is None:
        after = newton.advance(model, full, state.newton, tolerance, scale.floor, budget)
        return State(None, after, after.step, newton.unfinished(after, tolerance))
    loose = jnp.maximum(tolerance, LOOSE if thin is full else THIN_LOOSE)
    begun = ~squarem.unfinished(state.squarem, loose, max_steps)
    before = squarem.advance(
        model, thin, state.squarem, loose, scale.floor, max_steps, TIED_STEPS, budget
    )
    ready = ~squarem.unfinished(before, loose, max_steps)
    start = state.newton
    carried = (start.step, start.kept, start.trace)
    if thin is full:
        carried = (before.step, before.kept, before.trace)
    first = newton.begin(model, before.best, max_steps, *carried)
    first = jax.tree.map(lambda a, b: jnp.where(begun, a, b), start, first)
    budget = jnp.where(ready, budget, 0)
    after = newton.advance(model, full, first, tolerance, scale.floor, budget)
    steps = after.step if thin is full else before.step + after.step
    return State(before, after, steps, ~ready | newton.unfinished(after, tolerance))


def _stages(item: Item) -> tuple[Item, Item]:
    """The pixels of the first stage and of the second; the same object for small frames."""
    full = padded(item)
    return (thinned(full) if item.values.shape[1] >= 2 * THIN else full), full


def _found(
    model: GMRM,
    item: Item,
    scale: Scale,
    end: newton.State,
    tolerance: Float[Array, ""],
    present: Int[Array, ""],
) -> Fit:
    converged = end.gap <= tolerance
    class_counts = jnp.sum(end.class_counts, axis=0)
    judged = judge(
        model, item, scale, end.best, class_counts, end.log_likelihood, converged, present
    )
    gap = jnp.where(converged, end.gap + scale.rounding(end.best), jnp.inf)
    run = end.trace, end.step, gap
    return record(item, scale, end.best, end.log_likelihood, judged, model.family, run)


def _start(model: GMRM, item: Item, present: Int[Array, ""]) -> Params:
    """Means spread evenly over the grey values, equal weights, no trend.

    Classes from `present` on lie out of the reach of any pixel, so that they stay empty.
    """
    k, n_frames = model.n_classes, item.values.shape[0]
    z = jnp.where(item.weight > 0, item.values, jnp.nan)
    thin = z[:, :: max(1, z.shape[1] // 4096)]
    low, high = jnp.nanquantile(thin, 0.005), jnp.nanquantile(thin, 0.995)
    number = jnp.arange(k)
    place = (number.astype(z.dtype) + 0.5) / present
    means = jnp.where(number < present, low + (high - low) * place, OUT_OF_REACH)
    weights = jnp.where(number < present, 1 / present.astype(z.dtype), 0)
    like = jnp.ones((n_frames, k), z.dtype)
    # Half of what the spacing suggests: while the sds are large, a common class draws the mean of
    # its rare neighbour to it.
    sd = jnp.maximum((high - low) / (4 * present), 1e-3)
    trend = jnp.zeros((n_frames, item.design.shape[0]), z.dtype)
    return Params(like * weights[None, :], like * means[None, :], like * sd, trend, like)
