"""Calibrated TIFF stacks, as ImageJ files: Fiji, HyperSpy and napari each find their axes.

ImageJ keeps the pixel size in the resolution tags (pixels per unit) and the rest as `key=value`
lines of the description. HyperSpy takes pixel sizes from there where the unit is "micron", and the
time step and the origins from DigitalMicrograph's private tags, as its own writer does. Stacks
of more than 4 GiB do not fit an ImageJ file and are written as OME-BigTIFF.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from jaxmicro.data.movie import Movie

LARGEST_IMAGEJ = 2**32 - 2**25  # bytes of pixels; the rest of the 4 GiB is for the tables
SOFTWARE = "jaxmicro"
_INT31 = 2**31 - 1  # ImageJ reads both parts of a rational as signed integers
_CM_UM = 10_000.0


@dataclasses.dataclass(frozen=True)
class Channel:
    """One channel: its name, what its values mean, display range and colours ((3, 256) uint8)."""

    name: str
    meaning: str = ""
    shown: tuple[float, float] = (0.0, 255.0)
    colours: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the planes of a stack lie in space and time; None is not known.

    Attributes:
      pixel_size_nm: (y, x).
      offset_px: (row, column) of the first pixel in the frame that was read.
      times_s: (t,) of the frames, in the time of the movie that was read.
      source_frames: (t,) numbers of the frames in the movie that was read.
      spacing_nm: distance of neighbouring slices, for a stack in depth.
      depth: the planes are slices of a volume, not frames.
      source: name of what was read.
    """

    pixel_size_nm: tuple[float, float] | None = None
    offset_px: tuple[int, int] = (0, 0)
    times_s: np.ndarray | None = None
    source_frames: np.ndarray | None = None
    spacing_nm: float | None = None
    depth: bool = False
    source: str = ""

    @classmethod
    def of(cls, movie: Movie) -> Grid:
        return cls(
            movie.pixel_size_nm,
            movie.offset_px,
            movie.times_s,
            movie.frame_numbers,
            source=movie.name,
        )

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) in micrometres, without the last digits of a float's rounding."""
        size = self.pixel_size_nm
        return None if size is None else (round(size[0] / 1000, 12), round(size[1] / 1000, 12))

    @property
    def origin_um(self) -> tuple[float, float]:
        """Place (y, x) of the first pixel in the frame that was read."""
        y, x = self.pixel_um or (1.0, 1.0)
        return self.offset_px[0] * y, self.offset_px[1] * x

    @property
    def step(self) -> float | None:
        """Median time between frames in seconds, or the distance of slices in micrometres."""
        if self.depth:
            return None if self.spacing_nm is None else round(self.spacing_nm / 1000, 12)
        if self.times_s is None or len(self.times_s) < 2:
            return None
        return round(float(np.median(np.diff(self.times_s))), 12)

    @property
    def start(self) -> float:
        """Time of the first frame, in seconds."""
        return 0.0 if self.times_s is None else float(self.times_s[0])


def write_stack(
    path: Path,
    planes: Iterator[np.ndarray],
    shape: tuple[int, ...],
    grid: Grid,
    *,
    dtype: Any = np.uint8,
    channels: Sequence[Channel] = (),
    mode: str = "grayscale",
) -> None:
    """A calibrated stack, (n, y, x) or (n, channel, y, x), written plane by plane.

    Args:
      dtype: uint8, uint16 or float32 (others make it an OME-TIFF).
      channels: as many as the second axis of `shape` is long, if it has four.
      mode: how ImageJ shows channels: grayscale, color or composite.
    """
    write = _imagej if fits_imagej(shape, dtype) else _ome
    options = write(shape, grid, channels, mode)
    tifffile.imwrite(
        path,
        planes,
        shape=shape,
        dtype=dtype,
        photometric="minisblack",
        compression="zlib",
        software=SOFTWARE,
        extratags=_hyperspy_tags(grid),
        **options,
    )


def fits_imagej(shape: Sequence[int], dtype: Any) -> bool:
    """Whether an ImageJ file can hold the stack."""
    kind = np.dtype(dtype)
    return kind.char in "BHf" and math.prod(shape) * kind.itemsize <= LARGEST_IMAGEJ


def size_note(name: str, shape: Sequence[int], dtype: Any) -> str | None:
    """A sentence for the user where the stack is too large for an ImageJ file."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= LARGEST_IMAGEJ:
        return None
    return (
        f"{name} holds more than 4 GiB, too much for an ImageJ file: it is an OME-BigTIFF; open it "
        "in Fiji with File > Import > Bio-Formats"
    )


Options = dict[str, Any]


def _imagej(shape: tuple[int, ...], grid: Grid, channels: Sequence[Channel], mode: str) -> Options:
    axis = "Z" if grid.depth else "T"
    metadata: Options = {"axes": f"{axis}CYX" if len(shape) == 4 else f"{axis}YX", "mode": mode}
    options: Options = {"imagej": True, "metadata": metadata}
    if grid.pixel_um is not None:
        y, x = grid.pixel_um
        metadata["unit"] = "micron"
        options["resolution"] = (_rational(1 / x), _rational(1 / y))
    if any(grid.offset_px):  # the pixel whose coordinates are 0, 0
        metadata |= {"xorigin": -grid.offset_px[1], "yorigin": -grid.offset_px[0]}
    if grid.step is not None and grid.depth:
        metadata["spacing"] = grid.step
    elif grid.step is not None:
        metadata |= {"finterval": grid.step, "fps": 1 / grid.step, "tunit": "s"}
    metadata |= {"Info": _info(grid, channels), "Labels": _plane_labels(shape[0], grid, channels)}
    if channels:
        low, high = channels[0].shown
        metadata |= {"min": low, "max": high}
        metadata["Ranges"] = tuple(v for c in channels for v in c.shown)
        metadata["LUTs"] = [_grey_table() if c.colours is None else c.colours for c in channels]
    return options


def _hyperspy_tags(grid: Grid) -> list[tuple[int, str, int, Any, bool]]:
    """Units, origins and scales of x, y and time or depth in DigitalMicrograph's tags.

    As HyperSpy reads them an origin is the coordinate of the first pixel, in units.
    """
    found: list[tuple[int, str, Any]] = []
    if grid.pixel_um is not None:
        micro = b"\xb5m"
        (y, x), (top, left) = grid.pixel_um, grid.origin_um
        found += [(65003, "s", micro), (65004, "s", micro), (65006, "d", left), (65007, "d", top)]
        found += [(65009, "d", x), (65010, "d", y)]
    if grid.step is not None:
        unit = b"\xb5m" if grid.depth else b"s"
        start = 0.0 if grid.depth else grid.start
        found += [(65005, "s", unit), (65008, "d", start), (65011, "d", grid.step)]
    return [
        (code, kind, len(value) + 1 if kind == "s" else 1, value, True)
        for code, kind, value in sorted(found)
    ]


def _info(grid: Grid, channels: Sequence[Channel]) -> str:
    """What ImageJ has no key for, as text for Image > Show Info."""
    lines = ["written by jaxmicro"]
    lines += [f"source: {grid.source}"] if grid.source else []
    lines += [f"channel {i}: {c.name}: {c.meaning}" for i, c in enumerate(channels, 1)]
    y, x = grid.offset_px
    lines.append(f"offset_px: {y} {x} (row and column of the first pixel in the source)")
    if grid.source_frames is not None:
        lines.append("source_frames: " + " ".join(map(str, grid.source_frames)))
    if grid.times_s is not None:
        lines.append("times_s: " + " ".join(f"{t:.9g}" for t in grid.times_s))
    return "\n".join(lines) + "\n"


def _plane_labels(n: int, grid: Grid, channels: Sequence[Channel]) -> list[str]:
    """ImageJ's subtitle of each plane: the frame in the source, its time, the channel."""
    names = [f", {c.name}" for c in channels] or [""]
    if grid.depth or grid.source_frames is None:
        places = [f"{'slice' if grid.depth else 'frame'} {i}" for i in range(n)]
    else:
        places = [f"frame {i}" for i in grid.source_frames]
    if grid.times_s is not None:
        places = [f"{p}, {t:.6g} s" for p, t in zip(places, grid.times_s, strict=True)]
    return [place + name for place in places for name in names]


def _rational(value: float) -> tuple[int, int]:
    """Numerator and denominator of a tag, both below 2**31."""
    largest = max(1, min(_INT31, int(_INT31 / max(value, 1e-9))))
    found = fractions.Fraction(value).limit_denominator(largest)
    return found.numerator, found.denominator


@functools.cache
def _grey_table() -> np.ndarray:
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def _ome(shape: tuple[int, ...], grid: Grid, channels: Sequence[Channel], mode: str) -> Options:
    axis = "Z" if grid.depth else "T"
    metadata: Options = {"axes": f"{axis}CYX" if len(shape) == 4 else f"{axis}YX"}
    options: Options = {"ome": True, "bigtiff": True, "metadata": metadata}
    if channels:
        metadata["Channel"] = {"Name": [c.name for c in channels]}
    metadata["Description"] = _info(grid, channels)
    n_planes = math.prod(shape[:-2])
    plane: Options = {}
    if grid.pixel_um is not None:
        y, x = grid.pixel_um
        metadata |= {"PhysicalSizeY": y, "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeX": x, "PhysicalSizeXUnit": "µm"}
        for name, place in zip("YX", grid.origin_um, strict=True):
            plane |= {f"Position{name}": [place] * n_planes}
            plane |= {f"Position{name}Unit": ["µm"] * n_planes}
        options["resolution"] = (_rational(_CM_UM / x), _rational(_CM_UM / y))
        options["resolutionunit"] = "CENTIMETER"
    if grid.step is not None and grid.depth:
        metadata |= {"PhysicalSizeZ": grid.step, "PhysicalSizeZUnit": "µm"}
    elif grid.step is not None:
        metadata |= {"TimeIncrement": grid.step, "TimeIncrementUnit": "s"}
    if grid.times_s is not None:
        each = np.repeat(grid.times_s, n_planes // shape[0]).tolist()
        plane |= {"DeltaT": each, "DeltaTUnit": ["s"] * n_planes}
    if plane:
        metadata["Plane"] = plane
    return options
