"""Tests of every pair of nested models: is the larger one needed?

| method | of | holds its level |
| --- | --- | --- |
| chi-square | trends | where labels are scattered, noise is white and pixels are many |
| tile score | trends | in the rows tried, see below: recommended |
| bootstrap | classes, trends | for trends as the chi-square |
| layout bootstrap | classes, trends | for classes where noise is surely white: recommended there |

`experiments/test_levels.py` has the figures and says which rows were tried. The layout bootstrap of
classes draws noise with the correlation that was seen. Where too few pairs of neighbours were
visited to see it, it rejected a true null hypothesis in 19 % of frames with correlated noise: so it
is recommended only where `NoiseCorrelation.surely_white`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from jaxmicro.errors import UsageError
from jaxmicro.growth.bootstrap import SAMPLES, Half, World, bootstrap_test, thinned
from jaxmicro.growth.choose import starts_of_parts
from jaxmicro.growth.judged import Bench, Judged
from jaxmicro.growth.plan import Plan
from jaxmicro.growth.variations import Tried, nested
from jaxmicro.mixture.ecm import fit_part
from jaxmicro.mixture.gmrm import Params
from jaxmicro.mixture.ratio_test import ratio_test
from jaxmicro.spacetime.local import Local, LocalFit
from jaxmicro.spacetime.trend_score import trend_score

CHI_SQUARE, TILES = "chi-square", "tile score"
SCATTERED, ARRANGED = "bootstrap", "layout bootstrap"
Told = Callable[[str, int], None]


@dataclasses.dataclass(frozen=True)
class PairTest:
    """One test of one pair of models.

    Attributes:
      reference: values of the statistic under the null hypothesis; None for a chi-square with
        `degrees` degrees of freedom.
      recommended: whether this is the test to go by.
    """

    null: str
    alternative: str
    method: str
    statistic: float
    p_value: float
    recommended: bool
    degrees: int
    reference: Float[np.ndarray, " values"] | None = None


def pairs(plans: Mapping[str, Plan]) -> list[tuple[str, str]]:
    """Pairs of nested models that differ in the trend only, or by the next number of classes."""
    out = []
    for a, null in plans.items():
        for b, other in plans.items():
            same = null.model.n_classes == other.model.n_classes
            if nested(null, other) and (same or b == _next(plans, a)):
                out.append((a, b))
    return out


def _next(plans: Mapping[str, Plan], name: str) -> str:
    """The model with the same trend and the next larger number of classes."""
    null = plans[name]
    same = set(null.model.trend.terms)
    larger = {
        b: plan.model.n_classes
        for b, plan in plans.items()
        if nested(null, plan) and set(plan.model.trend.terms) == same
    }
    return min(larger, key=lambda b: larger[b], default="")


def refuse_not_nested(plans: Mapping[str, Plan], null: str, alternative: str) -> None:
    """
    Raises:
      UsageError: no test of nested models is for this pair; it says why.
    """
    a, b = plans[null], plans[alternative]
    if nested(a, b):
        return
    if nested(b, a):
        raise UsageError(
            f"{alternative!r} is a part of {null!r}: name the smaller model first, "
            f'as in --test "{alternative} vs {null}"'
        )
    what = [
        ("family", a.model.family.name, b.model.family.name),
        ("shared parameters", _shared(a), _shared(b)),
        ("proportions", _proportions(a), _proportions(b)),
    ]
    why = "neither has all classes and all trend terms of the other"
    for word, one, other in what:
        if one != other:
            why = f"{word}: {one} and {other}"
            break
    raise UsageError(
        f"{null!r} and {alternative!r} are not nested: {why}; such models are compared by their "
        "scores, not by a test"
    )


def _shared(plan: Plan) -> str:
    return ", ".join(sorted(plan.model.share)) or "none"


def _proportions(plan: Plan) -> str:
    return "of the frame" if plan.local is None else "that follow the neighbours"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which tests: all methods or the recommended ones, how many bootstrap samples, what seed."""

    every_method: bool = False
    samples: int = SAMPLES
    seed: int = 0


class Tester:
    """Runs tests; what several of them need is made once."""

    def __init__(self, tried: Mapping[str, Tried], judged: Judged, wanted: Wanted) -> None:
        self.tried, self.judged, self.wanted = tried, judged, wanted
        self._found: dict[object, dict[int, Params]] = {}
        self._fits: dict[str, LocalFit | None] = dict(judged.fits)
        self._plain: dict[tuple[object, Half], float] = {}

    @property
    def bench(self) -> Bench:
        return self.judged.bench

    def of_pair(self, null: str, alternative: str) -> list[PairTest]:
        """Every wanted test of one pair; none where a fit has no numbers."""
        a, b = self.tried[null], self.tried[alternative]
        fit, more, out = self._fit(null), self.wanted.every_method, []
        trends = a.half.classes == b.half.classes
        if trends and (a.local is None or more):
            out.append(self._chi_square(null, alternative))
        if trends and fit is not None:
            out.append(self._tiles(null, alternative, fit))
        if more:
            out.append(self._bootstrap(null, alternative, None))
        if fit is not None and (more or not trends):
            out.append(self._bootstrap(null, alternative, fit))
        return [t for t in out if np.isfinite(t.statistic)]

    def _fit(self, name: str) -> LocalFit | None:
        """The fit with local proportions to the pixels of the bench."""
        if name not in self._fits:
            start = self.bench.start(self.tried[name], self._starts(self.tried[name]))
            found = None if start is None else self.bench.refit(self.tried[name], start)
            usable = found is not None and np.isfinite(np.asarray(found.fit.log_likelihood)).all()
            self._fits[name] = found if usable else None
        return self._fits[name]

    def _starts(self, tried: Tried) -> dict[int, Params]:
        """Starts of fits with local proportions, for models that were fitted without."""
        if tried.local is not None:
            return {}
        whole, bench = tried.whole, self.bench
        if whole not in self._found:
            numbers = sorted({t.half.classes for t in self.tried.values() if t.whole == whole})
            self._found[whole] = starts_of_parts(
                whole, bench.every, Local(), numbers, quantum=bench.quantum
            )
        return self._found[whole]

    def _chi_square(self, null: str, alternative: str) -> PairTest:
        a, b = self.tried[null], self.tried[alternative]
        if a.local is None:
            frames, values = len(a.log_likelihood), [t.log_likelihood.sum() for t in (a, b)]
        else:
            frames = self.bench.pixels.n_frames
            values = [self._plain_fit(t) for t in (a, b)]
        df = frames * (sum(b.half.terms) - sum(a.half.terms))
        statistic, p = ratio_test(values[0], values[1], df)
        return PairTest(null, alternative, CHI_SQUARE, statistic, p, False, df)

    def _plain_fit(self, tried: Tried) -> float:
        """Log-likelihood of the plain mixture on the pixels of the bench."""
        key = tried.whole, tried.half
        if key not in self._plain:
            half, pixels, quantum = tried.half, self.bench.pixels, self.bench.quantum
            found = fit_part(tried.whole, pixels, half.classes, half.terms, quantum=quantum)
            self._plain[key] = float(np.sum(np.asarray(found.log_likelihood, np.float64)))
        return self._plain[key]

    def _tiles(self, null: str, alternative: str, fit: LocalFit) -> PairTest:
        a, b = self.tried[null], self.tried[alternative]
        more = tuple(y and not x for x, y in zip(a.half.terms, b.half.terms, strict=True))
        of_null = a.whole, a.half.classes, a.half.terms
        bench = self.bench
        found = trend_score(*of_null, more, bench.pixels, fit, bench.local(a), bench.noise)
        reference = (found.n_terms, found.reference)
        return PairTest(null, alternative, TILES, found.statistic, found.p_value, True, *reference)

    def _bootstrap(self, null: str, alternative: str, fit: LocalFit | None) -> PairTest:
        a, b = self.tried[null], self.tried[alternative]
        some, pick = thinned(self.bench.pixels)
        arranged = fit is not None
        if fit is None:
            params = a.fit.params[self.bench.frames]
            if a.local is not None:
                half = a.half
                params = fit_part(
                    a.whole, some, half.classes, half.terms, quantum=self.bench.quantum
                ).params
            world = World(params, None, None, self.bench.quantum)
        else:
            resp = np.asarray(fit.responsibilities)
            shares = np.take_along_axis(resp, pick[:, None], axis=-1)
            world = World(fit.fit.params, shares, self.bench.noise, self.bench.quantum)
        how = self.wanted.samples, self.wanted.seed
        found = bootstrap_test(a.whole, a.half, b.half, some, world, *how)
        best = arranged and a.half.classes != b.half.classes and self.bench.noise.surely_white
        method = ARRANGED if arranged else SCATTERED
        return PairTest(
            null, alternative, method, found.statistic, found.p_value, best, 0, found.reference
        )
