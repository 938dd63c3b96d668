"""From the pixels of a movie to its growth curve, by a plan; one movie or many replicates."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.data.survey import survey
from jaxmicro.errors import NumericalError, UsageError
from jaxmicro.growth.choose import best_start
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.estimators import ESTIMATORS, Evidence
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.history import class_shares
from jaxmicro.growth.partition import GROWING, NothingGrows, Partition, partition
from jaxmicro.growth.plan import EVERY_PIXEL, Correction, ForegroundRule, Plan, Sampling
from jaxmicro.growth.usable import usable
from jaxmicro.mixture.ecm import Fit, Progress, Result, fit
from jaxmicro.spacetime.correct import Vote, vote
from jaxmicro.spacetime.local import fit_local
from jaxmicro.spacetime.soft_correction import SoftCorrection, SoftSettings, correct_softly


class Advance(Protocol):
    """Is told how many more units are done, or a sentence on how far the work has come."""

    def __call__(self, count: int = 1) -> None: ...
    def say(self, text: str) -> None: ...


# Opens a stage of so many frames, to show its progress and to time it.
Stage = Callable[[str, int], contextlib.AbstractContextManager[Advance]]


class _Silence:
    def __call__(self, count: int = 1) -> None:
        return None

    def say(self, text: str) -> None:
        return None


def _silent(name: str, total: int) -> contextlib.AbstractContextManager[Advance]:
    return contextlib.nullcontext(_Silence())


@dataclasses.dataclass(frozen=True)
class Visited:
    """The visited pixels of a movie, and sentences for the user about what was found."""

    pixels: Pixels
    notes: tuple[str, ...]


def visit(
    movie: Movie,
    sampling: Sampling = EVERY_PIXEL,
    *,
    n_classes: int | None = None,
    stage: Stage = _silent,
) -> Visited:
    """Check a movie and sample its pixels: what every command on a movie begins with.

    Args:
      sampling: how to sub-sample; rate None takes every visited pixel.
      n_classes: of the largest model that will be fitted; None where it is yet to be chosen.
      stage: opens the stages "check" and "sample".

    Raises:
      UsageError: a rate for a movie that is sub-sampled already; see also `sample`.
      DataError: frames that carry no statistics, or too few grey values; see `survey`.
    """
    rate = sampling.rate
    if rate is not None and (movie.sampled is not None or movie.missing is not None):
        raise UsageError(
            f"--rate {rate:g} sub-samples a full movie, but this one is sub-sampled already "
            "(--visited or --missing); leave one of them out"
        )
    with stage("check", movie.n_frames) as advance:
        found = survey(movie, n_classes, advance)
    with stage("sample", movie.n_frames) as advance:
        key = jax.random.key(sampling.seed)
        pixels = sample(key, movie, rate, sampling.pattern, done=advance)
    return Visited(pixels, (*movie.warnings, *found.warnings))


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a plan found in pixels with batch axes (frames,) or (frames, replicates).

    Attributes:
      plan: as asked for.
      fitted: the fit, on the pixels.
      partitions: which classes are foreground, one a replicate; None where no frame could be
        fitted, or where the rule is "grows" and nothing grows.
      classes: (*batch, n) the most probable class of each visited pixel.
      foreground: (*batch, n) whether it is foreground, after any correction.
      corrected: what the correction did, if any.
      growth: areas, NaN where not known; in um2 and with times where the movie was given.
      usable: (*batch) whether the area may be used.
      shares: (few, K) of each class over the whole movie; None where all its frames are analysed.
    """

    plan: Plan
    fitted: Fitted
    partitions: tuple[Partition | None, ...]
    classes: Int[np.ndarray, "*batch n"]
    foreground: Bool[np.ndarray, "*batch n"]
    corrected: Vote | SoftCorrection | None
    growth: Growth
    usable: Bool[np.ndarray, "*batch"]
    shares: Float[np.ndarray, "few K"] | None = None

    @property
    def partition(self) -> Partition:
        """The partition of a movie without replicates."""
        (only,) = self.partitions
        assert only is not None  # `analyse` raises where one movie has no foreground
        return only


def analyse(
    pixels: Pixels | Movie,
    plan: Plan,
    *,
    movie: Movie | None = None,
    thickness_um: float | None = None,
    stage: Stage = _silent,
) -> Analysis:
    """Fit, partition, correct and estimate, as the plan says.

    A movie is sampled as `plan.sampling` says, and its calibration is that of the growth curve;
    `analyse(pixels, plan, movie=movie)` calibrates in the same way what was sampled before.

    Replicates do not depend on one another. In a movie without replicates a fit without numbers
    and a rule that finds no foreground are errors; in replicates they leave areas that are NaN.

    Args:
      pixels: batch axes (frames,) or (frames, replicates); or a movie.
      movie: the one that the pixels were sampled from, whose pixel size and times the curve takes;
        where its frames were picked from another one, which classes grow is decided on that.
      thickness_um: thickness along the beam, for volumes.
      stage: opens the stages "fit" and "correct", for a movie "check" and "sample" before them.

    Raises:
      DataError: the movie carries no statistics: see `visit`.
      UsageError: an argument of another type, or pixels of another movie; the foreground rule does
        not suit the model, or the one movie (`NothingGrows`); a soft correction of replicates.
      NumericalError: no frame of the one movie could be fitted.
    """
    expect(pixels, (Pixels, Movie), "analyse: pixels")
    expect(plan, Plan, "analyse: plan")
    refuse_traced(pixels, "analyse", "it decides on numbers; `fit` can stand there")
    if isinstance(pixels, Movie):
        movie = pixels
        n_classes = plan.model.n_classes
        pixels = visit(movie, plan.sampling, n_classes=n_classes, stage=stage).pixels
    calibration = _calibration(pixels, movie, thickness_um)
    single = pixels.values.ndim == 2
    with stage("fit", pixels.n_frames) as advance:
        fitted = fit_plan(pixels, plan, advance.say)
        advance(pixels.n_frames)
    if single:
        _refuse_failure(fitted.fit)
    shares = _shares(fitted, plan, movie) if single else None
    partitions = _partitions(fitted, plan.foreground, shares)
    with stage("correct", pixels.n_frames) as advance:
        classes = fitted.classify()
        foreground, known = _foreground(classes, partitions, single)
        corrected = _corrected(fitted, foreground, plan.correction)
        if isinstance(corrected, Vote):
            foreground = np.asarray(corrected.labels)
        elif corrected is not None:
            labels = np.asarray(corrected.labels)
            foreground, _ = _foreground(labels, partitions, single)
        advance(pixels.n_frames)
    soft = corrected if isinstance(corrected, SoftCorrection) else None
    voted, region = isinstance(corrected, Vote), _region(movie)
    growth = ESTIMATORS[plan.estimator](
        Evidence(fitted, partitions, foreground, soft, plan.local, region, voted)
    )
    known &= np.isfinite(np.asarray(fitted.fit.params.means)).all(axis=-1)
    growth = growth.known_where(known, result_names(fitted.fit)).calibrated(**calibration)
    good = usable(fitted.fit, classes, pixels, growth)
    return Analysis(plan, fitted, partitions, classes, foreground, corrected, growth, good, shares)


def _region(movie: Movie | None) -> Bool[np.ndarray, "*T rows cols"] | None:
    """Where to look, if that is known and not the whole frame."""
    return None if movie is None else movie.valid


def _shares(fitted: Fitted, plan: Plan, movie: Movie | None) -> Float[np.ndarray, "few K"] | None:
    """Class shares over the movie that the frames were picked from, where that matters."""
    if movie is None or movie.whole is None or plan.foreground.rule not in GROWING:
        return None
    pixels = fitted.pixels
    rate = float(np.sum(np.asarray(pixels.n_pixels)) / np.sum(np.asarray(pixels.n_domain)))
    return class_shares(fitted.model, fitted.fit.params, movie.whole, rate=min(rate, 1.0))


def _calibration(pixels: Pixels, movie: Movie | None, thickness_um: float | None) -> dict[str, Any]:
    """What `Growth.calibrated` takes, from the movie of the pixels."""
    if movie is None:
        return {"thickness_um": thickness_um}
    expect(movie, Movie, "analyse: movie")
    theirs = pixels.n_frames, *pixels.shape
    if movie.shape != theirs:
        raise UsageError(
            f"analyse: the movie has {movie.shape} frames, rows and columns, the pixels are of "
            f"{theirs}; give the movie that they were sampled from"
        )
    area, times = movie.pixel_area_um2, movie.times_s
    return {"pixel_area_um2": area, "thickness_um": thickness_um, "times_s": times}


def fit_plan(pixels: Pixels, plan: Plan, progress: Progress | None = None) -> Fitted:
    """Fit the plan's model; never raises for numerical trouble, see `Fit.result`.

    Args:
      progress: called every few seconds with a sentence on how far the fit has come.
    """
    if plan.local is None:
        plain = fit(plan.model, pixels, init=plan.start, **plan.stopping, progress=progress)
        return Fitted(plan.model, pixels, jax.block_until_ready(plain))
    start = plan.start
    if start is None and pixels.values.ndim == 2:
        start = best_start(plan.model, pixels, plan.local, progress=progress)
    local = fit_local(
        plan.model, pixels, plan.local, init=start, **plan.stopping, progress=progress
    )
    local = jax.block_until_ready(local)
    return Fitted(plan.model, pixels, local.fit, local)


def result_names(fitted: Fit) -> np.ndarray:
    """How the fit of each frame (and replicate) ended, by name."""
    names = np.array([r.name for r in Result])
    return names[np.asarray(fitted.result)]


def _partitions(
    fitted: Fitted, rule: ForegroundRule, shares: Float[np.ndarray, "few K"] | None
) -> tuple[Partition | None, ...]:
    params = jax.device_get(
        fitted.fit.params
    )  # indexed a thousand times where there are replicates
    options = (rule.rule, rule.ranks, rule.overlap, fitted.model.family)
    if params.means.ndim == 2:
        return (partition(params, *options, shares),)

    def one(replicate: int) -> Partition | None:
        mine = params[:, replicate]
        try:
            finite = np.isfinite(np.asarray(mine.means)).all(axis=-1).any()
            return partition(mine, *options) if finite else None
        except NothingGrows:
            return None

    return tuple(one(b) for b in range(params.means.shape[1]))


def _foreground(
    classes: Int[np.ndarray, "*batch n"], partitions: tuple[Partition | None, ...], single: bool
) -> tuple[Bool[np.ndarray, "*batch n"], Bool[np.ndarray, "*batch"]]:
    """Which pixels are foreground, and of which frames that is known."""
    each = classes[:, None] if single else classes
    labels = np.zeros(each.shape, bool)
    known = np.ones(each.shape[:-1], bool)
    for b, parts in enumerate(partitions):
        if parts is None:
            known[:, b] = False
        else:
            labels[:, b] = parts.is_foreground(each[:, b])
    return (labels[:, 0], known[:, 0]) if single else (labels, known)


def _corrected(
    fitted: Fitted, foreground: Bool[np.ndarray, "*batch n"], how: Correction | SoftSettings | None
) -> Vote | SoftCorrection | None:
    if isinstance(how, Correction):
        return vote(jnp.asarray(foreground), fitted.pixels, how.neighbourhood, how.threshold)
    if how is None:
        return None
    chance = fitted.responsibilities()
    return correct_softly(fitted.model, fitted.fit.params, chance, fitted.pixels, how)


def _refuse_failure(fitted: Fit) -> None:
    """Without a single frame that has numbers there is nothing to measure."""
    if not np.isfinite(np.asarray(fitted.params.means)).any():
        code = Result(int(np.asarray(fitted.result)[0]))
        raise NumericalError(f"no frame could be fitted ({code.name}). {code.sentence}")
