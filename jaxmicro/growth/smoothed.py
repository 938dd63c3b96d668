"""A growth curve smoothed over time: a local-level model with the errors that each area has.

The true area is a random walk, x_t = x_(t-1) + w_t with w_t ~ N(0, q dt), seen as area_t with its
own standard error (Durbin and Koopman 2012, ch. 2). Level and band are averaged over q by its
likelihood, flat in the step's sd sqrt(q): the best q alone gives bands that hold the truth in 71 %
for 80 %, for it is 0 whenever errors could explain all steps. On the logarithm of the area the
walk's steps are in proportion to it, as where particles grow by a share of themselves. Errors of
different frames are taken as independent: what they have in common, as an error of the class means,
is not smoothed away and not in the band.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmicro.errors import UsageError

WAYS = ("none", "linear", "log")
FEWEST = 4  # frames with an area: fewer say nothing of q
STEPS = 40  # sds of the walk that are averaged over, from 0 to LARGEST times that of the data
LARGEST = 2.0


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """Smoothed areas in pixels, (T,), with standard errors; `way` is "linear" or "log".

    `step_variance` is the mean of q: pixels squared, or 1 on the log scale, per unit of time.
    """

    area_px: Float[np.ndarray, " T"]
    area_px_se: Float[np.ndarray, " T"]
    way: str
    step_variance: float

    def columns(self, pixel_area_um2: float | None) -> dict[str, np.ndarray]:
        """Those of growth.csv."""
        found = {"area_px_smooth": self.area_px, "area_px_smooth_se": self.area_px_se}
        if pixel_area_um2 is not None:
            found |= {
                "area_um2_smooth": self.area_px * pixel_area_um2,
                "area_um2_smooth_se": self.area_px_se * pixel_area_um2,
            }
        return found


def smooth(
    area_px: Float[np.ndarray, " T"],
    area_px_se: Float[np.ndarray, " T"],
    times: Float[np.ndarray, " T"],
    way: str = "linear",
) -> Smoothed:
    """Smooth a growth curve; frames without an area are filled from the others.

    Args:
      times: of the frames, rising; frame numbers will do.
      way: "linear" for areas, "log" for their logarithms.

    Raises:
      UsageError: an unknown way, fewer than 4 areas with an error above 0, or an area that is not
        above 0 and has no logarithm.
    """
    if way not in WAYS[1:]:
        raise UsageError(f"smoothing {way!r} is not known; use one of {', '.join(WAYS)}")
    seen = np.isfinite(area_px) & np.isfinite(area_px_se) & (area_px_se > 0)
    if seen.sum() < FEWEST:
        raise UsageError(
            f"{seen.sum()} frames have an area with an error above 0, and smoothing needs {FEWEST} "
            "or more; leave out --smooth"
        )
    y, se = np.where(seen, area_px, 0.0), np.where(seen, area_px_se, np.inf)
    if way == "log":
        if np.any(area_px[seen] <= 0):
            t = int(np.flatnonzero(seen & (area_px <= 0))[0])
            raise UsageError(
                f"the area of frame {t} is {area_px[t]:.4g} pixels and has no logarithm; use "
                "--smooth linear, or --frames from where there is an area on"
            )
        safe = np.where(seen, area_px, 1.0)
        y, se = np.log(safe), se / safe
    level, variance, q = _averaged(y, se, times)
    if way == "log":
        # the median of a log-normal area, and its error by the delta method
        level = np.exp(level)
        return Smoothed(level, level * np.sqrt(variance), way, q)
    return Smoothed(level, np.sqrt(variance), way, q)


def _averaged(
    y: np.ndarray, se: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Level, its variance and q, over what the areas say of q."""
    seen = np.isfinite(se)
    scale = np.sqrt(np.mean(np.diff(y[seen]) ** 2 / np.diff(times[seen])))
    every = (np.linspace(0, LARGEST, STEPS) * scale) ** 2
    likelihood = np.array([_filter(y, se, times, q)[-1] for q in every])
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    levels, variances = (
        np.array(a) for a in zip(*(_smoother(y, se, times, q) for q in every), strict=True)
    )
    level = weight @ levels
    return level, weight @ (variances + (levels - level) ** 2), float(weight @ every)


def _filter(
    y: np.ndarray, se: np.ndarray, times: np.ndarray, q: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Kalman's filter from a diffuse start: predicted and filtered level and variance, log-lik."""
    n = len(y)
    before, p_before, after, p_after = (np.empty(n) for _ in range(4))
    level, p, known, total = 0.0, np.inf, False, 0.0
    for t in range(n):
        p = p + q * (times[t] - times[t - 1]) if t and known else p
        before[t], p_before[t] = level, p
        if np.isfinite(se[t]):
            if not known:
                level, p, known = y[t], se[t] ** 2, True
            else:
                spread, gap = p + se[t] ** 2, y[t] - level
                total -= 0.5 * (np.log(2 * np.pi * spread) + gap**2 / spread)
                level, p = level + p / spread * gap, p * se[t] ** 2 / spread
        after[t], p_after[t] = level, p
    return before, p_before, after, p_after, float(total)


def _smoother(
    y: np.ndarray, se: np.ndarray, times: np.ndarray, q: float
) -> tuple[np.ndarray, np.ndarray]:
    """Level and variance given all frames (Rauch, Tung and Striebel 1965)."""
    _, p_before, level, p, _ = _filter(y, se, times, q)
    for t in range(len(y) - 2, -1, -1):
        if not np.isfinite(p[t]):  # before the first area: the walk backwards
            level[t], p[t] = level[t + 1], p[t + 1] + q * (times[t + 1] - times[t])
            continue
        gain = p[t] / p_before[t + 1]
        level[t] += gain * (level[t + 1] - level[t])
        p[t] += gain**2 * (p[t + 1] - p_before[t + 1])
    return level, p
