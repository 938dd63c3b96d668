"""Electron microscopes' own formats through rosettasciio: DM3/DM4, EMD, MRC, SER/EMI and BLO.

Only the named readers are imported. Others of its readers evaluate text of the file as Python.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read import units
from jaxmicro.data.read.claims import BROKEN, refuse_impossible
from jaxmicro.data.read.stack import Axis, Stack, pixel_dtype, saturation_of, stack_of_array
from jaxmicro.errors import DataError


def failures() -> tuple[type[Exception], ...]:
    """What the readers raise on damaged files: they check little."""
    from rsciio import exceptions

    return (
        exceptions.ByteOrderError,
        exceptions.DM3DataTypeError,
        exceptions.DM3FileVersionError,
        exceptions.DM3TagError,
        exceptions.DM3TagIDError,
        exceptions.DM3TagTypeError,
        *BROKEN,  # and NotImplementedError, of DM versions and data types
        EOFError,
        AssertionError,
        OverflowError,
        MemoryError,
        SyntaxError,
        ZeroDivisionError,
        UnboundLocalError,
        struct.error,
        zlib.error,
    )


def open_dm(path: Path, select: str | None = None) -> Stack:
    return _open(path, "digitalmicrograph", "DM3/DM4", select, lazy=True)


def open_emd(path: Path, select: str | None = None) -> Stack:
    """Velox (images only, not spectra) or NCEM."""
    return _open(path, "emd", "EMD", select, lazy=True, select_type=_emd_select(path))


def open_mrc(path: Path, select: str | None = None) -> Stack:
    return _open(path, "mrc", "MRC", select)  # memory mapped as it is


def open_ser(path: Path, select: str | None = None) -> Stack:
    return _open(path, "tia", "SER", select, lazy=True)


def open_emi(path: Path, select: str | None = None) -> Stack:
    """The .ser files that lie beside the .emi under the same name."""
    if not list(path.parent.glob(f"{path.stem}_*.ser")):
        raise DataError(f"{path}: its data lie in {path.stem}_1.ser, which is not beside it")
    return _open(path, "tia", "EMI", select, lazy=True)


def open_blo(path: Path, select: str | None = None) -> Stack:
    return _open(path, "blockfile", "BLO", select, lazy=True)


def _emd_select(path: Path) -> str | None:
    import h5py

    with h5py.File(path, "r") as file:
        return "images" if "Data" in file and "Image" in file["Data"] else None


def _open(path: Path, module: str, kind: str, select: str | None, **options: Any) -> Stack:
    reader = importlib.import_module(f"rsciio.{module}")
    signals = [s for s in reader.file_reader(str(path), **options) if len(_axis_list(s)) >= 2]
    signal = _one(signals, select, path)
    data = signal["data"]
    refuse_impossible(path, data.shape, data.dtype)
    axes = [_axis(a) for a in _axis_list(signal)]
    stack = stack_of_array(data, axes, kind, path.name)
    largest = saturation_of(pixel_dtype(np.dtype(data.dtype), path.name))
    return stack.replace(saturation=largest)


def _one(signals: Sequence[dict[str, Any]], select: str | None, path: Path) -> dict[str, Any]:
    if not signals:
        raise DataError(f"{path}: there is no image in it")
    titles = [str(s["metadata"].get("General", {}).get("title", "")) for s in signals]
    described = ", ".join(
        f"{title} {tuple(int(n) for n in s['data'].shape)}"
        for title, s in zip(titles, signals, strict=True)
    )
    if select is not None:
        chosen = [s for title, s in zip(titles, signals, strict=True) if title == select]
        if len(chosen) != 1:
            raise DataError(f"{path}: no single image named {select}; it has {described}")
        return chosen[0]
    if len(signals) > 1:
        raise DataError(
            f"{path}: {len(signals)} images in one file; name one as {path.name}::{titles[0]}, "
            f"it has {described}"
        )
    return signals[0]


def _axis_list(signal: dict[str, Any]) -> list[dict[str, Any]]:
    # The reader of .ser files leaves out the index where the axes are in order already.
    return sorted(signal["axes"], key=lambda a: int(a.get("index_in_array", 0)))


def _axis(axis: dict[str, Any]) -> Axis:
    name, unit = axis.get("name"), units.tidy(axis.get("units"))
    values = axis.get("axis")
    scale = axis.get("scale")
    navigate = axis.get("navigate")
    return Axis(
        str(name) if isinstance(name, str) and name else "frame",
        int(axis["size"]),
        None if scale is None else float(scale),
        unit,
        float(axis.get("offset") or 0.0),
        None if values is None else np.asarray(values, np.float64),
        None if navigate is None else not navigate,
    )
