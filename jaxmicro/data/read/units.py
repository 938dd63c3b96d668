"""Lengths to nanometres and times to seconds, whatever unit a file chose.

Pint does the conversion; only what instruments write differently from pint stands in a table.
"""

from __future__ import annotations

import functools
import math
import re
import tokenize
from typing import Any

# Spellings of microscope software that pint lacks or reads as something else ("A" is ampere).
_SPELLINGS = {
    "A": "angstrom",
    "Å": "angstrom",
    "Å": "angstrom",  # the angstrom sign, U+212B, folded by editors: keep both
    "ang": "angstrom",
    "angstroms": "angstrom",
    "u": "micrometer",
    "µ": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "sec": "second",
    "secs": "second",
    "msec": "millisecond",
    "usec": "microsecond",
    "deg": "degree",
    "°": "degree",
}
_UNCALIBRATED = {"", "[]", "px", "pixel", "pixels", "none", "n/a", "<undefined>", "undefined"}
# What a unit can look like: letters with powers and quotients. Anything else is not looked at.
_LOOKS_LIKE_A_UNIT = re.compile(r"[A-Za-zµμÅÅ°/*^. 0-9()-]{1,40}")


def tidy(unit: Any) -> str:
    """The unit as text: escapes such as `\\u00B5m` resolved, both signs for micro made one."""
    if isinstance(unit, bytes):
        unit = unit.decode("utf-8", "replace")
    if not isinstance(unit, str):
        return ""
    text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m.group(1), 16)), unit)
    text = text.replace("\x00", "").strip().replace("μ", "µ")
    return "" if text.lower() in _UNCALIBRATED else text


def to_nm(value: Any, unit: Any) -> float | None:
    """A length in nanometres; None if the unit is not a length (1/nm is not) or the value is
    not a finite number other than 0."""
    return _convert(value, unit, "nanometer")


def to_s(value: Any, unit: Any) -> float | None:
    """A duration in seconds; None if the unit is not a time or the value is not finite."""
    return _convert(value, unit, "second")


def is_length(unit: Any) -> bool:
    return _factor(tidy(unit), "nanometer") is not None


def is_time(unit: Any) -> bool:
    return _factor(tidy(unit), "second") is not None


def _convert(value: Any, unit: Any, target: str) -> float | None:
    factor = _factor(tidy(unit), target)
    if factor is None or value is None:
        return None
    number = abs(float(value)) * factor
    return number if math.isfinite(number) and number > 0 else None


@functools.cache
def _factor(unit: str, target: str) -> float | None:
    import pint

    unit = _SPELLINGS.get(unit, _SPELLINGS.get(unit.lower(), unit))
    if not _LOOKS_LIKE_A_UNIT.fullmatch(unit):
        return None
    try:
        quantity = _registry().Quantity(1.0, unit)
        return float(quantity.to(target).magnitude)
    except (pint.PintError, ValueError, TypeError, tokenize.TokenError, SyntaxError):
        return None  # not a unit at all, or a unit of something else


@functools.cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()
