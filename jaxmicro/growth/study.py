"""How bias and spread of a growth curve depend on the sampling rate: replicate samplings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.growth.estimate import estimate
from jaxmicro.growth.partition import NothingGrows, partition
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.correct import vote
from jaxmicro.spacetime.neighbourhood import Neighbourhood

VISITS = 10  # expected visits a pixel over all replicates of one rate


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A fixed way from pixels to areas, so that every replicate is treated alike.

    `neighbourhood` None leaves the labels as the fit gives them.
    """

    model: GMRM
    rule: str = "brightest"
    ranks: tuple[int, ...] = ()
    neighbourhood: Neighbourhood | None = None
    threshold: float = 0.0

    def areas_px(
        self, pixels: Pixels
    ) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
        """Foreground area of each frame (and replicate) in pixels, and the `Result` codes.

        No replicate depends on another. An area is NaN where the frame could not be fitted, or
        where the rule is "grows" and nothing grows in the replicate.
        """
        fitted = fit(self.model, pixels)
        classes = np.asarray(self.model.classify(fitted.params, pixels))
        labels, known = self._labels(fitted.params, classes)
        if self.neighbourhood is not None:
            voted = vote(
                jnp.asarray(labels),
                pixels.rows,
                pixels.cols,
                pixels.weight,
                pixels.shape,
                self.neighbourhood,
                self.threshold,
            )
            labels = np.asarray(voted.labels)
        area = np.where(known, estimate(labels, pixels).area_px, np.nan)
        return area, np.asarray(fitted.result, float)

    def _labels(self, params: Params, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(frames, replicates, n) foreground, and (frames, replicates) whether it is known."""
        if classes.ndim == 2:
            return self._labels_of_one(params, classes)
        each = [
            self._labels_of_one(jax.tree.map(lambda a, b=b: a[:, b], params), classes[:, b])
            for b in range(classes.shape[1])
        ]
        labels, known = zip(*each, strict=True)
        return np.stack(labels, axis=1), np.stack(known, axis=1)

    def _labels_of_one(self, params: Params, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known = np.isfinite(np.asarray(params.means)).all(axis=-1)
        try:
            if known.any():
                parts = partition(params, self.rule, self.ranks, family=self.model.family)
                return parts.is_foreground(classes), known
        except NothingGrows:
            known = np.zeros_like(known)
        return np.zeros(classes.shape, bool), known


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
    pipeline: Pipeline,
    rate: float,
    *,
    replicates: int | None = None,
    pattern: str = "random",
    at_once: int = 20,
    done: Callable[[int], None] | None = None,
) -> RateStudy:
    """Sample the movie `replicates` times at `rate` and run the pipeline on each.

    Args:
      key: PRNG key; replicate blocks get keys of their own, so a longer study extends a shorter.
      replicates: default is 10 / rate, ten expected visits a pixel.
      at_once: replicates worked on together (memory).
      done: called with the number of replicates finished after each block.
    """
    total = round(VISITS / rate) if replicates is None else replicates
    areas, results = [], []
    for block, start in enumerate(range(0, total, at_once)):
        # Blocks keep one size so that one compiled program serves them all.
        pixels = sample(jax.random.fold_in(key, block), movie, rate, pattern, at_once)
        area, result = pipeline.areas_px(pixels)
        keep = min(at_once, total - start)
        areas.append(area[:, :keep])
        results.append(result[:, :keep])
        if done is not None:
            done(keep)
    return RateStudy(rate, np.concatenate(areas, axis=1), np.concatenate(results, axis=1))
