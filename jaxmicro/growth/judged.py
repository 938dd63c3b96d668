"""Models that were fitted to a movie, judged on a few of its frames: what they predict.

Everything here sees the pixels of `jaxmicro.growth.thin.few_frames`, and fits with local
proportions in which pixels that share noise do not vote on one another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.predictive import (
    TOLERANCE,
    Score,
    global_score,
    left_out,
    local_score,
    worth,
)
from jaxmicro.growth.search import AT_ONCE, BUFFER, STEPS, WHITE
from jaxmicro.growth.thin import FRAMES, few_frames
from jaxmicro.growth.variations import Tried, mean_design, without
from jaxmicro.mixture.gmrm import Params
from jaxmicro.spacetime.correlation import NoiseCorrelation, noise_correlation
from jaxmicro.spacetime.local import Local, LocalFit, fit_local
from jaxmicro.spacetime.part import Layout, Part

STEP = 0.5  # pixels
Told = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Pixels of a few frames that models are judged on, and the noise they are judged against.

    Attributes:
      frames: numbers of the frames.
      pixels, layout: of these frames, thinned where there are many, and where they lie.
      every: all pixels of the movie.
      quantum: grey-level step.
      noise: its correlation.
    """

    frames: Int[np.ndarray, " few"]
    pixels: Pixels
    layout: Layout | None
    every: Pixels
    quantum: float
    noise: NoiseCorrelation = WHITE

    @classmethod
    def of(cls, pixels: Pixels, quantum: float) -> Bench:
        frames, few, layout = few_frames(pixels)
        return cls(frames, few, layout, pixels, quantum)

    def local(self, tried: Tried) -> Local:
        """The settings of a fit whose neighbours do not share a pixel's noise."""
        given = tried.plan.local or Local()
        buffer = max(given.buffer, hole_of(self.noise))
        width = given.width
        if width is not None and buffer >= width:
            width = None
        if self.every.n_frames > FRAMES:  # frames far apart in time do not inform each other
            return dataclasses.replace(given, buffer=buffer, width=width, memory=0.0)
        return dataclasses.replace(given, buffer=buffer, width=width)

    def part(self, tried: Tried) -> Part:
        ones = jnp.ones_like(self.pixels.weight)
        return Part(tried.half.classes, tried.half.terms, STEPS, self.layout, ones, None)

    @property
    def has_all(self) -> bool:
        """Whether these are all pixels of the movie."""
        return self.layout is None and self.pixels.n_frames == self.every.n_frames

    def refit(self, tried: Tried, start: Params) -> LocalFit:
        """The model fitted to the pixels of the bench with local proportions."""
        return fit_local(
            tried.whole,
            self.pixels,
            self.local(tried),
            init=start,
            part=self.part(tried),
            tolerance=TOLERANCE,
            max_steps=STEPS,
            quantum=self.quantum,
        )

    def start(self, tried: Tried, found: Mapping[int, Params]) -> Params | None:
        """Where to start `refit`: from the fit itself or, where it was a plain one, from the best
        start for its number of classes that was `found`."""
        if tried.local is not None:
            return tried.fit.params[self.frames]
        start = found.get(tried.half.classes)
        if start is None:
            return None
        middle = mean_design(tried.whole, self.every)
        return without(start, tried.half, middle)[self.frames]

    @property
    def n_independent(self) -> float:
        """Pixels of the bench that say something of their own."""
        frame = math.prod(self.pixels.shape) if self.layout is None else self.layout.area
        seen = float(np.sum(np.asarray(self.pixels.n_pixels)))
        return max(self.noise.n_independent(seen, frame * self.pixels.n_frames), 2.0)

    def worth(self, tried: Tried, score: Score) -> float:
        """What ranks models: the score less what parameters and classes must be worth."""
        n = tried.plan.model.n_parameters(self.pixels.n_frames) + (tried.local is not None)
        return worth(score.mean, n, tried.half.classes, self.n_independent)


def hole_of(noise: NoiseCorrelation) -> float:
    """Sd of the hole in the kernel, in pixels: in steps, as each one compiles programs anew."""
    return math.ceil(BUFFER * noise.buffer / STEP) * STEP


@dataclasses.dataclass(frozen=True)
class Judged:
    """The bench with its noise, the score of each model, and its fit to the pixels of the bench
    (that of models with local proportions only)."""

    bench: Bench
    scores: Mapping[str, Score]
    fits: Mapping[str, LocalFit]

    def best(self, tried: Mapping[str, Tried]) -> list[str]:
        """Names of the models that have a score, best first."""
        found = [name for name, score in self.scores.items() if math.isfinite(score.mean)]
        return sorted(found, key=lambda n: -self.bench.worth(tried[n], self.scores[n]))


def judge(tried: Mapping[str, Tried], pixels: Pixels, quantum: float, told: Told) -> Judged:
    """Score every model; again, against the noise of the best, where noise is correlated."""
    bench = Bench.of(pixels, quantum)
    found = _scored(bench, tried, told)
    noise = _noise(found, tried)
    if noise.buffer:
        return _scored(dataclasses.replace(bench, noise=noise), tried, told, found)
    return dataclasses.replace(found, bench=dataclasses.replace(bench, noise=noise))


def _noise(found: Judged, tried: Mapping[str, Tried]) -> NoiseCorrelation:
    """By the residuals of the best model, one with local proportions if there is any."""
    names, bench = found.best(tried), found.bench
    for name in [*(n for n in names if n in found.fits), *names]:
        one, fit = tried[name], found.fits.get(name)
        if fit is None:
            params = one.fit.params[bench.frames]
            resp = np.asarray(one.whole.responsibilities(params, bench.pixels))
        else:
            params, resp = fit.fit.params, np.asarray(fit.responsibilities)
        return noise_correlation(one.whole, params, resp, bench.pixels)
    return WHITE


def _scored(
    bench: Bench, tried: Mapping[str, Tried], told: Told, before: Judged | None = None
) -> Judged:
    """Two models at a time: a compiled program runs on one core."""
    names = [name for name, one in tried.items() if _usable(one)]

    def one(name: str) -> tuple[Score, LocalFit | None]:
        told(f"predicting with {name}")
        return _score(bench, tried[name], name, before)

    first = [one(name) for name in names[:1]]  # it compiles the programs
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*first, *pool.map(one, names[1:])]
    scores = {name: score for name, (score, _) in zip(names, found, strict=True)}
    fits = {name: fit for name, (_, fit) in zip(names, found, strict=True) if fit is not None}
    return Judged(bench, scores, fits)


def _score(
    bench: Bench, one: Tried, name: str, before: Judged | None
) -> tuple[Score, LocalFit | None]:
    if one.local is None:
        known = None if before is None else before.scores[name]
        params = one.fit.params[bench.frames]
        return known or global_score(one.whole, params, bench.pixels), None
    fit = one.local
    if not bench.has_all or bench.local(one) != one.plan.local:
        start = one.fit.params[bench.frames] if before is None else before.fits[name].fit.params
        fit = bench.refit(one, start)
    args = one.whole, bench.pixels, bench.local(one), bench.part(one)
    return local_score(*args, left_out(*args, fit, bench.quantum, STEPS)), fit


def _usable(tried: Tried) -> bool:
    return bool(np.isfinite(np.asarray(tried.fit.params.means)[:, : tried.half.classes]).all())
