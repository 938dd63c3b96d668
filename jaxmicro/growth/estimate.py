"""Areas and volumes with standard errors, from foreground counts among the visited pixels."""

from __future__ import annotations

import dataclasses
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import area_of
from jaxmicro.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "frame",
    "time_s",
    "area_px",
    "area_px_se",
    "area_um2",
    "area_um2_se",
    "volume_um3",
    "volume_um3_se",
    "result",
    "usable",
    "check",
)


@dataclasses.dataclass(frozen=True)
class Growth:
    """A growth curve: foreground area of every frame with its standard error.

    `usable` says "yes" or "no" of each frame; an area that may not be used is NaN. `check` says
    "ok" or what speaks against the fit: see `jaxmicro.growth.check`.
    Arrays are (frames,) or (frames, replicates), float64. `area_um2`, `volume_um3` and `time_s`
    are None where the calibration (pixel size, thickness, frame interval) is not known.
    """

    frame: np.ndarray
    area_px: np.ndarray
    area_px_se: np.ndarray
    pixel_area_um2: float | None = None
    thickness_um: float | None = None
    time_s: np.ndarray | None = None
    result: np.ndarray | None = None
    usable: np.ndarray | None = None
    check: np.ndarray | None = None

    @property
    def area_um2(self) -> np.ndarray | None:
        return _scaled(self.area_px, self.pixel_area_um2)

    @property
    def area_um2_se(self) -> np.ndarray | None:
        return _scaled(self.area_px_se, self.pixel_area_um2)

    @property
    def volume_um3(self) -> np.ndarray | None:
        return _scaled(self.area_um2, self.thickness_um)

    @property
    def volume_um3_se(self) -> np.ndarray | None:
        return _scaled(self.area_um2_se, self.thickness_um)

    def in_best_units(self) -> tuple[np.ndarray, np.ndarray, str]:
        """Area, its standard error and their unit: um2 where the pixel size is known, or pixels."""
        area, se = self.area_um2, self.area_um2_se
        if area is None or se is None:
            return self.area_px, self.area_px_se, "pixels"
        return area, se, "um2"

    def __repr__(self) -> str:
        y, se, unit = self.in_best_units()
        if y.ndim > 1:
            return f"Growth({y.shape[0]} frames x {y.shape[1]} replicates, area in {unit})"
        peak = int(np.nanargmax(y)) if np.any(np.isfinite(y)) else 0
        places = (("first", 0), ("largest", peak), ("last", y.size - 1))
        told = ", ".join(f"{name} {y[t]:.4g} ± {se[t]:.2g}" for name, t in places)
        return f"Growth({y.size} frames, area in {unit}: {told}; to_pandas() for the table)"

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html() if self.area_px.ndim == 1 else f"<p>{self!r}</p>"

    def only(self, usable: np.ndarray) -> Growth:
        """The curve with the areas of all other frames taken out; `usable` is (frames,) bool."""
        return dataclasses.replace(
            self,
            area_px=np.where(usable, self.area_px, np.nan),
            area_px_se=np.where(usable, self.area_px_se, np.nan),
            usable=np.where(usable, "yes", "no"),
        )

    def calibrated(
        self,
        *,
        pixel_area_um2: float | None = None,
        thickness_um: float | None = None,
        times_s: np.ndarray | None = None,
    ) -> Growth:
        """The same curve with the area of a pixel, a thickness along the beam and times.

        Raises:
          UsageError: an area or a thickness that is not above 0.
        """
        for name, value in (("pixel_area_um2", pixel_area_um2), ("thickness_um", thickness_um)):
            known = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (known and value > 0):
                raise UsageError(f"{name} = {value!r} is not allowed; use a number above 0")
        return dataclasses.replace(
            self, pixel_area_um2=pixel_area_um2, thickness_um=thickness_um, time_s=times_s
        )

    def known_where(self, known: np.ndarray, result: np.ndarray) -> Growth:
        """The curve with areas that are not `known` as NaN, and how the fits ended, by name."""
        area, se = (np.where(known, a, np.nan) for a in (self.area_px, self.area_px_se))
        return dataclasses.replace(self, area_px=area, area_px_se=se, result=result)

    def minus_first(self) -> Growth:
        """Growth since the first frame; the errors of both frames add in quadrature."""
        se = np.hypot(self.area_px_se, self.area_px_se[:1])
        se[0] = 0.0
        return dataclasses.replace(self, area_px=self.area_px - self.area_px[:1], area_px_se=se)

    def to_pandas(self) -> pd.DataFrame:
        """One row a frame, columns as in growth.csv; what is not known is missing."""
        import pandas as pd

        if self.area_px.ndim > 1:
            raise ValueError("a table needs one replicate: index the replicates first")
        return pd.DataFrame({name: getattr(self, name) for name in COLUMNS}, columns=list(COLUMNS))

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw the curve with bars of two standard errors (pandas' plot); returns the axes."""
        known = self.area_um2 is not None
        y = "area_um2" if known else "area_px"
        x = "frame" if self.time_s is None else "time_s"
        table = self.to_pandas()
        return table.plot(
            x=x,
            y=y,
            yerr=2 * table[f"{y}_se"],
            ax=ax,
            legend=False,
            xlabel="frame" if self.time_s is None else "time (s)",
            ylabel="area (µm$^2$)" if known else "area (pixels)",
            **options,
        )


def _scaled(values: np.ndarray | None, factor: float | None) -> np.ndarray | None:
    return None if values is None or factor is None else values * factor


def _checked(foreground: Any, pixels: Pixels) -> np.ndarray:
    """Labels of the pixels, or a UsageError: classes and probabilities are no labels."""
    expect(pixels, Pixels, "estimate: pixels")
    refuse_traced((foreground, pixels), "estimate", "call it on the result")
    labels = np.asarray(foreground)
    if labels.dtype != bool:
        raise UsageError(
            f"estimate: foreground holds {labels.dtype}, but True or False is needed; give "
            "parts.is_foreground(labels) with parts = partition(fit.params)"
        )
    if labels.shape != pixels.values.shape:
        raise UsageError(
            f"estimate: foreground has shape {labels.shape}, but the pixels have "
            f"{pixels.values.shape}; give one label a visited pixel"
        )
    return labels


def estimate(
    foreground: np.ndarray,
    pixels: Pixels,
    *,
    pixel_area_um2: float | None = None,
    thickness_um: float | None = None,
    times_s: np.ndarray | None = None,
    result: np.ndarray | None = None,
) -> Growth:
    """Foreground area of each frame: the share among visited pixels times the frame's pixels.

    Args:
      foreground: bool, (frames, n) or (frames, replicates, n), one entry per visited pixel.
      pixels: the pixels those labels belong to.
      pixel_area_um2: area of one pixel; without it areas stay in pixels.
      thickness_um: thickness of the deposit along the beam; without it there is no volume.

    The standard error is that of the sampling design and 0 where every pixel was visited: simple
    random sampling without replacement (Cochran 1977, eq. 3.8), or successive differences of
    neighbouring blocks or scan lines for the stratified and line patterns (Wolter 2007, ch. 8).
    A count of 0 among n still has an error: the variance takes the share as (count + 1/2)/(n + 1).
    One scan line tells nothing about the spread between lines: its error is NaN, not known, as is
    the area of a frame without a visited pixel.
    """
    labels = _checked(foreground, pixels)
    area, se = area_of(labels, pixels)
    return Growth(
        frame=np.arange(area.shape[0]),
        area_px=area,
        area_px_se=se,
        pixel_area_um2=pixel_area_um2,
        thickness_um=thickness_um,
        time_s=times_s,
        result=result,
    )
