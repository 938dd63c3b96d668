"""Trends: from a formula, and terms of one's own, to columns f_j of the design.

Every term of a formula in x and y is a product of a function of x and a function of y, so a basis
is two small tables (one value per row, one per column of the frame) whatever the size of the movie.
A term of one's own is a table of the whole frame.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.errors import UsageError
from jaxmicro.mixture.formula import factor_values, parsed
from jaxmicro.mixture.own_terms import OwnTerm, own_terms, refuse_dependent


@dataclasses.dataclass(frozen=True)
class Trend:
    """A parsed trend formula.

    `formula` follows Wilkinson's rules in x and y with `**` for powers; there is never an
    intercept, because each class has its own mean, so R's `1 +`, `0 +` and `- 1` change nothing.
    Coordinates run from -1 at the first row or column of the frame to +1 at the last. An empty
    formula is no trend.

    `own` gives names that the formula may use beside x and y:
    `Trend("x + y + flat", own={"flat": picture})`. Each is a table of the frame, (rows, columns),
    such as a measured flat field, or anything that is called with x and y, both (rows, columns),
    and returns such a table: a function, or an object with `__call__`. A function counts as the
    same trend only where it is the same object: define it once, or programs are compiled again.

    Raises:
      UsageError: anything in the formula that is not x, y, a power, a product, one of
        `jaxmicro.mixture.formula.BASES` or a name of `own`; a name of `own` that cannot be one, or
        is not used. Tables of another shape, constant columns and terms that depend on one another
        are refused at the first use, when the frame's shape is known.
    """

    formula: str = ""
    own: Mapping[str, Any] | tuple[OwnTerm, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.formula, str):
            raise UsageError(
                f'trend {self.formula!r} is not a formula; give a text such as "x + y", or "" for '
                "no trend"
            )
        object.__setattr__(self, "own", own_terms(self.own))
        terms = parsed(self.formula, self._names)
        used = {factor for term in terms for factor in term}
        for name in self._names:
            if name not in used:
                raise UsageError(
                    f"trend {self.formula!r} does not use {name}, a term of its own; write it into "
                    f"the formula, for example {' + '.join(filter(None, (self.formula, name)))!r}"
                )
        if not self.own:
            _ = self.terms  # what cannot be computed is refused here

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self._own)

    @property
    def _own(self) -> tuple[OwnTerm, ...]:
        assert isinstance(self.own, tuple)
        return self.own

    def part(self, formula: str) -> Trend:
        """The trend of another formula, with those terms of one's own that it uses."""
        used = {factor for term in parsed(formula, self._names) for factor in term}
        return Trend(formula, tuple(term for term in self._own if term.name in used))

    @property
    def terms(self) -> tuple[str, ...]:
        """Column names, as in the formula; a spline has one per basis function."""
        if not self._own:
            return tuple(c.name for c in _columns(self.formula, (), 101, 101))
        like = tuple(OwnTerm(name, _nothing) for name in self._names)
        return tuple(c.name for c in _columns(self.formula, like, 101, 101))

    @property
    def n_terms(self) -> int:
        return len(self.terms)

    def columns(self, shape: tuple[int, int]) -> tuple[Column, ...]:
        """The columns f_j on frames of that shape.

        Raises:
          UsageError: terms of one's own that have another shape, or that no fit can tell apart.
        """
        return _told_apart(self.formula, self._own, *shape)

    def factors(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row factors (P, rows) and column factors (P, columns), float64.

        f_j at pixel (row, col) is `by_row[j, row] * by_col[j, col]`.

        Raises:
          UsageError: terms of one's own, which are no such products.
        """
        if self._own:
            raise UsageError(f"trend {self.formula!r} has terms that are no products of x and y")
        columns = self.columns(shape)
        by_row = np.array([c.by_row for c in columns]).reshape(len(columns), shape[0])
        by_col = np.array([c.by_col for c in columns]).reshape(len(columns), shape[1])
        return by_row, by_col

    def values_at(
        self, rows: Int[np.ndarray, " n"], cols: Int[np.ndarray, " n"], shape: tuple[int, int]
    ) -> Float[np.ndarray, "P n"]:
        """The columns f_j at the given pixels in NumPy, float64."""
        columns = self.columns(shape)
        out = np.empty((len(columns), rows.size))
        for j, c in enumerate(columns):
            out[j] = c.by_row[rows] * c.by_col[cols]
            if c.frame is not None:
                out[j] *= c.frame[rows, cols]
        return out

    def design(
        self,
        rows: Int[Array, "*batch n"],
        cols: Int[Array, "*batch n"],
        shape: tuple[int, int],
        dtype: jnp.dtype | None = None,
    ) -> Float[Array, "P *batch n"]:
        """The columns f_j at the given pixels, term axis first."""
        columns = self.columns(shape)
        if not columns:
            return jnp.zeros((0, *rows.shape), dtype)

        def at_pixels(c: Column) -> Array:
            by_row, by_col = jnp.asarray(c.by_row, dtype), jnp.asarray(c.by_col, dtype)
            flat = by_row[rows] * by_col[cols]
            return flat if c.frame is None else flat * jnp.asarray(c.frame, dtype)[rows, cols]

        return jnp.stack([at_pixels(c) for c in columns])

    def surface(self, coefficients: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The trend over a whole frame, (rows, columns), in the units of `coefficients`."""
        out = np.zeros(shape)
        for coefficient, column in zip(np.asarray(coefficients), self.columns(shape), strict=True):
            out += float(coefficient) * column.on_frame()
        return out


def _nothing(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Stands for a term of one's own where only names are asked for."""
    return np.zeros_like(x)


@functools.lru_cache(maxsize=64)
def _columns(
    formula: str, own: tuple[OwnTerm, ...], n_rows: int, n_cols: int
) -> tuple[Column, ...]:
    """Every column of the design on a frame of that shape."""
    grids = {"y": np.linspace(-1.0, 1.0, n_rows), "x": np.linspace(-1.0, 1.0, n_cols)}
    tables = {term.name: term for term in own}
    out: list[Column] = []
    for term in parsed(formula, tuple(tables)):
        columns = [Column("", np.ones(n_rows), np.ones(n_cols))]
        for factor in term:
            if factor in tables:
                frame = tables[factor].on(grids["x"], grids["y"])
                columns = [c.times_frame(factor, frame) for c in columns]
                continue
            variable = "y" if "y" in factor else "x"
            table = factor_values(factor, variable, grids[variable])
            columns = [c.times(label, variable, v) for c in columns for label, v in table]
        out.extend(columns)
    for column in out:
        for array in (column.by_row, column.by_col, column.frame):
            if array is not None:
                array.flags.writeable = False
    return tuple(out)


@functools.lru_cache(maxsize=64)
def _told_apart(
    formula: str, own: tuple[OwnTerm, ...], n_rows: int, n_cols: int
) -> tuple[Column, ...]:
    """The same, after a look whether terms of one's own depend on the others."""
    out = _columns(formula, own, n_rows, n_cols)
    if own:
        names = [c.name for c in out]
        refuse_dependent(f"trend {formula!r}", names, [c.on_frame() for c in out])
    return out


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the design: by_row x by_col and, with terms of one's own, x a whole frame."""

    name: str
    by_row: Float[np.ndarray, " rows"]
    by_col: Float[np.ndarray, " cols"]
    frame: Float[np.ndarray, "rows cols"] | None = None

    def times(self, label: str, variable: str, values: np.ndarray) -> Column:
        """The column times a function of x or of y."""
        return Column(
            f"{self.name}:{label}" if self.name else label,
            self.by_row * values if variable == "y" else self.by_row,
            self.by_col * values if variable == "x" else self.by_col,
            self.frame,
        )

    def times_frame(self, label: str, values: np.ndarray) -> Column:
        """The column times a table of the whole frame."""
        name = f"{self.name}:{label}" if self.name else label
        frame = values if self.frame is None else self.frame * values
        return Column(name, self.by_row, self.by_col, frame)

    def on_frame(self) -> Float[np.ndarray, "rows cols"]:
        """Its value at every pixel of the frame."""
        flat = self.by_row[:, None] * self.by_col[None, :]
        return flat if self.frame is None else flat * self.frame
