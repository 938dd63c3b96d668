"""A model chosen by the movie itself: number of classes, trend, and where to start the fit.

Every candidate is fitted with local proportions to a few frames, from several starts. Starts and
trends of one number of classes are ranked by the pseudo-likelihood of the fit. Numbers of classes
are ranked by prediction: half of the pixels vote, the density of the other half is the score, and
the other way round. The pseudo-likelihood cannot rank them, because a pixel's value comes back to
it through its neighbours, whose classes it helped to decide: white noise arranges itself in patches
of two classes, each patch supporting itself. More classes or trend terms must be worth their
parameters, by the number of independent pixels (Schwarz 1978), and a class more than small faults
of the model explain.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.search import APART, FIRST_TREND, Candidate, Search
from jaxmicro.growth.thin import FRAMES, few_frames
from jaxmicro.mixture.ecm import Progress, grey_step
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.correlation import NoiseCorrelation
from jaxmicro.spacetime.local import Local

CLASSES = (2, 3, 4, 5)
TRENDS = ("", "x + y", "x + y + x:y + x**2 + y**2")
SHARE = ("means", "sds")
AGAIN, LONGER = 2, 1.25  # searches again, if the noise is found to reach this much further


@dataclasses.dataclass(frozen=True)
class Choice:
    """The model for a movie.

    Attributes:
      model, local: to fit, with parameters of every frame to `start` from.
      noise: correlation of the noise.
      tried: every candidate, in the order tried; `chosen` is one of them.
      n_independent: pixels of the tried frames that say something of their own.
      n_frames: how many frames were tried.
      gain, least_gain: by how much the classes predict pixels better than one class alone does,
        nats per pixel, and how much their parameters must gain to be worth having.
      rivals: other optima of the chosen model, by start, and how much worse, nats per pixel.
    """

    model: GMRM
    local: Local
    start: Params
    noise: NoiseCorrelation
    tried: tuple[Candidate, ...]
    chosen: Candidate
    n_independent: float
    n_frames: int
    gain: float = math.inf
    least_gain: float = 0.0

    @property
    def rivals(self) -> dict[str, float]:
        same = [c for c in self.tried if c.name == self.chosen.name]
        behind = {c.start: self.chosen.score - c.score for c in same}
        return {name: gap for name, gap in behind.items() if gap > APART}


def choose(
    pixels: Pixels,
    *,
    classes: Sequence[int] = CLASSES,
    trends: Sequence[str] = TRENDS,
    share: tuple[str, ...] = SHARE,
    quantum: float | None = None,
    progress: Progress | None = None,
) -> Choice:
    """The number of classes and the trend by score, the start by score, on a few frames.

    Args:
      pixels: batch axis (frames,).
      classes: numbers of classes to try; one to pin it.
      trends: formulas to try, each a part of the last; one to pin it.
      share: what all frames share.
      quantum: grey-level step of the data; default read off the values.
      progress: is told of each candidate.

    Raises:
      NumericalError: no candidate gave a usable fit.
    """
    frames, few, layout = few_frames(pixels)
    quantum = grey_step(np.asarray(pixels.values)) if quantum is None else quantum
    full = GMRM(max(classes), Trend(trends[-1]), share)
    asked = frozenset(classes)
    search = Search(full, few, layout, _for_few(Local(), pixels), quantum, progress, asked=asked)
    search.numbers(classes, trends)
    noise = search.noise_of_best()
    for _ in range(AGAIN):
        if noise.buffer <= LONGER * search.noise.buffer:
            break
        search = search.against(noise)
        search.numbers(classes, trends)
        noise = search.noise_of_best()
    search.other_trends(trends)
    chosen = search.best()
    search.judge_rivals(chosen)
    assert chosen.fit is not None
    model = dataclasses.replace(full, n_classes=chosen.classes, trend=Trend(chosen.trend))
    start = _of_all_frames(chosen, search.full, frames, pixels.n_frames)
    return Choice(
        model,
        dataclasses.replace(search.memory(chosen, pixels), buffer=noise.buffer),
        start,
        noise,
        tuple(search.tried),
        chosen,
        search.n_independent,
        few.n_frames,
        *search.over_one_class(chosen),
    )


def best_start(
    model: GMRM,
    pixels: Pixels,
    local: Local,
    *,
    quantum: float | None = None,
    progress: Progress | None = None,
) -> Params:
    """Where to start the local fit of a given model: the start that scores best on a few frames.

    Raises:
      NumericalError: no start gave a usable fit.
    """
    frames, few, layout = few_frames(pixels)
    quantum = grey_step(np.asarray(pixels.values)) if quantum is None else quantum
    asked, local = frozenset({model.n_classes}), _for_few(local, pixels)
    search = Search(model, few, layout, local, quantum, progress, asked=asked)
    search.numbers((model.n_classes,), (model.trend.formula,))
    return _of_all_frames(search.best(), model, frames, pixels.n_frames)


def starts_of_parts(
    model: GMRM,
    pixels: Pixels,
    local: Local,
    classes: Sequence[int],
    *,
    quantum: float,
    progress: Progress | None = None,
) -> dict[int, Params]:
    """Where to start local fits of the first classes of a model, for several numbers of them.

    The start of each number that predicts best on a few frames; classes that are not in use come
    last. A number without a usable fit is left out.
    """
    frames, few, layout = few_frames(pixels)
    local = _for_few(local, pixels)
    search = Search(model, few, layout, local, quantum, progress, thorough=True)
    small = FIRST_TREND if set(Trend(FIRST_TREND).terms) < set(model.trend.terms) else ""
    search.numbers(classes, (small, model.trend.formula) if small else (model.trend.formula,))
    tops = {k: top.fit for k in classes if search.top(k) and (top := search.best_of(k)[1])}
    return {
        k: _between(found.fit.params, frames, pixels.n_frames) for k, found in tops.items() if found
    }


def _for_few(local: Local, pixels: Pixels) -> Local:
    """Frames far apart in time do not inform each other."""
    return dataclasses.replace(local, memory=0.0) if pixels.n_frames > FRAMES else local


def _of_all_frames(chosen: Candidate, full: GMRM, frames: np.ndarray, n_frames: int) -> Params:
    """Parameters of every frame of the movie, between those of the frames tried."""
    assert chosen.fit is not None
    found = chosen.fit.fit.params.first(chosen.classes)
    used = full.trend.part(chosen.trend).terms
    columns = np.array([i for i, term in enumerate(full.trend.terms) if term in used], int)
    part = dataclasses.replace(found, trend=found.trend[:, columns])
    return _between(part, frames, n_frames)


def _between(params: Params, frames: np.ndarray, n_frames: int) -> Params:
    """Parameters of every frame of the movie, between those of the frames tried."""

    def spread(a: Array) -> Array:
        values = np.asarray(a)
        if len(values) == n_frames:
            return a
        at = np.arange(n_frames)
        between = [np.interp(at, frames, column) for column in values.T]
        return (
            jnp.asarray(np.stack(between, axis=1), a.dtype)
            if between
            else a[:1].repeat(n_frames, 0)
        )

    return jax.tree.map(spread, params)
