"""Parts of a movie: boxes and slices, and frames that are cut when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmicro.errors import UsageError

Box = tuple[int, int, int, int]  # y0, y1, x0, x1


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


def box_of(cuts: Sequence[slice], shape: Sequence[int]) -> Box:
    """Rows and columns that slices of a frame keep."""
    out: list[int] = []
    for cut, length in zip([*cuts, slice(None)][:2], shape, strict=True):
        start, stop, step = cut.indices(length)
        if step != 1:
            raise UsageError(f"a step of {step} in y or x is not allowed; use every row and column")
        out += [start, stop]
    y0, y1, x0, x1 = out
    return y0, y1, x0, x1


def shown(index: Any) -> str:
    """An index as it was written."""

    def one(part: Any) -> str:
        if not isinstance(part, slice):
            return repr(part)
        ends = ["" if v is None else str(v) for v in (part.start, part.stop)]
        return ":".join(ends if part.step is None else [*ends, str(part.step)])

    return ", ".join(map(one, index if isinstance(index, tuple) else (index,)))


class View:
    """Rows and columns of a lazy movie, cut as each frame is read."""

    def __init__(self, images: Any, rows: slice, cols: slice):
        self._images, self._rows, self._cols = images, rows, cols
        self.dtype = images.dtype
        self.shape = (images.shape[0], rows.stop - rows.start, cols.stop - cols.start)

    def __getitem__(self, t: int) -> np.ndarray:
        return np.asarray(self._images[t])[self._rows, self._cols]


class Frames:
    """Some frames of a lazy movie."""

    def __init__(self, images: Any, numbers: range):
        self._images, self._numbers = images, numbers
        self.dtype = images.dtype
        self.shape = (len(numbers), *images.shape[1:])

    def __getitem__(self, t: int) -> np.ndarray:
        return np.asarray(self._images[self._numbers[t]])
