"""The noise of a slice: its strength and its spectrum, without taking it to be white.

Reconstructions of tomograms have correlated noise, so the common estimates from the finest wavelet
scale are wrong there. Here the windows of least energy give the spectrum, and a simulation with
that spectrum undoes the bias of their choice.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.errors import DataError

WINDOW = 24  # pixels a side; long enough for the correlations of a reconstruction filter
FLAT = (0.02, 0.12)  # quantiles of window energy taken as flat; the very lowest may be clipped
MIN_WINDOWS = 8
CUTOFF = 0.25  # where a blur of two pixels (FWHM) transmits a quarter of the power


def cutoff_of(blur_sd: float) -> float:
    """Frequency (cycles per pixel) where a Gaussian blur of `blur_sd` pixels leaves a fifth."""
    return float(np.clip(np.sqrt(-np.log(0.2)) / (2 * np.pi * max(blur_sd, 1e-3)), 0.1, 0.4))


@dataclasses.dataclass(frozen=True)
class Noise:
    """Noise of one slice.

    Attributes:
      sd: standard deviation in the slice's grey values.
      correlation: (WINDOW, WINDOW) autocorrelation by lag, 1 at lag 0 (FFT order).
      n_windows: windows it was read from.
    """

    sd: float
    correlation: Float[np.ndarray, "w w"]
    n_windows: int = 0

    @property
    def neighbour_correlation(self) -> float:
        """Mean correlation of neighbouring pixels: 0 for white noise."""
        return float((self.correlation[0, 1] + self.correlation[1, 0]) / 2)

    def power(self, shape: tuple[int, int]) -> Float[np.ndarray, "y x"]:
        """Spectrum at the frequencies of an image of `shape`; its mean is the variance."""
        w = self.correlation.shape[0]
        lag = np.minimum(np.arange(w), w - np.arange(w))
        # a triangular taper keeps the spectrum of a truncated correlation non-negative
        taper = np.maximum(0.0, 1.0 - lag / (w / 2))
        kernel = self.correlation * taper[:, None] * taper[None, :]
        wide = np.zeros(shape)
        rows = np.where(np.arange(w) <= w // 2, np.arange(w), np.arange(w) - w)
        np.add.at(wide, (rows[:, None] % shape[0], rows[None, :] % shape[1]), kernel)
        power = np.maximum(np.fft.fft2(wide).real, 1e-4)
        return self.sd**2 * power / power.mean()

    def covariance(self, size: int) -> Float[np.ndarray, "m m"]:
        """Covariance of the pixels of a size x size patch."""
        w = max(2 * size, self.correlation.shape[0])
        table = np.fft.ifft2(self.power((w, w))).real
        index = np.arange(size)
        lag = (index[:, None] - index[None, :]) % w
        return table[lag[:, None, :, None], lag[None, :, None, :]].reshape(size**2, size**2)

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Gaussian noise of this strength and spectrum, float32."""
        white = np.fft.fft2(rng.standard_normal(shape))
        return np.fft.ifft2(white * np.sqrt(self.power(shape))).real.astype(np.float32)


def white(sd: float) -> Noise:
    correlation = np.zeros((WINDOW, WINDOW))
    correlation[0, 0] = 1.0
    return Noise(sd, correlation)


def estimate_noise(
    image: Float[np.ndarray, "y x"],
    mask: Bool[np.ndarray, "y x"] | None = None,
    *,
    cutoff: float = CUTOFF,
    seed: int,
) -> Noise:
    """Noise from the windows of least energy of a slice.

    Even these hold structure, at the frequencies that the instrument transmits. So below
    `cutoff` (cycles per pixel) the noise spectrum is kept at or below its value at `cutoff`:
    true of white noise and of a reconstruction filter, which suppresses low frequencies. Noise
    that varies over the slice is read where the slice is flat.

    Raises:
      DataError: too few usable windows, or windows without any variation.
    """
    good = np.isfinite(image) if mask is None else np.isfinite(image) & mask
    windows = _windows(np.where(good, image, 0.0), good)
    if len(windows) < MIN_WINDOWS:
        raise DataError(
            f"only {len(windows)} windows of {WINDOW} x {WINDOW} usable pixels; the noise needs "
            f"{MIN_WINDOWS}: give --penalty a value, a larger slice or a smaller mask"
        )
    sd, correlation, count = _flattest(windows)
    if not sd > 0:
        raise DataError("the slice has no noise in its flat parts; give --penalty a value")
    first = Noise(sd, correlation, count)
    # the same choice in pure noise of this spectrum tells how much it understates the noise
    shape = tuple(max(4 * WINDOW, min(n, 384)) for n in image.shape)
    rng = np.random.default_rng(seed)
    probe = first.sample(rng, shape)
    found, found_correlation, _ = _flattest(_windows(probe, np.ones(shape, bool)))
    spectrum = np.fft.fft2(sd**2 * correlation).real
    expected = np.fft.fft2(first.sd**2 * first.correlation).real
    seen = np.fft.fft2(found**2 * found_correlation).real
    factor = np.clip(np.maximum(expected, 1e-12) / np.maximum(seen, 1e-12), 0.5, 4.0)
    power = np.maximum(spectrum, 0) * _smooth(factor)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(WINDOW)] * 2, indexing="ij"))
    ring = np.abs(frequency - cutoff) < 1.5 / WINDOW
    power = np.where(frequency < cutoff, np.minimum(power, power[ring].mean()), power)
    corrected = np.fft.ifft2(power).real
    variance = corrected[0, 0]
    return Noise(float(np.sqrt(variance)), corrected / variance, count)


def _smooth(values: np.ndarray) -> np.ndarray:
    total = np.zeros_like(values)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            total += np.roll(values, (dy, dx), (0, 1))
    return total / 9


def _windows(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(n, WINDOW, WINDOW) windows that are usable throughout, planes removed."""
    step = WINDOW // 2
    if min(image.shape) < WINDOW:
        return np.zeros((0, WINDOW, WINDOW))
    cut = np.lib.stride_tricks.sliding_window_view(image, (WINDOW, WINDOW))[::step, ::step]
    ok = np.lib.stride_tricks.sliding_window_view(good, (WINDOW, WINDOW))[::step, ::step]
    out = cut[ok.all(axis=(2, 3))].astype(np.float64)
    ramp = np.arange(WINDOW) - (WINDOW - 1) / 2
    norm = (ramp**2).sum() * WINDOW
    out = out - out.mean(axis=(1, 2), keepdims=True)
    for grid in (ramp[:, None] + 0 * ramp, ramp[None, :] + 0 * ramp[:, None]):
        slope = np.einsum("nij,ij->n", out, grid) / norm
        out = out - slope[:, None, None] * grid
    return out


def _flattest(windows: np.ndarray) -> tuple[float, np.ndarray, int]:
    """(sd, correlation, number of windows) from those of least energy."""
    energy = (windows**2).mean(axis=(1, 2))
    order = np.argsort(energy)
    low = int(FLAT[0] * len(order))
    high = max(low + MIN_WINDOWS, int(FLAT[1] * len(order)))
    chosen = windows[order[low:high]]
    taper = np.hanning(WINDOW + 2)[1:-1]
    taper = taper[:, None] * taper[None, :]
    power = (np.abs(np.fft.fft2(chosen * taper)) ** 2).mean(axis=0) / (taper**2).sum()
    power = (power + np.roll(power[::-1, ::-1], 1, axis=(0, 1))) / 2
    table = np.fft.ifft2(power).real
    if not table[0, 0] > 0:
        return 0.0, table, len(chosen)
    return float(np.sqrt(table[0, 0])), table / table[0, 0], len(chosen)
