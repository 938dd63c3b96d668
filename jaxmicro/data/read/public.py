"""The records that the rest of jaxmicro works with, made from a Stack."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.movie import Box, Image, Movie
from jaxmicro.data.read.source import Source, files_of, open_source
from jaxmicro.data.read.stack import Stack
from jaxmicro.errors import DataError, UsageError

SAME_SIZE = 0.005  # relative difference of pixel sizes within which files agree

PixelSize = float | int | tuple[float | int, float | int] | None


@dataclasses.dataclass(frozen=True)
class Volume:
    """A stack of slices (z, y, x), read one at a time: it may be larger than memory.

    `slices` has `shape`, `dtype` and `[z]`; `pixel_size_nm` is (y, x) and `spacing_nm` the distance
    of neighbouring slices, each None where the file does not say. `first_slice` is the number of
    the first one in the file.
    """

    slices: Any
    pixel_size_nm: tuple[float, float] | None = None
    spacing_nm: float | None = None
    name: str = "volume"
    source: str = ""
    saturation: float | None = None
    axes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    first_slice: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.slices.shape
        return int(z), int(y), int(x)

    def __len__(self) -> int:
        return self.shape[0]

    def slice(self, z: int) -> Image:
        """Slice `z` as an Image with the volume's calibration."""
        return Image(
            np.asarray(self.slices[z]),
            self.pixel_size_nm,
            f"{self.name} slice {self.first_slice + z}",
            self.source,
            self.saturation,
            self.warnings,
        )

    def __iter__(self) -> Iterator[Image]:
        return (self.slice(z) for z in range(len(self)))

    def narrow(self, frames: tuple[int, int] | None = None, crop: Box | None = None) -> Volume:
        """Slices start:stop and a part of each; UsageError if they leave the volume."""
        part = Movie(self.slices, name=self.name)
        part = part if frames is None else part.select_frames(*frames)
        part = part if crop is None else part.crop(crop)
        first = self.first_slice + (0 if frames is None else frames[0])
        return dataclasses.replace(self, slices=part.images, first_slice=first)

    def load(self) -> Image:
        """The whole volume in memory as a 3-D Image, its pixel size (z, y, x)."""
        size = None
        if self.pixel_size_nm is not None and self.spacing_nm is not None:
            size = (self.spacing_nm, *self.pixel_size_nm)
        return Image(
            np.asarray(self.slices), size, self.name, self.source, self.saturation, self.warnings
        )


def read_movie(
    source: Source, *, pixel_size_nm: PixelSize = None, frame_interval_s: float | int | None = None
) -> Movie:
    """The movie in a file, a folder or a glob of images; frames are read when asked for.

    One image is a movie of one frame, and a warning of the movie says so.

    Args:
      source: path, folder, glob or `FILE::PATH`.
      pixel_size_nm: pitch in nanometres, one number or (y, x), in place of the file's.
      frame_interval_s: seconds from frame to frame, in place of the file's times.

    Raises:
      DataError: the source is missing, damaged or not an image.
      UsageError: a pixel size or an interval that is not a positive number.
    """
    if not isinstance(source, str | Path):
        raise UsageError("read_movie takes a path; an array in memory is Movie(array)")
    stack = open_source(source)
    given = (("--pixel-size", pixel_size_nm), ("--frame-interval", frame_interval_s))
    settled = [option for option, value in given if value is not None]
    told = [w for w in stack.warnings if not any(option in w for option in settled)]
    alone = () if stack.n_frames > 1 else ("one image: taken as a movie of one frame",)
    interval = frame_interval_s
    if interval is not None:
        interval = _positive(interval, "frame interval", "s")
    return Movie(
        stack.frames,
        pixel_size_nm=_size(pixel_size_nm) or stack.pixel_size_nm,
        times_s=stack.times_s if interval is None else None,
        saturation=stack.saturation,
        name=_name(source),
        source=str(source),
        axes=tuple(a.text() for a in stack.axes),
        warnings=(*alone, *told),
        frame_interval_s=interval,
    )


def read_image(source: Source, *, pixel_size_nm: PixelSize = None) -> Image:
    """The one image (y, x) of a source; DataError if it is unreadable or has more frames."""
    stack = open_source(source)
    if stack.n_frames != 1:
        raise DataError(
            f"{source}: {stack.n_frames} frames where one image is needed; "
            "save one frame, or use it as a movie or a volume"
        )
    return Image(
        np.asarray(stack.frames[0]),
        _size(pixel_size_nm) or stack.pixel_size_nm,
        _name(source),
        str(source),
        stack.saturation,
        stack.warnings,
    )


def read_volume(
    source: Source, *, pixel_size_nm: PixelSize = None, spacing_nm: float | int | None = None
) -> Volume:
    """The slices of a source, read when asked for; a single image is a volume of one slice.

    Raises DataError if the source is unreadable or its files give different pixel sizes (and
    `pixel_size_nm` does not say which holds), UsageError for a size that is not positive.
    """
    stack = open_source(source)
    if pixel_size_nm is None and stack.pixel_size_nm is not None:
        _refuse_mixed_sizes(source, stack.pixel_size_nm)
    spacing = stack.spacing_nm
    if spacing_nm is not None:
        spacing = _positive(spacing_nm, "slice spacing", "nm")
    return Volume(
        stack.frames,
        _size(pixel_size_nm) or stack.pixel_size_nm,
        spacing,
        _name(source),
        str(source),
        stack.saturation,
        tuple(a.text() for a in stack.axes),
        stack.warnings,
    )


def _refuse_mixed_sizes(source: Source, first: tuple[float, float]) -> None:
    """DataError where a file of a folder or glob gives another pixel size than the first one."""
    paths = files_of(source)
    for path in paths[1:]:
        found = open_source(path).pixel_size_nm
        if found is not None and not np.allclose(found, first, rtol=SAME_SIZE):
            raise DataError(
                f"{path}: has pixels of {found[0]:g} nm, but {paths[0].name} has {first[0]:g} nm; "
                "give slices of one calibration, or the pixel size that holds for all of them"
            )


def read_mask(
    path: Source, shape: tuple[int, int, int], what: str = "mask of visited pixels"
) -> np.ndarray:
    """Which pixels an image marks: bool (y, x), or (t, y, x) for one mask a frame.

    Anything readable as an image or a stack of them will do; every value but 0 and NaN is a mark.
    `shape` is the movie's (t, y, x), `what` what to call the mask. DataError if the mask's shape
    does not fit the movie, or nothing is marked.
    """
    stack = open_source(path)
    n, height, width = (int(s) for s in stack.frames.shape)
    if (height, width) != tuple(shape[1:]) or n not in (1, shape[0]):
        raise DataError(
            f"{path}: the {what} has shape {_shape_text(stack)}, but the movie needs "
            f"{tuple(shape[1:])} (y, x) or {tuple(shape)} (time, y, x)"
        )
    mask = np.empty((n, height, width), bool)
    for t in range(n):
        frame = np.asarray(stack.frames[t])
        mask[t] = (frame != 0) & ~np.isnan(frame)
    if not mask.any():
        raise DataError(f"{path}: the {what} is empty, all its values are 0")
    return mask[0] if n == 1 else mask


def _shape_text(stack: Stack) -> tuple[int, ...]:
    shape = tuple(int(s) for s in stack.frames.shape)
    return shape if shape[0] > 1 else shape[1:]


def _name(source: Source) -> str:
    path, _, inside = str(source).partition("::")
    stem = Path(path).name if any(c in path for c in "*?[") else Path(path).stem
    return f"{stem}:{inside.strip('/')}" if inside else stem


def _size(pixel_size_nm: PixelSize) -> tuple[float, float] | None:
    if pixel_size_nm is None:
        return None
    pair = pixel_size_nm if isinstance(pixel_size_nm, tuple) else (pixel_size_nm, pixel_size_nm)
    y, x = (_positive(v, "pixel size", "nm") for v in pair)
    return y, x


def _positive(value: float | int, what: str, unit: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"the {what} {value} {unit} is not a positive number; give e.g. 1.5 {unit}"
        )
    return float(value)
