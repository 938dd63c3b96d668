"""How a TXM slice arises from what STEM would show: blur, decimation, correlated noise.

On a periodic domain all of it is diagonal, or nearly so, in Fourier space: blur multiplies,
decimation folds the aliases onto one coarse frequency. Slices are mirrored at their borders first.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.errors import UsageError

FWHM_PER_SD = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclasses.dataclass(frozen=True)
class Forward:
    """Gaussian blur of `sd` fine pixels, then the mean over `decimation` x `decimation` pixels."""

    sd: float
    decimation: int = 1

    def transfer(self, shape: tuple[int, int]) -> np.ndarray:
        """(y, x) complex transfer function on the fine grid, the pixel average included."""
        axes = []
        for n in shape:
            f = np.fft.fftfreq(n)
            blur = np.exp(-2 * (math.pi * self.sd * f) ** 2)
            offsets = np.arange(self.decimation)
            box = np.exp(2j * math.pi * f[:, None] * offsets).mean(axis=1)
            axes.append(blur * box)
        return axes[0][:, None] * axes[1][None, :]

    def apply(self, fine: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "y x"]:
        """The slice that a fine image would give, without noise; periodic."""
        blurred = np.fft.ifft2(np.fft.fft2(fine) * self.transfer(fine.shape)).real
        return blurred[:: self.decimation, :: self.decimation].astype(fine.dtype)

    def mirrored(self, fine: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "y x"]:
        """`apply` with mirrored instead of periodic borders; odd remainders are cut off."""
        n = self.decimation
        height, width = (length // n * n for length in fine.shape)
        pad = n * (math.ceil(4 * self.sd / n) + 1)
        pad = min(pad, (min(height, width) - 1) // n * n)
        wide = np.pad(fine[:height, :width], pad, mode="reflect")
        margin = pad // n
        return self.apply(wide)[margin : margin + height // n, margin : margin + width // n]


def blur_between(psf_fwhm_nm: float, train_fwhm_nm: float) -> float:
    """FWHM in nm of the blur that takes the training images to the slices' resolution.

    Raises:
      UsageError: the slices are sharper than the training images.
    """
    if not psf_fwhm_nm > train_fwhm_nm >= 0:
        raise UsageError(
            f"--psf-fwhm {psf_fwhm_nm:g} nm must be above --train-fwhm {train_fwhm_nm:g} nm: "
            "the training images have to be sharper than the slices"
        )
    return math.sqrt(psf_fwhm_nm**2 - train_fwhm_nm**2)


@dataclasses.dataclass(frozen=True)
class Instruments:
    """What is known of the two instruments.

    Attributes:
      psf_fwhm_nm, train_fwhm_nm: resolution of the slices and of the training images; without the
        first, the blur between them is read from their spectra.
      invert: the training images' contrast is the reverse of the slices'.

    Raises:
      UsageError: the second resolution without the first.
    """

    psf_fwhm_nm: float | None = None
    train_fwhm_nm: float | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        if self.psf_fwhm_nm is None and self.train_fwhm_nm is not None:
            raise UsageError(
                f"--train-fwhm {self.train_fwhm_nm:g} nm needs --psf-fwhm beside it; give both "
                "or neither (the blur is then read from the spectra)"
            )

    def blur_nm(self, finest_nm: float) -> float | None:
        """FWHM of the blur between the instruments, if known; see `blur_between`.

        Training images of unknown resolution are as sharp as `finest_nm`, the result's pixel.
        """
        if self.psf_fwhm_nm is None:
            return None
        own = finest_nm if self.train_fwhm_nm is None else self.train_fwhm_nm
        return blur_between(self.psf_fwhm_nm, own)


NOT_KNOWN = Instruments()


def gaussian(image: Float[np.ndarray, "y x"], sd: tuple[float, float]) -> np.ndarray:
    """Gaussian blur with mirrored borders; `sd` in pixels along y and x."""
    pad = [min(math.ceil(4 * s) + 1, n - 1) for s, n in zip(sd, image.shape, strict=True)]
    wide = np.pad(image, [(p, p) for p in pad], mode="reflect")
    fy, fx = (np.fft.fftfreq(n) for n in wide.shape)
    ty, tx = (np.exp(-2 * (math.pi * s * f) ** 2) for s, f in zip(sd, (fy, fx), strict=True))
    out = np.fft.ifft2(np.fft.fft2(wide) * (ty[:, None] * tx[None, :])).real
    return out[pad[0] : pad[0] + image.shape[0], pad[1] : pad[1] + image.shape[1]].astype(
        image.dtype
    )


def fill(image: Float[np.ndarray, "y x"], mask: Bool[np.ndarray, "y x"]) -> np.ndarray:
    """Unusable pixels set to a smooth continuation of the usable ones (normalised blurs)."""
    if mask.all():
        return image
    out = np.where(mask, image, 0).astype(image.dtype)
    known = mask.astype(image.dtype)
    todo = ~mask
    for sd in (1.5, 4.0, 12.0, 40.0):
        weight = gaussian(known, (sd, sd))
        value = gaussian(np.where(mask, image, 0).astype(image.dtype), (sd, sd))
        here = todo & (weight > 0.05)
        out[here] = value[here] / weight[here]
        todo &= ~here
    out[todo] = image[mask].mean()
    return out
