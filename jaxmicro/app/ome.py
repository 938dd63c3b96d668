"""Calibrated OME-TIFF movies."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import tifffile


def write_ome(
    path: pathlib.Path,
    frames: Iterator[np.ndarray],
    shape: tuple[int, ...],
    pixel_size_nm: tuple[float, float] | None,
    frame_interval_s: float | None,
    dtype: type = np.uint8,
    channels: tuple[str, ...] = (),
) -> None:
    """A calibrated OME-TIFF movie, (t, y, x) or (t, channel, y, x), written plane by plane."""
    metadata: dict[str, object] = {"axes": "TCYX" if channels else "TYX"}
    if channels:
        metadata["Channel"] = {"Name": list(channels)}
    if pixel_size_nm is not None:
        metadata |= {
            "PhysicalSizeY": pixel_size_nm[0] / 1000,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeX": pixel_size_nm[1] / 1000,
            "PhysicalSizeXUnit": "µm",
        }
    if frame_interval_s is not None:
        metadata |= {"TimeIncrement": frame_interval_s, "TimeIncrementUnit": "s"}
    tifffile.imwrite(
        path,
        frames,
        shape=shape,
        dtype=dtype,
        ome=True,
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )
