"""Zarr, versions 2 and 3, as a folder or a zip file; OME-Zarr scales and HyperSpy's .zspy.

The store's metadata are read as JSON before Zarr opens anything, so that an array whose codec
would unpickle is refused unopened.
"""

from __future__ import annotations

import json
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.choose import choose
from jaxmicro.data.read.claims import BROKEN, refuse_impossible
from jaxmicro.data.read.hdf5 import calibrated, hyperspy_axes
from jaxmicro.data.read.stack import Axis, Stack, plain_axes, stack_of_array
from jaxmicro.errors import DataError

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")


def failures() -> tuple[type[Exception], ...]:
    """What Zarr and its codecs raise (its own errors are ValueErrors)."""
    return *BROKEN, zipfile.BadZipFile


def open_zarr(path: Path, select: str | None = None) -> Stack:
    """The chosen array, an OME-Zarr's full resolution, or the largest movie of the store."""
    import zarr

    names = list(_checked_arrays(path))
    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
    node = zarr.open(store, mode="r")
    if isinstance(node, zarr.Array):
        if select is not None:
            raise DataError(f"{path}: the store is one array, without '::{select}' to choose")
        return _stack(node, calibrated(_named(node), dict(node.attrs)), "Zarr", path)
    attributes = dict(node.attrs)
    scales = attributes.get("multiscales") or (attributes.get("ome") or {}).get("multiscales")
    if scales and select is None:
        key = str(scales[0]["datasets"][0]["path"])
        return _stack(node[key], _ome_axes(scales[0], node[key].shape), "OME-Zarr", path)
    arrays = {n: (tuple(node[n].shape), np.dtype(node[n].dtype)) for n in names}
    experiments = {
        n: a for n, a in arrays.items() if n.startswith("Experiments/") and n.endswith("/data")
    }
    key = choose(experiments if experiments and not select else arrays, select, path)
    if key in experiments:
        axes = hyperspy_axes(node[key.rsplit("/", 1)[0]], node[key].shape)
        return _stack(node[key], axes, "ZSPY", path)
    return _stack(node[key], calibrated(_named(node[key]), dict(node[key].attrs)), "Zarr", path)


def _stack(array: Any, axes: list[Axis], kind: str, path: Path) -> Stack:
    refuse_impossible(path, array.shape, array.dtype)
    stack = stack_of_array(array, axes, kind, path.name)
    if path.is_file():
        weakref.finalize(stack.frames, array.store.close)
    return stack


def _named(array: Any) -> list[Axis]:
    """Axes with the names that version 3 stores, or xarray's in version 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    axes = plain_axes(array.shape)
    if not names or len(names) != len(axes):
        return axes
    return [
        Axis(n if isinstance(n, str) else a.name, a.size) for n, a in zip(names, axes, strict=True)
    ]


def _ome_axes(multiscale: dict[str, Any], shape: tuple[int, ...]) -> list[Axis]:
    axes = [a if isinstance(a, dict) else {"name": a} for a in multiscale.get("axes", ())]
    if len(axes) != len(shape):
        return plain_axes(shape)
    scale = np.ones(len(shape))
    outer = multiscale.get("coordinateTransformations", ())
    for step in (*outer, *multiscale["datasets"][0].get("coordinateTransformations", ())):
        if step.get("type") == "scale" and len(step["scale"]) == len(shape):
            scale = scale * np.asarray(step["scale"], np.float64)
    return [
        Axis(str(a.get("name")), int(n), float(s), str(a.get("unit") or ""))
        for a, n, s in zip(axes, shape, scale, strict=True)
    ]


def _checked_arrays(path: Path) -> Iterator[str]:
    """Names of the store's arrays; DataError if any metadata ask for pickle."""
    found = False
    for name, metadata in _metadata(path):
        found = True
        if _asks_for_pickle(metadata):
            raise DataError(
                f"{path}: its {name} holds pickled Python objects, which are never opened"
            )
        folder, _, leaf = name.rpartition("/")
        if folder and (leaf == ".zarray" or metadata.get("node_type") == "array"):
            yield folder
    if not found:
        raise DataError(f"{path}: is not a Zarr store, it has none of {', '.join(_METADATA)}")


def _metadata(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name inside the store, content) of its metadata files, without walking the chunks."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.rsplit("/", 1)[-1] in _METADATA:
                    yield name, _object(archive.read(name), f"{path}::{name}")
        return
    pending = [path]
    while pending:
        folder = pending.pop()
        is_array = False
        for leaf in _METADATA:
            file = folder / leaf
            if file.is_file():
                metadata = _object(file.read_bytes(), str(file))
                is_array |= leaf == ".zarray" or metadata.get("node_type") == "array"
                yield file.relative_to(path).as_posix(), metadata
        if not is_array:
            pending += sorted((p for p in folder.iterdir() if p.is_dir()), reverse=True)


def _object(raw: bytes, name: str) -> dict[str, Any]:
    parsed = json.loads(raw)
    if not isinstance(parsed, dict):
        raise DataError(f"{name}: is not Zarr metadata")
    return parsed


def _asks_for_pickle(node: Any) -> bool:
    if isinstance(node, dict):
        for key in ("id", "name"):
            if isinstance(node.get(key), str) and "pickle" in node[key].lower():
                return True
        return any(_asks_for_pickle(v) for k, v in node.items() if k != "attributes")
    return isinstance(node, list) and any(_asks_for_pickle(v) for v in node)
