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
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import NumericalError
from jaxmicro.growth.thin import FRAMES, few_frames, tiles
from jaxmicro.mixture.ecm import Progress, Result, grey_step
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.starts import Start, starts, with_one_fewer, with_one_more
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.correlation import NoiseCorrelation, noise_correlation
from jaxmicro.spacetime.local import Local, LocalFit, fit_local
from jaxmicro.spacetime.local_em import Coupling
from jaxmicro.spacetime.part import Layout, Part

CLASSES = (2, 3, 4, 5)
TRENDS = ("", "x + y", "x + y + x:y + x**2 + y**2")
FIRST_TREND = "x + y"
SHARE = ("means", "sds")
TOLERANCE = 1e-4  # nats per pixel: enough to rank candidates
FIRST_STEPS, STEPS = 8, 25  # of each start, and of the best of them
GO_ON = 2  # starts of each number of classes that do
# Candidates may not gain by neighbours who share a pixel's noise: the hole for them, in buffers.
BUFFER = 3.0
AGAIN, LONGER = 2, 1.25  # searches again, if the noise is found to reach this much further
WORTH = 0.005  # nats per pixel that a class may gain by small faults of the model, as blurred edges
ECHO = 0.05  # nats per pixel that a fit may owe to noise that comes back through the neighbours
APART = 0.005  # nats per pixel from which on two starts have found different answers


WHITE = NoiseCorrelation(np.zeros(1), 0.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One fit that was tried.

    Attributes:
      score: pseudo-likelihood in nats per pixel; NaN if there is none.
      predicted: log density of pixels left out, nats per pixel; NaN if it was not asked for.
    """

    classes: int
    trend: str
    start: str
    score: float
    result: Result
    fit: LocalFit | None = dataclasses.field(repr=False, default=None)
    predicted: float = math.nan

    @property
    def name(self) -> str:
        return f"{self.classes} classes, {self.trend or 'no trend'}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The model for a movie.

    Attributes:
      model, local: to fit, with parameters of every frame to `start` from.
      noise: correlation of the noise.
      tried: every candidate, in the order tried; `chosen` is one of them.
      n_independent: pixels of the tried frames that say something of their own.
      n_frames: how many frames were tried.
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
    search = _Search(full, few, layout, _for_few(Local(), pixels), quantum, progress)
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
    search = _Search(model, few, layout, _for_few(local, pixels), quantum, progress)
    search.numbers((model.n_classes,), (model.trend.formula,))
    return _of_all_frames(search.best(), model, frames, pixels.n_frames)


@dataclasses.dataclass(frozen=True)
class _Search:
    """Candidates of one compiled program: the largest model, parts of which are switched off."""

    full: GMRM
    pixels: Pixels
    layout: Layout | None
    local: Local
    quantum: float
    progress: Progress | None
    noise: NoiseCorrelation = WHITE
    tried: list[Candidate] = dataclasses.field(default_factory=list)
    before: tuple[Candidate, ...] = ()

    def against(self, noise: NoiseCorrelation) -> _Search:
        """The search begun again with neighbours who do not share a pixel's noise."""
        local = dataclasses.replace(self.local, buffer=BUFFER * noise.buffer)
        before = tuple(c for k in {c.classes for c in self.tried} for c in self._top(k, GO_ON))
        return dataclasses.replace(self, local=local, noise=noise, tried=[], before=before)

    def numbers(self, classes: Sequence[int], trends: Sequence[str]) -> None:
        """Each number of classes from its own starts, and from the best of one class fewer."""
        for k in sorted(classes):
            ways = self._ways(k, trends)
            for fewer in self._top(k - 1) if k > min(classes) else []:
                assert fewer.fit is not None
                more = with_one_more(fewer.fit.fit.params, k - 1)
                ways += [(k, fewer.trend, start) for start in more]
            tried = [self._tried(*way, FIRST_STEPS) for way in ways]
            usable = sorted((c for c in tried if c.fit is not None), key=lambda c: -c.score)
            for c in usable[:GO_ON]:
                self._go_on(c)
            self.tried.extend(c for c in tried if c not in usable[:GO_ON])
            self._with_all_terms(k, trends[-1])
            if self._no_more(k):
                break
        for k in sorted(classes, reverse=True) if not self.before else []:
            for top in self._top(k) if k - 1 in classes else []:
                assert top.fit is not None
                for start in with_one_fewer(top.fit.fit.params, k):
                    self.tried.append(self._tried(k - 1, top.trend, start, STEPS))

    def _with_all_terms(self, k: int, trend: str) -> None:
        """What a trend cannot follow looks like more classes: so the largest is tried for each."""
        for top in self._top(k):
            if top.fit is not None and top.trend != trend:
                start = Start(top.start, top.fit.fit.params)
                self.tried.append(self._tried(k, trend, start, STEPS))

    def other_trends(self, trends: Sequence[str]) -> None:
        """Other trends for the number of classes that is best so far, and for one fewer."""
        best = self.best()
        for top in [*self._top(best.classes - 1), best]:
            assert top.fit is not None
            for trend in trends:
                if trend != top.trend:
                    start = Start(top.start, top.fit.fit.params)
                    self.tried.append(self._tried(top.classes, trend, start, STEPS))

    def _ways(self, k: int, trends: Sequence[str]) -> list[tuple[int, str, Start]]:
        """Every start of its own, or the simplest one and what an earlier search came to."""
        ways = [self._way(k, start, trends) for start in starts(self.full, self.pixels, k)]
        earlier = [c for c in self.before if c.classes == k and c.fit is not None]
        if not earlier:
            return ways
        found = [(k, c.trend, Start(c.start, c.fit.fit.params)) for c in earlier if c.fit]
        return [*found, ways[0]]

    def _way(self, k: int, start: Start, trends: Sequence[str]) -> tuple[int, str, Start]:
        """The largest trend for a start that has one, and a small one for the others."""
        small = FIRST_TREND if FIRST_TREND in trends else trends[-1]
        return k, trends[-1] if np.any(np.asarray(start.params.trend)) else small, start

    def _go_on(self, candidate: Candidate) -> None:
        assert candidate.fit is not None
        start = Start(candidate.start, candidate.fit.fit.params)
        self.tried.append(self._tried(candidate.classes, candidate.trend, start, STEPS))

    def _top(self, k: int, n: int = 1) -> list[Candidate]:
        """The best n candidates with k classes; more terms must be worth their parameters."""
        usable = [c for c in self.tried if c.classes == k and c.fit is not None]
        return sorted(usable, key=lambda c: self._price() * self._size(c) - c.score)[:n]

    def _no_more(self, k: int) -> bool:
        """Whether two classes more than k - 2 predict worse than it by far, one after the other."""
        worth = [self._best_of(n)[0] for n in (k - 2, k - 1, k)]
        return worth[0] > max(worth[1:]) + WORTH

    def _best_of(self, k: int) -> tuple[float, Candidate | None]:
        """How well k classes predict, less what they must be worth, and the candidate that does.

        Two candidates are asked: that of the highest pseudo-likelihood may owe it to itself.
        """
        top = self._top(k, len(self.tried))
        other = [c for c in top if APART < top[0].score - c.score < ECHO]
        found: tuple[float, Candidate | None] = -math.inf, None
        for candidate in top[:1] + other[:1]:
            c = candidate
            if math.isnan(c.predicted):
                c = dataclasses.replace(candidate, predicted=self._predicted(candidate))
                self.tried[self.tried.index(candidate)] = c
            worth = c.predicted - self._price() * self._size(c)
            if worth > found[0]:
                found = worth, c
        return found

    def _predicted(self, candidate: Candidate) -> float:
        """Log density of each half of the pixels, given the classes of the other half."""
        assert candidate.fit is not None
        fit, total = candidate.fit, 0.0
        for told in (self.half, 1 - self.half):
            part = self._part(candidate.classes, candidate.trend, told, fit.coupling)
            found = self._fit(fit.fit.params, part)
            total += float(np.sum(np.asarray(found.fit.log_likelihood, np.float64)))
        return total / float(np.sum(np.asarray(self.pixels.n_pixels)))

    def memory(self, chosen: Candidate, pixels: Pixels) -> Local:
        """Whether neighbours in other frames help: they mislead where the object moves fast."""
        assert chosen.fit is not None
        middle = (pixels.n_frames - self.pixels.n_frames) // 2
        few, layout = self.pixels, self.layout
        if pixels.n_frames > few.n_frames:
            few, layout = tiles(pixels[middle : middle + few.n_frames])
        per_frame = float(np.mean(np.asarray(pixels.n_pixels)))
        usual = Local().kernel(per_frame, pixels.shape, pixels.n_frames)
        if not usual.memory or few.n_frames == 1:
            return Local()
        start = Start(chosen.start, chosen.fit.fit.params)
        scores = {}
        for memory in (usual.memory, 0.5 * usual.memory, 0.0):
            local = dataclasses.replace(self.local, memory=memory)
            search = dataclasses.replace(self, pixels=few, layout=layout, local=local)
            tried = search._tried(chosen.classes, chosen.trend, start, STEPS)
            scores[memory] = math.nan if tried.fit is None else search._predicted(tried)
        best = max(scores, key=lambda m: scores[m] if math.isfinite(scores[m]) else -math.inf)
        return Local() if best == usual.memory else Local(memory=best)

    def noise_of_best(self) -> NoiseCorrelation:
        best = self.best()
        assert best.fit is not None
        resp = np.asarray(best.fit.responsibilities)
        return noise_correlation(self.full, best.fit.fit.params, resp, self.pixels)

    @property
    def n_independent(self) -> float:
        """Pixels of the tried frames that say something of their own."""
        frame = math.prod(self.pixels.shape) if self.layout is None else self.layout.area
        seen = float(np.sum(np.asarray(self.pixels.n_pixels)))
        area = frame * self.pixels.n_frames
        return min(seen, max(area * self.noise.independent_share, 1.0))

    def best(self) -> Candidate:
        """The number of classes that predicts best, less what its parameters must be worth."""
        tops = [self._best_of(k) for k in sorted({c.classes for c in self.tried})]
        _, best = max(tops, key=lambda pair: pair[0])
        if best is None:
            ended = sorted({f"{c.classes} classes: {c.result.name}" for c in self.tried})
            raise NumericalError(
                f"no number of classes could be fitted ({', '.join(ended)}); visit more pixels, "
                "exclude saturated ones, or name the number of classes"
            )
        return best

    def _price(self) -> float:
        """Nats per pixel that a parameter must be worth."""
        return 0.5 * math.log(self.n_independent) / self.n_independent

    def _size(self, candidate: Candidate) -> float:
        """Parameters; each class counts at least what small faults of the model are worth."""
        n_frames = self.pixels.n_frames
        model = dataclasses.replace(
            self.full, n_classes=candidate.classes, trend=Trend(candidate.trend)
        )
        faults = WORTH / self._price() * candidate.classes
        return model.n_parameters(n_frames) + n_frames * (candidate.classes - 1) + 1 + faults

    def _tried(self, k: int, trend: str, start: Start, steps: int) -> Candidate:
        if self.progress is not None:
            self.progress(f"{k} classes, {trend or 'no trend'}, from {start.name}")
        part = self._part(k, trend, jnp.ones_like(self.half), None, steps)
        found = self._fit(start.params, part)
        result = Result(int(np.max(np.asarray(found.fit.result))))
        total = float(np.sum(np.asarray(found.fit.log_likelihood, np.float64)))
        usable = result in (Result.converged, Result.max_steps) and math.isfinite(total)
        score = total / float(np.sum(np.asarray(self.pixels.n_pixels))) if usable else math.nan
        return Candidate(k, trend, start.name, score, result, found if usable else None)

    def _part(
        self,
        k: int,
        trend: str,
        told: Array,
        held: Coupling | None,
        steps: int = STEPS,
    ) -> Part:
        used = Trend(trend).terms
        terms = tuple(term in used for term in self.full.trend.terms)
        return Part(k, terms, steps, self.layout, told, held)

    def _fit(self, start: Params, part: Part) -> LocalFit:
        used = start.trend * jnp.asarray([part.terms])
        return fit_local(
            self.full,
            self.pixels,
            self.local,
            init=dataclasses.replace(start, trend=used),
            part=part,
            tolerance=TOLERANCE,
            max_steps=STEPS,
            quantum=self.quantum,
        )

    @functools.cached_property
    def half(self) -> Array:
        """1 for a random half of the pixels, 0 for the others."""
        weight = self.pixels.weight
        return jnp.asarray(np.random.default_rng(0).random(weight.shape) < 0.5, weight.dtype)


def _for_few(local: Local, pixels: Pixels) -> Local:
    """Frames far apart in time do not inform each other."""
    return dataclasses.replace(local, memory=0.0) if pixels.n_frames > FRAMES else local


def _of_all_frames(chosen: Candidate, full: GMRM, frames: np.ndarray, n_frames: int) -> Params:
    """Parameters of every frame of the movie, between those of the frames tried."""
    assert chosen.fit is not None
    found = chosen.fit.fit.params.first(chosen.classes)
    used = Trend(chosen.trend).terms
    columns = np.array([i for i, term in enumerate(full.trend.terms) if term in used], int)

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

    params = jax.tree.map(spread, dataclasses.replace(found, trend=found.trend[:, columns]))
    return params
