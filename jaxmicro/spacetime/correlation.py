"""How far the noise of a pixel reaches: the correlation of residuals between nearby pixels.

A detector's point spread, interpolation and drift correction leave noise that neighbouring pixels
share. Residuals within the classes show it, where both pixels of a pair surely belong to one class.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params

LAGS = 8
SURE = 0.9  # posterior probability of the class of both pixels of a pair
FEWEST_PAIRS = 30  # at a lag; with fewer nothing is said of it
FEW_PAIRS = 200  # with fewer a correlation counts from PLAIN standard errors of white noise on
PLAIN = 3.0
FAR = 5  # index of the lags from which on noise is no longer expected to be correlated
LEAST = 0.1  # correlation at lag 1 from which on noise counts as correlated
SEEN = 0.05  # correlation that still counts for the reach


@dataclasses.dataclass(frozen=True)
class NoiseCorrelation:
    """Correlation of the residuals at lags of 1, 2, .. pixels along rows and columns.

    Attributes:
      by_lag: NaN where too few pairs of pixels were visited and surely belong to one class.
      buffer: sd in pixels of a Gaussian exp(-d^2 / (2 buffer^2)) that lies on or above the
        correlations seen; 0 where noise is white or nothing is known.
      pairs: pairs of pixels at lag 1 that this was seen on.
    """

    by_lag: Float[np.ndarray, " lags"]
    buffer: float
    pairs: int = 0

    @property
    def surely_white(self) -> bool:
        """Whether enough pairs of neighbours were seen, and they are not correlated."""
        return not self.buffer and self.pairs >= FEW_PAIRS

    @property
    def independent_share(self) -> float:
        """Independent pixels per pixel of a full frame: 1 over the sum of the correlation."""
        if not self.buffer:
            return 1.0
        return 1 / max(1.0, 2 * np.pi * self.buffer**2)

    def n_independent(self, n_visited: int | float, area: int | float) -> float:
        """Independent pixels among so many, drawn at random from an area of so many pixels.

        The variance of a mean is that of so many independent pixels: each visited pixel shares its
        noise with those visited near it, whose number is in proportion to the rate.
        """
        rate = min(n_visited / max(area, 1.0), 1.0)
        return n_visited / (1 + rate * (1 / self.independent_share - 1))

    def within(self, sides: Sequence[float], rate: float) -> float:
        """Sum of the variances of the sums over tiles, by the variance of the sum over all.

        Args:
          sides: of a tile, pixels along rows and columns.
          rate: share of the pixels that were visited, at random.
        """
        if not self.buffer:
            return 1.0
        lag = np.arange(-max(int(side) for side in sides), max(int(side) for side in sides) + 1)
        r = np.exp(-0.5 * (lag / self.buffer) ** 2)
        inside = math.prod(np.sum(r * np.maximum(1 - np.abs(lag) / side, 0)) for side in sides)
        return float((1 + rate * (inside - 1)) / (1 + rate * (np.sum(r) ** 2 - 1)))

    @property
    def sentence(self) -> str:
        if not np.isfinite(self.by_lag[0]):
            return (
                "noise: too few neighbours were visited and surely belong to one class to see "
                "whether it is correlated"
            )
        shown = ", ".join(f"{max(r, 0):.2f}" for r in self.by_lag[:4] if np.isfinite(r))
        if not self.buffer and self.pairs < FEW_PAIRS:
            return (
                f"noise: taken as independent from pixel to pixel; only {self.pairs} pairs of "
                "neighbours were visited to see whether it is"
            )
        if not self.buffer and self.by_lag[0] >= LEAST:
            return (
                f"noise: neighbours are hardly more alike than pixels farther apart (correlation "
                f"{shown} at lags 1, 2, ..), so that it counts as independent; what all of them "
                "share is structure that the model has missed"
            )
        if not self.buffer:
            return f"noise: independent from pixel to pixel (correlation {shown} at lags 1, 2, ..)"
        return (
            f"noise: correlated between neighbours ({shown} at lags 1, 2, .. pixels), so that "
            f"neighbours within about {2 * self.buffer:.0f} pixels have less to say"
        )


def noise_correlation(
    model: GMRM, params: Params, responsibilities: Float[np.ndarray, "T K n"], pixels: Pixels
) -> NoiseCorrelation:
    """The correlation of the residuals of a fitted movie, batch axis (frames,)."""
    products, squares, pairs = (np.zeros(LAGS) for _ in range(3))
    for t in range(pixels.n_frames):
        residual, label = _frame(model, params, responsibilities, pixels, t)
        for lag in range(1, LAGS + 1):
            for axis in (0, 1):
                a = np.take(residual, range(residual.shape[axis] - lag), axis)
                b = np.take(residual, range(lag, residual.shape[axis]), axis)
                p = np.take(label, range(label.shape[axis] - lag), axis)
                q = np.take(label, range(lag, label.shape[axis]), axis)
                same = (p == q) & (p >= 0)
                products[lag - 1] += np.sum(a[same] * b[same])
                squares[lag - 1] += 0.5 * np.sum(a[same] ** 2 + b[same] ** 2)
                pairs[lag - 1] += same.sum()
    enough = (pairs >= FEWEST_PAIRS) & (squares > 0)
    by_lag = np.where(enough, products / np.where(squares > 0, squares, 1), np.nan)
    return NoiseCorrelation(by_lag, _buffer(by_lag, pairs), int(pairs[0]))


def _buffer(by_lag: Float[np.ndarray, " lags"], pairs: Float[np.ndarray, " lags"]) -> float:
    """The widest of the Gaussians through the correlations, from lag 1 on while they are seen.

    What the longest lags still show is taken for structure that the model has missed, not noise.
    """
    many = pairs >= FEW_PAIRS
    far = by_lag[FAR:][many[FAR:] & np.isfinite(by_lag[FAR:])]
    floor = max(0.0, float(np.median(far))) if far.size else 0.0
    of_noise = (by_lag - floor) / (1 - min(floor, 0.9))
    plain = PLAIN / np.sqrt(np.maximum(pairs, 1))
    if not of_noise[0] >= (LEAST if many[0] else plain[0]):
        return 0.0
    seen = int(np.argmin(np.append(of_noise >= np.where(many, SEEN, plain), False)))
    lag, r = np.arange(1, seen + 1), np.minimum(of_noise[:seen], 0.99)
    return float(np.max(lag / np.sqrt(-2 * np.log(r))))


def _frame(
    model: GMRM,
    params: Params,
    responsibilities: Float[np.ndarray, "T K n"],
    pixels: Pixels,
    t: int,
) -> tuple[Float[np.ndarray, "Y X"], np.ndarray]:
    """Standardised residuals on the frame's grid, and the class where it is sure, else -1."""
    frame = pixels.at(t)
    seen = np.asarray(frame.weight) > 0
    rows, cols = np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]
    share = np.asarray(responsibilities[t])[:, seen]
    k, sure = share.argmax(axis=0), share.max(axis=0) >= SURE
    means, sds, gain, trend = (
        np.asarray(a[t], float) for a in (params.means, params.sds, params.gain, params.trend)
    )
    slope = model.trend.surface(trend, pixels.shape)[rows, cols]
    z = np.asarray(frame.values, float)[seen]
    residual, label = np.zeros(pixels.shape), np.full(pixels.shape, -1)
    residual[rows, cols] = (z - means[k] - gain[k] * slope) / sds[k]
    label[rows, cols] = np.where(sure, k, -1)
    return residual, label
