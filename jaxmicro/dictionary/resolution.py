"""How fine the detail is: Fourier ring correlation, edge width, agreement with a reference."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.dictionary.forward import gaussian

EDGES = 200  # the strongest ones, whose widths are measured
PROFILE_NM = 150.0  # to either side of an edge


def ring_correlation(
    one: Float[np.ndarray, "y x"], other: Float[np.ndarray, "y x"]
) -> tuple[np.ndarray, np.ndarray]:
    """(frequency in cycles per pixel, correlation) of two images of one scene, ring by ring."""
    taper = np.hanning(one.shape[0])[:, None] * np.hanning(one.shape[1])[None, :]
    a, b = (np.fft.fft2((i - i.mean()) * taper) for i in (one.astype(float), other.astype(float)))
    frequency = np.hypot(
        np.fft.fftfreq(one.shape[0])[:, None], np.fft.fftfreq(one.shape[1])[None, :]
    )
    n_rings = max(4, min(one.shape) // 4)
    ring = np.minimum((frequency * 2 * n_rings).astype(int), n_rings).ravel()

    def rings(values):
        return np.bincount(ring, values.ravel(), n_rings + 1)[:n_rings]

    cross = rings((a * np.conj(b)).real)
    scale = np.sqrt(rings(np.abs(a) ** 2) * rings(np.abs(b) ** 2))
    curve = cross / np.where(scale > 0, scale, 1.0)
    return (np.arange(n_rings) + 0.5) / (2 * n_rings), curve


def resolution(
    frequency: np.ndarray, curve: np.ndarray, pixel_size_nm: float, threshold: float
) -> float:
    """Length in nm of the period where the smoothed curve falls below `threshold` for good.

    NaN where it starts below; the Nyquist period where it never falls below.
    """
    padded = np.pad(curve, 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    below = np.flatnonzero(smooth < threshold)
    if not len(below):
        return pixel_size_nm / frequency[-1]
    at = below[0]
    if at == 0:
        return math.nan
    share = (smooth[at - 1] - threshold) / (smooth[at - 1] - smooth[at])
    return pixel_size_nm / float(frequency[at - 1] + share * (frequency[at] - frequency[at - 1]))


def edge_width(
    image: Float[np.ndarray, "y x"],
    pixel_size_nm: float,
    mask: Bool[np.ndarray, "y x"] | None = None,
) -> float:
    """Median 10 to 90 % width in nm of the strongest edges, from averaged profiles across them.

    NaN where the image has no edge with a profile of PROFILE_NM to either side.
    """
    reach = max(3, math.ceil(PROFILE_NM / pixel_size_nm))
    margin = reach + 3
    if min(image.shape) <= 2 * margin + 2:
        return math.nan
    smooth = gaussian(np.where(np.isfinite(image), image, np.nanmean(image)), (1.5, 1.5))
    gy, gx = np.gradient(smooth)
    strength = np.hypot(gy, gx)
    strength[:margin], strength[-margin:] = 0, 0
    strength[:, :margin], strength[:, -margin:] = 0, 0
    if mask is not None:
        strength[gaussian((~mask).astype(np.float32), (reach / 2, reach / 2)) > 1e-3] = 0
    offsets = np.arange(-reach, reach + 0.25, 0.5)
    widths: list[float] = []
    taken = np.zeros(image.shape, bool)
    for place in np.argsort(-strength, axis=None)[: 60 * EDGES]:
        y, x = divmod(int(place), image.shape[1])
        if strength[y, x] <= 0 or len(widths) >= EDGES:
            break
        if taken[y, x]:
            continue
        taken[y - reach : y + reach + 1, x - reach : x + reach + 1] = True
        ny, nx = gy[y, x] / strength[y, x], gx[y, x] / strength[y, x]
        along = np.arange(-2, 3)[:, None]
        profile = _bilinear(
            image, y + offsets * ny - along * nx, x + offsets * nx + along * ny
        ).mean(axis=0)
        width = _ten_ninety(offsets, profile)
        if width is not None:
            widths.append(width * pixel_size_nm)
    return float(np.median(widths)) if len(widths) >= 5 else math.nan


def _bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = np.clip(y, 0, image.shape[0] - 1.001)
    x = np.clip(x, 0, image.shape[1] - 1.001)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = y - y0, x - x0
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    return top * (1 - fy) + (image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx) * fy


def _ten_ninety(offsets: np.ndarray, profile: np.ndarray) -> float | None:
    """Width of the rise through the centre, between its own two shoulders."""
    centre = len(profile) // 2
    low = high = centre
    while low > 0 and profile[low - 1] < profile[low]:
        low -= 1
    while high < len(profile) - 1 and profile[high + 1] > profile[high]:
        high += 1
    rise = profile[high] - profile[low]
    if high - low < 2 or not rise > 0:
        return None
    part, at = profile[low : high + 1], offsets[low : high + 1]
    ends = np.interp([profile[low] + 0.1 * rise, profile[low] + 0.9 * rise], part, at)
    return float(ends[1] - ends[0])


def psnr(image: np.ndarray, reference: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = float(np.mean((image.astype(float) - reference.astype(float)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(image: np.ndarray, reference: np.ndarray, data_range: float) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 1.5 pixels, mean over the image.

    The 5 pixels along the border, which the window leaves, do not count.
    """
    a, b = image.astype(np.float64), reference.astype(np.float64)

    def blur(values):
        return _windowed(values)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(similarity[5:-5, 5:-5].mean())


def _windowed(values: np.ndarray) -> np.ndarray:
    """Gaussian window of 1.5 pixels cut at 5, mirrored borders."""
    offsets = np.arange(-5, 6)
    kernel = np.exp(-0.5 * (offsets / 1.5) ** 2)
    kernel /= kernel.sum()
    wide = np.pad(values, 5, mode="symmetric")
    rows = sum(w * wide[i : i + values.shape[0]] for i, w in enumerate(kernel))
    return sum(w * rows[:, i : i + values.shape[1]] for i, w in enumerate(kernel))
