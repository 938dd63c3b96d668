"""Which array of a container (HDF5, NPZ, Zarr) is the movie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxmicro.errors import DataError

Arrays = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def choose(arrays: Arrays, select: str | None, path: Path) -> str:
    """The name of the array to read: `select`, or the largest numeric one with three axes longer
    than 1, or failing that the largest image. DataError lists the arrays if two are as large.
    """
    if select is not None:
        wanted = select.strip("/")
        for name in arrays:
            if name.strip("/") == wanted:
                return name
        raise DataError(f"{path.name}: there is no {select}; it has {listed(arrays)}")
    numeric = {n: s for n, (s, d) in arrays.items() if d.kind in "iufbc" or d.names}
    for n_axes in (3, 2):
        fitting = {n: math.prod(s) for n, s in numeric.items() if _long(s) == n_axes}
        if fitting:
            largest = max(fitting.values())
            best = [n for n, size in fitting.items() if size == largest]
            if len(best) > 1:
                raise DataError(
                    f"{path.name}: {len(best)} arrays are equally large; name one of them as "
                    f"{path.name}::{best[0]}, it has {listed(arrays)}"
                )
            return best[0]
    images = [n for n, s in numeric.items() if len(s) >= 2]
    if len(images) == 1:
        return images[0]
    raise DataError(
        f"{path.name}: no array with axes (time, y, x) or (y, x) in it, it has {listed(arrays)}"
    )


def listed(arrays: Arrays) -> str:
    """Names and shapes on one line."""
    some = [f"{n} {tuple(int(i) for i in s)}" for n, (s, _) in list(arrays.items())[:12]]
    more = len(arrays) - len(some)
    return (", ".join(some) or "nothing") + (f" and {more} more" if more > 0 else "")


def _long(shape: tuple[int, ...]) -> int:
    return sum(n > 1 for n in shape)
