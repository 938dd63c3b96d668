"""The true growth curve of a movie, as a table says it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxmicro.data.movie import Movie
from jaxmicro.errors import DataError, UsageError

COLUMNS = ("area_px", "area_um2", "volume_um3")


def read_truth(path: str, movie: Movie, thickness_um: float | None) -> Float[np.ndarray, " T"]:
    """True area of every frame of the movie in pixels.

    The table (CSV) has a column `frame`, the number of the frame in the movie that was read, and
    one of `area_px`, `area_um2` and `volume_um3`.

    Raises:
      DataError: it cannot be read, has no such column, or does not know every frame.
      UsageError: its unit needs a calibration that is not known.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"--truth {path} cannot be read as a table (CSV): {reason}") from problem
    column = next((c for c in COLUMNS if c in table), None)
    if column is None or "frame" not in table:
        raise DataError(
            f"--truth {path} has the columns {', '.join(map(str, table.columns))}; a column frame "
            f"and one of {', '.join(COLUMNS)} are needed"
        )
    known = pd.to_numeric(table.set_index("frame")[column], errors="coerce").dropna()
    known = known[~known.index.duplicated()]
    missing = [int(t) for t in movie.frame_numbers if t not in known.index]
    if missing:
        raise DataError(
            f"--truth {path} does not say {column} of frame {missing[0]} of the movie; give a row "
            "a frame, numbered from 0 as in the movie that is read"
        )
    return known.loc[movie.frame_numbers].to_numpy(float) / _of_a_pixel(column, movie, thickness_um)


def _of_a_pixel(column: str, movie: Movie, thickness_um: float | None) -> float:
    """What a pixel is in the unit of a column."""
    area = movie.pixel_area_um2
    if column == "area_px":
        return 1.0
    if area is None:
        raise UsageError(f"--truth gives {column}, which needs a pixel size; give --pixel-size")
    if column == "area_um2":
        return area
    if thickness_um is None:
        raise UsageError(f"--truth gives {column}, which needs a thickness; give --thickness")
    return area * thickness_um
