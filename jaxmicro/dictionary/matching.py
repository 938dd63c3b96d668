"""Two instruments on one scale: pixel size, contrast, and the blur between them."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.dictionary.forward import FWHM_PER_SD, gaussian
from jaxmicro.dictionary.noise import Noise
from jaxmicro.errors import DataError

PERCENTILES = (5.0, 95.0)
TEXTURE_SD = 3.0  # pixels of the slice, of the window of local variances
STRUCTURED = 0.9  # quantile of local variances that counts as structured
FAINT = 0.2  # of the noise's local variance: fainter structure is not measured
LOG_POWER = (2 * math.pi / FWHM_PER_SD) ** 2  # log power falls by this x (FWHM x frequency)^2
# Bounds between right and wrong settings, on 29 right scenes (60 nm; 96 and 160 pixels; noise .05
# to .15). Log power that training images lack beside the slice: right ones at most .65, those
# blurred to 100 nm .8 to 2.4 at noise .05. Blur: right ones at most 1.0 of that given, pixels wrong
# by two 1.3 or more. Fall-off missing of that foretold: right ones at most 1.0, pixels wrong by
# half to 3.
MORE_BLURRED, TOO_BLURRED, MISSING = 1.0, 1.25, 1.3


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


@dataclasses.dataclass(frozen=True)
class SpectralBlur:
    """The blur between training images and a slice, as their spectra show it.

    Attributes:
      square_nm2: FWHM squared; negative where the training images are the more blurred.
      se_nm2: its standard error from the scatter about the line, the material's own apart.
      reach: square of the highest frequency (cycles per nm) where the slice is above its noise.
    """

    square_nm2: float
    se_nm2: float
    reach: float

    @property
    def fwhm_nm(self) -> float:
        """DataError where there is no sign of any blur."""
        if not self.square_nm2 > 0:
            raise DataError(
                "the slice looks no less sharp than the training images; "
                "give --psf-fwhm and --train-fwhm, or sharper training images"
            )
        return math.sqrt(self.square_nm2)

    def refuse_blurred_training(self) -> None:
        """DataError where the training images are the more blurred, beyond doubt."""
        if -LOG_POWER * (self.square_nm2 + 2 * self.se_nm2) * self.reach > MORE_BLURRED:
            raise DataError(
                "the training images are more blurred than the slices: their spectra fall off as "
                f"if blurred by {math.sqrt(-self.square_nm2):.2g} nm (FWHM) more; give sharper "
                "training images, or correct --train-pixel-size or --apply-pixel-size"
            )

    def doubt(self, given_nm: float) -> str:
        """A sentence where the spectra contradict a blur that was given; empty where not."""
        low, high = (self.square_nm2 + sign * 2 * self.se_nm2 for sign in (-1, 1))
        # what is missing of the fall-off that the given blur foretells, as a log of power
        missing = LOG_POWER * (given_nm**2 - high) * self.reach
        if low <= (TOO_BLURRED * given_nm) ** 2 and missing <= MISSING:
            return ""
        seen = f"about {math.sqrt(self.square_nm2):.2g} nm" if self.square_nm2 > 0 else "none"
        return (
            f"the spectra disagree with the resolutions given: blur between the instruments "
            f"{given_nm:.3g} nm by --psf-fwhm and --train-fwhm, {seen} by the spectra; a pixel "
            "size that is wrong by a factor looks like this, and so does another material: check "
            "--apply-pixel-size and --train-pixel-size"
        )


def spectral_blur(
    slice_: Float[np.ndarray, "y x"],
    slice_pixel_nm: float,
    train: Float[np.ndarray, "Y X"],
    train_pixel_nm: float,
    noise: Noise,
) -> SpectralBlur:
    """The Gaussian that turns the training spectrum into that of the slice.

    log P_slice - log P_train falls as -(2 pi sd f)^2 where the materials are statistically alike;
    a line is fitted where the slice's spectrum, noise taken off, is well above the noise.

    Raises:
      DataError: no usable band of frequencies.
    """
    frequency, power = spectrum(slice_)
    floor = rings(noise.power(slice_.shape), len(frequency))
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
    weight, ratio = np.sqrt(frequency[band]), np.log(signal[band] / reference[band])
    square = physical[band] ** 2
    square = square - np.average(square, weights=weight)
    scale = np.sum(weight * square**2)
    slope = np.sum(weight * square * ratio) / scale
    left = ratio - np.average(ratio, weights=weight) - slope * square
    error = math.sqrt(np.sum((weight * square * left) ** 2)) / scale
    reach = float(physical[band].max() ** 2)
    return SpectralBlur(-slope / LOG_POWER, error / LOG_POWER, reach)


def rings(power: Float[np.ndarray, "y x"], n_rings: int) -> np.ndarray:
    """Mean of a power spectrum in the rings of `spectrum`."""
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in power.shape), indexing="ij"))
    ring = np.minimum((radius * 2 * n_rings).astype(int), n_rings).ravel()
    total = np.bincount(ring, power.ravel(), n_rings + 1)[:n_rings]
    return total / np.maximum(np.bincount(ring, minlength=n_rings + 1)[:n_rings], 1)


@dataclasses.dataclass(frozen=True)
class Texture:
    """Grey value and contrast of the most structured tenth of an image.

    The ends of the grey range depend on how much of the field is void; these hardly do.
    """

    grey: float
    contrast: float


def texture(
    image: Float[np.ndarray, "y x"], mask: Bool[np.ndarray, "y x"], noise: Noise
) -> Texture | None:
    """Of an image with `noise`, whose local variance is taken off; None where nothing is left."""
    filled = np.where(mask, image, np.mean(image[mask])).astype(np.float32)
    inside = (gaussian(mask.astype(np.float32), (TEXTURE_SD, TEXTURE_SD)) > 0.99) & mask
    if not inside.any():
        return None
    local = _local_variance(filled)
    dirt = _local_variance(noise.sample(np.random.default_rng(0), (256, 256))).mean()
    least = np.quantile(local[inside], STRUCTURED)
    variance = float(least - dirt)
    if not variance > FAINT * dirt:
        return None
    return Texture(float(filled[inside & (local >= least)].mean()), math.sqrt(variance))


def _local_variance(image: np.ndarray) -> np.ndarray:
    sd = (TEXTURE_SD, TEXTURE_SD)
    return gaussian((image - gaussian(image, sd)) ** 2, sd)
