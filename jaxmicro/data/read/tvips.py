"""TVIPS .tvips: recordings of TemCam and XF cameras, memory mapped.

A header of 256 bytes, then a record a frame: a header of its own and the pixels. A long recording
goes on in files `NAME_001.tvips`, `NAME_002.tvips` ..., which hold records only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxmicro.data.read.claims import belonging_to
from jaxmicro.data.read.stack import Axis, LazyFrames, Stack, saturation_of
from jaxmicro.errors import DataError

_FIELDS = "size version width height bits x y bin_x bin_y pixel_nm kv magnification frame_header"
_HEADER = np.dtype([(name, "<u4") for name in _FIELDS.split()])
_FRAME = [("number", "<u4"), ("seconds", "<u4"), ("ms", "<u4"), ("unused", "V12"), ("mode", "<u4")]
_DIFFRACTION = 2


def failures() -> tuple[type[Exception], ...]:
    """NumPy refuses to map a file that is no whole number of records."""
    return OSError, ValueError, OverflowError


def open_tvips(path: Path, select: str | None = None) -> Stack:
    """All frames of a recording, opened by its first file; the frames' own times are kept."""
    parts = _parts(path)
    header, record = _layout(path)
    offsets = [header["size"]] + [0] * (len(parts) - 1)
    maps = [np.memmap(p, record, "r", at) for p, at in zip(parts, offsets, strict=True)]
    times = np.concatenate([m["seconds"] + m["ms"] / 1000 for m in maps])
    starts = np.cumsum([0, *(len(m) for m in maps)])
    dtype, shape = record["pixels"].subdtype or (record, ())

    def read(t: int) -> np.ndarray:
        part = int(np.searchsorted(starts, t, side="right")) - 1
        return maps[part]["pixels"][t - starts[part]]

    known = len(times) > 1 and bool(np.all(np.diff(times) > 0))
    time = Axis("t", len(times), unit="s" if known else "", values=times - times[0])
    unit = "1/nm" if maps[0]["mode"][0] == _DIFFRACTION else "nm"
    pitch = float(header["pixel_nm"]) or None  # whole nanometres: 0 where pixels are finer
    y, x = (Axis(name, n, pitch, unit) for name, n in zip("yx", shape, strict=True))
    frames = LazyFrames(read, (len(times), *shape), dtype.newbyteorder("="))
    return Stack(frames, (time, y, x), "TVIPS", saturation_of(dtype))


def _parts(path: Path) -> list[Path]:
    """The files of the recording; DataError if `path` is not the first, or if one is missing."""
    parts = belonging_to(path)
    if parts[0] != path:
        raise DataError(f"{path}: is a later part of a recording; give {parts[0].name} instead")
    for number, part in enumerate(parts):
        if len(parts) > 1 and int(part.stem[-3:]) != number:
            raise DataError(f"{path}: part {number:03d} of the recording is not beside it")
    return parts


def _layout(path: Path) -> tuple[dict[str, int], np.dtype]:
    """The file's header, and the type of a frame's record."""
    head = np.fromfile(path, _HEADER, 1)
    if not head.size or head["version"][0] != 2 or head["bits"][0] not in (8, 16):
        raise DataError(f"{path}: is not a TVIPS recording of version 2 with 8 or 16 bits")
    header = {name: int(head[name][0]) for name in _HEADER.names or ()}
    shape = (header["height"], header["width"])
    rest = header["frame_header"] - np.dtype(_FRAME).itemsize
    if min(shape) < 1 or header["size"] < _HEADER.itemsize or rest < 0:
        raise DataError(f"{path}: its header claims sizes that no recording has; it is damaged")
    pixels = ("pixels", np.dtype(f"<u{header['bits'] // 8}"), shape)
    return header, np.dtype([*_FRAME, ("rest", f"V{rest}"), pixels])
