"""What every reader returns: frames that are read when asked for, with three labelled axes."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxmicro.data.read import units
from jaxmicro.errors import DataError

NARROW = 16  # pixels; images with a side shorter than this are not asked whether they are colour
REC601 = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis: `size` steps of `scale` `unit` from `offset`, or explicit `values`.

    `signal` is True or False where the file tells image axes from navigation axes, else None.
    """

    name: str
    size: int
    scale: float | None = None
    unit: str = ""
    offset: float = 0.0
    values: np.ndarray | None = None
    signal: bool | None = None

    def coordinates(self) -> np.ndarray | None:
        """(size,) positions along the axis in `unit`, or None if the file does not say."""
        if self.values is not None:
            return np.asarray(self.values, np.float64)
        if self.scale is None:
            return None
        return self.offset + self.scale * np.arange(self.size)

    def text(self) -> str:
        """The axis in words, for `jaxmicro info`."""
        unit = units.tidy(self.unit)
        if self.values is not None:
            first, last = float(self.values[0]), float(self.values[-1])
            return f"{self.name}: {self.size} from {first:.6g} to {last:.6g} {unit}".rstrip()
        if self.scale is None or not unit:
            return f"{self.name}: {self.size}, no unit"
        return f"{self.name}: {self.size} steps of {self.scale:.6g} {unit}"


class LazyFrames:
    """(t, y, x) grey values read one frame at a time: `shape`, `dtype` and `[t]`.

    `read(t)` gives frame t as (y, x), or (y, x, 3) for colour, in any byte order.
    Errors of the file format's library come out as DataError through `guard`.
    """

    def __init__(
        self,
        read: Callable[[int], Any],
        shape: tuple[int, int, int],
        dtype: Any,
        guard: Callable[[], Any] | None = None,
    ):
        self._read, self._guard = read, guard
        self._owner: LazyFrames | None = None
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = np.dtype(dtype)

    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, t: int) -> np.ndarray:
        t = operator.index(t)
        if not -len(self) <= t < len(self):
            raise IndexError(f"frame {t} of {len(self)}")
        t %= len(self)
        if self._guard is None:
            frame = self._read(t)
        else:
            with self._guard():
                frame = self._read(t)
        frame = as_grey(np.asarray(frame), self.dtype)
        if frame.shape != self.shape[1:]:
            raise DataError(
                f"frame {t} has shape {frame.shape} where the first has {self.shape[1:]}; "
                "all frames must have the same shape"
            )
        return frame

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for t in range(len(self)):
            out[t] = self[t]
        return out

    def guarded(self, guard: Callable[[], Any]) -> LazyFrames:
        """The same frames, with library errors translated while a frame is read."""
        other = LazyFrames(self._read, self.shape, self.dtype, guard)
        other._owner = self  # keeps an open file from being closed with its first owner
        return other


@dataclasses.dataclass(frozen=True)
class Stack:
    """Frames (n, y, x), one axis for each dimension, and what the reader has to say."""

    frames: Any
    axes: tuple[Axis, Axis, Axis]
    format: str
    saturation: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def n_frames(self) -> int:
        return int(self.frames.shape[0])

    @property
    def pixel_size_nm(self) -> tuple[float, float] | None:
        y, x = (units.to_nm(a.scale, a.unit) for a in self.axes[1:])
        return None if y is None or x is None else (y, x)

    @property
    def spacing_nm(self) -> float | None:
        """Distance of neighbouring slices where the frame axis is a length."""
        return units.to_nm(self.axes[0].scale, self.axes[0].unit)

    @property
    def times_s(self) -> np.ndarray | None:
        axis = self.axes[0]
        second = units.to_s(1.0, axis.unit)
        coordinates = axis.coordinates()
        if second is None or coordinates is None:
            return None
        return coordinates * second

    def replace(self, **changes: Any) -> Stack:
        return dataclasses.replace(self, **changes)


def pixel_dtype(dtype: np.dtype, name: str) -> np.dtype:
    """The dtype that frames of a file with this dtype come out in; DataError if not grey values."""
    if dtype.names and {"R", "G", "B"} <= set(dtype.names):
        return np.dtype(dtype[dtype.names[0]])
    if dtype.kind == "c":
        raise DataError(
            f"{name}: the values are complex; save the amplitude, phase or power as real numbers"
        )
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf":
        raise DataError(f"{name}: values of type {dtype} are not grey values; save numbers")
    return dtype.newbyteorder("=")


def as_grey(frame: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(y, x) grey values in `dtype` from grey, grey with alpha, RGB or RGBA samples (last axis).

    Colour becomes Rec. 601 luminance, rounded where `dtype` holds integers.
    """
    if frame.dtype.names:
        frame = np.stack([frame[c] for c in "RGB"], axis=-1)
    if frame.ndim == 3:
        if is_grey(frame):
            frame = frame[..., 0]
        else:
            frame = frame[..., :3].astype(np.float32) @ REC601
            if dtype.kind in "iu":
                frame = np.rint(frame)
    return frame.astype(dtype, copy=False)


def is_grey(frame: np.ndarray) -> bool:
    """Whether all colour channels of a (y, x, samples) frame are the same."""
    if frame.shape[-1] < 3:
        return True
    red = frame[..., 0]
    return bool(np.array_equal(red, frame[..., 1]) and np.array_equal(red, frame[..., 2]))


def colour_dtype(first: np.ndarray, name: str) -> tuple[np.dtype, tuple[str, ...]]:
    """Frame dtype and warnings for a movie whose first frame is `first`, (y, x) or (y, x, s).

    A first frame whose channels are equal keeps its dtype; real colour becomes float32.
    """
    dtype = pixel_dtype(first.dtype, name)
    if first.dtype.names:
        first = np.stack([first[c] for c in "RGB"], axis=-1)
    if first.ndim == 2 or is_grey(first):
        return dtype, ()
    text = "colour was turned into luminance (0.299 R + 0.587 G + 0.114 B)"
    return np.dtype(np.float32), (text,)


def saturation_of(dtype: Any, bits: int | None = None, top: float | None = None) -> float | None:
    """Grey value at which an integer detector is full: `top`, 2**bits - 1 or the dtype's largest.

    `bits` or `top` that the dtype cannot hold, or that leave no range at all, do not count.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        return None
    largest = float(np.iinfo(dtype).max)
    if top is not None and 1 < top <= largest:
        return float(top)
    if bits is not None and 1 < bits < 8 * dtype.itemsize:
        return float(2**bits - 1)
    return largest


def stack_of_array(array: Any, axes: Sequence[Axis], format: str, name: str) -> Stack:
    """A Stack from anything with `shape`, `dtype` and NumPy slicing, its axes put in order.

    The image axes are the two signal axes, else those named y and x, else the last two that are
    longer than 1; the one other axis longer than 1 counts the frames. An axis named `S` holds
    colour samples. Raises DataError if more than three axes are longer than 1.
    """
    if len(axes) != len(array.shape):
        axes = plain_axes(array.shape)
    dtype = pixel_dtype(np.dtype(array.dtype), name)
    samples = [i for i, a in enumerate(axes) if a.name == "S" and a.size > 1]
    y, x = _image_axes(axes, samples, name)
    rest = [i for i in range(len(axes)) if i not in (y, x, *samples) and axes[i].size > 1]
    if any(a.size == 0 for a in axes):
        raise DataError(f"{name}: there are no pixels, the shape is {tuple(array.shape)}")
    if len(rest) > 1:
        listed = ", ".join(f"{a.name} ({a.size})" for a in axes)
        raise DataError(
            f"{name}: a movie has three axes (time, y, x), this has {len(axes)}: {listed}; "
            "save one channel, or one position, as a file of its own"
        )
    frame_axis = axes[rest[0]] if rest else Axis("t", 1)
    kept = sorted([y, x, *samples])
    order = [kept.index(y), kept.index(x), *(kept.index(s) for s in samples)]

    def read(t: int) -> np.ndarray:
        index = [slice(None) if i in kept else 0 for i in range(len(axes))]
        if rest:
            index[rest[0]] = t
        return np.asarray(array[tuple(index)]).transpose(order)

    warnings: tuple[str, ...] = ()
    if samples or np.dtype(array.dtype).names:
        dtype, warnings = colour_dtype(read(0), name)
    shape = (frame_axis.size, axes[y].size, axes[x].size)
    return Stack(
        LazyFrames(read, shape, dtype),
        (
            frame_axis,
            dataclasses.replace(axes[y], name="y"),
            dataclasses.replace(axes[x], name="x"),
        ),
        format,
        saturation_of(pixel_dtype(np.dtype(array.dtype), name)),
        warnings,
    )


def plain_axes(shape: Sequence[int]) -> list[Axis]:
    """Axes of an array that says nothing about them: (..., t, y, x) by position.

    A last axis of 3 or 4 after two long ones holds colours: no frame is so narrow.
    """
    if len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) >= NARROW:
        return [*plain_axes(shape[:-1]), Axis("S", int(shape[-1]))]
    names = [*(f"axis {i}" for i in range(len(shape) - 3)), "t", "y", "x"][-len(shape) or 3 :]
    return [Axis(n, int(s)) for n, s in zip(names, shape, strict=True)]


def _image_axes(axes: Sequence[Axis], samples: list[int], name: str) -> tuple[int, int]:
    candidates = [i for i in range(len(axes)) if i not in samples]
    if len(candidates) < 2:
        raise DataError(
            f"{name}: an image has two axes (y, x), this has shape {tuple(a.size for a in axes)}"
        )
    signal = [i for i in candidates if axes[i].signal]
    if len(signal) == 2:
        return signal[0], signal[1]
    labels = {axes[i].name.lower(): i for i in reversed(candidates)}
    if "y" in labels and "x" in labels:
        return labels["y"], labels["x"]
    long = [i for i in candidates if axes[i].size > 1]
    chosen = long[-2:] if len(long) >= 2 else candidates[-2:]
    return chosen[0], chosen[1]
