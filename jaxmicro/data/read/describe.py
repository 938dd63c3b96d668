"""What `jaxmicro info` says about a source: one pass over its frames, and a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from jaxmicro.data.read.claims import belonging_to
from jaxmicro.data.read.source import Source, files_of, open_source
from jaxmicro.errors import DataError


@dataclasses.dataclass(frozen=True)
class Description:
    """A source in figures.

    `shape` is (t, y, x); `value_range` is (smallest, largest) of the finite values, None if there
    are none; `saturated_share` is the fraction of pixels at or above `saturation`, None where the
    saturation value is not known; `nan_count` counts pixels that are not a number.
    """

    source: str
    format: str
    shape: tuple[int, int, int]
    dtype: str
    axes: tuple[str, ...]
    pixel_size_nm: tuple[float, float] | None
    spacing_nm: float | None
    times_s: np.ndarray | None
    frame_interval_s: float | None
    value_range: tuple[float, float] | None
    saturation: float | None
    saturated_share: float | None
    nan_count: int
    warnings: tuple[str, ...]


def describe(source: Source) -> Description:
    """Reads every frame once, one at a time; DataError if the source cannot be read."""
    stack = open_source(source)
    n, height, width = (int(s) for s in stack.frames.shape)
    low, high, nans, full = np.inf, -np.inf, 0, 0
    for t in range(n):
        frame = np.asarray(stack.frames[t])
        finite = frame
        if frame.dtype.kind == "f":
            nans += int(np.count_nonzero(np.isnan(frame)))
            finite = frame[np.isfinite(frame)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        if stack.saturation is not None:
            full += int(np.count_nonzero(frame >= stack.saturation))
    times = stack.times_s
    interval = None if times is None or n < 2 else float(np.median(np.diff(times)))
    return Description(
        source=str(source),
        format=stack.format,
        shape=(n, height, width),
        dtype=str(stack.frames.dtype),
        axes=tuple(a.text() for a in stack.axes),
        pixel_size_nm=stack.pixel_size_nm,
        spacing_nm=stack.spacing_nm,
        times_s=times,
        frame_interval_s=interval,
        value_range=(low, high) if low <= high else None,
        saturation=stack.saturation,
        saturated_share=None if stack.saturation is None else full / (n * height * width),
        nan_count=nans,
        warnings=stack.warnings,
    )


def sha256(source: Source) -> str:
    """SHA-256 as hexadecimal: of the file's bytes, or where there are several (a folder, a glob, a
    Zarr store, the parts of a recording) of the lines `digest  name` of them in order. DataError if
    a file cannot be read."""
    files = [(path, file) for path in files_of(source) for file in belonging_to(path)]
    if len(files) == 1 and files[0][0].is_file():
        return _digest(files[0][1])
    combined = hashlib.sha256()
    for path, file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        combined.update(f"{_digest(file)}  {name}\n".encode())
    return combined.hexdigest()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from error
