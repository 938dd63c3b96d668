"""TIFF: plain, ImageJ, OME and BigTIFF, with the calibration each of them keeps elsewhere."""

from __future__ import annotations

import math
import struct
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read import units
from jaxmicro.data.read.claims import BROKEN, refuse_impossible
from jaxmicro.data.read.stack import Axis, Stack, pixel_dtype, saturation_of, stack_of_array
from jaxmicro.errors import DataError

# A resolution tag without a microscope's name on it counts as calibration below this pitch only:
# 72 to 2400 dots per inch (353 to 10.6 um) are print and screen resolutions.
LARGEST_PLAUSIBLE_NM = 10_000.0

_LABELS = {"T": "t", "Z": "z", "C": "channel", "Q": "frame", "I": "frame", "R": "position"}
_RESOLUTION_UNITS_NM = {2: 25.4e6, 3: 10e6}
OURS = "jaxmicro"  # what our own files say wrote them: the first of their channels is the image


def failures() -> tuple[type[Exception], ...]:
    """What tifffile and its decoders raise on files that are cut short or are not TIFF."""
    # TiffFileError is a ValueError; a decoder's own error is a RuntimeError; a tag table cut
    # short leaves required tags missing (KeyError, TypeError, IndexError, AttributeError).
    return (
        *BROKEN,
        SyntaxError,
        MemoryError,
        ArithmeticError,
        struct.error,
    )


def peek(path: Path) -> tuple[int, int, int]:
    """(frames, rows, columns) from the headers alone."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        return _first_series(tif, path).frames.shape


def open_tiff(path: Path, select: str | None = None) -> Stack:
    """The first image series of the file; frames are read page by page, or memory mapped."""
    import tifffile

    tif = tifffile.TiffFile(path)
    try:
        stack = _first_series(tif, path)
    except BaseException:
        tif.close()
        raise
    weakref.finalize(stack.frames, tif.close)
    return stack


def _first_series(tif: Any, path: Path) -> Stack:
    _refuse_circles(tif, path)
    _refuse_claims(tif, path)
    if not tif.series:
        raise DataError(f"{path.name}: the TIFF holds no image; it may be truncated or damaged")
    series = tif.series[0]
    page = series.keyframe
    _refuse_cut_short(tif, series, path)
    kind, scales, saturation, warnings = _calibration(tif, series, path.name)
    axes = []
    planes = _planes_of_a_stack(tif, series)
    for label, size in zip(series.axes, series.shape, strict=True):
        colour = label == "S" and not planes
        name = label if colour else _LABELS.get(label, "t" if planes else label.lower())
        scale, unit, values = scales.get(label, (None, "", None))
        axes.append(Axis(name, int(size), scale, unit, values=values))
    if series.dataoffset is not None and page.is_memmappable:
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        array: Any = np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    else:
        array = _Pages(series)
    if page.software == OURS and "C" in series.axes:
        at = series.axes.index("C")
        warnings.append(f"the first of its {axes[at].size} channels was read")
        array, axes = _FirstChannel(array, at), [a for i, a in enumerate(axes) if i != at]
    stack = stack_of_array(array, axes, kind, path.name)
    if planes:
        warnings.append(
            f"its {series.shape[0]} images are marked as the colours of one, as tifffile does with "
            "a short stack; they were taken as frames or slices"
        )
    if len(tif.series) > 1:
        warnings.append(
            f"the file has {len(tif.series)} image series; the first, of shape "
            f"{tuple(series.shape)}, was read"
        )
    if stack.axes[0].name == "channel" and stack.n_frames > 1:
        warnings.append("the file calls its frames channels, they are taken in order as a movie")
    if page.photometric == 0:
        warnings.append("the file displays its values inverted (white is zero); they are kept")
    if saturation is not None and stack.saturation is not None:
        stack = stack.replace(saturation=saturation)
    return stack.replace(warnings=(*stack.warnings, *warnings))


def _planes_of_a_stack(tif: Any, series: Any) -> bool:
    """Whether 3 or 4 images were stored as the colours of one because nobody said otherwise.

    tifffile does so with an array (3, y, x) or (4, y, x) of bytes; colour that is meant has its
    samples together, (y, x, 3).
    """
    separate = int(series.keyframe.planarconfig or 1) == 2
    return bool(separate and tif.is_shaped and series.axes.startswith("S"))


class _Pages:
    """A series of compressed or scattered pages that indexes like one array."""

    def __init__(self, series: Any):
        self._pages, self._file = series.pages, series.keyframe.parent
        self.shape, self.dtype = tuple(series.shape), np.dtype(series.dtype)
        page = series.keyframe.shape
        # A page drops out of the series' shape whatever of it has length 1.
        inner = tuple(n for n in page if n > 1)
        n_inner = 0
        while math.prod(self.shape[len(self.shape) - n_inner :]) < math.prod(inner):
            n_inner += 1
        self._outer, self._inner = (
            self.shape[: len(self.shape) - n_inner],
            self.shape[len(self.shape) - n_inner :],
        )

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        outer, inner = index[: len(self._outer)], index[len(self._outer) :]
        if any(isinstance(i, slice) for i in outer):  # an image axis of length 1 across pages
            kept = tuple(0 if isinstance(i, slice) else i for i in outer)
            widen = tuple(None for i in outer if isinstance(i, slice))
        else:
            kept, widen = outer, ()
        number = int(np.ravel_multi_index(kept, self._outer)) if kept else 0
        page = self._pages[number].asarray().reshape(self._inner)
        return page[(*widen, *inner)]


class _FirstChannel:
    """An array indexed as if its axis `at` had only its first place, and were not there."""

    def __init__(self, array: Any, at: int):
        self._array, self._at = array, at
        self.shape = (*array.shape[:at], *array.shape[at + 1 :])
        self.dtype = array.dtype

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        return self._array[(*index[: self._at], 0, *index[self._at :])]


def _refuse_circles(tif: Any, path: Path) -> None:
    """DataError if a page's pointer to the next leads back: tifffile would follow it for ever."""
    file, tiff = tif.filehandle, tif.tiff
    seen: set[int] = set()
    offset = tif.pages[0].offset if tif.pages else 0
    while 0 < offset < file.size:
        if offset in seen:
            raise DataError(f"{path.name}: its pages lead back to an earlier page; it is damaged")
        seen.add(offset)
        file.seek(offset)
        (n_tags,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
        file.seek(offset + tiff.tagnosize + n_tags * tiff.tagsize)
        raw = file.read(tiff.offsetsize)
        if len(raw) < tiff.offsetsize:
            return  # a file cut short says so elsewhere, and better
        (offset,) = struct.unpack(tiff.offsetformat, raw)


def _refuse_claims(tif: Any, path: Path) -> None:
    """DataError if the OME or ImageJ description claims more frames than the file can hold.

    tifffile makes a list of as many pages before it looks for one.
    """
    dtype = np.uint8 if not tif.pages else tif.pages[0].dtype or np.uint8
    if tif.is_ome and tif.ome_metadata:
        for pixels in ElementTree.fromstring(tif.ome_metadata).iterfind(".//{*}Pixels"):
            sizes = [int(pixels.get(f"Size{label}", 1)) for label in "TCZYX"]
            refuse_impossible(path, sizes, dtype)
    elif tif.is_imagej and tif.imagej_metadata:
        frames = int(tif.imagej_metadata.get("images", 1))
        refuse_impossible(path, (frames, *tif.pages[0].shape), dtype)
    for page in tif.pages[:1]:
        refuse_impossible(path, page.shape, dtype)


def _refuse_cut_short(tif: Any, series: Any, path: Path) -> None:
    """DataError if pages are missing or a page's data would lie beyond the end of the file."""
    if any(page is None for page in series.pages):
        raise DataError(f"{path.name}: pages of the movie are missing; keep its files together")
    first, last = series.pages[0], series.pages[-1]
    for page in (first, last):
        if page.parent is not tif:
            continue
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if ends and max(ends) > tif.filehandle.size:
            raise DataError(
                f"{path.name}: the file ends at byte {tif.filehandle.size} but its pixels go on "
                f"to byte {max(ends)}; it is truncated, copy it again"
            )


Scales = dict[str, tuple[float | None, str, np.ndarray | None]]


def _calibration(tif: Any, series: Any, name: str) -> tuple[str, Scales, float | None, list[str]]:
    """Format name, (scale, unit, values) of each axis label, saturation and warnings."""
    page = series.keyframe
    warnings: list[str] = []
    dtype = pixel_dtype(np.dtype(series.dtype), name)
    top = page.tags.valueof(341, page.tags.valueof(281))
    top = top[0] if isinstance(top, Sequence) and top else top
    top = float(top) if isinstance(top, int | float) else None
    bits = page.bitspersample if isinstance(page.bitspersample, int) else None
    big = "BigTIFF" if tif.is_bigtiff else "TIFF"
    if tif.is_ome and tif.ome_metadata:
        scales, ome_bits = _ome(tif.ome_metadata, series)
        return f"OME-{big}", scales, saturation_of(dtype, ome_bits or bits, top), warnings
    saturation = saturation_of(dtype, bits, top)
    if tif.is_imagej and tif.imagej_metadata:
        scales = _imagej(tif.imagej_metadata, page, warnings)
        if page.software == OURS and "T" in series.axes:
            scales |= _own_times(tif.imagej_metadata, series)
        return f"ImageJ {big}", scales, saturation, warnings
    return big, _resolution_tags(page, warnings), saturation, warnings


def _imagej(meta: dict[str, Any], page: Any, warnings: list[str]) -> Scales:
    scales: Scales = {}
    unit = units.tidy(meta.get("unit", ""))
    for label, tag in (("Y", 283), ("X", 282)):
        per_unit = _rational(page.tags.valueof(tag))
        axis_unit = units.tidy(meta.get(f"{label.lower()}unit", "")) or unit
        if per_unit and axis_unit:
            scales[label] = (1.0 / per_unit, axis_unit, None)
            if not units.is_length(axis_unit):
                warnings.append(f"the unit {axis_unit!r} of the pixel size is not a length")
    if meta.get("spacing") is not None:
        scales["Z"] = (float(meta["spacing"]), units.tidy(meta.get("zunit", "")) or unit, None)
    interval = meta.get("finterval")
    if interval:
        scales["T"] = (float(interval), units.tidy(meta.get("tunit", "")) or "s", None)
    return scales


def _own_times(meta: dict[str, Any], series: Any) -> Scales:
    """The time of each frame, which ImageJ has no key for and our files give as text."""
    for line in str(meta.get("Info", "")).splitlines():
        key, _, text = line.partition(":")
        if key == "times_s":
            values = np.array([float(word) for word in text.split()])
            if values.size == series.shape[series.axes.index("T")]:
                return {"T": (None, "s", values)}
    return {}


def _resolution_tags(page: Any, warnings: list[str]) -> Scales:
    """Resolution tags where they can be a microscope's: a unit, and a pitch below 10 um."""
    per_unit_nm = _RESOLUTION_UNITS_NM.get(int(page.tags.valueof(296, default=2) or 0))
    pitch = [_rational(page.tags.valueof(tag)) for tag in (283, 282)]
    if per_unit_nm is None or not all(pitch):
        return {}
    y, x = (per_unit_nm / p for p in pitch if p)
    if max(y, x) >= LARGEST_PLAUSIBLE_NM:
        return {}
    warnings.append(
        f"the pixel size of {x:.5g} nm comes from the TIFF's resolution tags; "
        "give --pixel-size if it is not the specimen's"
    )
    return {"Y": (y, "nm", None), "X": (x, "nm", None)}


def _ome(xml: str, series: Any) -> tuple[Scales, int | None]:
    root = ElementTree.fromstring(xml)
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return {}, None
    scales: Scales = {}
    for label in "XYZ":
        size = pixels.get(f"PhysicalSize{label}")
        if size is not None:
            scales[label] = (float(size), pixels.get(f"PhysicalSize{label}Unit", "µm"), None)
    n_times = dict(zip(series.axes, series.shape, strict=True)).get("T", 1)
    increment = pixels.get("TimeIncrement")
    # Times of the planes are measured, the increment is nominal: the former win.
    deltas: dict[int, tuple[float, str]] = {}
    for plane in pixels.iterfind("{*}Plane"):
        delta, t = plane.get("DeltaT"), int(plane.get("TheT", 0))
        if delta is not None and t not in deltas:
            deltas[t] = (float(delta), plane.get("DeltaTUnit", "s"))
    unit_set = {unit for _, unit in deltas.values()}
    if n_times > 1 and set(deltas) == set(range(n_times)) and len(unit_set) == 1:
        values = np.array([deltas[t][0] for t in range(n_times)])
        scales["T"] = (None, unit_set.pop(), values)
    elif increment is not None:
        scales["T"] = (float(increment), pixels.get("TimeIncrementUnit", "s"), None)
    bits = pixels.get("SignificantBits")
    return scales, int(bits) if bits else None


def _rational(value: Any) -> float | None:
    """A TIFF rational as a float; None where it is absent, 0 or infinite."""
    if not isinstance(value, Sequence) or len(value) < 2 or not value[0] or not value[1]:
        return None
    return float(value[0]) / float(value[1])
