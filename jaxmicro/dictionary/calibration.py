"""Calibration of slices and training images: pixel sizes, and the blur between the instruments."""

from __future__ import annotations

import contextlib

import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.forward import Instruments
from jaxmicro.dictionary.matching import SpectralBlur, spectral_blur
from jaxmicro.dictionary.noise import Noise
from jaxmicro.errors import DataError, UsageError


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
    assert instruments.psf_fwhm_nm is not None  # a blur is given by it
    seen.refuse_blurred_training(instruments.psf_fwhm_nm)
    return given, seen.doubt(given)
