"""Formulas of trends: from `x + y + x:y` to terms, each a product of factors.

Only checked tokens get as far as formulaic, which evaluates Python: formulas may come from files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import formulaic
import numpy as np
import pandas as pd

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
_FACTOR = re.compile(
    rf"(?P<basis>{'|'.join(BASES)})\(\s*(?P<var>[xy])"
    r"(?P<args>(?:\s*,\s*(?:[a-z]+\s*=\s*)?\d+)*)\s*\)"
    r"|(?P<base>[xy])\s*(?:\*\*\s*(?P<power>[1-9]))?(?![\w(])"
)
_JOIN = re.compile(r"[\s+:*()]")
_NAME = re.compile(r"[A-Za-z]\w*(?!\w|\s*\()")
# As R writes it: a tilde, intercepts (there never is one), powers and products as they are.
_R = (
    (r"^\s*~", ""),
    (r"\bI\(\s*([xy])\s*(?:\*\*|\^)\s*([1-9])\s*\)", r"\1**\2"),
    (r"\bI\(\s*([xy])\s*\*\s*([xy])\s*\)", r"\1:\2"),
    (r"^\s*0\s*$", ""),
    (r"^\s*[-+]?\s*[01]\s*\+", ""),
    (r"\s*[-+]\s*[01]\s*(?=[-+]|$)", ""),
)
_HINTS = (
    (r"\^", "a power is written x**2"),
    (r"-", "terms cannot be taken away, write those that stay"),
    (r"[01]\s*$", "the class means are the intercepts, for no trend write 0"),
    (r"\d", "coefficients are fitted, write the terms alone"),
    (r"I\(", "write x**2 or x:y as they are"),
    (r"[A-Za-z_]\w*", "a function or a picture of your own goes with its name into "
     "Trend(formula, own={name: ...})"),
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def parsed(formula: str, own: tuple[str, ...] = ()) -> tuple[tuple[str, ...], ...]:
    """Terms as tuples of factor texts, expanded by formulaic from checked tokens.

    `own` are names that may stand in the formula beside x and y.

    Raises:
      UsageError: anything else in the formula.
    """
    text = formula
    for pattern, plain in _R:
        text = re.sub(pattern, plain, text)
    text = text.strip()
    if not text:
        return ()
    known: dict[str, str] = {}
    out, at = [], 0
    while at < len(text):
        factor, end = _factor_at(text, at, own)
        if factor:
            symbol = f"f{'_' * (1 + len(known))}"
            symbol = next((s for s, f in known.items() if f == factor), symbol)
            known[symbol] = factor
            out.append(symbol)
        elif _JOIN.match(text[at]) and not text.startswith("**", at):
            out.append(text[at])
            end = at + 1
        else:
            raise UsageError(
                f"trend {formula!r}: cannot read {text[at : at + 12]!r}; allowed are "
                f"{_ALLOWED}{_hint(text[at:])}"
            )
        at = end
    try:
        expanded = formulaic.Formula("0 + " + "".join(out))
    except (formulaic.errors.FormulaSyntaxError, formulaic.errors.FormulaInvalidError) as err:
        raise UsageError(f"trend {formula!r} is not a formula; allowed are {_ALLOWED}") from err
    terms = tuple(tuple(known[f.expr] for f in term.factors) for term in expanded)
    if not terms:
        raise UsageError(f"trend {formula!r} has no term; allowed are {_ALLOWED}")
    return terms


def _factor_at(text: str, at: int, own: tuple[str, ...]) -> tuple[str, int]:
    """The factor that begins here, as it is named, and where it ends; "" where none does."""
    name = _NAME.match(text, at)
    if name and name[0] in own:
        return name[0], name.end()
    match = _FACTOR.match(text, at)
    if match is None:
        return "", at
    if not match["base"]:
        return _call(match["basis"], match["var"], match["args"]), match.end()
    factor = match["base"] + (f"**{match['power']}" if match["power"] else "")
    return factor.removesuffix("**1"), match.end()


def _hint(rest: str) -> str:
    """What to write in the place of what cannot be read."""
    return next((f"; {told}" for pattern, told in _HINTS if re.match(pattern, rest)), "")


def _call(basis: str, variable: str, text: str) -> str:
    """A basis as it is named: `bs(x, df=5)`, arguments by their names."""
    names = BASES[basis][1]
    given = [a for a in re.sub(r"\s+", "", text).split(",") if a]
    named = [a if "=" in a else f"{n}={a}" for n, a in zip(names, given, strict=False)]
    unknown = [a for a in named if a.partition("=")[0] not in names] + given[len(names) :]
    if unknown:
        raise UsageError(f"trend: {basis}({variable}{text}) takes {' and '.join(names)} only")
    return f"{basis}({', '.join([variable, *named])})"


def factor_values(factor: str, variable: str, grid: np.ndarray) -> list[tuple[str, np.ndarray]]:
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
