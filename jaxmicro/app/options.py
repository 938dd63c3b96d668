"""Option texts of the command line, parsed: boxes, ranges, quantities with units."""

from __future__ import annotations

import re

from jaxmicro.data.movie import Box
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


def quantity(text: str | None, unit: str, option: str) -> float | None:
    """A length or time such as `28.2 nm` or `0.6 s`, in `unit`; None stays None."""
    if text is None:
        return None
    import pint

    example = {"nm": "28.2 nm", "um": "0.5 um", "s": "0.6 s"}[unit]
    try:
        value = pint.UnitRegistry().Quantity(text.replace("μ", "u").replace("µ", "u")).to(unit)
    except (pint.errors.PintError, AttributeError, ValueError, TypeError) as err:
        raise UsageError(
            f"{option} {text!r} is not understood; give a number and a unit, for example {example!r}"
        ) from err
    except Exception as err:  # pint's tokenizer raises the tokenize module's own errors
        if type(err).__module__.startswith(("tokenize", "_tokenize", "pint")):
            raise UsageError(
                f"{option} {text!r} is not understood; give a number and a unit, "
                f"for example {example!r}"
            ) from err
        raise
    number = float(value.magnitude)
    if not 0 < number < float("inf"):
        raise UsageError(f"{option} {text!r} is not allowed; it must be above 0 and finite")
    return number
