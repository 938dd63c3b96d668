"""May the area of a frame be used? Decided frame by frame from how its fit ended."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.estimate import Growth
from jaxmicro.mixture.ecm import Fit, Result

SMALL = 0.01  # share of an area that may hang on a class whose pixels could be counted elsewhere
AT_THE_OPTIMUM = (Result.converged, Result.empty_class)


def usable(
    fitted: Fit, classes: Int[np.ndarray, "*batch n"], pixels: Pixels, growth: Growth
) -> Bool[np.ndarray, "*batch"]:
    """Which frames have an area that may be used.

    Where the fit reached the optimum it may, also with a class that holds hardly a pixel: the
    others then describe the frame. A class as narrow as a grey level describes a spike, and its
    pixels may lie on either side of the partition: the area may be used where counting them on the
    other side changes it by no more than its standard error or a hundredth. In all other cases it
    may not.

    Args:
      fitted: the fit, batch axes (frames,) or (frames, replicates).
      classes: class of each visited pixel before any correction.
      growth: areas in pixels and their standard errors.
    """
    result = np.asarray(fitted.result)
    good = np.isin(result, AT_THE_OPTIMUM)
    weight = np.broadcast_to(np.asarray(pixels.weight, float), classes.shape)
    spikes = np.take_along_axis(np.asarray(fitted.spike), np.asarray(classes), axis=-1)
    share = (weight * spikes).sum(axis=-1) / weight.sum(axis=-1)
    domain = np.asarray(pixels.n_domain, float)
    doubtful = share * domain.reshape(-1, *([1] * (share.ndim - 1)))
    allowed = np.maximum(growth.area_px_se, SMALL * growth.area_px)
    known = np.asarray(fitted.optimum_gap) < np.inf
    spike = (result == Result.degenerate_class) & known & (doubtful <= allowed)
    return (good | spike) & np.isfinite(growth.area_px)
