"""Xradia .txrm and .xrm: images in the streams of an OLE compound file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.stack import Axis, LazyFrames, Stack, saturation_of
from jaxmicro.errors import DataError

_PIXEL_TYPES = {3: "<u1", 5: "<u2", 10: "<f4"}
_PER_STREAM = 100  # ImageData1 holds images 1 to 100, ImageData2 those up to 200, and so on


def failures() -> tuple[type[Exception], ...]:
    """olefile's own errors are OSErrors; a directory cut short breaks in indexing."""
    return OSError, ValueError, IndexError, KeyError, TypeError, AttributeError


def open_xradia(path: Path, select: str | None = None) -> Stack:
    """All images of the scan; the frame axis notes the tilt angles."""
    import olefile

    with olefile.OleFileIO(str(path)) as ole:
        width = int(_figures(ole, "ImageInfo/ImageWidth", "<i4", path)[0])
        height = int(_figures(ole, "ImageInfo/ImageHeight", "<i4", path)[0])
        announced = int(_figures(ole, "ImageInfo/NoOfImages", "<i4", path)[0])
        kind = int(_figures(ole, "ImageInfo/DataType", "<i4", path)[0])
        if kind not in _PIXEL_TYPES:
            raise DataError(f"{path}: pixels of Xradia type {kind} cannot be read")
        # as many as there are streams: a damaged file may announce any number
        numbers = range(min(announced, len(ole.listdir())))
        names = [f"ImageData{1 + i // _PER_STREAM}/Image{i + 1}" for i in numbers]
        stored = [n for n in names if ole.exists(n)]
        if not stored or min(width, height) < 1:
            raise DataError(f"{path}: the Xradia file holds no images")
        dtype = np.dtype(_PIXEL_TYPES[kind])
        size = dtype.itemsize * width * height
        for name in (stored[0], stored[-1]):
            if ole.get_size(name) < size:
                raise DataError(f"{path}: {name} is cut short; the file is truncated")
        angles = _figures(ole, "ImageInfo/Angles", "<f4", path, needed=False)
        pitch = _figures(ole, "ImageInfo/PixelSize", "<f4", path, needed=False)
    end = path.stat().st_size
    warnings: tuple[str, ...] = ()
    if len(stored) < announced:
        warnings = (f"the scan was planned with {announced} images and holds {len(stored)}",)
    pixel_um = float(pitch[0]) if pitch.size and pitch[0] > 0 else None
    unit = "" if pixel_um is None else "um"
    values = None
    if angles.size >= len(stored) and len(stored) == len(set(stored)):
        values = angles[: len(stored)].astype(np.float64)
    tilts = Axis("tilt", len(stored), unit="degree", values=values)

    def read(t: int) -> np.ndarray:
        with olefile.OleFileIO(str(path)) as ole:
            raw = ole.openstream(stored[t]).read(size)
        if len(raw) < size:
            raise DataError(f"{path}: image {t} is cut short at byte {end}; the file is truncated")
        return np.frombuffer(raw, dtype).reshape(height, width)

    return Stack(
        LazyFrames(read, (len(stored), height, width), dtype.newbyteorder("=")),
        (
            tilts if values is not None else Axis("image", len(stored)),
            Axis("y", height, pixel_um, unit),
            Axis("x", width, pixel_um, unit),
        ),
        "TXRM",
        saturation_of(dtype),
        warnings,
    )


def _figures(ole: Any, name: str, kind: str, path: Path, needed: bool = True) -> np.ndarray:
    if not ole.exists(name):
        if needed:
            raise DataError(f"{path}: there is no {name} in it; it is not an Xradia image file")
        return np.zeros(0, kind)
    raw = ole.openstream(name).read()
    figures = np.frombuffer(raw, kind, count=len(raw) // np.dtype(kind).itemsize)
    if needed and not figures.size:
        raise DataError(f"{path}: {name} is empty; the file is truncated or damaged")
    return figures
