"""Option texts of the command line, parsed: boxes, ranges, quantities with units."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

from jaxmicro.data.movie import Box, Movie
from jaxmicro.data.read import read_mask
from jaxmicro.data.read.units import to_nm, to_s
from jaxmicro.errors import UsageError


def box(text: str, option: str) -> Box:
    """`Y0:Y1,X0:X1` as (y0, y1, x0, x1)."""
    match = re.fullmatch(r"\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*", text)
    if not match:
        raise UsageError(
            f"{option} {text!r} is not a box; use Y0:Y1,X0:X1, for example 0:200,40:150"
        )
    y0, y1, x0, x1 = map(int, match.groups())
    return y0, y1, x0, x1


def frame_range(text: str, n_frames: int) -> tuple[int, int]:
    """`A:B` (either end may be left out) as (start, stop)."""
    match = re.fullmatch(r"\s*(\d*):(\d*)\s*", text)
    if not match:
        raise UsageError(f"--frames {text!r} is not a range; use A:B, for example 0:20")
    start, stop = match.groups()
    return int(start or 0), int(stop or n_frames)


def length_nm(text: str | None, option: str) -> float | None:
    """A length such as `28.2 nm` or `0.5 um`, in nanometres; None stays None."""
    return None if text is None else _quantity(text, option, to_nm, "28.2 nm")


def length_um(text: str | None, option: str) -> float | None:
    """The same in micrometres."""
    nm = length_nm(text, option)
    return None if nm is None else nm / 1000


def duration_s(text: str | None, option: str) -> float | None:
    """A time such as `0.6 s` or `200 ms`, in seconds; None stays None."""
    return None if text is None else _quantity(text, option, to_s, "0.6 s")


def _quantity(text: str, option: str, convert, example: str) -> float:
    match = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(\D*?)\s*", text)
    try:
        number = float(match[1]) if match else float("nan")
    except ValueError:
        number = float("nan")
    value = convert(number, match[2]) if match and number == number else None
    if number <= 0:
        raise UsageError(f"{option} {text!r} is not allowed; it must be above 0")
    if value is None:
        raise UsageError(
            f"{option} {text!r} is not understood; give a number and a unit, for example "
            f"{example!r}"
        )
    return value


def missing_value(text: str | None) -> float | None:
    """`--missing nan|VALUE`; NaN pixels are never counted as visited, so nan needs no value."""
    if text is None or text.strip().lower() == "nan":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--missing {text!r} is not allowed; use nan or a number") from None


def narrow(
    movie: Movie,
    *,
    frames: tuple[int, int] | None = None,
    crop: Box | None = None,
    exclude: Sequence[Box] = (),
    mask: str | pathlib.Path | None = None,
    missing: float | None = None,
) -> Movie:
    """The part of the movie to work on; `exclude` boxes are in the coordinates of the crop."""
    if mask is not None:
        movie = movie.replace(sampled=read_mask(mask, movie.shape))
    if missing is not None:
        movie = movie.replace(missing=missing)
    if frames is not None:
        movie = movie.select_frames(*frames)
    if crop is not None:
        movie = movie.crop(crop)
    return movie.exclude(exclude)
