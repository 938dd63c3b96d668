"""Calibration of slices and training images: pixel sizes, and the blur between the instruments."""

from __future__ import annotations

import contextlib

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.forward import Forward, Instruments
from jaxmicro.dictionary.matching import SpectralBlur, Texture, spectral_blur, texture
from jaxmicro.dictionary.noise import Noise
from jaxmicro.errors import DataError, UsageError

MOST_GAIN = 2.0  # of the training images' contrast, either way


def pixel_size(image: Image, option: str) -> float:
    """The one pixel size of a square-pixelled image, in nm.

    Raises:
      UsageError: it is missing (asked for by the option's name) or differs along y and x.
    """
    size = image.pixel_size_nm
    if size is None:
        raise UsageError(
            f'{image.name}: the file gives no pixel size; add {option}, for example "26.9 nm"'
        )
    y, x = size[-2:]
    if abs(y - x) > 0.005 * max(y, x):
        raise UsageError(
            f"{image.name}: pixels of {y:g} x {x:g} nm are not square; resample the image, "
            f"or give one size with {option}"
        )
    return float(y)


def too_coarse(image: Image, slice_pixel_nm: float) -> str:
    """A note on a training image with larger pixels than the slice; empty for others."""
    own = pixel_size(image, "--train-pixel-size")
    if own <= slice_pixel_nm * 1.001:
        return ""
    return (
        f"{image.name}: its pixels of {own:g} nm are coarser than the slice's of "
        f"{slice_pixel_nm:g} nm; it holds less detail than the slice shows"
    )


def seen_blur(
    slice_: Float[np.ndarray, "y x"],
    slice_pixel_nm: float,
    images: list[Float[np.ndarray, "Y X"]],
    pixel_nm: float,
    noise: Noise,
) -> SpectralBlur | None:
    """By the spectra, the median over the training images; None where they do not show it."""
    found = []
    for image in images:
        filled = np.where(np.isfinite(image), image, np.nanmean(image))
        with contextlib.suppress(DataError):  # too few frequencies above the noise
            found.append(spectral_blur(slice_, slice_pixel_nm, filled, pixel_nm, noise))
    found.sort(key=lambda blur: blur.square_nm2)
    return found[(len(found) - 1) // 2] if found else None


def settled_blur(
    seen: SpectralBlur | None, instruments: Instruments, fine: float
) -> tuple[float, str]:
    """(FWHM in nm of the blur between the instruments, a note on it).

    Raises:
      DataError: it is neither given nor seen, or the training images are the more blurred.
    """
    given = instruments.blur_nm(fine)
    if given is None:
        if seen is None:
            raise DataError(
                "the blur between the instruments cannot be read from their spectra; "
                "give --psf-fwhm and --train-fwhm"
            )
        blur = seen.fwhm_nm
        return blur, (
            f"blur between the instruments read from the spectra: {blur:.3g} nm (FWHM); "
            "give --psf-fwhm and --train-fwhm if you know them"
        )
    if seen is None:
        return given, ""
    seen.refuse_blurred_training()
    return given, seen.doubt(given)


def matched_contrast(
    slice_: Float[np.ndarray, "y x"],
    mask: Bool[np.ndarray, "y x"],
    images: list[Float[np.ndarray, "Y X"]],
    forward: Forward,
    noise: Noise,
) -> list[Float[np.ndarray, "Y X"]]:
    """The training images with one gain and offset, so that structure has the slice's contrast.

    Compared are the most structured parts of the slice and of what its instrument would make of
    the images. They stay as they are where either has no structure above the noise.
    """
    seen = texture(slice_, mask, noise)
    found = [_texture_through(image, forward, noise) for image in images]
    known = [t for t in found if t is not None]
    if seen is None or not known:
        return images
    contrast, grey = (float(np.mean([getattr(t, n) for t in known])) for n in ("contrast", "grey"))
    gain = float(np.clip(seen.contrast / contrast, 1 / MOST_GAIN, MOST_GAIN))
    return [(gain * (i - grey) + seen.grey).astype(np.float32) for i in images]


def _texture_through(image: np.ndarray, forward: Forward, noise: Noise) -> Texture | None:
    good = np.isfinite(image)
    coarse = forward.mirrored(np.where(good, image, np.mean(image[good])).astype(np.float32))
    kept = forward.mirrored(good.astype(np.float32)) > 0.99
    dirt = noise.sample(np.random.default_rng(1), coarse.shape)
    return texture(coarse + dirt, kept, noise) if kept.any() else None
