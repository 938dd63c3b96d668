"""Regions of interest as users draw them: ImageJ's .roi, napari's shapes, or an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.read.public import read_mask
from jaxmicro.data.read.source import Source
from jaxmicro.data.regions import inside
from jaxmicro.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import roifile

Mask = Bool[np.ndarray, "rows cols"]
SHAPES = ("polygon", "rectangle", "ellipse")
COLUMNS = ("index", "shape-type", "vertex-index", "axis-0", "axis-1")


def read_roi(path: Source, shape: tuple[int, int, int]) -> Bool[np.ndarray, "*frames rows cols"]:
    """Where to look: bool (y, x), or (t, y, x) for one region a frame.

    Args:
      path: ImageJ's `.roi`, or a `.zip` of several from its ROI manager; napari's shapes as it
        saves them (`.csv`: polygons, rectangles, ellipses); or an image or stack that is not 0
        inside, such as napari's labels. Several areas are taken together; where they were drawn
        on different frames, each holds for all frames.
      shape: (t, y, x) of the movie. Regions are in the coordinates of its whole frame.

    A pixel belongs to the region where its centre does (an image's own pixels apart).

    Raises:
      DataError: a file that is missing or damaged, holds no area (lines, points), or none inside
        the frame; an image of another shape than the movie's frames.
    """
    suffix = Path(str(path)).suffix.lower()
    if suffix not in (".roi", ".zip", ".csv"):
        return read_mask(path, shape, what="region of interest")
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    found = (_napari if suffix == ".csv" else _imagej)(Path(path), shape[1:])
    if not found.any():
        raise DataError(
            f"{path}: no pixel of the frame of {shape[1]} rows and {shape[2]} columns lies in the "
            "region; draw it on the movie itself, in pixels of the whole frame"
        )
    return found


def _imagej(path: Path, shape: tuple[int, int]) -> Mask:
    import roifile

    try:
        found = roifile.roiread(path)
    except Exception as problem:  # whatever a damaged file makes of the reader
        raise DataError(f"{path}: not a region as ImageJ saves it ({problem})") from problem
    out = np.zeros(shape, bool)
    for roi in found if isinstance(found, list) else [found]:
        out |= _imagej_area(path, roi, shape)
    return out


def _imagej_area(path: Path, roi: roifile.ImagejRoi, shape: tuple[int, int]) -> Mask:
    """Its pixels, whose centres ImageJ has at (i + .5, j + .5)."""
    from roifile import ROI_TYPE

    kind = roi.roitype
    if roi.composite:
        corners = list(roi.coordinates(multi=True))
    elif kind == ROI_TYPE.OVAL:
        centre = ((roi.top + roi.bottom - 1) / 2, (roi.left + roi.right - 1) / 2)
        half = np.diag([(roi.bottom - roi.top) / 2, (roi.right - roi.left) / 2])
        return _ellipse(np.array(centre), half, shape)
    elif kind in (ROI_TYPE.RECT, ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED):
        if kind == ROI_TYPE.RECT and roi.rounded_rect_arc_size:
            raise DataError(
                f"{path}: a rectangle with rounded corners; in ImageJ make it a polygon "
                "(Edit > Selection > Interpolate) and save it again"
            )
        corners = [np.asarray(roi.coordinates())]
    else:
        raise DataError(
            f"{path}: {kind.name.lower()} encloses no area; draw a rectangle, an oval, a polygon "
            "or a freehand selection"
        )
    return inside([np.asarray(c, float)[:, ::-1] - 0.5 for c in corners], shape)


def _napari(path: Path, shape: tuple[int, int]) -> Mask:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: not a table of napari's shapes ({problem})") from problem
    missing = [c for c in COLUMNS if c not in table.columns]
    if missing:
        raise DataError(
            f"{path}: not a table of napari's shapes: no column {', '.join(missing)}; save the "
            "shapes layer from napari as .csv"
        )
    out = np.zeros(shape, bool)
    for _, one in table.groupby("index"):
        out |= _napari_area(path, one.sort_values("vertex-index"), shape)
    return out


def _napari_area(path: Path, table: pd.DataFrame, shape: tuple[int, int]) -> Mask:
    """The pixels of one shape; row and column are the last two axes, whatever comes before."""
    kind = str(table["shape-type"].iloc[0])
    axes = sorted(c for c in table.columns if c.startswith("axis-"))[-2:]
    try:
        corners = table[axes].to_numpy(float)
    except ValueError:
        corners = np.array([[np.nan, np.nan]])
    if not np.isfinite(corners).all():
        raise DataError(f"{path}: a corner is not a number; save the shapes again")
    if kind not in SHAPES or len(corners) < 3:
        raise DataError(
            f"{path}: a {kind} of {len(corners)} points encloses no area; use {', '.join(SHAPES)}"
        )
    if kind != "ellipse":
        return inside([corners], shape)
    centre = corners.mean(axis=0)
    half = np.stack([corners[1] - corners[0], corners[-1] - corners[0]], axis=1) / 2
    return _ellipse(centre, half, shape)


def _ellipse(
    centre: Float[np.ndarray, " 2"], half: Float[np.ndarray, "2 2"], shape: tuple[int, int]
) -> Mask:
    """Pixels within the ellipse whose half axes are the columns of `half`."""
    away = np.moveaxis(np.indices(shape), 0, -1) - centre
    flat = np.linalg.matrix_rank(half) < 2
    return np.zeros(shape, bool) if flat else ((away @ np.linalg.inv(half).T) ** 2).sum(-1) < 1
