"""Two instruments on one scale: pixel size, contrast, and the blur between them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.dictionary.forward import FWHM_PER_SD
from jaxmicro.dictionary.noise import Noise
from jaxmicro.errors import DataError

PERCENTILES = (5.0, 95.0)


def resample(
    image: Float[np.ndarray, "y x"], from_nm: tuple[float, float], to_nm: tuple[float, float]
) -> Float[np.ndarray, "Y X"]:
    """The image at another pixel size, anti-aliased where that is coarser (cubic kernel).

    Raises:
      DataError: the result would have no pixel.
    """
    scale = np.asarray(from_nm, float) / np.asarray(to_nm, float)
    if np.allclose(scale, 1.0, rtol=1e-6):
        return image
    shape = tuple(int(n * s + 1e-6) for n, s in zip(image.shape, scale, strict=True))
    if min(shape) < 1:
        raise DataError(
            f"an image of {image.shape} pixels of {from_nm[0]:g} nm has no pixel of {to_nm[0]:g} nm"
        )
    out = jax.image.scale_and_translate(
        jnp.asarray(image),
        shape,
        (0, 1),
        jnp.asarray(scale, image.dtype),
        jnp.zeros(2, image.dtype),
        method="cubic",
        antialias=True,
    )
    return np.asarray(out)


def grey_range(
    image: Float[np.ndarray, "y x"], mask: Bool[np.ndarray, "y x"] | None = None
) -> tuple[float, float]:
    """The 5th and 95th percentile of the usable pixels.

    Raises:
      DataError: they are equal: a constant image has nothing to learn from or to enhance.
    """
    values = image[np.isfinite(image) if mask is None else np.isfinite(image) & mask]
    if not values.size:
        raise DataError("the image has no usable pixel: all are masked or not finite")
    low, high = (float(p) for p in np.percentile(values, PERCENTILES))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        raise DataError(f"the image is constant ({low:g} everywhere); give one with structure")
    return low, high


def spectrum(image: Float[np.ndarray, "y x"]) -> tuple[np.ndarray, np.ndarray]:
    """(frequency in cycles per pixel, mean power) in rings, of the tapered image."""
    taper = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None, :]
    values = (image - image.mean()) * taper
    power = np.abs(np.fft.fft2(values)) ** 2 / (taper**2).sum()
    frequency = np.hypot(
        np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    )
    n_rings = min(image.shape) // 2
    ring = np.minimum((frequency * 2 * n_rings).astype(int), n_rings)
    total = np.bincount(ring.ravel(), power.ravel(), n_rings + 1)[:n_rings]
    count = np.bincount(ring.ravel(), minlength=n_rings + 1)[:n_rings]
    return (np.arange(n_rings) + 0.5) / (2 * n_rings), total / np.maximum(count, 1)


def estimate_blur(
    slice_: Float[np.ndarray, "y x"],
    slice_pixel_nm: float,
    train: Float[np.ndarray, "Y X"],
    train_pixel_nm: float,
    noise: Noise,
) -> float:
    """FWHM in nm of the Gaussian that turns the training spectrum into that of the slice.

    log P_slice - log P_train falls as -(2 pi sd f)^2 where the materials are statistically alike;
    a line is fitted where the slice's spectrum, noise taken off, is well above the noise.

    Raises:
      DataError: no usable band of frequencies, or no sign of any blur.
    """
    frequency, power = spectrum(slice_)
    noise_map = noise.power(slice_.shape)
    radius = np.hypot(
        np.fft.fftfreq(slice_.shape[0])[:, None], np.fft.fftfreq(slice_.shape[1])[None, :]
    )
    ring = np.minimum((radius * 2 * len(frequency)).astype(int), len(frequency))
    floor = np.bincount(ring.ravel(), noise_map.ravel(), len(frequency) + 1)[:-1]
    floor /= np.maximum(np.bincount(ring.ravel(), minlength=len(frequency) + 1)[:-1], 1)
    signal = power - floor
    train_frequency, train_power = spectrum(train)
    physical = frequency / slice_pixel_nm
    reference = np.exp(
        np.interp(physical, train_frequency / train_pixel_nm, np.log(train_power + 1e-30))
    )
    # the lowest frequencies are layout, not sharpness
    band = (
        (signal > 2 * floor)
        & (frequency > 0.03)
        & (physical < train_frequency[-1] / train_pixel_nm)
    )
    if band.sum() < 5:
        raise DataError(
            "the blur between the instruments cannot be read from their spectra; "
            "give --psf-fwhm and --train-fwhm"
        )
    weight = np.sqrt(frequency[band])
    square = physical[band] ** 2
    ratio = np.log(signal[band] / reference[band])
    square = square - np.average(square, weights=weight)
    slope = np.sum(weight * square * ratio) / np.sum(weight * square**2)
    if not slope < 0:
        raise DataError(
            "the slice looks no less sharp than the training images; "
            "give --psf-fwhm and --train-fwhm, or sharper training images"
        )
    return FWHM_PER_SD * math.sqrt(-slope) / (2 * math.pi)
