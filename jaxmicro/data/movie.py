"""The `Movie` and `Image` records: pixels with their calibration, before any statistics.

Both are plain NumPy (not pytrees): a movie may be larger than memory, so `images` can be any
object with `shape`, `dtype` and frame indexing, and frames are read one at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxmicro.errors import DataError, UsageError

Box = tuple[int, int, int, int]  # y0, y1, x0, x1


@dataclasses.dataclass(frozen=True)
class Image:
    """One image (y, x), or a volume (z, y, x), with its calibration.

    `pixel_size_nm` is (y, x), or (z, y, x) for a volume, or None where the file does not say.
    """

    values: np.ndarray
    pixel_size_nm: tuple[float, ...] | None = None
    name: str = "image"
    source: str = ""
    saturation: float | None = None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Movie:
    """A movie and what is known about it.

    Attributes:
      images: (t, y, x) grey values, an array or a lazy stand-in indexed by frame.
      valid: (y, x) bool, False for pixels that must not be used at all (burnt-in text).
      sampled: (y, x) or (t, y, x) bool for a movie that is sub-sampled already; None if full.
      missing: grey value that marks a pixel as not visited; NaN pixels never count as visited.
      pixel_size_nm: (y, x) pixel pitch in nanometres, or None.
      times_s: (t,) start time of each frame in seconds, or None.
      saturation: grey value at and above which the detector saturates, or None.
      source_frames: (t,) number of each frame in the movie that was read, or None: 0, 1, 2, ...
      offset_px: (row, column) of the first pixel in the frame that was read: where a crop began.
      whole: the movie that these frames were picked from, or None where they are all.
      axes: what the file said about each axis, as text, for `jaxmicro info`.
      warnings: sentences for the user that arose while reading.
    """

    images: Any
    valid: np.ndarray | None = None
    sampled: np.ndarray | None = None
    missing: float | None = None
    pixel_size_nm: tuple[float, float] | None = None
    times_s: np.ndarray | None = None
    saturation: float | None = None
    source_frames: np.ndarray | None = None
    offset_px: tuple[int, int] = (0, 0)
    whole: Movie | None = None
    name: str = "movie"
    source: str = ""
    axes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.images.shape) != 3:
            raise DataError(
                f"{self.name}: a movie needs three axes (time, y, x), this one has shape "
                f"{tuple(self.images.shape)}"
            )
        for field in ("valid", "sampled"):
            mask = getattr(self, field)
            if mask is not None and mask.shape not in (self.shape, self.shape[1:]):
                raise DataError(
                    f"{self.name}: the {field} mask has shape {tuple(mask.shape)}, but the movie "
                    f"needs {self.shape[1:]} (y, x) or {self.shape} (time, y, x)"
                )
        if self.times_s is not None and len(self.times_s) != self.n_frames:
            raise DataError(
                f"{self.name}: {len(self.times_s)} times for {self.n_frames} frames; "
                "give one time per frame or a frame interval"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        t, y, x = self.images.shape
        return int(t), int(y), int(x)

    @property
    def n_frames(self) -> int:
        return self.shape[0]

    @property
    def frame_numbers(self) -> np.ndarray:
        """(t,) number of each frame in the movie that was read, whatever part of it was kept."""
        return np.arange(self.n_frames) if self.source_frames is None else self.source_frames

    @property
    def frame_interval_s(self) -> float | None:
        if self.times_s is None or len(self.times_s) < 2:
            return None
        return float(np.median(np.diff(self.times_s)))

    @property
    def pixel_area_um2(self) -> float | None:
        if self.pixel_size_nm is None:
            return None
        return self.pixel_size_nm[0] * self.pixel_size_nm[1] * 1e-6

    @property
    def dtype(self) -> np.dtype:
        """Type in which grey values are handed on: float32, or float64 where that loses digits.

        float64 needs 64-bit arrays in JAX (`jax_enable_x64`); without them it is float32.
        """
        if np.can_cast(self.images.dtype, np.float32, "safe"):
            return np.dtype(np.float32)
        import jax  # not sooner: the command chooses its compilation cache before JAX is loaded

        return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))

    def frame(self, t: int) -> np.ndarray:
        """Frame `t` as (y, x) of `dtype`, NaN where the movie says a pixel was not visited."""
        image = np.asarray(self.images[t])
        out = image.astype(self.dtype)
        if self.missing is not None:
            out[image == self.missing] = np.nan
        return out

    def usable(self, t: int, frame: np.ndarray | None = None) -> np.ndarray:
        """(y, x) bool: pixels of frame `t` that were visited, are finite and not excluded."""
        frame = self.frame(t) if frame is None else frame
        ok = np.isfinite(frame)
        for mask in (self.valid, self.sampled):
            if mask is not None:
                ok &= mask if mask.ndim == 2 else mask[t]
        return ok

    def domain(self, t: int) -> np.ndarray:
        """(y, x) bool: the region that the area is an area *of*: all but excluded pixels."""
        if self.valid is None:
            return np.ones(self.shape[1:], bool)
        return self.valid if self.valid.ndim == 2 else self.valid[t]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.frame(t) for t in range(self.n_frames))

    # -- narrowing and calibrating -------------------------------------------------------------

    def replace(self, **changes: Any) -> Movie:
        return dataclasses.replace(self, **changes)

    def crop(self, box: Box) -> Movie:
        """Keep rows y0:y1 and columns x0:x1; raises UsageError if the box leaves the frame."""
        y0, y1, x0, x1 = checked_box(box, self.shape[1:], "crop")

        def cut(mask: np.ndarray | None) -> np.ndarray | None:
            return None if mask is None else mask[..., y0:y1, x0:x1]

        return self.replace(
            images=_View(self.images, slice(y0, y1), slice(x0, x1)),
            valid=cut(self.valid),
            sampled=cut(self.sampled),
            offset_px=(self.offset_px[0] + y0, self.offset_px[1] + x0),
            whole=None if self.whole is None else self.whole.crop(box),
        )

    def exclude(self, boxes: Sequence[Box]) -> Movie:
        """Mark rectangles (burnt-in text, scale bars) as unusable in every frame."""
        if not boxes:
            return self
        valid = self.domain(0).copy() if self.valid is None else self.valid.copy()
        for box in boxes:
            y0, y1, x0, x1 = checked_box(box, self.shape[1:], "exclude")
            valid[..., y0:y1, x0:x1] = False
        if not valid.any():
            raise UsageError("exclude: nothing of the frame is left; give smaller boxes")
        return self.replace(valid=valid)

    def within(self, region: np.ndarray) -> Movie:
        """Look inside a region only: bool (y, x) or (t, y, x); what is outside is not counted."""
        if region.shape not in (self.shape, self.shape[1:]):
            raise UsageError(
                f"a region of shape {region.shape} does not fit {self.name}; give "
                f"{self.shape[1:]} (y, x) or {self.shape} (time, y, x)"
            )
        valid = region.astype(bool) & (True if self.valid is None else self.valid)
        empty = np.flatnonzero(~valid.reshape(-1, *self.shape[1:]).any(axis=(1, 2)))
        if empty.size:
            where = "" if valid.ndim == 2 else f" in frame {empty[0]}"
            raise UsageError(f"nothing of the frame is left inside the region{where}")
        return self.replace(valid=valid)

    def select_frames(self, start: int, stop: int) -> Movie:
        """Keep frames start:stop; raises UsageError if that is empty or outside the movie."""
        if not 0 <= start < stop <= self.n_frames:
            raise UsageError(
                f"frames {start}:{stop} is not a range inside 0:{self.n_frames}; "
                "use A:B with 0 <= A < B"
            )

        def cut(mask: np.ndarray | None) -> np.ndarray | None:
            return mask if mask is None or mask.ndim == 2 else mask[start:stop]

        return self.replace(
            images=_FrameRange(self.images, start, stop),
            valid=cut(self.valid),
            sampled=cut(self.sampled),
            times_s=None if self.times_s is None else self.times_s[start:stop],
            source_frames=self.frame_numbers[start:stop],
            whole=self.whole or (self if stop - start < self.n_frames else None),
        )

    def with_interval(self, frame_interval_s: float) -> Movie:
        return self.replace(times_s=np.arange(self.n_frames) * float(frame_interval_s))


def checked_box(box: Box, shape: Sequence[int], what: str) -> Box:
    """The box itself, or a UsageError that names it and the frame it has to lie in."""
    y0, y1, x0, x1 = box
    height, width = shape
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise UsageError(
            f"{what} {y0}:{y1},{x0}:{x1} does not lie in the frame of {height} rows and "
            f"{width} columns; use Y0:Y1,X0:X1 with 0 <= Y0 < Y1 <= {height} and "
            f"0 <= X0 < X1 <= {width}"
        )
    return box


class _View:
    """Rows and columns of a lazy movie, cut as each frame is read."""

    def __init__(self, images: Any, rows: slice, cols: slice):
        self._images, self._rows, self._cols = images, rows, cols
        self.dtype = images.dtype
        self.shape = (images.shape[0], rows.stop - rows.start, cols.stop - cols.start)

    def __getitem__(self, t: int) -> np.ndarray:
        return np.asarray(self._images[t])[self._rows, self._cols]


class _FrameRange:
    """A run of frames of a lazy movie."""

    def __init__(self, images: Any, start: int, stop: int):
        self._images, self._start = images, start
        self.dtype = images.dtype
        self.shape = (stop - start, *images.shape[1:])

    def __getitem__(self, t: int) -> np.ndarray:
        if not 0 <= t < self.shape[0]:
            raise IndexError(t)
        return np.asarray(self._images[self._start + t])
