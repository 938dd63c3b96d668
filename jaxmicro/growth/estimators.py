"""Estimators of foreground area, by name. A new one is a function here and a line in the table."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import area_of
from jaxmicro.growth.assisted import assisted_area
from jaxmicro.growth.estimate import Growth, estimate
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.parameter_error import share_variance
from jaxmicro.growth.partition import Partition
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.soft_correction import SoftCorrection


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What an estimator may use; batch axes (frames,) or (frames, replicates).

    `foreground` are the labels after any correction, `partitions` one a replicate (None where
    nothing could be called foreground), `corrected` the soft correction, if any, and `voted`
    whether labels are those of a vote. `local` are the settings of a local fit, `region` is where
    to look, if that is not the whole frame.
    """

    fitted: Fitted
    partitions: tuple[Partition | None, ...]
    foreground: Bool[np.ndarray, "*batch n"]
    corrected: SoftCorrection | None = None
    local: Local | None = None
    region: Bool[np.ndarray, "*T rows cols"] | None = None
    voted: bool = False

    @property
    def pixels(self) -> Pixels:
        return self.fitted.pixels

    @functools.cached_property
    def responsibilities(self) -> Float[np.ndarray, "*batch K n"]:
        """Of the fit, before any correction."""
        return np.asarray(self.fitted.responsibilities())

    @functools.cached_property
    def probability(self) -> Float[np.ndarray, "*batch n"]:
        """Posterior probability of foreground at each visited pixel; NaN where not known."""
        corrected = self.corrected
        resp = self.responsibilities if corrected is None else np.asarray(corrected.probabilities)
        if resp.ndim == 3:
            return _of_foreground(resp, self.partitions[0])
        each = [_of_foreground(resp[:, b], parts) for b, parts in enumerate(self.partitions)]
        return np.stack(each, axis=1)


def _of_foreground(resp: Float[np.ndarray, "t K n"], parts: Partition | None) -> np.ndarray:
    if parts is None:
        return np.full((resp.shape[0], resp.shape[2]), np.nan)
    return resp[:, list(parts.foreground)].sum(axis=1, dtype=float)


def count(evidence: Evidence) -> Growth:
    """Share of the visited pixels that are labelled foreground, as in the paper.

    The error is that of the sampling design, of the fitted parameters, and of labels that are
    either foreground or not where the probability is between: by how much they are off together
    (the sum of probabilities less the count), and what is open of each. A vote of the neighbours
    knows more than the probabilities; what it leaves open is not known, and not counted.
    """
    growth = estimate(evidence.foreground, evidence.pixels)
    extra = _of_parameters(evidence)
    if not evidence.voted:
        chance, pixels = evidence.probability, evidence.pixels
        off = (_mean(chance - evidence.foreground, pixels)) ** 2
        extra = extra + off + _mean(chance * (1 - chance), pixels) / _domain(pixels, off.ndim)
    return _with_variance(growth, np.nan_to_num(extra), evidence.pixels)


def posterior(evidence: Evidence) -> Growth:
    """Mean probability of foreground over the visited pixels: see `from_probabilities`; with the
    error of the fitted parameters."""
    growth = from_probabilities(evidence.probability, evidence.pixels)
    return _with_variance(growth, np.nan_to_num(_of_parameters(evidence)), evidence.pixels)


def _with_variance(growth: Growth, extra: np.ndarray, pixels: Pixels) -> Growth:
    """The curve with `extra` added to the variance of the foreground's share."""
    domain = _domain(pixels, extra.ndim)
    se = np.sqrt(growth.area_px_se**2 + domain**2 * extra)
    return dataclasses.replace(growth, area_px_se=se)


def _of_parameters(evidence: Evidence) -> Float[np.ndarray, "*batch"]:
    """Variance of the share of foreground that comes from the fitted parameters."""
    fitted, batch = evidence.fitted, evidence.pixels.values.shape[:-1]
    k = fitted.model.n_classes
    chosen = [np.isin(np.arange(k), () if p is None else p.foreground) for p in evidence.partitions]
    wanted = np.broadcast_to(chosen[0] if len(batch) == 1 else np.stack(chosen), (*batch, k))
    return share_variance(
        fitted.model, fitted.fit.params, evidence.pixels, evidence.responsibilities, wanted
    )


def _mean(values: Float[np.ndarray, "*batch n"], pixels: Pixels) -> Float[np.ndarray, "*batch"]:
    """Over the visited pixels."""
    weight = np.broadcast_to(np.asarray(pixels.weight, float), values.shape)
    return (weight * values).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1)


def _domain(pixels: Pixels, ndim: int) -> np.ndarray:
    """Pixels of each frame, with `ndim` axes."""
    return np.asarray(pixels.n_domain, float).reshape(-1, *([1] * (ndim - 1)))


def from_probabilities(chance: Float[np.ndarray, "*batch n"], pixels: Pixels) -> Growth:
    """Areas from the probability of foreground at each visited pixel.

    Unbiased, also where classes overlap, if the probabilities are calibrated. The variance is that
    of the sampling design, with what the labels of the whole frame leave open, p (1 - p) a pixel,
    added.
    """
    area, se = area_of(chance, pixels)
    doubt = _mean(chance * (1 - chance), pixels)
    return Growth(
        np.arange(area.shape[0]),
        area,
        np.sqrt(se**2 + doubt * _domain(pixels, area.ndim)),
        region_px=np.asarray(pixels.n_domain, float),
        visited_px=np.asarray(pixels.n_pixels, float),
    )


def difference(evidence: Evidence) -> Growth:
    """A map of the whole frame, corrected by the visited pixels: see `jaxmicro.growth.assisted`."""
    fitted, pixels = evidence.fitted, evidence.pixels
    each = [fitted] if pixels.values.ndim == 2 else list(fitted.replicates())
    found = [
        (np.full(pixels.n_frames, np.nan),) * 2
        if parts is None
        else assisted_area(one, parts.foreground, evidence.local, evidence.region)
        for one, parts in zip(each, evidence.partitions, strict=True)
    ]
    area, se = np.moveaxis(np.array(found), 0, -1)
    if pixels.values.ndim == 2:
        area, se = area[:, 0], se[:, 0]
    return Growth(
        np.arange(pixels.n_frames),
        area,
        se,
        region_px=np.asarray(pixels.n_domain, float),
        visited_px=np.asarray(pixels.n_pixels, float),
    )


ESTIMATORS: dict[str, Callable[[Evidence], Growth]] = {
    "count": count,
    "posterior": posterior,
    "difference": difference,
}
