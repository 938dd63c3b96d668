"""Option texts of the command line, parsed: boxes, ranges, quantities with units."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from jaxmicro.data.movie import Box, Movie
from jaxmicro.data.read import read_mask, read_roi
from jaxmicro.data.read.source import open_source
from jaxmicro.data.read.units import to_nm, to_s
from jaxmicro.data.regions import one_region
from jaxmicro.errors import UsageError
from jaxmicro.growth.thickness import Thickness


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


def thickness_asked(text: str | None, option: str = "--thickness") -> float | None:
    """`0.5 um`, or with a standard error `0.5 +- 0.05 um`, in micrometres; None stays None."""
    if text is None:
        return None
    parts = re.split(r"\s*(?:\+-|\+/-|±)\s*", text.strip())
    if len(parts) == 1:
        return length_um(text, option)
    unit = re.search(r"[^\d.\s]+\s*$", parts[-1])
    value, error = parts[0], parts[-1]
    if unit is not None and re.fullmatch(r"[\d.eE+-]+", value):
        value = f"{value} {unit[0]}"
    if len(parts) > 2 or not value or not error:
        raise UsageError(f'{option} {text!r} is not understood; write for example "0.5 +- 0.05 um"')
    um, se = length_um(value, option), length_um(error, option)
    assert um is not None
    assert se is not None
    return Thickness(um, se)


def duration_s(text: str | None, option: str) -> float | None:
    """A time such as `0.6 s` or `200 ms`, or a rate such as `25 fps`, in seconds."""
    if text is None:
        return None
    rate = re.fullmatch(r"(.*?)\s*(fps|hz|1/s)\s*", text, re.IGNORECASE)
    if rate is None:
        return _quantity(text, option, to_s, "0.6 s")
    return 1 / _quantity(f"{rate[1]} s", option, to_s, "1.667 fps", said=text)


def share(text: str | None, option: str) -> float | None:
    """A share such as `0.1` or `10%`; None stays None, bounds are for others to check."""
    if text is None:
        return None
    percent = text.strip().endswith("%")
    number = _number(text.strip().removesuffix("%"))
    if number is None:
        raise UsageError(f"{option} {text!r} is not understood; give a share such as 0.1 or 10%")
    if number > 1 and not percent:
        raise UsageError(
            f"{option} {text} is not allowed; it is the share of pixels visited, above 0 and up to "
            f"1; for {text} percent write {text}%"
        )
    return number / 100 if percent else number


def _number(text: str) -> float | None:
    """A plain number, or None."""
    plain = re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", text, re.IGNORECASE)
    return float(text) if plain else None


def _quantity(text: str, option: str, convert, example: str, said: str | None = None) -> float:
    said = text if said is None else said
    match = re.fullmatch(r"\s*([-+]?[\d.,]+(?:[eE][-+]?\d+)?)\s*(\D*?)\s*", text)
    if match and "," in match[1]:
        raise UsageError(
            f"{option} {said!r} has a comma; write the number with a point and without thousands "
            f"separators, for example {example!r}"
        )
    number = _number(match[1]) if match else None
    if number is not None and number <= 0:
        raise UsageError(f"{option} {said!r} is not allowed; it must be above 0")
    if match and number is not None and not match[2]:
        unit = example.rsplit(" ", 1)[1]
        raise UsageError(f'{option} {said!r} has no unit; write for example "{said} {unit}"')
    value = convert(number, match[2]) if match and number is not None else None
    if match and value is None and number is not None:  # NM or Um, as typed in haste
        value = convert(number, match[2].lower())
    if value is None:
        raise UsageError(
            f"{option} {said!r} is not understood; give a number and a unit, for example "
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
    roi: str | pathlib.Path | None = None,
    visited: str | pathlib.Path | None = None,
    missing: float | None = None,
) -> Movie:
    """The part of the movie to work on.

    `roi` and `visited` are in the coordinates of the whole frame, `exclude` boxes in those of the
    crop.
    """
    if roi is not None:
        movie = movie.within(read_roi(roi, movie.shape))
    if visited is not None:
        movie = movie.replace(sampled=read_mask(visited, movie.shape))
    if missing is not None:
        movie = movie.replace(missing=missing)
    if crop is not None:
        movie = movie.crop(crop)
    movie = movie.exclude(exclude)
    if frames is not None:
        movie = movie.select_frames(*frames)
    told = [] if roi is None else [_region_note(movie)]
    if movie.sampled is not None and one_region(movie.sampled):
        told.append(
            "the visited pixels are one connected region, and areas are those of the whole frame; "
            "where only that region is to be measured, use --roi instead of --visited"
        )
    return movie.replace(warnings=(*movie.warnings, *told))


def _region_note(movie: Movie) -> str:
    """How much of the frame the region is, so that a region that went astray is seen."""
    counts = [int(np.count_nonzero(movie.domain(t))) for t in range(movie.n_frames)]
    frame = movie.shape[1] * movie.shape[2]
    some = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    share = 100 * max(counts) / frame
    return f"region of interest: {some} of {frame} pixels of a frame ({share:.3g} %)"


def visited_file(visited: str | None, mask: str | None) -> str | None:
    """`--visited`, or the file of its old name `--mask` where that says which pixels were visited.

    Raises:
      UsageError: both are given, or the mask is a region rather than a scan pattern.
    """
    if mask is None:
        return visited
    if visited is not None:
        raise UsageError("--mask is the old name of --visited; give one of them")
    stack = open_source(mask)
    first = np.asarray(stack.frames[0])
    if one_region((first != 0) & ~np.isnan(first)):
        raise UsageError(
            f"--mask {mask} is one connected region; use --roi if only that region is to be "
            "measured, or --visited if the beam went nowhere else and the area of the whole frame "
            "is asked for"
        )
    return mask
