"""The default command's recipe: what the instruments allow, where no model file says otherwise."""

from __future__ import annotations

import numpy as np

from jaxmicro.app.enhance.spec import DictionaryTable, EnhanceVariant
from jaxmicro.data.movie import Image
from jaxmicro.dictionary.calibration import pixel_size

PIXELS_A_BLUR = 4  # of the result at most: finer ones would hold no detail that can be found
MOST_UPSCALE = 4


def default_variant(
    train: tuple[Image, ...], slice_: Image, psf_fwhm_nm: float | None
) -> EnhanceVariant:
    """Three passes on the grid that the training images and the resolution allow."""
    upscale = _upscale(train, slice_, psf_fwhm_nm)
    table = DictionaryTable(refine=12, refinements=2, upscale=upscale)
    return EnhanceVariant(description="The default: settings from the data", dictionary=table)


def _upscale(train: tuple[Image, ...], slice_: Image, psf_fwhm_nm: float | None) -> int:
    own = pixel_size(slice_, "--apply-pixel-size")
    finest = min(pixel_size(image, "--train-pixel-size") for image in train)
    if psf_fwhm_nm is not None:
        finest = max(finest, psf_fwhm_nm / PIXELS_A_BLUR)
    return int(np.clip(round(own / finest), 1, MOST_UPSCALE))
