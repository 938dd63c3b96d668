"""The search behind `jaxmicro.growth.choose`: candidates, how they are fitted, and their ranks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import NumericalError
from jaxmicro.growth.predictive import TOLERANCE, WORTH, left_out
from jaxmicro.growth.thin import piled_up, tiles
from jaxmicro.mixture.ecm import Progress, Result
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.neighbour_start import neighbour_start
from jaxmicro.mixture.starts import Start, starts, with_one_fewer, with_one_more
from jaxmicro.spacetime.correlation import NoiseCorrelation, noise_correlation
from jaxmicro.spacetime.local import Local, LocalFit, fit_local
from jaxmicro.spacetime.part import Layout, Part

FIRST_TREND = "x + y"
FIRST_STEPS, STEPS = 8, 25  # of each start, and of the best of them
GO_ON = 2  # starts of each number of classes that do
# Candidates may not gain by neighbours who share a pixel's noise: the hole for them, in buffers.
BUFFER = 3.0
SAME = 0.2  # sds within which the means of two fits are the same
ECHO = 0.05  # nats per pixel that a fit may owe to noise that comes back through the neighbours
AT_ONCE = 2  # fits that run at the same time
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

    def behind(self, other: Candidate) -> float:
        """How much worse `other` is, nats per pixel; NaN where the two cannot be compared.

        By prediction if both were asked to predict, else by pseudo-likelihood, which compares fits
        of one number of classes only.
        """
        gap = self.predicted - other.predicted
        if math.isnan(gap) and self.classes == other.classes:
            gap = self.score - other.score
        return gap


@dataclasses.dataclass(frozen=True)
class Search:
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
    asked: frozenset[int] = frozenset()
    thorough: bool = False  # one start more, that is dear

    def against(self, noise: NoiseCorrelation) -> Search:
        """The search begun again with neighbours who do not share a pixel's noise."""
        local = dataclasses.replace(self.local, buffer=BUFFER * noise.buffer)
        before = tuple(c for k in {c.classes for c in self.tried} for c in self.top(k, GO_ON))
        return dataclasses.replace(self, local=local, noise=noise, tried=[], before=before)

    def numbers(self, classes: Sequence[int], trends: Sequence[str]) -> None:
        """Each number of classes from its own starts, and from the best of one class fewer.

        Of one class fewer than is asked for at least, so that a number that is asked for alone
        comes to the same optimum as one that is chosen.
        """
        first = max(min(classes) - 1, 1)
        for k in range(first, max(classes) + 1):
            ways = self._ways(k, trends)
            for fewer in self.top(k - 1):
                assert fewer.fit is not None
                more = with_one_more(fewer.fit.fit.params, k - 1)
                ways += [(k, fewer.trend, start) for start in more]
            tried = self._all([(*way, FIRST_STEPS) for way in ways])
            usable = sorted((c for c in tried if c.fit is not None), key=lambda c: -c.score)
            best = [(c, Start(c.start, c.fit.fit.params)) for c in usable[:GO_ON] if c.fit]
            self.tried.extend(self._all([(c.classes, c.trend, s, STEPS) for c, s in best]))
            self.tried.extend(c for c in tried if c not in usable[:GO_ON])
            self._with_all_terms(k, trends[-1])
            if self._no_more(k):
                break
        for k in range(max(classes), first + 1, -1) if not self.before else []:
            for top in self.top(k):
                assert top.fit is not None
                less = with_one_fewer(top.fit.fit.params, k)
                self.tried.extend(self._all([(k - 1, top.trend, s, STEPS) for s in less]))

    def _with_all_terms(self, k: int, trend: str) -> None:
        """What a trend cannot follow looks like more classes: so the largest is tried for each."""
        for top in self.top(k):
            if top.fit is not None and top.trend != trend:
                start = Start(top.start, top.fit.fit.params)
                self.tried.append(self._tried(k, trend, start, STEPS))

    def other_trends(self, trends: Sequence[str]) -> None:
        """Other trends for the number of classes that is best so far, and for one fewer."""
        best = self.best()
        for top in [*self.top(best.classes - 1), best]:
            assert top.fit is not None
            for trend in trends:
                if trend != top.trend:
                    start = Start(top.start, top.fit.fit.params)
                    self.tried.append(self._tried(top.classes, trend, start, STEPS))

    def _ways(self, k: int, trends: Sequence[str]) -> list[tuple[int, str, Start]]:
        """Every start of its own, or the simplest one and what an earlier search came to."""
        own = starts(self.full, self.pixels, k)
        if self.thorough and self.full.trend.n_terms:
            own = (*own, neighbour_start(self.full, self.pixels, k))
        ways = [self._way(k, start, trends) for start in own]
        earlier = [c for c in self.before if c.classes == k and c.fit is not None]
        if not earlier:
            return ways
        found = [(k, c.trend, Start(c.start, c.fit.fit.params)) for c in earlier if c.fit]
        return [*found, ways[0]]

    def _way(self, k: int, start: Start, trends: Sequence[str]) -> tuple[int, str, Start]:
        """The largest trend for a start that has one, and a small one for the others."""
        small = FIRST_TREND if FIRST_TREND in trends else trends[-1]
        return k, trends[-1] if np.any(np.asarray(start.params.trend)) else small, start

    def _all(self, ways: Sequence[tuple[int, str, Start, int]]) -> list[Candidate]:
        """Every way, two at a time: a compiled program runs on one core."""
        new = not self.tried and not self.before
        first = [self._tried(*way) for way in ways[:1]] if new else []  # compiles the program
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [*first, *pool.map(lambda way: self._tried(*way), ways[len(first) :])]

    def top(self, k: int, n: int = 1) -> list[Candidate]:
        """The best n candidates with k classes; more terms must be worth their parameters."""
        usable = [c for c in self.tried if c.classes == k and c.fit is not None]
        return sorted(usable, key=lambda c: self._price() * self._size(c) - c.score)[:n]

    def _no_more(self, k: int) -> bool:
        """Whether two classes more than k - 2 predict worse than it by far, one after the other."""
        if not {k - 2, k - 1, k} <= self.asked:
            return False
        worth = [self.best_of(n)[0] for n in (k - 2, k - 1, k)]
        return worth[0] > max(worth[1:]) + WORTH

    def best_of(self, k: int) -> tuple[float, Candidate | None]:
        """How well k classes predict, less what they must be worth, and the candidate that does.

        Two candidates are asked: that of the highest pseudo-likelihood may owe it to itself.
        """
        top = self.top(k, len(self.tried))
        other = [c for c in top if APART < top[0].score - c.score < ECHO]
        found: tuple[float, Candidate | None] = -math.inf, None
        for candidate in top[:1] + other[:1]:
            c = self._judged(candidate)
            worth = c.predicted - self._price() * self._size(c)
            if worth > found[0]:
                found = worth, c
        return found

    def judge_rivals(self, chosen: Candidate) -> None:
        """Let other optima of the chosen model predict as well, where their scores are close."""
        seen = [chosen]
        for c in [c for c in self.tried if c.name == chosen.name and c.fit is not None]:
            if abs(c.score - chosen.score) < ECHO and not any(_same(c, other) for other in seen):
                seen.append(self._judged(c))

    def _judged(self, candidate: Candidate) -> Candidate:
        """The candidate with its prediction; one that has not ended is given as many steps more.

        A class may still be closing in on a single grey value, as that of saturated pixels: what
        ends so predicts nothing.
        """
        if not math.isnan(candidate.predicted):
            return candidate
        ended = candidate
        if candidate.fit is not None and candidate.result == Result.max_steps:
            start = Start(candidate.start, candidate.fit.fit.params)
            ended = self._tried(candidate.classes, candidate.trend, start, STEPS)
        if ended.fit is None:
            judged = dataclasses.replace(candidate, predicted=-math.inf)
        else:
            judged = dataclasses.replace(ended, predicted=self._predicted(ended))
        self.tried[self.tried.index(candidate)] = judged
        return judged

    def _predicted(self, candidate: Candidate) -> float:
        """Log density of each half of the pixels, given the classes of the other half."""
        assert candidate.fit is not None
        part = self._part(candidate.classes, candidate.trend)
        run = (self.full, self.pixels, self.local, part, candidate.fit, self.quantum, STEPS)
        folds = left_out(*run)
        total = sum(float(np.sum(np.asarray(f.fit.log_likelihood, np.float64))) for f in folds)
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

    def over_one_class(self, chosen: Candidate) -> tuple[float, float]:
        """What the classes of `chosen` gain in prediction over one class, and must gain."""
        gains = [(math.inf, 0.0)]
        for trend in {chosen.trend, self.full.trend.formula}:
            one = self._tried(1, trend, starts(self.full, self.pixels, 1)[0], STEPS)
            if one.fit is not None:
                more = self._parameters(chosen) - self._parameters(one)
                gain = chosen.predicted - self._predicted(one)
                gains.append((gain, max(more, 1) * self._price()))
        return min(gains, key=lambda pair: pair[0] - pair[1])

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
        tops = [self.best_of(k) for k in sorted({c.classes for c in self.tried} & self.asked)]
        _, best = max(tops, key=lambda pair: pair[0], default=(-math.inf, None))
        if best is None and len(self.asked) == 1:  # who asks for one number gets it, ended or not
            best = next(iter(self.top(*self.asked)), None)
        if best is None:
            ended = sorted({f"{c.classes} classes: {c.result.name}" for c in self.tried})
            raise NumericalError(
                f"no number of classes could be fitted ({', '.join(ended)})"
                f"{piled_up(self.pixels)}; visit more pixels, exclude saturated ones, or name the "
                "number of classes"
            )
        return best

    def _price(self) -> float:
        """Nats per pixel that a parameter must be worth."""
        return 0.5 * math.log(self.n_independent) / self.n_independent

    def _size(self, candidate: Candidate) -> float:
        """Parameters; each class counts at least what small faults of the model are worth."""
        return self._parameters(candidate) + WORTH / self._price() * candidate.classes

    def _parameters(self, candidate: Candidate) -> int:
        model = dataclasses.replace(
            self.full, n_classes=candidate.classes, trend=self.full.trend.part(candidate.trend)
        )
        # a field in each frame takes the place of the frame's weights, beside one strength
        return model.n_parameters(self.pixels.n_frames) + 1

    def _tried(self, k: int, trend: str, start: Start, steps: int) -> Candidate:
        if self.progress is not None:
            self.progress(f"{k} classes, {trend or 'no trend'}, from {start.name}")
        part = self._part(k, trend, steps)
        found = self._fit(start.params, part)
        result = Result(int(np.max(np.asarray(found.fit.result))))
        total = float(np.sum(np.asarray(found.fit.log_likelihood, np.float64)))
        usable = result in (Result.converged, Result.max_steps) and math.isfinite(total)
        score = total / float(np.sum(np.asarray(self.pixels.n_pixels))) if usable else math.nan
        return Candidate(k, trend, start.name, score, result, found if usable else None)

    def _part(self, k: int, trend: str, steps: int = STEPS) -> Part:
        terms = terms_of(self.full, trend)
        return Part(k, terms, steps, self.layout, jnp.ones_like(self.pixels.weight), None)

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


def terms_of(model: GMRM, trend: str) -> tuple[bool, ...]:
    """Which terms of the model's trend a smaller trend has."""
    used = model.trend.part(trend).terms
    return tuple(term in used for term in model.trend.terms)


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether the class means of two fits agree to a fifth of an sd."""
    assert one.fit is not None
    assert other.fit is not None
    a, b = (c.fit.params.first(one.classes) for c in (one.fit, other.fit))
    off = np.abs(np.asarray(a.means) - np.asarray(b.means))
    return bool(np.all(off < SAME * np.asarray(a.sds)))
