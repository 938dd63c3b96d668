"""Terms of one's own for a trend: a measured picture of the frame, or a function of x and y."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxmicro.errors import UsageError

DEPENDENT = 1e-7  # relative size at which what a column adds to the others is rounding
LOOKED_AT = 20_000  # pixels that dependence is judged on


@dataclasses.dataclass(frozen=True)
class OwnTerm:
    """A term by its name; `source` is a table (rows, columns) or is called with x and y.

    Tables with the same numbers are the same term; of functions only the same object is.
    """

    name: str
    source: Any = dataclasses.field(compare=False)
    identity: Any = None

    def on(
        self, x: Float[np.ndarray, " cols"], y: Float[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows cols"]:
        """Its value at every pixel of a frame with these coordinates.

        Raises:
          UsageError: a table or a result of another shape, or values that are not finite numbers.
        """
        shape = y.size, x.size
        if callable(self.source):
            grid = np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)
            with jax.ensure_compile_time_eval():  # a function of jax.numpy inside jax.jit
                table, what = np.asarray(self.source(*grid)), "returned"
        else:
            table, what = self.source, "has"
        if table.shape != shape:
            raise UsageError(
                f"trend term {self.name} {what} shape {table.shape}, but frames are {shape} (rows, "
                "columns); give one value a pixel of the frame, cropped as the movie is"
            )
        if table.dtype.kind not in "iuf" or not np.isfinite(table).all():
            raise UsageError(
                f"trend term {self.name} {what} values that are not finite numbers; correct them"
            )
        return np.array(table, float)


def own_terms(given: Mapping[str, Any] | Sequence[OwnTerm]) -> tuple[OwnTerm, ...]:
    """Terms by their names, checked as far as it goes without a frame."""
    if isinstance(given, tuple) and all(isinstance(term, OwnTerm) for term in given):
        return given
    if not isinstance(given, Mapping):
        raise UsageError(
            "own terms of a trend go by name: own={'flat': picture} or own={'bowl': function}"
        )
    return tuple(_term(name, source) for name, source in given.items())


def _term(name: Any, source: Any) -> OwnTerm:
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w*", name)):
        raise UsageError(f"trend term {name!r} is no name; use letters, digits and _")
    if name in ("x", "y", "bs", "poly", "I"):
        raise UsageError(f"trend term {name!r} has a meaning in formulas already; use another name")
    if callable(source):
        return OwnTerm(name, source, _Same(source))
    table = np.array(source, float) if np.ndim(source) == 2 else np.asarray(source)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise UsageError(
            f"trend term {name} has shape {table.shape}; give a table (rows, columns) of numbers, "
            "or a function of x and y"
        )
    table.flags.writeable = False
    return OwnTerm(name, table, (table.shape, hashlib.sha256(table.tobytes()).digest()))


class _Same:
    """Equal where the object is the same; the object itself may not be hashable."""

    def __init__(self, source: Callable[..., Any]):
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.source is other.source

    def __hash__(self) -> int:
        return id(self.source)


def refuse_dependent(what: str, names: Sequence[str], tables: Sequence[np.ndarray]) -> None:
    """Refuse columns that are constant, or sums of others, so that no fit can tell them apart.

    Raises:
      UsageError: naming the first such column.
    """
    size = tables[0].size
    pick = slice(None, None, max(1, size // LOOKED_AT))
    basis = [np.ones(tables[0].ravel()[pick].size)]
    for name, table in zip(names, tables, strict=True):
        column = table.ravel()[pick]
        others = np.stack(basis, axis=1)
        fitted = others @ np.linalg.lstsq(others, column, rcond=None)[0]
        left, all_of_it = np.linalg.norm(column - fitted), np.linalg.norm(column)
        if not left > DEPENDENT * all_of_it:
            constant = np.ptp(column) <= DEPENDENT * np.abs(column).max(initial=0)
            why = (
                "is constant over the frame, which the class means are already"
                if constant
                else f"is a sum of the others ({', '.join(names[: len(basis) - 1])}) and a constant"
            )
            raise UsageError(f"{what}: the term {name} {why}; leave it out")
        basis.append(column)
