"""Many models on the same pixels: fits that share compiled programs, and fits that missed.

Plans that differ in the number of classes and the trend only are parts of one largest model, with
what they do not have switched off: one compiled program fits them all. A model cannot fit worse
than one that is a part of it: where it does its fit has missed the optimum, and is begun again
from the smaller one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.bootstrap import Half
from jaxmicro.growth.choose import best_start, starts_of_parts
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.plan import Plan
from jaxmicro.growth.search import AT_ONCE, terms_of
from jaxmicro.mixture.criteria import log_likelihood_and_entropy
from jaxmicro.mixture.ecm import Fit, Result, fit_part
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.starts import with_one_more
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import LocalFit, fit_local
from jaxmicro.spacetime.local_em import Coupling
from jaxmicro.spacetime.part import Part

WAYS = 3  # starts from a smaller model
MISSED = 0.5  # nats by which a model may not fall behind one that is a part of it
MISSED_LOCAL = 1e-3  # nats per pixel; a pseudo-likelihood may fall a little
EXACT = 0.02  # nats of all pixels together that may be missing at the optimum that is found
MANY = 2e6  # pixels from which on the working memory of two fits at once may be too much
LEAST = 1e-8  # nats per pixel: nearer to the optimum single precision cannot tell


@dataclasses.dataclass(frozen=True)
class Tried:
    """One model, fitted to all pixels.

    Attributes:
      plan: of the model.
      whole, half: the model of which it is a part, and which part.
      fit, local: of the whole model, parts of which are switched off.
      log_likelihood: of each frame, summed in double precision.
      entropy: of the classification of each frame, likewise.
      missed: nats by which a part of this model fits better; 0 if none does.
      seconds: that the fit took.
    """

    plan: Plan
    whole: GMRM
    half: Half
    fit: Fit
    local: LocalFit | None
    log_likelihood: np.ndarray
    entropy: np.ndarray
    missed: float
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether all frames reached the optimum, as far as can be seen."""
        ended = np.asarray(self.fit.result) == Result.converged
        return bool(ended.all()) and self.missed == 0

    def fitted(self, pixels: Pixels) -> Fitted:
        """The fit of the model alone."""
        k, fit = self.half.classes, self.fit
        params = fit.params.first(k)
        params = dataclasses.replace(
            params, trend=params.trend[..., np.flatnonzero(self.half.terms)]
        )
        fit = dataclasses.replace(fit, params=params, spike=fit.spike[..., :k])
        local = self.local
        if local is not None:
            coupling = Coupling(local.coupling.strength, local.coupling.field[..., :k])
            local = dataclasses.replace(
                local,
                fit=fit,
                responsibilities=local.responsibilities[..., :k, :],
                coupling=coupling,
                past=None,
            )
        return Fitted(self.plan.model, pixels, fit, local)


Told = Callable[[str, int], None]  # what is being done, and how many models are done since


def fit_all(
    plans: Mapping[str, Plan], pixels: Pixels, quantum: float, told: Told
) -> dict[str, Tried]:
    """Fit every plan's model to the pixels; never raises for numerical trouble.

    Args:
      pixels: batch axis (frames,).
      quantum: grey-level step of the data.
      told: is called with a sentence, and with 1 after each model.
    """
    found: dict[str, Tried] = {}
    for names in families(plans):
        some = {name: plans[name] for name in names}
        whole = whole_of([plan.model for plan in some.values()])
        find = _local_fits if next(iter(some.values())).local is not None else _plain_fits
        found |= find(whole, some, pixels, quantum, told)
    return {name: found[name] for name in plans}


def families(plans: Mapping[str, Plan]) -> list[list[str]]:
    """Names of plans that differ in classes and trend only."""
    out: dict[object, list[str]] = {}
    for name, plan in plans.items():
        out.setdefault(family_key(plan), []).append(name)
    return list(out.values())


def family_key(plan: Plan) -> tuple[object, ...]:
    """What plans have in common that are fitted as parts of one model."""
    model = plan.model
    own = model.trend if model.trend.own else None
    start = None if plan.start is None else id(plan.start)
    law = model.family, frozenset(model.share), model.gain
    return (*law, plan.local, plan.tolerance, plan.max_steps, own, start)


def nested(null: Plan, alternative: Plan) -> bool:
    """Whether a model is a part of another one: no more classes, no other terms."""
    one, other = null.model, alternative.model
    terms = set(one.trend.terms), set(other.trend.terms)
    more = one.n_classes < other.n_classes or terms[0] < terms[1]
    inside = one.n_classes <= other.n_classes and terms[0] <= terms[1]
    return family_key(null) == family_key(alternative) and more and inside


def whole_of(models: list[GMRM]) -> GMRM:
    """The smallest model that has all of these as parts."""
    classes, first = max(m.n_classes for m in models), models[0]
    largest = max((m.trend for m in models), key=lambda t: t.n_terms)
    trends = [largest, *(m.trend for m in models)]
    have: set[str] = set()
    used = []
    for trend in trends:
        if not set(trend.terms) <= have:
            used.append(trend.formula)
            have |= set(trend.terms)
    trend = largest if len(used) == 1 else Trend(" + ".join(used))
    return GMRM(classes, trend, first.share, first.gain, first.family)


def _in_order(whole: GMRM, plans: Mapping[str, Plan]) -> list[tuple[str, Half]]:
    """Smaller models first."""
    halves = [
        (name, Half(plan.model.n_classes, terms_of(whole, plan.model.trend.formula)))
        for name, plan in plans.items()
    ]
    return sorted(halves, key=lambda pair: (pair[1].classes, sum(pair[1].terms)))


def is_part(one: Half, other: Half) -> bool:
    """Whether a model has no more classes and no other terms than another one, and is another."""
    fewer = all(b or not a for a, b in zip(one.terms, other.terms, strict=True))
    return one != other and one.classes <= other.classes and fewer


class Found(NamedTuple):
    """A fit of the whole model with parts switched off, its log-likelihood and entropy by frame."""

    fit: Fit
    local: LocalFit | None
    log_likelihood: np.ndarray
    entropy: np.ndarray

    @property
    def total(self) -> float:
        value = math.fsum(self.log_likelihood)
        return value if math.isfinite(value) else -math.inf


# Fits a part of a model; None for the start that is usual.
Fitter = Callable[[Half, Params | None], Found]


def _in_turn(
    whole: GMRM,
    plans: Mapping[str, Plan],
    fitter: Fitter,
    slack: float,
    told: Told,
    n_pixels: float,
) -> dict[str, Tried]:
    """Smaller models first; one that misses its optimum begins again from the best part of it."""

    def usual(named: tuple[str, Half]) -> tuple[Found, float]:
        told(f"fitting {named[0]}", 0)
        began = time.perf_counter()
        found = fitter(named[1], None)
        return found, time.perf_counter() - began

    order, out = _in_order(whole, plans), dict[str, Tried]()
    first = [usual(named) for named in order[:1]]  # it compiles the program
    with ThreadPoolExecutor(AT_ONCE if n_pixels <= MANY else 1) as pool:
        each = itertools.chain(first, pool.map(usual, order[1:]))
        for (name, half), (found, seconds) in zip(order, each, strict=True):
            began = time.perf_counter()
            part, missed = _best_part(half, out, found.total, slack)
            if part is not None:
                tries = (fitter(half, start) for start in _larger(part, half))
                found = max([found, *tries], key=lambda f: f.total)
                missed = _best_part(half, out, found.total, slack)[1]
            seconds += time.perf_counter() - began
            out[name] = Tried(plans[name], whole, half, *found, missed, seconds)
            told(f"fitted {name}", 1)
    return out


def _plain_fits(
    whole: GMRM, plans: Mapping[str, Plan], pixels: Pixels, quantum: float, told: Told
) -> dict[str, Tried]:
    plan = next(iter(plans.values()))
    total = float(np.sum(np.asarray(pixels.n_pixels)))
    tolerance = plan.tolerance
    if tolerance is None:
        tolerance = max(min(plan.stopping["tolerance"], EXACT / total), LEAST)

    def fitter(half: Half, start: Params | None) -> Found:
        fit = fit_part(
            whole,
            pixels,
            half.classes,
            half.terms,
            init=plan.start if start is None else start,
            tolerance=tolerance,
            max_steps=plan.max_steps,
            quantum=quantum,
        )
        return Found(fit, None, *log_likelihood_and_entropy(whole, fit.params, pixels))

    return _in_turn(whole, plans, fitter, MISSED, told, total)


def _best_part(
    half: Half, done: Mapping[str, Tried], own: float, slack: float
) -> tuple[Tried | None, float]:
    """The best of the models that are a part of this one, if it fits better, and by how much."""
    parts = [t for t in done.values() if is_part(t.half, half) and comparable(t, half)]
    parts = [t for t in parts if np.isfinite(t.log_likelihood).all()]
    best = max(parts, key=lambda t: math.fsum(t.log_likelihood), default=None)
    if best is None or not math.isfinite(own):
        return None, 0.0
    more = math.fsum(best.log_likelihood) - own
    return (best, more) if more > slack else (None, 0.0)


def comparable(part: Tried, half: Half) -> bool:
    """Whether a fit bounds that of a larger model from below.

    A pseudo-likelihood does for one number of classes only.
    """
    return part.local is None or part.half.classes == half.classes


def _larger(part: Tried, half: Half) -> list[Params]:
    """Parameters of a model to start from, by those of a part of it."""
    ways = [part.fit.params]
    for k in range(part.half.classes, half.classes):
        ways = [start.params for way in ways for start in with_one_more(way, k)][:WAYS]
    return ways


def _local_fits(
    whole: GMRM, plans: Mapping[str, Plan], pixels: Pixels, quantum: float, told: Told
) -> dict[str, Tried]:
    plan = next(iter(plans.values()))
    local = plan.local
    assert local is not None
    numbers = sorted({p.model.n_classes for p in plans.values()})

    def said(text: str) -> None:
        told(text, 0)

    starts: dict[int, Params] = {}
    if len(plans) == 1 and plan.start is None:  # as `quantify` begins
        starts = {numbers[0]: best_start(whole, pixels, local, quantum=quantum, progress=said)}
    elif plan.start is None:
        starts = starts_of_parts(whole, pixels, local, numbers, quantum=quantum, progress=said)
    middle = mean_design(whole, pixels)

    def fitter(half: Half, start: Params | None) -> Found:
        start = starts.get(half.classes, plan.start) if start is None else start
        part = Part(half.classes, half.terms, plan.max_steps)
        begun = None if start is None else without(start, half, middle)
        found = fit_local(
            whole, pixels, local, init=begun, part=part, quantum=quantum, **plan.stopping
        )
        return Found(found.fit, found, *local_sums(found, pixels))

    total = float(np.sum(np.asarray(pixels.n_pixels)))
    return _in_turn(whole, plans, fitter, MISSED_LOCAL * total, told, total)


def local_sums(found: LocalFit, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-likelihood and entropy of the classification of each frame."""
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, pixels.values.shape)
    resp = np.asarray(found.responsibilities, np.float64)
    surprise = np.where(seen[:, None] & (resp > 0), -resp * np.log(np.maximum(resp, 1e-300)), 0.0)
    return np.asarray(found.fit.log_likelihood, np.float64), surprise.sum(axis=(1, 2))


def mean_design(model: GMRM, pixels: Pixels) -> np.ndarray:
    """Mean of each term over the visited pixels of each frame, (frames, P)."""
    design = np.asarray(model.design(pixels), float)
    if design.ndim == 2:
        design = np.broadcast_to(design[:, None], (len(design), *pixels.values.shape))
    weight = np.broadcast_to(np.asarray(pixels.weight, float), pixels.values.shape)
    return np.einsum("ptn,tn->tp", design, weight) / np.maximum(weight.sum(axis=1), 1)[:, None]


def without(params: Params, half: Half, middle: np.ndarray) -> Params:
    """Without the terms that are switched off; the means take over what they add on average."""
    kept = np.array(half.terms, float)
    lost = np.sum(np.asarray(params.trend) * (1 - kept) * middle, axis=1)
    dtype = params.means.dtype
    means = np.asarray(params.means) + np.mean(lost)
    trend = np.asarray(params.trend) * kept
    return dataclasses.replace(
        params, means=jnp.asarray(means, dtype), trend=jnp.asarray(trend, dtype)
    )
