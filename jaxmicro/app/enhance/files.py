"""The files an enhance run leaves behind, each in a format its users' programs open."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile


def write_stack(
    path: pathlib.Path,
    slices: Iterator[np.ndarray],
    shape: tuple[int, int, int],
    pixel_size_nm: float,
    spacing_nm: float | None,
) -> None:
    """A calibrated float32 OME-TIFF (z, y, x), written slice by slice; NaN where nothing is."""
    metadata: dict[str, object] = {
        "axes": "ZYX",
        "PhysicalSizeX": round(pixel_size_nm / 1000, 9),
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": round(pixel_size_nm / 1000, 9),
        "PhysicalSizeYUnit": "µm",
    }
    if spacing_nm is not None:
        metadata |= {"PhysicalSizeZ": round(spacing_nm / 1000, 9), "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(
        path,
        slices,
        shape=shape,
        dtype=np.float32,
        ome=True,
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )


def write_two_stacks(
    folder: pathlib.Path,
    names: tuple[str, str],
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int, int],
    pixel_size_nm: float,
    spacing_nm: float | None,
) -> None:
    """Two stacks from one pass over the slices; the second waits on disk, not in memory."""
    waiting = folder / f".{names[1]}.raw"
    held = np.memmap(waiting, np.float32, "w+", shape=shape)

    def firsts() -> Iterator[np.ndarray]:
        for z, (one, other) in enumerate(pairs):
            held[z] = other
            yield one

    try:
        write_stack(folder / names[0], firsts(), shape, pixel_size_nm, spacing_nm)
        next(pairs, None)  # the writer stops at the last slice; let the stage end and be timed
        held.flush()
        write_stack(
            folder / names[1], (held[z] for z in range(shape[0])), shape, pixel_size_nm, spacing_nm
        )
    finally:
        waiting.unlink(missing_ok=True)


def write_metrics(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """metrics.csv, a row a slice; a figure that is not known is empty, never 0."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_text(row.get(name)) for name in names])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
