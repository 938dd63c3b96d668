"""From training images and a slice to an enhanced slice: the two instruments brought together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.calibration import (
    matched_contrast,
    pixel_size,
    seen_blur,
    settled_blur,
    too_coarse,
)
from jaxmicro.dictionary.coupled import Recipe, learn_stages
from jaxmicro.dictionary.forward import FWHM_PER_SD, NOT_KNOWN, Forward, Instruments
from jaxmicro.dictionary.learn import LearningState
from jaxmicro.dictionary.matching import grey_range, resample
from jaxmicro.dictionary.noise import CUTOFF, Noise, cutoff_of, estimate_noise
from jaxmicro.dictionary.stage import FURTHER_STRIDE, CodeStatistics, Stage, run_stage
from jaxmicro.errors import DataError, UsageError

SAME_PIXEL = 0.02  # relative difference of pixel sizes that still counts as the same


@dataclasses.dataclass(frozen=True)
class Dictionary:
    """A learned dictionary with the calibration that it holds for.

    Attributes:
      stages: what is run, in order.
      variant: "coupled" or "paper".
      pixel_size_nm: of the slices it is for.
      blur_fwhm_nm: blur between the instruments (0 for the paper's recipe).
      noise: that of the slice it was learned for, in units of the slice's grey range.
      noise_cutoff: frequency (cycles per pixel) above which a slice's spectrum is read as noise.
      choices: (penalty, rms error on simulated pairs) that led to the penalty.
      trace: held-out objective while learning; rows (minibatch, seconds, objective).
      usage: share of training patches that used each atom of the first stage.
    """

    stages: tuple[Stage, ...]
    variant: str
    pixel_size_nm: float
    blur_fwhm_nm: float
    noise: Noise
    noise_cutoff: float
    choices: tuple[tuple[float, float], ...]
    trace: Float[np.ndarray, "t 3"]
    usage: Float[np.ndarray, " k"]

    @property
    def upscale(self) -> int:
        return int(np.prod([s.upscale for s in self.stages]))

    @property
    def patch_size(self) -> int:
        return self.stages[0].size

    @property
    def result_pixel_nm(self) -> float:
        return self.pixel_size_nm / self.upscale

    def forward(self) -> Forward:
        """What turns a result into a slice, noise apart."""
        return Forward(self.blur_fwhm_nm / FWHM_PER_SD / self.result_pixel_nm, self.upscale)


@dataclasses.dataclass(frozen=True)
class Enhanced:
    """One slice, enhanced, in its own grey values; NaN outside the usable pixels.

    Attributes:
      values: on the finer grid where `upscale` is above 1.
      uncertainty: standard deviation of the overlapping estimates of each pixel.
      residual: slice minus forward model of the result, on the slice's grid.
      noise: estimated from this slice, in its grey values.
      code_statistics: what the codes of each stage were like.
      notes: sentences for the user.
    """

    values: Float[np.ndarray, "Y X"]
    uncertainty: Float[np.ndarray, "Y X"]
    residual: Float[np.ndarray, "y x"]
    noise: Noise
    code_statistics: tuple[CodeStatistics, ...]
    notes: tuple[str, ...]


def usable_pixels(image: Image, mask: Bool[np.ndarray, "y x"] | None = None) -> np.ndarray:
    """Finite pixels of the mask; a constant rim (outside the circular field) is left out too."""
    good = np.isfinite(image.values)
    if mask is not None:
        if mask.shape != image.values.shape:
            raise DataError(
                f"{image.name}: the mask has shape {mask.shape}, the image {image.values.shape}"
            )
        good = good & mask
    return good & ~constant_rim(image.values)


def constant_rim(values: np.ndarray) -> np.ndarray:
    """Pixels outside a circular reconstruction: all four corners hold one and the same grey.

    They are the pixels of that grey that a wide run along a row or column joins to a border.
    """
    corners = values[[0, 0, -1, -1], [0, -1, 0, -1]]
    if not np.all(corners == corners[0]):
        return np.zeros(values.shape, bool)
    same = values == corners[0]
    # from each border inwards, until the first other grey
    rows = np.logical_and.accumulate(same, axis=1)
    rows |= np.logical_and.accumulate(same[:, ::-1], axis=1)[:, ::-1]
    cols = np.logical_and.accumulate(same, axis=0)
    cols |= np.logical_and.accumulate(same[::-1], axis=0)[::-1]
    rim = rows | cols
    # a constant image is no rim: it is refused as what it is
    return rim if rim.mean() > 0.01 and not rim.all() else np.zeros(values.shape, bool)


def build_dictionary(
    train: list[Image],
    slice_: Image,
    recipe: Recipe,
    *,
    instruments: Instruments = NOT_KNOWN,
    slice_mask: Bool[np.ndarray, "y x"] | None = None,
    seed: int,
    start: LearningState | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Dictionary, LearningState, tuple[str, ...]]:
    """Learn a dictionary from `train` for slices like `slice_`; no registration between them.

    Args:
      train, slice_: calibrated images in any grey units, NaN where unusable.
      recipe: what is learned, and how.
      instruments: their resolutions and contrast, as far as they are known.
      slice_mask: usable pixels of the slice.
      seed: of everything that is drawn.
      start: a learning state to resume from.
      progress: called with (minibatches done, minibatches in all).

    Returns:
      The dictionary, the state of its learning, and sentences for the user.

    Raises:
      UsageError: no pixel size, or slices sharper than the training images.
      DataError: images that cannot be used.
    """
    coarse = pixel_size(slice_, "--apply-pixel-size")
    fine = coarse / recipe.upscale
    scaled, good, _ = _scaled(slice_, slice_mask)
    psf_nm = instruments.psf_fwhm_nm
    cutoff = CUTOFF if psf_nm is None else cutoff_of(psf_nm / FWHM_PER_SD / coarse)
    noise = estimate_noise(scaled, good, cutoff=cutoff, seed=seed)
    images = [_training_image(image, fine, instruments.invert) for image in train]
    notes = [too_coarse(image, coarse) for image in train]
    blur_nm = 0.0
    if recipe.variant == "coupled":
        seen = seen_blur(scaled, coarse, images, fine, noise)
        blur_nm, doubt = settled_blur(seen, instruments, fine)
        notes.append(doubt)
        forward = Forward(blur_nm / FWHM_PER_SD / fine, recipe.upscale)
        images = matched_contrast(scaled, good, images, forward, noise)
    found = learn_stages(
        images, recipe, noise, blur_nm / FWHM_PER_SD / fine,
        seed=seed, start=start, progress=progress,
    )  # fmt: skip
    dictionary = Dictionary(
        found.stages,
        recipe.variant,
        coarse,
        blur_nm,
        noise,
        cutoff,
        found.choices,
        found.state.trace,
        found.state.usage,
    )
    return dictionary, found.state, tuple(note for note in notes if note)


def _scaled(
    image: Image, mask: Bool[np.ndarray, "y x"] | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """(grey values, 0 to 1 over their range; usable pixels; the ends of the range)."""
    good = usable_pixels(image, mask)
    low, high = grey_range(image.values, good)
    values = (np.where(good, image.values, low) - low) / (high - low)
    return values.astype(np.float32), good, (low, high)


def _training_image(image: Image, pixel_nm: float, invert: bool) -> Float[np.ndarray, "Y X"]:
    """The image at another pixel size, its grey values scaled; NaN where unusable."""
    values, good, _ = _scaled(image, None)
    own = pixel_size(image, "--train-pixel-size")
    if invert:
        values = 1 - values
    values = resample(values, (own, own), (pixel_nm, pixel_nm))
    kept = resample(good.astype(np.float32), (own, own), (pixel_nm, pixel_nm)) > 0.999
    return np.where(kept, values, np.nan).astype(np.float32)


def enhance(
    slice_: Image,
    dictionary: Dictionary,
    *,
    mask: np.ndarray | None = None,
    stride: int = 1,
    seed: int,
) -> Enhanced:
    """Run a dictionary over one slice.

    Raises:
      UsageError: the slice's pixel size is not the dictionary's.
      DataError: a slice that is constant, smaller than a patch or without usable pixels; or one
        of which every code is zero (the penalty is too large).
    """
    own = pixel_size(slice_, "--apply-pixel-size")
    if abs(own - dictionary.pixel_size_nm) > SAME_PIXEL * own:
        raise UsageError(
            f"{slice_.name}: pixels of {own:g} nm, but the dictionary is for "
            f"{dictionary.pixel_size_nm:g} nm; learn one for this pixel size"
        )
    scaled, good, (low, high) = _scaled(slice_, mask)
    scale = high - low
    noise, notes = _noise_of(scaled, good, dictionary, seed)
    values, allowed = scaled, good
    uncertainty = np.zeros(scaled.shape, np.float32)
    found: list[CodeStatistics] = []
    for stage in dictionary.stages:
        step = max(stride, FURTHER_STRIDE) if found else stride
        values, uncertainty, statistics = run_stage(
            stage, values, allowed, stride=min(step, stage.size),
            plain_average=dictionary.variant == "paper",
        )  # fmt: skip
        found.append(statistics)
        allowed = np.isfinite(values)
        if statistics.nonzeros == 0:
            raise DataError(
                f"{slice_.name}: every code is zero in pass {len(found)} of "
                f"{len(dictionary.stages)}, the penalty of {stage.penalty:g} is too large for this "
                "slice; lower --penalty or use auto"
            )
    share = found[0].unfinished / max(1, found[0].patches)
    if share > 0:
        notes.append(f"{100 * share:.2g} % of the patches missed the coding tolerance")
    return Enhanced(
        values * scale + low,
        uncertainty * scale,
        _residual(scaled, good, values, dictionary.forward()) * scale,
        dataclasses.replace(noise, sd=noise.sd * scale),
        tuple(found),
        tuple(notes),
    )


def _residual(scaled, good, values, forward: Forward) -> Float[np.ndarray, "y x"]:
    """Slice minus forward model of the result; NaN where unusable pixels are within its reach."""
    allowed = np.isfinite(values)
    filled = np.where(allowed, values, np.mean(values[allowed])).astype(np.float32)
    distance = math.ceil(2.5 * forward.sd / forward.decimation)
    return np.where(_eroded(good, distance), scaled - forward.mirrored(filled), np.nan)


def _noise_of(scaled, good, dictionary: Dictionary, seed: int) -> tuple[Noise, list[str]]:
    """The slice's own noise, with a note where the dictionary was learned for another one."""
    try:
        noise = estimate_noise(scaled, good, cutoff=dictionary.noise_cutoff, seed=seed)
    except DataError as err:
        return dictionary.noise, [f"noise taken from the dictionary: {err}"]
    ratio = noise.sd / dictionary.noise.sd
    if 0.75 < ratio < 1.33:
        return noise, []
    return noise, [
        f"this slice's noise is {ratio:.2g} times that which the dictionary was learned for; "
        "learn one for it"
    ]


def _eroded(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels with nothing unusable within `distance` along y or x."""
    out = mask.copy()
    for axis in (0, 1):
        for shift in range(1, distance + 1):
            for sign in (1, -1):
                moved = np.roll(mask, sign * shift, axis)
                edge = [slice(None)] * 2
                edge[axis] = slice(0, shift) if sign > 0 else slice(-shift, None)
                moved[tuple(edge)] = True  # outside the image nothing is unusable
                out &= moved
    return out
