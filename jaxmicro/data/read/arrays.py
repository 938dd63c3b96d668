"""NumPy's own files: NPY, memory mapped, and NPZ. Pickled objects are refused."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.choose import choose
from jaxmicro.data.read.claims import refuse_impossible
from jaxmicro.data.read.stack import Axis, Stack, plain_axes, stack_of_array
from jaxmicro.errors import DataError


def failures() -> tuple[type[Exception], ...]:
    """What NumPy raises on damaged files; it parses their headers as Python literals.

    Its zipfile raises RuntimeError for members that are marked as encrypted, and
    NotImplementedError, a kind of it, for versions and compressions that it does not know.
    """
    return (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        SyntaxError,
        MemoryError,
        OverflowError,
        RuntimeError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    )


def open_npy(path: Path, select: str | None = None) -> Stack:
    """One array, (t, y, x) or (y, x); only the frames asked for are read from disk."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return stack_of_array(array, plain_axes(array.shape), "NPY", path.name)


def open_npz(path: Path, select: str | None = None) -> Stack:
    """One array of an archive; scalars `pixel_size_nm` and `frame_interval_s`, and an array
    `times_s`, stored beside it are its calibration."""
    with np.load(path, allow_pickle=False) as archive:
        shapes = _headers(path)
        key = choose(shapes, select, path)
        refuse_impossible(path, *shapes[key])
        array = archive[key]
        size = _stored(archive, shapes, "pixel_size_nm")
        interval = _stored(archive, shapes, "frame_interval_s")
        times = _stored(archive, shapes, "times_s")
    axes = plain_axes(array.shape)
    if size is not None and size.size in (1, 2) and len(axes) >= 2:
        y, x = np.broadcast_to(size.ravel(), (2,))
        axes[-2:] = [
            Axis("y", axes[-2].size, float(y), "nm"),
            Axis("x", axes[-1].size, float(x), "nm"),
        ]
    if len(axes) == 3:
        if times is not None and times.shape == (axes[0].size,):
            axes[0] = Axis("t", axes[0].size, unit="s", values=times)
        elif interval is not None and interval.size == 1:
            axes[0] = Axis("t", axes[0].size, float(interval.ravel()[0]), "s")
    return stack_of_array(array, axes, "NPZ", path.name)


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each array of the archive, without reading the arrays."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if not name.endswith(".npy"):
                continue
            with archive.open(name) as stream:
                version = np.lib.format.read_magic(stream)
                if version == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                elif version == (2, 0):
                    shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
                else:
                    raise DataError(f"{path.name}: {name} has an NPY version that is not known")
            found[name.removesuffix(".npy")] = (shape, dtype)
    return found


def _stored(archive: Any, shapes: dict[str, Any], key: str) -> np.ndarray | None:
    return np.asarray(archive[key], np.float64) if key in shapes else None
