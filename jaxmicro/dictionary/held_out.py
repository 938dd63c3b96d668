"""Which result of a slice is nearest to its truth, found without the truth: by noise held out.

A sample e of the slice's noise splits the slice y in two: y + a e and y - e / a have independent
noise (Oliveira, Lei and Tibshirani 2022, "Unbiased risk estimation in the normal means problem via
coupled bootstrap techniques"). What the first is enhanced to, sent through the forward model, is
compared with the second: its mean squared error is that to the slice's own truth plus a constant
that all results share. Detail that the instrument does not transmit at all is not judged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.enhance import Dictionary, enhance
from jaxmicro.dictionary.evidence import central_field
from jaxmicro.dictionary.noise import Noise

SPLIT = 0.7  # a: noise of 1.2 and 1.7 times the slice's
CROP = 128  # pixels a side of the field that is looked at
BLOCK = 16  # pixels a side of blocks whose errors count as independent
BORDER = 4  # pixels along the border of the field that do not count


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A slice split in two of independent noise, and the field of it that is judged.

    Attributes:
      whole: the slice as it may be seen, for a dictionary of its own: one learned from the slice
        would know the noise that is held out.
      seen: the field of it, which is enhanced.
      unseen: what a result is compared with, in grey values.
      mask: usable pixels (y, x).
      noise_sd: of the slice itself.
    """

    whole: Image
    seen: Image
    unseen: Float[np.ndarray, "y x"]
    mask: Bool[np.ndarray, "y x"]
    noise_sd: float

    def errors(self, dictionary: Dictionary, *, seed: int) -> Float[np.ndarray, " b"]:
        """Mean squared error in each block of the field, in noise variances, less a constant.

        The constant is that of the noise held out. Blocks with unusable pixels are left out.
        """
        found = enhance(self.seen, dictionary, mask=self.mask, stride=2, seed=seed).values
        filled = np.where(np.isfinite(found), found, np.nanmean(found)).astype(np.float32)
        error = (dictionary.forward().mirrored(filled) - self.unseen) / self.noise_sd
        height, width = error.shape
        error = np.where(self.mask[:height, :width], error, np.nan)[BORDER:-BORDER, BORDER:-BORDER]
        rows, cols = (n // BLOCK * BLOCK for n in error.shape)
        blocks = error[:rows, :cols].reshape(rows // BLOCK, BLOCK, cols // BLOCK, BLOCK)
        squares = np.mean(blocks**2, axis=(1, 3)).ravel()
        return squares[np.isfinite(squares)] - (1 + SPLIT**-2)


def split(slice_: Image, mask: Bool[np.ndarray, "y x"], noise: Noise, *, seed: int) -> HeldOut:
    """The slice split in two, and its field of at most CROP pixels a side with most contrast.

    `noise` is the slice's, in its grey values.
    """
    field = central_field(np.where(mask, slice_.values, 0.0), mask, CROP)
    extra = noise.sample(np.random.default_rng([seed, 13]), slice_.values.shape)
    values = (slice_.values + SPLIT * extra).astype(np.float32)
    whole = dataclasses.replace(slice_, values=np.where(mask, values, slice_.values))
    seen = dataclasses.replace(slice_, values=values[field])
    unseen = (slice_.values - extra / SPLIT)[field]
    return HeldOut(whole, seen, unseen, mask[field], noise.sd)


def better_by(one: Float[np.ndarray, " b"], other: Float[np.ndarray, " b"]) -> tuple[float, float]:
    """(by how much `one` has the smaller mean, its standard error) of errors of the same blocks."""
    gain = other - one
    if len(gain) < 2:
        return 0.0, math.inf
    return float(gain.mean()), float(gain.std(ddof=1) / math.sqrt(len(gain)))


def settled_passes(
    dictionary: Dictionary, held: HeldOut, *, seed: int
) -> tuple[Dictionary, tuple[Float[np.ndarray, " b"], ...]]:
    """The dictionary with the fewest passes within one standard error of the best (Breiman et al.
    1984), and the errors after one pass, two, ..."""
    parts = [
        dataclasses.replace(dictionary, stages=dictionary.stages[: n + 1])
        for n in range(len(dictionary.stages))
    ]
    errors = tuple(held.errors(part, seed=seed) for part in parts)
    return parts[fewest(errors)], errors


def fewest(errors: Sequence[Float[np.ndarray, " b"]]) -> int:
    """Index of the first of the errors that is within one standard error of the best."""
    best = min(errors, key=lambda e: float(e.mean()))
    for number, error in enumerate(errors):
        lost, doubt = better_by(best, error)
        if lost <= doubt:
            return number
    raise AssertionError("the best is as good as the best")
