"""What a `Movie` may be made of, put into one form where it is made, or refused in one line."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmicro.arguments import is_traced
from jaxmicro.errors import DataError, UsageError

Number = float | int | np.floating | np.integer
PixelSize = Number | Sequence[Number] | np.ndarray | None
Times = Sequence[Number] | np.ndarray | None

_SHAPES = "give (time, y, x), or (y, x) for one image"


def as_frames(images: Any, name: str) -> Any:
    """The images as an array (t, y, x), or the lazy stand-in they are, checked."""
    if isinstance(images, str | os.PathLike):
        raise UsageError(f"images = {str(images)!r} are no numbers; give read_movie(path)")
    if isinstance(images, np.ma.MaskedArray):
        raise DataError(
            f"{name}: a masked array hides which pixels were visited; give images.filled(0) and "
            "sampled=~numpy.ma.getmaskarray(images)"
        )
    if not _is_indexed(images) or type(images).__module__.partition(".")[0] in ("jax", "jaxlib"):
        images = _array(images, name)
    _refuse_kind(np.dtype(images.dtype), name)
    if len(images.shape) == 2:
        images = np.asarray(images)[None]
    shape = tuple(int(s) for s in images.shape)
    if len(shape) != 3:
        raise DataError(
            f"{name}: a movie needs three axes (time, y, x), this one has shape {shape}; {_SHAPES}"
        )
    if 0 in shape:
        raise DataError(f"{name}: images of shape {shape} hold no pixel; {_SHAPES}")
    return images


def _is_indexed(images: Any) -> bool:
    """Whether it has `shape` and a `dtype` of NumPy's, as arrays and lazy stand-ins do."""
    try:
        return len(images.shape) >= 0 and np.dtype(images.dtype) is not None
    except (AttributeError, TypeError):
        return False


def _array(images: Any, name: str) -> np.ndarray:
    if is_traced(images):
        raise UsageError(
            f"{name}: a Movie is ordinary NumPy and cannot be made inside jax.jit, vmap or grad; "
            "make it outside, and differentiate by the values of its Pixels"
        )
    try:
        return np.asarray(images)
    except ValueError as problem:
        raise DataError(
            f"{name}: images cannot be made one array ({str(problem).splitlines()[0]}); rows and "
            f"frames must be of equal length: {_SHAPES}"
        ) from None


def _refuse_kind(dtype: np.dtype, name: str) -> None:
    if dtype.kind in "iuf" or dtype.name == "bfloat16":
        return
    kinds = {"b": "True or False", "c": "complex numbers", "U": "text", "S": "text"}
    found = kinds.get(dtype.kind, f"of type {dtype}")
    raise DataError(
        f"{name}: images must be real numbers, these are {found}; give grey values, for example "
        "images.astype(float) or abs(images)"
    )


def as_mask(mask: Any, shape: tuple[int, int, int], field: str, name: str) -> np.ndarray | None:
    """A mask as bool (y, x) or (t, y, x); numbers mean yes where they are not 0."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape not in (shape, shape[1:]):
        raise DataError(
            f"{name}: the {field} mask has shape {tuple(mask.shape)}, but the movie "
            f"needs {shape[1:]} (y, x) or {shape} (time, y, x)"
        )
    if mask.dtype.kind not in "biuf":
        raise DataError(f"{name}: the {field} mask is of type {mask.dtype}; give True and False")
    return mask if mask.dtype == bool else mask != 0


def as_pixel_size(size: PixelSize) -> tuple[float, float] | None:
    """Pitch in nanometres as (y, x); one number means both axes."""
    if size is None:
        return None
    pair = _numbers(size)
    if pair is None or len(pair) not in (1, 2) or not all(math.isfinite(v) and v > 0 for v in pair):
        raise UsageError(
            f"pixel_size_nm = {size!r} is not allowed; give the pitch in nanometres as one number "
            "above 0 or a pair (y, x), for example 28.2"
        )
    return pair[0], pair[-1]


def as_times(times_s: Times, frame_interval_s: Number | None, n_frames: int, name: str) -> Any:
    """Start of each frame in seconds, float64, from times or from an interval; None if neither."""
    if frame_interval_s is not None:
        if times_s is not None:
            raise UsageError(
                f"frame_interval_s = {frame_interval_s!r} and times_s cannot both be given; leave "
                "one of them out (times_s=None)"
            )
        found = _numbers(frame_interval_s)
        if found is None or len(found) != 1 or not (math.isfinite(found[0]) and found[0] > 0):
            raise UsageError(
                f"frame_interval_s = {frame_interval_s!r} is not allowed; give seconds from frame "
                "to frame as one number above 0, for example 0.6"
            )
        return np.arange(n_frames) * found[0]
    if times_s is None:
        return None
    times = _numbers(times_s)
    if times is None or isinstance(times_s, float | int | np.number):
        raise UsageError(
            f"times_s = {times_s!r} is not allowed; give one number of seconds a frame"
        )
    if len(times) != n_frames:
        raise DataError(
            f"{name}: {len(times)} times for {n_frames} frames; give one time per frame or a frame "
            "interval"
        )
    wrong = ~np.isfinite(times)
    wrong[1:] |= ~(np.diff(times) > 0)
    if wrong.any():
        at = int(np.argmax(wrong))
        before = f" after {times[at - 1]:g} s" if at else ""
        raise DataError(
            f"{name}: times_s must increase, but frame {at} starts at {times[at]:g} s{before}; "
            "correct the times or give a frame interval instead"
        )
    return np.asarray(times)


def as_number(value: Any, field: str) -> float | None:
    """A grey value such as `missing`, or None."""
    if value is None:
        return None
    found = _numbers(value)
    if found is None or len(found) != 1:
        raise UsageError(f"{field} = {value!r} is not allowed; give one grey value or None")
    return found[0]


def _numbers(value: Any) -> list[float] | None:
    """One number or a row of them as floats; None for anything else."""
    if isinstance(value, bool | str | bytes):
        return None
    if isinstance(value, numbers.Real):
        return [float(value)]
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or array.ndim > 1:
        return None
    return [float(v) for v in np.atleast_1d(array)]
