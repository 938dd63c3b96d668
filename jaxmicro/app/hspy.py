"""HyperSpy's own format, made from a TIFF stack that is written already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from jaxmicro.app.tiff import Grid


def write_hspy(path: Path, stack: Path, shape: tuple[int, ...], grid: Grid) -> None:
    """`path` (.hspy) from the pages of `stack`, one page at a time in memory.

    Args:
      shape: (n, y, x) or (n, channel, y, x) of the stack.
      grid: pixel size, origin and times, which become the axes' scale, offset and units.
    """
    import dask
    import dask.array
    from rsciio.hspy import file_writer

    with tifffile.TiffFile(stack) as file:
        dtype = np.dtype(file.pages[0].dtype)
        pages = [
            dask.array.from_delayed(dask.delayed(_page)(file, i), shape[-2:], dtype)
            for i in range(int(np.prod(shape[:-2])))
        ]
        signal = _signal(dask.array.stack(pages).reshape(shape), path.stem, grid)
        with dask.config.set(scheduler="synchronous"):  # a TIFF file is read by one reader
            file_writer(path, signal, show_progressbar=False)


def _page(file: Any, number: int) -> np.ndarray:
    return file.pages[number].asarray()


def _signal(data: Any, title: str, grid: Grid) -> dict[str, Any]:
    """What rosettasciio takes for a signal: data, axes and metadata."""
    return {
        "data": data,
        "axes": _axes(data.shape, grid),
        "metadata": {
            "General": {"title": title, "original_filename": grid.source},
            "Signal": {"signal_type": ""},
            "_HyperSpy": {},
        },
        "original_metadata": {
            "offset_px": list(grid.offset_px),
            "source_frames": _numbers(grid.source_frames),
        },
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


def _numbers(values: np.ndarray | None) -> list[int]:
    return [] if values is None else [int(v) for v in values]


def _axes(shape: Sequence[int], grid: Grid) -> list[dict[str, Any]]:
    size = (1.0, 1.0) if grid.pixel_um is None else grid.pixel_um
    unit = "px" if grid.pixel_um is None else "µm"
    axes = [_stack_axis(shape[0], grid)]
    if len(shape) == 4:
        axes.append(_axis("channel", shape[1]))
    for name, n, scale, place in zip("yx", shape[-2:], size, grid.origin_um, strict=True):
        axes.append(_axis(name, n, scale, place, unit, navigate=False))
    return axes


def _stack_axis(size: int, grid: Grid) -> dict[str, Any]:
    if grid.depth:
        return _axis("z", size, grid.step or 1.0, 0.0, "px" if grid.step is None else "µm")
    if grid.times_s is None:
        first = 0 if grid.source_frames is None else int(grid.source_frames[0])
        return _axis("frame", size, 1.0, float(first))
    if grid.step is not None and not np.allclose(np.diff(grid.times_s), grid.step, rtol=1e-6):
        uneven = {"_type": "DataAxis", "axis": np.asarray(grid.times_s, float)}
        return {"name": "time", "units": "s", "navigate": True, **uneven}
    return _axis("time", size, grid.step or 1.0, grid.start, "s")


def _axis(
    name: str,
    size: int,
    scale: float = 1.0,
    offset: float = 0.0,
    units: str | None = None,
    navigate: bool = True,
) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis",
        "name": name,
        "units": units,
        "size": int(size),
        "scale": scale,
        "offset": offset,
        "navigate": navigate,
    }
