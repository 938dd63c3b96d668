"""The images of an enhance run: read, checked to be grey, brought to the grid of the result."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume, read_image, read_volume
from jaxmicro.errors import DataError, UsageError


def open_volumes(sources: Sequence[str], pixel_size_nm: float | None) -> tuple[Volume, ...]:
    """The volumes to enhance; only their headers are read.

    Raises:
      UsageError: two whose results would have the same name.
    """
    volumes = tuple(read_volume(s, pixel_size_nm=pixel_size_nm) for s in sources)
    names = [safe_name(volume.name) for volume in volumes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--apply names {names.count(name)} sources called {name}, whose results would "
                "have one name; rename one, or give them to runs of their own"
            )
    return volumes


def safe_name(name: str) -> str:
    """A file name from a slice's name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in pathlib.Path(name).name)


def open_training(sources: Sequence[str], pixel_size_nm: float | None) -> tuple[Image, ...]:
    """The training images, as float32."""
    return tuple(as_grey(read_image(s, pixel_size_nm=pixel_size_nm)) for s in sources)


def open_references(sources: Sequence[str], n_slices: int) -> tuple[Image, ...]:
    """The references of the slices, in their order.

    Raises:
      UsageError: as many references as slices, or none, are needed.
    """
    images = tuple(read_image(source) for source in sources)
    if images and len(images) != n_slices:
        raise UsageError(
            f"--reference is given {len(images)} times for {n_slices} slices; "
            "give one per slice, in the same order"
        )
    return images


def slices_of(volume: Volume) -> Iterator[Image]:
    """The slices one after the other, as float32; one at a time is in memory."""
    return (as_grey(image) for image in volume)


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
