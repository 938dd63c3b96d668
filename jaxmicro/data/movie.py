"""The `Movie` and `Image` records: pixels with their calibration, before any statistics.

Both are plain NumPy (not pytrees): a movie may be larger than memory, so `images` can be any
object with `shape`, `dtype` and frame indexing, and frames are read one at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np

from jaxmicro.data.cuts import Box as Box
from jaxmicro.data.cuts import Frames, View, box_of, checked_box, shown
from jaxmicro.data.movie_input import (
    Number,
    PixelSize,
    Times,
    as_frames,
    as_mask,
    as_number,
    as_pixel_size,
    as_times,
)
from jaxmicro.errors import UsageError


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


@dataclasses.dataclass(frozen=True, init=False, repr=False, eq=False)
class Movie:
    """A movie and what is known about it.

    `Movie(array, pixel_size_nm=28.2, frame_interval_s=0.6)` is checked where it is made: images may
    be anything array-like, a single image (y, x) becomes one frame, one pixel size means both axes.
    A movie is a sequence of frames: `len(movie)`, iteration and `movie[3]` give frames, as `frame`
    does; a slice gives a shorter Movie: `movie[3:10]`, every second frame `movie[::2]`, a part of
    the frame `movie[3:10, y0:y1, x0:x1]`.

    Attributes:
      images: (t, y, x) grey values, an array or a lazy stand-in indexed by frame.
      valid: (y, x) or (t, y, x) bool, False where a pixel must not be used at all (burnt-in text).
      sampled: (y, x) or (t, y, x) bool for a movie that is sub-sampled already; None if full.
      missing: grey value that marks a pixel as not visited; NaN pixels never count as visited.
      pixel_size_nm: (y, x) pixel pitch in nanometres, or None.
      times_s: (t,) start time of each frame in seconds, increasing, or None; `frame_interval_s` may
        be given in its place.
      saturation: grey value at and above which the detector saturates, or None.
      source_frames: (t,) number of each frame in the movie that was read, or None: 0, 1, 2, ...
      offset_px: (row, column) of the first pixel in the frame that was read: where a crop began.
      whole: the movie that these frames were picked from, or None where they are all.
      axes: what the file said about each axis, as text, for `jaxmicro info`.
      warnings: sentences for the user that arose while reading.

    Raises:
      DataError: images or masks that are no movie, or times that do not fit it.
      UsageError: a pixel size or a frame interval that is not a number above 0.
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

    def __init__(
        self,
        images: Any,
        valid: Any = None,
        sampled: Any = None,
        missing: Number | None = None,
        pixel_size_nm: PixelSize = None,
        times_s: Times = None,
        saturation: Number | None = None,
        source_frames: np.ndarray | None = None,
        offset_px: tuple[int, int] = (0, 0),
        whole: Movie | None = None,
        name: str = "movie",
        source: str = "",
        axes: tuple[str, ...] = (),
        warnings: tuple[str, ...] = (),
        *,
        frame_interval_s: Number | None = None,
    ) -> None:
        if isinstance(images, Movie):
            raise UsageError(
                "Movie(movie) would lose what is known of it; use movie.replace(pixel_size_nm=28.2)"
            )
        images = as_frames(images, name)
        n_frames, height, width = (int(s) for s in images.shape)
        shape = n_frames, height, width
        fields = {
            "images": images,
            "valid": as_mask(valid, shape, "valid", name),
            "sampled": as_mask(sampled, shape, "sampled", name),
            "missing": as_number(missing, "missing"),
            "pixel_size_nm": as_pixel_size(pixel_size_nm),
            "times_s": as_times(times_s, frame_interval_s, n_frames, name),
            "saturation": as_number(saturation, "saturation"),
            "source_frames": source_frames,
            "offset_px": offset_px,
            "whole": whole,
            "name": name,
            "source": source,
            "axes": axes,
            "warnings": warnings,
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        t, y, x = self.shape
        parts = [f"{self.name}: {t} frame{'s' * (t > 1)} of {y} x {x}", str(self.images.dtype)]
        size = self.pixel_size_nm
        if size is not None:
            pitch = f"{size[0]:g}" if size[0] == size[1] else f"{size[0]:g} x {size[1]:g}"
            parts.append(f"{pitch} nm a pixel")
        if self.frame_interval_s is not None:
            parts.append(f"{self.frame_interval_s:g} s a frame")
        for mask, word in ((self.valid, "excluded"), (self.sampled, "not visited")):
            if mask is not None:
                parts.append(f"{100 * (1 - np.mean(mask)):.3g} % {word}")
        if self.missing is not None:
            parts.append(f"{self.missing:g} means not visited")
        return f"Movie({', '.join(parts)})"

    def __len__(self) -> int:
        return self.n_frames

    @overload
    def __getitem__(self, index: slice | tuple[slice, ...]) -> Movie: ...
    @overload
    def __getitem__(
        self, index: SupportsIndex | tuple[SupportsIndex | slice, ...]
    ) -> np.ndarray: ...
    def __getitem__(self, index: Any) -> Any:
        frames, *box = index if isinstance(index, tuple) else (index,)
        if len(box) > 2 or not all(isinstance(part, slice) for part in box):
            raise UsageError(
                f"movie[{shown(index)}] is not understood; use movie[t], movie[t0:t1] or "
                "movie[t0:t1, y0:y1, x0:x1]"
            )
        part = self.crop(box_of(box, self.shape[1:])) if box else self
        if isinstance(frames, slice):
            return part._frames(range(self.n_frames)[frames], shown(index))
        try:
            return part.frame(range(self.n_frames)[frames])
        except IndexError:
            raise IndexError(f"frame {frames} of {self.n_frames}") from None
        except TypeError:
            raise UsageError(
                f"movie[{shown(index)}] is not understood; frames are a whole number or t0:t1"
            ) from None

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
        """The movie with some fields changed; a new `frame_interval_s` takes the place of times."""
        if changes.get("frame_interval_s") is not None:
            changes = {"times_s": None, **changes}
        return dataclasses.replace(self, **changes)

    def crop(self, box: Box) -> Movie:
        """Keep rows y0:y1 and columns x0:x1; raises UsageError if the box leaves the frame."""
        y0, y1, x0, x1 = checked_box(box, self.shape[1:], "crop")

        def cut(mask: np.ndarray | None) -> np.ndarray | None:
            return None if mask is None else mask[..., y0:y1, x0:x1]

        return self.replace(
            images=View(self.images, slice(y0, y1), slice(x0, x1)),
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

        return self._frames(range(start, stop), f"{start}:{stop}")

    def _frames(self, numbers: range, asked: str) -> Movie:
        """The movie of these frames."""
        if not numbers or numbers.step < 0:
            raise UsageError(
                f"movie[{asked}] keeps no frame of {self.n_frames} or runs backwards; use t0:t1 or "
                f"t0:t1:step with 0 <= t0 < t1 <= {self.n_frames} and a step from 1"
            )
        pick = slice(numbers.start, numbers.stop, numbers.step)

        def cut(mask: np.ndarray | None) -> np.ndarray | None:
            return mask if mask is None or mask.ndim == 2 else mask[pick]

        return self.replace(
            images=Frames(self.images, numbers),
            valid=cut(self.valid),
            sampled=cut(self.sampled),
            times_s=None if self.times_s is None else self.times_s[pick],
            source_frames=self.frame_numbers[pick],
            whole=self.whole or (self if len(numbers) < self.n_frames else None),
        )

    def with_interval(self, frame_interval_s: Number) -> Movie:
        return self.replace(frame_interval_s=frame_interval_s)
