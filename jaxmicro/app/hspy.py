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
    import h5py
    from rsciio.hspy import file_writer

    # The writer takes whole arrays only: it makes the tree, and the pages follow one by one.
    file_writer(path, _signal(shape, path.stem, grid), show_progressbar=False)
    with tifffile.TiffFile(stack) as source, h5py.File(path, "a") as target:
        pages = (page.asarray() for page in source.pages)
        first = source.pages[0]
        group = target[f"Experiments/{path.stem}"]
        del group["data"]
        data = group.create_dataset(
            "data",
            shape,
            first.dtype,
            chunks=(*(1 for _ in shape[:-2]), *shape[-2:]),
            compression="gzip",
            shuffle=True,
        )
        for place, page in zip(np.ndindex(*shape[:-2]), pages, strict=True):
            data[place] = page


def _signal(shape: tuple[int, ...], title: str, grid: Grid) -> dict[str, Any]:
    """What rosettasciio takes for a signal: axes, metadata and, in the data's place, one value."""
    return {
        "data": np.zeros((1,) * len(shape), np.uint8),
        "axes": _axes(shape, grid),
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
