"""How bias and spread of a growth curve depend on the sampling rate: replicate samplings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import Plan

VISITS = 10  # expected visits a pixel over all replicates of one rate


@dataclasses.dataclass(frozen=True)
class RateStudy:
    """Replicate growth curves at one sampling rate, in pixels: `areas` is (frames, replicates)."""

    rate: float
    areas: np.ndarray
    results: np.ndarray

    @property
    def n_replicates(self) -> int:
        return self.areas.shape[1]

    def bias(self, reference: Float[np.ndarray, " frames"]) -> float:
        """Mean over frames of the mean error against a reference curve."""
        return float(np.mean(np.nanmean(self.areas, axis=1) - reference))

    def width(self) -> float:
        """Distance from the 10th to the 90th percentile, averaged over frames."""
        low, high = np.nanpercentile(self.areas, [10, 90], axis=1)
        return float(np.mean(high - low))

    @property
    def failed(self) -> float:
        """Share of fits that did not end converged or gave no area."""
        return float(np.mean((self.results != 0) | np.isnan(self.areas)))


def study_rate(
    key: jax.Array,
    movie: Movie,
    plan: Plan,
    rate: float,
    *,
    replicates: int | None = None,
    at_once: int = 20,
    done: Callable[[int], None] | None = None,
) -> RateStudy:
    """Sample the movie `replicates` times at `rate` and analyse each by the plan.

    Args:
      plan: its sampling says in which pattern; the rate and the key are those given here.
      key: PRNG key; replicate blocks get keys of their own, so a longer study extends a shorter.
      replicates: default is 10 / rate, ten expected visits a pixel.
      at_once: replicates worked on together (memory).
      done: called with the number of replicates finished after each block.
    """
    total = round(VISITS / rate) if replicates is None else replicates
    areas, results = [], []
    for block, start in enumerate(range(0, total, at_once)):
        # Blocks keep one size so that one compiled program serves them all.
        pixels = sample(jax.random.fold_in(key, block), movie, rate, plan.sampling.pattern, at_once)
        found = analyse(pixels, plan)
        keep = min(at_once, total - start)
        areas.append(found.growth.area_px[:, :keep])
        results.append(np.asarray(found.fitted.fit.result, float)[:, :keep])
        if done is not None:
            done(keep)
    return RateStudy(rate, np.concatenate(areas, axis=1), np.concatenate(results, axis=1))
