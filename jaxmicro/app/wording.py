"""Sentences that name options of the command line, in the words of a session in Python."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from jaxmicro.errors import JaxmicroError

Given = ParamSpec("Given")
Found = TypeVar("Found")

_OPTION = (
    r"--(?P<name>[a-z][a-z-]*)(?P<gap> )?"
    r"(?P<value>\"[^\"]*\"|'[^']*'|-?\d[\d.,e-]*\d|\d)?"
)
# Options that are not arguments of the same name.
_NAMES = {
    "pixel-size": "Movie(..., pixel_size_nm=)",
    "frame-interval": "Movie(..., frame_interval_s=)",
    "thickness": "thickness_um",
    "frames": "movie[t0:t1]",
    "crop": "movie[:, y0:y1, x0:x1]",
    "exclude": "movie.exclude",
    "visited": "Movie(..., sampled=)",
    "mask": "Movie(..., sampled=)",
    "roi": "Movie(..., valid=)",
    "missing": "Movie(..., missing=)",
}


def as_python(sentence: str) -> str:
    """`--rate 0.1` as `rate=0.1`, and each option by the argument that stands for it."""

    def one(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if name in _NAMES:
            return f"{_NAMES[name]}{match['gap'] or ''}{value or ''}"
        word = name.replace("-", "_")
        return f"{word}={value}" if value else f"{word}{match['gap'] or ''}"

    return re.sub(_OPTION, one, sentence)


def in_python(function: Callable[Given, Found]) -> Callable[Given, Found]:
    """The function with errors and notes that name its arguments, not the command's options."""

    @functools.wraps(function)
    def wrapper(*args: Given.args, **options: Given.kwargs) -> Found:
        try:
            found = function(*args, **options)
        except JaxmicroError as err:
            raise type(err)(as_python(str(err))) from err
        return _with_notes(found)

    return wrapper


def _with_notes(found: Any) -> Any:
    notes = getattr(found, "notes", None)
    if isinstance(notes, tuple) and dataclasses.is_dataclass(found):
        return dataclasses.replace(found, notes=tuple(map(as_python, notes)))  # type: ignore[type-var]
    return found
