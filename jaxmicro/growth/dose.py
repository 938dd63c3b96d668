"""The lowest share of pixels that reaches a standard error: found by sub-sampling a pilot movie.

A rate is tried by sampling the movie and measuring each sample. Between rates that were tried the
error is a straight line in logarithms; on both sides of them it goes with one over the square root
of the rate, as it does where samples are random and the map is left alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import MIN_PIXELS
from jaxmicro.errors import UsageError
from jaxmicro.growth.plan import Plan
from jaxmicro.growth.study import study_rate

FIRST_RATES = (0.2, 0.05, 0.0125)
CLOSE = 1.1  # a rate is good enough where the error there is the target to within so much
ROUNDS = 2  # of rates closer and closer to the target; each costs a compilation
MOST = 0.5  # of the pixels: beyond it, take them all
_PILOT_SEED, _CHECK_SEED = 0, 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """One pattern at one rate, tried on replicates of the movie; areas in pixels.

    Attributes:
      se: (T,) root mean square of the standard errors that were reported; NaN where none was.
      error: (T,) root mean square difference from the area of all pixels.
    """

    pattern: str
    rate: float
    replicates: int
    se: Float[np.ndarray, " T"]
    error: Float[np.ndarray, " T"]

    @property
    def mean_se(self) -> float:
        """Root mean square over the frames."""
        return float(_rms(self.se))

    @property
    def mean_error(self) -> float:
        return float(_rms(self.error))

    @property
    def surprising(self) -> bool:
        """Whether chance at the level of 1 % does not explain the difference from all pixels."""
        from scipy import stats

        numbers = self.replicates * np.count_nonzero(np.isfinite(self.se + self.error))
        return bool(
            numbers
            and self.mean_error**2 > self.mean_se**2 * stats.chi2.ppf(0.99, numbers) / numbers
        )

    @property
    def expected(self) -> float:
        """What to plan with: the standard error, or the difference where that is surprising."""
        return self.mean_error if self.surprising else self.mean_se


@dataclasses.dataclass(frozen=True)
class Dose:
    """What a pattern needs to reach the target.

    Attributes:
      rate: the lowest that reaches it; NaN where even `MOST` does not.
      trials: every rate that was tried, lowest first.
      check: replicates of their own at `rate`; None where there is no rate.
    """

    pattern: str
    rate: float
    trials: tuple[Trial, ...]
    check: Trial | None = None


def try_rate(
    movie: Movie,
    plan: Plan,
    pattern: str,
    rate: float,
    all_pixels: Float[np.ndarray, " T"],
    *,
    seed: int,
    replicates: int,
) -> Trial:
    """Sample the movie `replicates` times and measure each sample.

    Args:
      all_pixels: area of each frame that the plan finds from all pixels, in pixels.
    """
    sampling = dataclasses.replace(plan.sampling, pattern=pattern)
    here = dataclasses.replace(plan, sampling=sampling)
    found = study_rate(movie, here, rate, seed=seed, replicates=replicates)
    difference = found.areas - all_pixels[:, None]
    return Trial(
        pattern, rate, replicates, _rms(found.of("area_px_se"), axis=1), _rms(difference, axis=1)
    )


def lowest_rate(trials: Sequence[Trial], target_px: float) -> float:
    """The rate at which the expected error is the target, by the module's rule."""
    known = sorted((t for t in trials if t.expected > 0), key=lambda t: t.rate)
    if not known:
        return math.nan
    rates, errors = (np.log([getattr(t, n) for t in known]) for n in ("rate", "expected"))
    errors = np.minimum.accumulate(errors)  # more pixels do not make it worse; noise of few does
    target = math.log(target_px)
    if target >= errors[0] or target <= errors[-1]:
        end = 0 if target >= errors[0] else -1
        return float(np.exp(rates[end] + 2 * (errors[end] - target)))
    return float(np.exp(np.interp(-target, -errors, rates)))


def find_dose(
    movie: Movie,
    plan: Plan,
    pattern: str,
    target_px: float,
    all_pixels: Float[np.ndarray, " T"],
    *,
    seed: int = 0,
    replicates: int = 2,
    done: Callable[[Trial], None] | None = None,
) -> Dose:
    """The lowest rate of a pattern whose standard error, over all frames, is at most the target.

    Args:
      target_px: root mean square over the frames of the standard error, in pixels.
      replicates: samples at each rate that is tried.
      done: is told of each trial.

    Raises:
      UsageError: a movie too small to be sub-sampled; see also `study_rate`.
    """
    least = lowest_possible(movie)
    trials: list[Trial] = []

    def run(rate: float) -> None:
        trials.append(
            try_rate(
                movie,
                plan,
                pattern,
                rate,
                all_pixels,
                seed=seed + _PILOT_SEED,
                replicates=replicates,
            )
        )
        if done is not None:
            done(trials[-1])

    for rate in dict.fromkeys(max(r, least) for r in FIRST_RATES):
        run(rate)
    for _ in range(ROUNDS):
        rate = min(max(lowest_rate(trials, target_px), least), MOST)
        nearest = min(trials, key=lambda t: abs(math.log(t.rate / rate)))
        if math.isnan(rate) or max(nearest.rate / rate, rate / nearest.rate) < CLOSE:
            break
        run(rate)
    trials.sort(key=lambda t: t.rate)
    rate = lowest_rate(trials, target_px)
    return Dose(pattern, max(rate, least) if rate <= MOST else math.nan, tuple(trials))


def check_dose(
    movie: Movie,
    plan: Plan,
    dose: Dose,
    all_pixels: Float[np.ndarray, " T"],
    *,
    seed: int = 0,
    replicates: int = 10,
) -> Dose:
    """The same with samples of its own at the rate that was found."""
    if math.isnan(dose.rate):
        return dose
    check = try_rate(
        movie, plan, dose.pattern, dose.rate, all_pixels, seed=seed + _CHECK_SEED,
        replicates=replicates,
    )  # fmt: skip
    return dataclasses.replace(dose, check=check)


def lowest_possible(movie: Movie) -> float:
    """The rate that leaves the smallest frame as many pixels as a mixture needs.

    Raises:
      UsageError: that is more than half of them.
    """
    fewest = min(int(np.count_nonzero(movie.domain(t))) for t in range(movie.n_frames))
    least = (MIN_PIXELS + 1) / fewest if fewest else 1.0
    if least > MOST:
        raise UsageError(
            f"a frame has {fewest} pixels, too few to sub-sample (a mixture needs {MIN_PIXELS}); "
            "use a larger --crop or --roi"
        )
    return least


def _rms(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Root mean square of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0) ** 2
    mean = total.sum(axis=axis) / np.maximum(count, 1)
    return np.where(count > 0, np.sqrt(mean), np.nan)
