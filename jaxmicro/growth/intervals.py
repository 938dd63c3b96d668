"""Intervals of an area from its estimate and standard error."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

LEVELS = (80, 95)  # percent


def area_interval(
    area: Float[np.ndarray, "*batch"],
    se: Float[np.ndarray, "*batch"],
    region: Float[np.ndarray, "*batch"] | None,
    level: int,
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Lower and upper end of a central interval that holds the true area in `level` percent.

    The share of the region has a beta distribution of the estimate's mean and variance, so that the
    interval of a small area is skewed and does not reach below 0. It holds the normal interval, cut
    off at 0 and the region, so that an area of 0 is held where the estimate is as near to it as its
    error; where no beta distribution has these moments (an estimate of 0 or less, or of all the
    region) the two are the same.

    Args:
      region: pixels that the area is an area of; None for a difference of areas, whose interval
        is normal.
    """
    from scipy import stats

    tails = np.array([50 - level / 2, 50 + level / 2]) / 100
    normal = area + stats.norm.ppf(tails).reshape(2, *[1] * area.ndim) * se
    if region is None:
        return normal[0], normal[1]
    share, variance = area / region, (se / region) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        total = share * (1 - share) / variance - 1
        proper = (share > 0) & (share < 1) & (total > 0) & (variance > 0)
        a, b = (np.where(proper, s * total, 1.0) for s in (share, 1 - share))
    cut = np.clip(normal, 0, region)
    beta = [
        np.where(proper, stats.beta.ppf(t, a, b) * region, c)
        for t, c in zip(tails, cut, strict=True)
    ]
    return np.minimum(beta[0], cut[0]), np.maximum(beta[1], cut[1])
