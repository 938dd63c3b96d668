"""Trend formulas: from `x + y + x:y` to columns f_j of the design.

Every term is a product of a function of x and a function of y, so a basis is two small tables
(one value per row, one per column of the frame) whatever the size of the movie.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

import formulaic
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from jaxmicro.errors import UsageError


def _spline(grid: np.ndarray, **arguments: int) -> np.ndarray:
    """B-splines, arguments as in R's `bs`: df and degree."""
    call = ", ".join(["grid", *(f"{name}={value}" for name, value in arguments.items())])
    return np.asarray(formulaic.model_matrix(f"0 + bs({call})", pd.DataFrame({"grid": grid})))


def _polynomials(grid: np.ndarray, degree: int) -> np.ndarray:
    """Legendre polynomials from degree 1 on: orthogonal over the frame, as those of R's `poly`."""
    return np.polynomial.legendre.legvander(grid, degree)[:, 1:]


# A basis by name: from coordinates (n,) and whole numbers to columns (n, terms), and those numbers.
BASES: dict[str, tuple[Callable[..., np.ndarray], tuple[str, ...]]] = {
    "bs": (_spline, ("df", "degree")),
    "poly": (_polynomials, ("degree",)),
}
_ALLOWED = (
    "x, y, powers like x**2, products x:y or x*y, splines bs(x, df=5), orthogonal polynomials "
    "poly(x, 2), joined by +"
)
# Formulas may come from files and formulaic evaluates Python, so only these tokens get that far.
_FACTOR = re.compile(
    rf"(?P<basis>{'|'.join(BASES)})\(\s*(?P<var>[xy])"
    r"(?P<args>(?:\s*,\s*(?:[a-z]+\s*=\s*)?\d+)*)\s*\)"
    r"|(?P<base>[xy])\s*(?:\*\*\s*(?P<power>[1-9]))?(?![\w(])"
)
_JOIN = re.compile(r"[\s+:*()]")


@dataclasses.dataclass(frozen=True)
class Trend:
    """A parsed trend formula.

    `formula` follows Wilkinson's rules in x and y with `**` for powers; there is never an
    intercept, because each class has its own mean. Coordinates run from -1 at the first row or
    column of the frame to +1 at the last. An empty formula is no trend.

    Raises:
      UsageError: anything in the formula that is not x, y, a power, a product or one of `BASES`.
    """

    formula: str = ""

    def __post_init__(self) -> None:
        _ = self.terms  # what cannot be read or computed is refused here

    @property
    def terms(self) -> tuple[str, ...]:
        """Column names, as in the formula; a spline has one per basis function."""
        return tuple(name for name, _, _ in _columns(self.formula, 101, 101))

    @property
    def n_terms(self) -> int:
        return len(self.terms)

    def factors(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row factors (P, rows) and column factors (P, columns), float64.

        f_j at pixel (row, col) is `by_row[j, row] * by_col[j, col]`.
        """
        columns = _columns(self.formula, *shape)
        by_row = np.array([r for _, r, _ in columns]).reshape(len(columns), shape[0])
        by_col = np.array([c for _, _, c in columns]).reshape(len(columns), shape[1])
        return by_row, by_col

    def design(
        self,
        rows: Int[Array, "*batch n"],
        cols: Int[Array, "*batch n"],
        shape: tuple[int, int],
        dtype: jnp.dtype | None = None,
    ) -> Float[Array, "P *batch n"]:
        """The columns f_j at the given pixels, term axis first."""
        by_row, by_col = (jnp.asarray(a, dtype) for a in self.factors(shape))
        if not self.n_terms:
            return jnp.zeros((0, *rows.shape), by_row.dtype)
        return jnp.stack([by_row[j][rows] * by_col[j][cols] for j in range(self.n_terms)])

    def surface(self, coefficients: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The trend over a whole frame, (rows, columns), in the units of `coefficients`."""
        by_row, by_col = self.factors(shape)
        return np.einsum("j,jr,jc->rc", np.asarray(coefficients, float), by_row, by_col)


@functools.lru_cache(maxsize=64)
def _parsed(formula: str) -> tuple[tuple[str, ...], ...]:
    """Terms as tuples of factor texts, expanded by formulaic from checked tokens."""
    text = formula.strip()
    if not text:
        return ()
    known: dict[str, str] = {}
    out, at = [], 0
    while at < len(text):
        match = _FACTOR.match(text, at)
        if match:
            if match["base"]:
                factor = match["base"] + (f"**{match['power']}" if match["power"] else "")
                factor = factor.removesuffix("**1")
            else:
                factor = _call(match["basis"], match["var"], match["args"])
            symbol = f"f{'_' * (1 + len(known))}"
            symbol = next((s for s, f in known.items() if f == factor), symbol)
            known[symbol] = factor
            out.append(symbol)
            at = match.end()
        elif _JOIN.match(text[at]) and not text.startswith("**", at):
            out.append(text[at])
            at += 1
        else:
            raise UsageError(
                f"trend {formula!r}: cannot read {text[at : at + 12]!r}; allowed are {_ALLOWED}"
            )
    try:
        expanded = formulaic.Formula("0 + " + "".join(out))
    except (formulaic.errors.FormulaSyntaxError, formulaic.errors.FormulaInvalidError) as err:
        raise UsageError(f"trend {formula!r} is not a formula; allowed are {_ALLOWED}") from err
    terms = tuple(tuple(known[f.expr] for f in term.factors) for term in expanded)
    if not terms:
        raise UsageError(f"trend {formula!r} has no term; allowed are {_ALLOWED}")
    return terms


@functools.lru_cache(maxsize=64)
def _columns(
    formula: str, n_rows: int, n_cols: int
) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    """(name, values by row, values by column) of every column of the design."""
    grids = {"y": np.linspace(-1.0, 1.0, n_rows), "x": np.linspace(-1.0, 1.0, n_cols)}
    out: list[tuple[str, np.ndarray, np.ndarray]] = []
    for term in _parsed(formula):
        columns = [("", np.ones(n_rows), np.ones(n_cols))]
        for factor in term:
            variable = "y" if "y" in factor else "x"
            table = _factor_values(factor, variable, grids[variable])
            columns = [
                (
                    f"{name}:{label}" if name else label,
                    by_row * values if variable == "y" else by_row,
                    by_col * values if variable == "x" else by_col,
                )
                for name, by_row, by_col in columns
                for label, values in table
            ]
        out.extend(columns)
    for _, by_row, by_col in out:
        by_row.flags.writeable = by_col.flags.writeable = False
    return tuple(out)


def _call(basis: str, variable: str, text: str) -> str:
    """A basis as it is named: `bs(x, df=5)`, arguments by their names."""
    names = BASES[basis][1]
    given = [a for a in re.sub(r"\s+", "", text).split(",") if a]
    named = [a if "=" in a else f"{n}={a}" for n, a in zip(names, given, strict=False)]
    unknown = [a for a in named if a.partition("=")[0] not in names] + given[len(names) :]
    if unknown:
        raise UsageError(f"trend: {basis}({variable}{text}) takes {' and '.join(names)} only")
    return f"{basis}({', '.join([variable, *named])})"


def _factor_values(factor: str, variable: str, grid: np.ndarray) -> list[tuple[str, np.ndarray]]:
    basis, bracket, rest = factor.partition("(")
    if not bracket:
        power = int(factor.partition("**")[2] or 1)
        return [(factor, grid**power)]
    pairs = (a.split("=") for a in rest.rstrip(")").split(", ")[1:])
    try:
        values = BASES[basis][0](grid, **{name: int(value) for name, value in pairs})
    except TypeError as err:
        names = " and ".join(BASES[basis][1])
        raise UsageError(f"trend: {factor} lacks {names}; use for example poly(x, 2)") from err
    except (ValueError, formulaic.errors.FormulaicError) as err:
        raise UsageError(
            f"trend: {factor} is not possible ({err}); use for example bs(x, df=5) or poly(x, 2)"
        ) from err
    return [(f"{factor}[{j + 1}]", values[:, j]) for j in range(values.shape[1])]
