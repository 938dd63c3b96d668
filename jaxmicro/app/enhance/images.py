"""The images of an enhance run: read, checked to be grey, brought to the grid of the result."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxmicro.app.options import frame_range
from jaxmicro.data.movie import Box, Image
from jaxmicro.data.read import Volume, read_image, read_roi, read_volume
from jaxmicro.dictionary.depth import FEWEST, WEIGHTS, averaged, best_weight
from jaxmicro.dictionary.enhance import SAME_PIXEL
from jaxmicro.dictionary.noise import estimate_noise
from jaxmicro.errors import DataError, UsageError


def open_volumes(sources: Sequence[str], pixel_size_nm: float | None) -> tuple[Volume, ...]:
    """The volumes to enhance; only their headers are read.

    Raises:
      UsageError: two whose results would have the same name.
      DataError: volumes, or files of one, that give different pixel sizes.
    """
    volumes = tuple(read_volume(s, pixel_size_nm=pixel_size_nm) for s in sources)
    names = [safe_name(volume.name) for volume in volumes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--apply names {names.count(name)} sources called {name}, whose results would "
                "have one name; rename one, or give them to runs of their own"
            )
    sizes = [v.pixel_size_nm for v in volumes]
    for volume, size in zip(volumes, sizes, strict=True):
        if size and sizes[0] and not np.allclose(size, sizes[0], rtol=SAME_PIXEL):
            raise DataError(
                f"{volume.name}: pixels of {size[0]:g} nm, but {volumes[0].name} has "
                f"{sizes[0][0]:g} nm; one dictionary is for one pixel size, so give them to runs "
                "of their own, or say with --apply-pixel-size what holds for all"
            )
    return volumes


def narrow(volumes: Sequence[Volume], frames: str | None, crop: Box | None) -> tuple[Volume, ...]:
    """The same slices and the same part of each of the volumes, by the texts of the options."""
    return tuple(
        v.narrow(None if frames is None else frame_range(frames, len(v)), crop) for v in volumes
    )


def open_roi(path: str, volumes: Sequence[Volume], crop: Box | None) -> np.ndarray:
    """The region of interest (y, x) bool, of the part that is cropped, for every slice.

    Args:
      volumes: as they were read, whose slices have one size.

    Raises:
      DataError, UsageError: see `read_roi`; volumes of several sizes; a region for each slice.
    """
    sizes = {v.shape[1:] for v in volumes}
    if len(sizes) > 1:
        raise UsageError(f"--roi {path} is one region, but the slices have the sizes {sizes}")
    region = read_roi(path, volumes[0].shape)
    if region.ndim == 3:
        raise UsageError(f"--roi {path} holds {len(region)} images; give one region for all slices")
    part = region if crop is None else region[crop[0] : crop[1], crop[2] : crop[3]]
    if not part.any():
        raise UsageError(f"--roi {path}: nothing of the region is left inside --crop")
    return part


def safe_name(name: str) -> str:
    """A file name from a slice's name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in pathlib.Path(name).name)


def open_training(sources: Sequence[str], pixel_size_nm: float | None) -> tuple[Image, ...]:
    """The training images, as float32."""
    return tuple(as_grey(read_image(s, pixel_size_nm=pixel_size_nm)) for s in sources)


def open_references(
    sources: Sequence[str],
    n_slices: int,
    crop: Box | None = None,
    shape: tuple[int, int] | None = None,
) -> tuple[Image, ...]:
    """The references of the slices, in their order; of the part that is cropped from `shape`.

    Raises:
      UsageError: as many references as slices, or none, are needed; a crop of references whose
        size is no multiple of the slice's.
    """
    images = tuple(read_image(source) for source in sources)
    if crop is not None and shape is not None:
        images = tuple(_cropped(image, crop, shape) for image in images)
    if images and len(images) != n_slices:
        raise UsageError(
            f"--reference is given {len(images)} times for {n_slices} slices; "
            "give one per slice, in the same order"
        )
    return images


def _cropped(image: Image, crop: Box, shape: tuple[int, int]) -> Image:
    height, width = image.values.shape
    n = height // shape[0]
    if (height, width) != (n * shape[0], n * shape[1]):
        raise UsageError(
            f"--crop {crop[0]}:{crop[1]},{crop[2]}:{crop[3]} cannot be found in the reference "
            f"{image.name} of {height} x {width} pixels, which is no whole multiple of the "
            f"slice's {shape[0]} x {shape[1]}; crop both in another program, or leave out one"
        )
    y0, y1, x0, x1 = (n * edge for edge in crop)
    return dataclasses.replace(image, values=image.values[y0:y1, x0:x1])


def slices_of(volume: Volume, depth: float = 0.0) -> Iterator[Image]:
    """The slices one after the other, as float32, neighbours counting with weight `depth`.

    One at a time is in memory, or three where neighbours count.
    """
    return averaged((as_grey(image) for image in volume), depth)


def example_of(volume: Volume, depth: float = 0.0) -> Image:
    """What to learn for and to find settings on: the first slice, or the second where neighbours
    count, which has two of them."""
    number = 1 if depth and len(volume) > 2 else 0
    return next(itertools.islice(slices_of(volume, depth), number, None))


def depth_weight(text: str | None, volume: Volume, automatic: bool) -> tuple[float, str]:
    """(weight of neighbouring slices, a note) by the text of --depth: auto, or a number.

    Without the option it is auto for the default command and 0 for a model file or dictionary.

    Raises:
      UsageError: a text that is neither.
    """
    if text is None:
        text = "auto" if automatic else "0"
    if text.strip().lower() != "auto":
        return _weight(text), ""
    if len(volume) < FEWEST:
        return 0.0, ""
    middle = min(max(len(volume) // 2, 2), len(volume) - 1)
    around = [grey(volume.slice(z)) for z in range(middle - 2, min(middle + 3, len(volume)))]
    filled = [np.where(np.isfinite(s), s, np.nanmean(s)) for s in around]
    try:
        noise = estimate_noise(filled[len(filled) // 2], seed=0)
    except DataError as err:
        return 0.0, f"neighbouring slices are not used: {err}"
    weight, errors = best_weight(filled, noise)
    if not weight:
        return 0.0, ""
    gain = 100 * (1 - errors[WEIGHTS.index(weight)] / errors[0])
    return weight, (
        f"each slice is averaged with its neighbours, which count with {weight:g} (--depth); by "
        f"their spectra the error of a linear estimate falls by {gain:.0f} %"
    )


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise UsageError(f"--depth {text!r} is not allowed; give auto or a number from 0 to 1")
    return value


def as_grey(image: Image) -> Image:
    """The image with its values as (y, x) float32."""
    return dataclasses.replace(image, values=grey(image))


def grey(image: Image) -> np.ndarray:
    """(y, x) float32; a colour image is refused, not averaged without a word."""
    if image.values.ndim != 2:
        raise DataError(
            f"{image.name}: shape {image.values.shape} is not a grey image (y, x); convert it"
        )
    return image.values.astype(np.float32)


def on_grid(image: Image, shape: tuple[int, ...]) -> np.ndarray:
    """Grey values on the grid of the result, which covers the same field.

    Raises:
      DataError: it covers another field.
    """
    values = grey(image)
    if values.shape == shape:
        return values
    ratios = [a / b for a, b in zip(shape, values.shape, strict=True)]
    if abs(ratios[0] - ratios[1]) > 0.02 * ratios[0]:
        raise DataError(
            f"{image.name}: {values.shape} pixels do not cover the same field as the result's "
            f"{shape}; give a reference of the slice's own field of view"
        )
    filled = np.where(np.isfinite(values), values, np.nanmean(values))
    return np.asarray(jax.image.resize(filled, shape, "cubic"))
