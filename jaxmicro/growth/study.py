"""How bias and spread of a growth curve depend on the sampling rate: replicate samplings.

The replicates of a rate are cut into blocks of one size, so that one compiled program serves them
all. A block's pixels follow from the seed, the rate and the number of the block alone: not from
the plan, so that plans are compared on the same pixels, nor from where or when it is measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from jaxmicro.arguments import whole
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import MIN_PIXELS, Pixels, sample
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import Analysis, analyse
from jaxmicro.growth.intervals import LEVELS
from jaxmicro.growth.plan import Plan

VISITS = 10  # expected visits a pixel over all replicates of one rate
QUANTITIES = (
    "area_px",
    "area_px_se",
    *(f"area_px_{end}{level}" for level in LEVELS for end in ("lo", "hi")),
    "usable",
    "result",
)
FEWEST_BLOCKS = 16  # of a rate: what a block's loss costs, and among how many it can be shared
MOST_VISITS = 2**21  # pixels of a block over its frames and replicates: a few 100 MB of work
PERCENTILES = {"p10": 10.0, "p50": 50.0, "p90": 90.0}


def replicates_of(rate: float) -> int:
    """The paper's number of replicates: replicates x rate = 10, at least one."""
    return max(1, round(VISITS / rate))


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The replicates of one rate, cut into blocks of `size`; the last may be asked for in part."""

    rate: float
    replicates: int
    size: int

    @classmethod
    def of(cls, movie: Movie, rate: float, replicates: int | None = None) -> Blocks:
        """Blocks that fit into memory, from the movie's size and the rate alone.

        Raises:
          UsageError: no replicates, a rate outside (0, 1) or one that leaves a frame too few
            pixels.
        """
        check_rate(movie, rate)
        total = replicates_of(rate) if replicates is None else whole(replicates, "replicates", 1)
        visits = rate * math.prod(movie.shape)
        count = max(min(total, FEWEST_BLOCKS), math.ceil(total * visits / MOST_VISITS))
        return cls(rate, total, math.ceil(total / min(count, total)))

    @property
    def count(self) -> int:
        return math.ceil(self.replicates / self.size)

    def span(self, block: int) -> slice:
        """The replicates of a block among those of the rate."""
        return slice(block * self.size, min((block + 1) * self.size, self.replicates))

    def key(self, seed: int, block: int) -> jax.Array:
        """The PRNG key of a block's pixels."""
        bits = int(np.float32(self.rate).view(np.uint32))
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), bits), block)


def check_rate(movie: Movie, rate: float) -> None:
    """Refuse a rate at which a frame has too few pixels, before any work is done."""
    if not 0 < rate < 1:
        raise UsageError(
            f"rate {rate:g} is not allowed; it is the share of pixels visited: use a number above "
            "0 and below 1 (all pixels are the reference of every study)"
        )
    regions = range(1 if movie.valid is None or movie.valid.ndim == 2 else movie.n_frames)
    fewest = min(int(np.count_nonzero(movie.domain(t))) for t in regions)
    if round(rate * fewest) < MIN_PIXELS:
        raise UsageError(
            f"rate {rate:g} leaves {round(rate * fewest)} of {fewest} pixels of a frame and at "
            f"least {MIN_PIXELS} are needed; use {MIN_PIXELS / fewest:.2g} or more"
        )


def measure_block(
    movie: Movie, plan: Plan, blocks: Blocks, seed: int, block: int
) -> Float[np.ndarray, "Q T R"]:
    """Sample the movie for every replicate of a block and analyse it by the plan.

    Args:
      plan: its sampling says in which pattern; a start has batch axis (frames,).

    Returns:
      `QUANTITIES` of every frame and replicate: areas with standard errors and intervals, in
      pixels; whether the area may be used; how the fit ended (`Result`). Areas may be NaN, the
      last two are always known.
    """
    key = blocks.key(seed, block)
    pixels = sample(key, movie, blocks.rate, plan.sampling.pattern, blocks.size)
    start = None if plan.start is None else jax.tree.map(lambda a: a[:, None], plan.start)
    found = analyse(_padded(pixels), dataclasses.replace(plan, start=start), movie=movie)
    span = blocks.span(block)
    return _quantities(found)[..., : span.stop - span.start]


def measure_all_pixels(movie: Movie, plan: Plan) -> Float[np.ndarray, "Q T 1"]:
    """The same of all visited pixels of the movie: the reference of the plan."""
    return _quantities(analyse(sample(None, movie), plan, movie=movie))[..., None]


def _quantities(found: Analysis) -> Float[np.ndarray, "Q ..."]:
    growth = found.growth
    ends = [end for level in LEVELS for end in growth.interval_px(level)]
    rows = (growth.area_px, growth.area_px_se, *ends, found.usable, found.fitted.fit.result)
    return np.stack([np.asarray(row, float) for row in rows])


def _padded(pixels: Pixels, step: int = 256) -> Pixels:
    """Pixels of a pattern that meets more or fewer of them, padded so that programs are shared."""
    n = pixels.values.shape[-1]
    more = -n % step
    if pixels.shared or not more or not bool((np.asarray(pixels.weight) == 0).any()):
        return pixels

    def pad(a: jax.Array) -> jax.Array:
        return jax.numpy.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)])

    values, rows, cols, weight = map(pad, (pixels.values, pixels.rows, pixels.cols, pixels.weight))
    return Pixels(values, rows, cols, weight, pixels.n_domain, pixels.shape, pixels.pattern)


@dataclasses.dataclass(frozen=True)
class RateStudy:
    """Replicate growth curves of one plan at one sampling rate: `values` of `QUANTITIES`."""

    rate: float
    values: Float[np.ndarray, "Q T R"]

    def of(self, quantity: str) -> Float[np.ndarray, "T R"]:
        return self.values[QUANTITIES.index(quantity)]

    @property
    def areas(self) -> Float[np.ndarray, "T R"]:
        """In pixels, NaN where a fit gave none."""
        return self.of("area_px")

    @property
    def n_replicates(self) -> int:
        return self.values.shape[2]

    def curves(self) -> dict[str, Float[np.ndarray, " T"]]:
        """10th, 50th and 90th percentile and mean over the replicates, frame by frame."""
        found = {name: _over_replicates(self.areas, q) for name, q in PERCENTILES.items()}
        return found | {"mean": _mean(self.areas, axis=1)}

    def bias(self, reference: Float[np.ndarray, " T"]) -> float:
        """Mean over frames of the mean error against a reference curve, in pixels."""
        return float(_mean(_mean(self.areas, axis=1) - reference))

    def width(self) -> float:
        """Distance from the 10th to the 90th percentile, averaged over frames, in pixels."""
        curves = self.curves()
        return float(_mean(curves["p90"] - curves["p10"]))

    def coverage(self, truth: Float[np.ndarray, " T"], level: int) -> float:
        """Share of the intervals of that level in percent that hold a curve, of those known."""
        low, high = (self.of(f"area_px_{end}{level}") for end in ("lo", "hi"))
        inside = (low <= truth[:, None]) & (truth[:, None] <= high)
        return float(_mean(np.where(np.isnan(low + high + truth[:, None]), np.nan, inside)))

    @property
    def failed(self) -> float:
        """Share of the fits without an area that may be used."""
        return float(np.mean((self.of("usable") == 0) | np.isnan(self.areas)))


def _mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _over_replicates(areas: Float[np.ndarray, "T R"], percent: float) -> Float[np.ndarray, " T"]:
    found = np.full(areas.shape[0], np.nan)
    some = np.isfinite(areas).any(axis=1)
    found[some] = np.nanpercentile(areas[some], percent, axis=1)
    return found


@dataclasses.dataclass(frozen=True)
class Summary:
    """Bias, width and coverage of one plan at one rate; areas in pixels, shares in percent.

    `bias_percent` and `width_percent` are of the mean area: the true one where it is known, that
    of all pixels else. `cover80` and `cover95` say how many intervals hold the reference.
    """

    rate: float
    replicates: int
    bias: float
    width: float
    bias_percent: float
    width_percent: float
    cover80: float
    failed_percent: float
    cover95: float

    @classmethod
    def of(
        cls,
        study: RateStudy,
        reference: Float[np.ndarray, " T"],
        truth: Float[np.ndarray, " T"] | None = None,
    ) -> Summary:
        """Against a reference curve in pixels; `truth` is what percentages are taken of."""
        mean = float(_mean(reference if truth is None else truth))
        percent = 100 / mean if mean > 0 else math.nan
        bias, width = study.bias(reference), study.width()
        return cls(
            study.rate,
            study.n_replicates,
            bias,
            width,
            bias * percent,
            width * percent,
            100 * study.coverage(reference, 80),
            100 * study.failed,
            100 * study.coverage(reference, 95),
        )


def study_rate(
    movie: Movie,
    plan: Plan,
    rate: float,
    *,
    seed: int = 0,
    replicates: int | None = None,
    done: Callable[[int], None] | None = None,
) -> RateStudy:
    """Sample the movie `replicates` times at `rate` and analyse each by the plan, block by block.

    `jaxmicro study` gives the same numbers, and can be stopped, go on and run on many machines.

    Args:
      plan: its sampling says in which pattern; rate and seed are those given here. Where its
        proportions are local it should have a start: see `jaxmicro.growth.choose.best_start`.
      replicates: default is 10 / rate, ten expected visits a pixel.
      done: called with the number of replicates finished after each block.

    Raises:
      UsageError: a rate or a number of replicates that cannot be; see also `analyse`.
    """
    blocks = Blocks.of(movie, rate, replicates)
    found = []
    for block in range(blocks.count):
        found.append(measure_block(movie, plan, blocks, seed, block))
        if done is not None:
            done(found[-1].shape[2])
    return RateStudy(rate, np.concatenate(found, axis=2))
