"""From training images and a slice to an enhanced slice: the two instruments brought together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.coupled import Recipe, teach
from jaxmicro.dictionary.forward import FWHM_PER_SD, Forward, blur_between
from jaxmicro.dictionary.learn import Learned
from jaxmicro.dictionary.matching import estimate_blur, grey_range, resample
from jaxmicro.dictionary.noise import CUTOFF, Noise, cutoff_of, estimate_noise
from jaxmicro.dictionary.stage import Stage, Tally, run_stage
from jaxmicro.errors import DataError, UsageError

SAME_PIXEL = 0.02  # relative difference of pixel sizes that still counts as the same


@dataclasses.dataclass(frozen=True)
class Dictionary:
    """A taught dictionary with the calibration that it holds for.

    Attributes:
      stages: what is run, in order.
      variant: "coupled" or "paper".
      pixel_size_nm: of the slices it is for.
      blur_fwhm_nm: blur between the instruments (0 for the paper's recipe).
      noise: that of the slice it was taught for, in units of the slice's grey range.
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
      spread: standard deviation of the overlapping estimates of each pixel.
      residual: slice minus forward model of the result, on the slice's grid.
      noise: estimated from this slice, in its grey values.
      tallies: what the codes of each stage were like.
      notes: sentences for the user.
    """

    values: Float[np.ndarray, "Y X"]
    spread: Float[np.ndarray, "Y X"]
    residual: Float[np.ndarray, "y x"]
    noise: Noise
    tallies: tuple[Tally, ...]
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


def build_dictionary(
    train: list[Image],
    slice_: Image,
    recipe: Recipe,
    *,
    psf_fwhm_nm: float | None = None,
    train_fwhm_nm: float | None = None,
    invert: bool = False,
    train_masks: list[np.ndarray | None] | None = None,
    slice_mask: np.ndarray | None = None,
    seed: int,
    start: Learned | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Dictionary, Learned, tuple[str, ...]]:
    """Teach a dictionary from `train` for slices like `slice_`; no registration between them.

    Args:
      train, slice_: calibrated images in any grey units.
      psf_fwhm_nm, train_fwhm_nm: resolution of the slices and of the training images; without
        the first, the blur between them is read from their spectra (coupled only).
      invert: the training images' contrast is the reverse of the slices'.
      seed: of everything that is drawn.
      start: a learning state to resume from.

    Raises:
      UsageError: missing or contradictory sizes. DataError: images that cannot be used.
    """
    notes = []
    coarse = pixel_size(slice_, "--apply-pixel-size")
    fine = coarse / recipe.upscale
    good = usable_pixels(slice_, slice_mask)
    low, high = grey_range(slice_.values, good)
    scaled = ((np.where(good, slice_.values, low) - low) / (high - low)).astype(np.float32)
    cutoff = CUTOFF if psf_fwhm_nm is None else cutoff_of(psf_fwhm_nm / FWHM_PER_SD / coarse)
    noise = estimate_noise(scaled, good, cutoff=cutoff, seed=seed)

    images, masks = [], []
    for number, image in enumerate(train):
        mask = usable_pixels(image, None if train_masks is None else train_masks[number])
        own = pixel_size(image, "--train-pixel-size")
        if own > coarse * 1.001:
            notes.append(
                f"{image.name}: its pixels of {own:g} nm are coarser than the slice's of "
                f"{coarse:g} nm; it can teach less than the slice shows"
            )
        t_low, t_high = grey_range(image.values, mask)
        values = (np.where(mask, image.values, t_low) - t_low) / (t_high - t_low)
        values = (1.0 - values if invert else values).astype(np.float32)
        values = resample(values, (own, own), (fine, fine))
        kept = resample(mask.astype(np.float32), (own, own), (fine, fine)) > 0.999
        images.append(np.where(kept, values, np.nan).astype(np.float32))
        masks.append(None if kept.all() else kept)

    blur_nm = 0.0
    if recipe.variant == "coupled":
        if psf_fwhm_nm is not None:
            blur_nm = blur_between(psf_fwhm_nm, fine if train_fwhm_nm is None else train_fwhm_nm)
        else:
            if train_fwhm_nm is not None:
                raise UsageError(
                    f"--train-fwhm {train_fwhm_nm:g} nm needs --psf-fwhm beside it; give both "
                    "or neither (the blur is then read from the spectra)"
                )
            first = np.where(np.isfinite(images[0]), images[0], np.nanmean(images[0]))
            blur_nm = estimate_blur(scaled, coarse, first, fine, noise)
            notes.append(
                f"blur between the instruments read from the spectra: {blur_nm:.3g} nm (FWHM); "
                "give --psf-fwhm and --train-fwhm if you know them"
            )
    taught = teach(
        images, masks, recipe, noise, blur_nm / FWHM_PER_SD / fine,
        seed=seed, start=start, progress=progress,
    )  # fmt: skip
    dictionary = Dictionary(
        taught.stages,
        recipe.variant,
        coarse,
        blur_nm,
        noise,
        cutoff,
        taught.choices,
        taught.learned.trace,
        taught.learned.usage,
    )
    return dictionary, taught.learned, tuple(notes)


def enhance(
    slice_: Image,
    dictionary: Dictionary,
    *,
    mask: np.ndarray | None = None,
    stride: int = 1,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Enhanced:
    """Run a dictionary over one slice.

    Raises:
      UsageError: the slice's pixel size is not the dictionary's.
      DataError: a slice that is constant, smaller than a patch or without usable pixels; or one
        of which every code is zero (the penalty is too large): a grey image would say nothing.
    """
    own = pixel_size(slice_, "--apply-pixel-size")
    if abs(own - dictionary.pixel_size_nm) > SAME_PIXEL * own:
        raise UsageError(
            f"{slice_.name}: pixels of {own:g} nm, but the dictionary is for "
            f"{dictionary.pixel_size_nm:g} nm; learn one for this pixel size"
        )
    good = usable_pixels(slice_, mask)
    low, high = grey_range(slice_.values, good)
    scale = high - low
    scaled = ((np.where(good, slice_.values, low) - low) / scale).astype(np.float32)
    notes: list[str] = []
    noise = _noise_of(scaled, good, dictionary, seed, notes)
    passes = len(dictionary.stages)
    values, allowed = scaled, good
    spread = np.zeros(scaled.shape, np.float32)
    tallies = []
    for number, stage in enumerate(dictionary.stages):
        values, spread, tally = run_stage(
            stage, values, allowed, stride=min(stride, stage.size),
            plain_average=dictionary.variant == "paper", progress=progress,
        )  # fmt: skip
        tallies.append(tally)
        allowed = np.isfinite(values)
        if tally.nonzeros == 0:
            raise DataError(
                f"{slice_.name}: every code is zero in pass {number + 1} of {passes}, the penalty "
                f"of {stage.penalty:g} is too large for this slice; lower --penalty or use auto"
            )
    forward = dictionary.forward()
    filled = np.where(allowed, values, np.mean(values[allowed])).astype(np.float32)
    seen = forward.mirrored(filled)
    reach = math.ceil(2.5 * forward.sd / forward.decimation)
    trusted = good & _eroded(good, reach)
    residual = np.where(trusted, scaled - seen, np.nan) * scale
    share = tallies[0].unfinished / max(1, tallies[0].patches)
    if share > 0:
        notes.append(f"{100 * share:.2g} % of the patches missed the coding tolerance")
    own_noise = dataclasses.replace(noise, sd=noise.sd * scale)
    return Enhanced(
        values * scale + low, spread * scale, residual, own_noise, tuple(tallies), tuple(notes)
    )


def _noise_of(scaled, good, dictionary, seed, notes) -> Noise:
    """The slice's own noise, with a note where the dictionary was taught for another one."""
    try:
        noise = estimate_noise(scaled, good, cutoff=dictionary.noise_cutoff, seed=seed)
    except DataError as err:
        notes.append(f"noise taken from the dictionary: {err}")
        return dictionary.noise
    if not 0.75 < noise.sd / dictionary.noise.sd < 1.33:
        notes.append(
            f"this slice's noise is {noise.sd / dictionary.noise.sd:.2g} times that which the "
            "dictionary was taught for; learn one for it"
        )
    return noise


def _eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with nothing unusable within `reach` along y or x."""
    out = mask.copy()
    for axis in (0, 1):
        for shift in range(1, reach + 1):
            for sign in (1, -1):
                moved = np.roll(mask, sign * shift, axis)
                edge = [slice(None)] * 2
                edge[axis] = slice(0, shift) if sign > 0 else slice(-shift, None)
                moved[tuple(edge)] = True  # outside the image nothing is unusable
                out &= moved
    return out
