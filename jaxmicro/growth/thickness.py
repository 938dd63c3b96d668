"""A thickness along the beam that is only known so well."""

from __future__ import annotations

import math
import numbers

import numpy as np
from jaxtyping import Float

from jaxmicro.errors import UsageError


class Thickness(float):
    """A thickness in um with its standard error; wherever a thickness is taken, so is this.

    All frames share the error: volumes of one movie are off by the same factor.

    Raises:
      UsageError: a thickness that is not above 0, or an error below 0.
    """

    se: float

    def __new__(cls, um: float, se: float = 0.0) -> Thickness:
        good = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in (um, se))
        if not (good and 0 < um < math.inf and 0 <= se < math.inf):
            raise UsageError(
                f"Thickness({um!r}, {se!r}) is not allowed; use micrometres above 0 and their "
                "standard error, such as Thickness(0.5, 0.05)"
            )
        made = super().__new__(cls, um)
        made.se = float(se)
        return made

    def __repr__(self) -> str:
        return f"Thickness({float(self):g}, {self.se:g})"

    def __reduce__(self) -> tuple[type[Thickness], tuple[float, float]]:
        return Thickness, (float(self), self.se)


def relative_error(thickness_um: float | None) -> float:
    """Standard error over value; 0 of a plain number."""
    return thickness_um.se / thickness_um if isinstance(thickness_um, Thickness) else 0.0


def widened(
    end: Float[np.ndarray, "*batch"],
    volume: Float[np.ndarray, "*batch"],
    relative: float,
    level: int,
) -> Float[np.ndarray, "*batch"]:
    """The end of a volume's interval with the thickness's error: distances add in quadrature.

    An interval of what is not negative does not become so.
    """
    if not relative:
        return end
    from scipy import stats

    away = stats.norm.ppf(0.5 + level / 200) * relative * np.abs(volume)
    moved = volume + np.where(end < volume, -1, 1) * np.hypot(end - volume, away)
    return np.where(end >= 0, np.maximum(moved, 0), moved)
