"""Lengths to nanometres and times to seconds, whatever unit a file chose.

Pint does the conversion; only what instruments write differently from pint stands in a table.
"""

from __future__ import annotations

import functools
import math
import re
import tokenize
import unicodedata
from typing import Any

# Spellings of microscope software that pint lacks or reads as something else ("A" is ampere).
_SPELLINGS = {
    "A": "angstrom",
    "Å": "angstrom",
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
_UNCALIBRATED = {"", "px", "pixel", "pixels", "none", "n/a", "<undefined>", "undefined"}
# A length or a time is one word; "per pixel" adds nothing. 1/nm and the like are neither.
_ONE_WORD = re.compile(r"([A-Za-zµÅ°]{1,30})( ?(/|per) ?(px|pixel))?")


def tidy(unit: Any) -> str:
    """The unit as text: escapes such as `\\u00B5m` resolved, both signs for micro made one."""
    if isinstance(unit, bytes):
        unit = unit.decode("utf-8", "replace")
    if not isinstance(unit, str):
        return ""
    text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m.group(1), 16)), unit)
    # NFKC makes the angstrom sign a letter, and both signs for micro the Greek one.
    text = unicodedata.normalize("NFKC", text.replace("\x00", "")).strip().replace("μ", "µ")
    if text.startswith("[") and text.endswith("]"):  # NCEM writes [n_m]
        text = text[1:-1].replace("_", "")
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


def _convert(value: Any, unit: Any, target: str) -> float | None:
    factor = _factor(tidy(unit), target)
    if factor is None or value is None:
        return None
    number = abs(float(value)) * factor
    return number if math.isfinite(number) and number > 0 else None


@functools.cache
def _factor(unit: str, target: str) -> float | None:
    import pint

    word = _ONE_WORD.fullmatch(unit)
    if word is None:
        return None
    name = word[1].lower() if len(word[1]) > 4 else word[1]  # Micrometer, but MHz and mHz
    unit = _SPELLINGS.get(name, _SPELLINGS.get(name.lower(), name))
    try:
        quantity = _registry().Quantity(1.0, unit)
        return float(quantity.to(target).magnitude)
    except (pint.PintError, ValueError, TypeError, tokenize.TokenError, SyntaxError):
        return None  # not a unit at all, or a unit of something else


@functools.cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()
