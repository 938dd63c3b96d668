"""HDF5: any file's largest movie, APS Data Exchange, HyperSpy (.hspy), NeXus and netCDF-4.

HyperSpy files are read here rather than by rosettasciio: the array and its axes are plain HDF5,
and nothing else in such a file (models, pickled functions) is looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read import units
from jaxmicro.data.read.choose import choose
from jaxmicro.data.read.claims import refuse_impossible
from jaxmicro.data.read.stack import Axis, Stack, plain_axes, stack_of_array

DATA_EXCHANGE = "exchange/data"


def failures() -> tuple[type[Exception], ...]:
    """What h5py raises on damaged files: broken headers, heaps (KeyError, RuntimeError), chunks."""
    return OSError, ValueError, RuntimeError, KeyError, TypeError, OverflowError


def open_hdf5(path: Path, select: str | None = None) -> Stack:
    """The chosen dataset, or `/exchange/data`, or the largest movie; frames are read from disk."""
    import h5py

    file = h5py.File(path, "r")
    try:
        arrays: dict[str, tuple[tuple[int, ...], np.dtype]] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.shape:
                arrays[name] = (item.shape, item.dtype)

        file.visititems(note)
        experiments = [n for n in arrays if n.startswith("Experiments/") and n.endswith("/data")]
        kind = "HDF5"
        if select is None and DATA_EXCHANGE in arrays:
            key, kind = DATA_EXCHANGE, "Data Exchange HDF5"
        else:
            among = {n: arrays[n] for n in experiments} if experiments and not select else arrays
            key = choose(among, select, path)
        dataset = file[key]
        elsewhere = dataset.is_virtual or dataset.external or dataset.file.filename != str(path)
        if not elsewhere:
            refuse_impossible(path, dataset.shape, dataset.dtype)
        if key in experiments:
            kind = "HSPY"
            axes: Sequence[Axis] = hyperspy_axes(dataset.parent, dataset.shape)
        else:
            axes = _axes(file, dataset, kind)
        stack = stack_of_array(dataset, axes, kind, path.name)
    except BaseException:
        file.close()
        raise
    weakref.finalize(stack.frames, file.close)
    return stack


def hyperspy_axes(group: Any, shape: Sequence[int]) -> list[Axis]:
    """Axes of a HyperSpy signal, from the attributes of its groups `axis-0`, `axis-1` ..."""
    axes = []
    for i, size in enumerate(shape):
        if f"axis-{i}" not in group:
            return plain_axes(shape)
        node = group[f"axis-{i}"]
        attributes = dict(node.attrs)
        values = np.asarray(node["axis"]) if "axis" in node else None
        name = text_of(attributes.get("name")) or plain_axes(shape)[i].name
        scale = attributes.get("scale")
        navigate = attributes.get("navigate")
        axes.append(
            Axis(
                name,
                int(size),
                None if scale is None else float(scale),
                units.tidy(text_of(attributes.get("units"))),
                float(attributes.get("offset", 0.0)),
                values if values is not None and values.shape == (size,) else None,
                None if navigate is None else not bool(navigate),
            )
        )
    return axes


def calibrated(axes: list[Axis], attributes: Mapping[str, Any]) -> list[Axis]:
    """Axes (..., y, x) with what an array's attributes say: `element_size_um` (z, y, x) as the
    HDF5 plugins of ImageJ and ilastik write it, or `pixel_size_nm`, `frame_interval_s`."""
    sizes: dict[int, tuple[float, str]] = {}
    element = np.ravel(attributes.get("element_size_um", ()))
    if element.size == 3:
        sizes |= {i - 3: (float(element[i]), "um") for i in range(3) if float(element[i]) > 0}
    pixel = np.ravel(attributes.get("pixel_size_nm", ()))
    if pixel.size in (1, 2):
        sizes |= {-2: (float(pixel[0]), "nm"), -1: (float(pixel[-1]), "nm")}
    interval = np.ravel(attributes.get("frame_interval_s", ()))
    if interval.size == 1:
        sizes[-3] = (float(interval[0]), "s")
    out = list(axes)
    for i, (scale, unit) in sizes.items():
        if -i <= len(out) and out[i].scale is None and out[i].values is None:
            out[i] = Axis(out[i].name, out[i].size, scale, unit)
    return out


def text_of(value: Any) -> str:
    """A string attribute however HDF5 gives it: str, bytes or an array of one of them."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _axes(file: Any, dataset: Any, kind: str) -> list[Axis]:
    axes = [_scale_axis(d, a) for d, a in zip(dataset.dims, plain_axes(dataset.shape), strict=True)]
    if kind.startswith("Data Exchange") and len(axes) == 3:
        axes = _data_exchange(file, axes)
    return calibrated(axes, dataset.attrs)


def _scale_axis(dimension: Any, plain: Axis) -> Axis:
    """An axis from the HDF5 dimension scale attached to it (netCDF-4, xarray), if any."""
    if not len(dimension):
        return plain
    scale = dimension[0]
    if scale.shape != (plain.size,) or scale.dtype.kind not in "iuf" or plain.size < 2:
        return plain
    values = np.asarray(scale[...], np.float64)
    if not np.isfinite(values).all():
        return plain
    step = (values[-1] - values[0]) / (plain.size - 1)
    unit = units.tidy(text_of(scale.attrs.get("units")))
    even = bool(np.allclose(np.diff(values), step, rtol=1e-3, atol=0.0))
    name = scale.name.rsplit("/", 1)[-1] or plain.name
    return Axis(
        name if name in ("t", "y", "x", "z", "time") else plain.name,
        plain.size,
        float(step) if even else None,
        unit,
        float(values[0]),
        None if even else values,
    )


def _data_exchange(file: Any, axes: list[Axis]) -> list[Axis]:
    """Angles as the axis note, and the pixel size at the specimen (not the camera's own)."""
    theta = file.get("exchange/theta")
    out = list(axes)
    if theta is not None and theta.shape == (axes[0].size,):
        unit = units.tidy(text_of(theta.attrs.get("units"))) or "degree"
        out[0] = Axis("tilt", axes[0].size, unit=unit, values=np.asarray(theta[...], np.float64))
    for i, letter in ((1, "y"), (2, "x")):
        size = file.get(f"measurement/instrument/detector/actual_pixel_size_{letter}")
        if size is not None and size.size == 1:
            unit = units.tidy(text_of(size.attrs.get("units"))) or "m"
            out[i] = Axis(letter, axes[i].size, float(np.ravel(size[()])[0]), unit)
    return out
