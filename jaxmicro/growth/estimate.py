"""Areas and volumes with standard errors, from foreground counts among the visited pixels."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import area_of
from jaxmicro.errors import UsageError
from jaxmicro.growth.columns import COLUMNS
from jaxmicro.growth.intervals import LEVELS, area_interval
from jaxmicro.growth.smoothed import Smoothed, smooth
from jaxmicro.growth.thickness import Thickness, relative_error, widened

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Growth:
    """A growth curve: foreground area of every frame with its standard error.

    `usable` says "yes" or "no" of each frame; an area that may not be used is NaN. `check` says
    "ok" or what speaks against the fit: see `jaxmicro.growth.check`.
    Arrays are (frames,) or (frames, replicates), float64. `area_um2`, `volume_um3` and `time_s`
    are None where the calibration (pixel size, thickness, frame interval) is not known.
    `region_px` and `visited_px` count the pixels that the area is an area of, and the visited ones
    among them. `single_px_se` are the errors of single frames where `area_px_se` are those of
    differences from the first frame. `ends_px` are the intervals by their level in percent where
    they were found otherwise than from the standard error, as from a posterior. `smoothed` is the
    curve over time, beside the areas.
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
    source_frame: np.ndarray | None = None
    region_px: np.ndarray | None = None
    visited_px: np.ndarray | None = None
    pixel_size_nm: tuple[float, float] | None = None
    foreground_classes: str | None = None
    single_px_se: np.ndarray | None = None
    ends_px: dict[int, tuple[np.ndarray, np.ndarray]] | None = None
    smoothed: Smoothed | None = None

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
        """With the error of the thickness, where that is a `Thickness`."""
        se, volume = _scaled(self.area_um2_se, self.thickness_um), self.volume_um3
        if se is None or volume is None:
            return None
        return np.hypot(se, relative_error(self.thickness_um) * volume)

    @property
    def thickness_se_um(self) -> float | None:
        return self.thickness_um.se if isinstance(self.thickness_um, Thickness) else None

    def interval_px(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval that holds the true area in `level` percent, in pixels."""
        if self.ends_px is not None and level in LEVELS:
            return self.ends_px[level]
        region = None if self.single_px_se is not None else self.region_px
        if region is not None:
            region = np.broadcast_to(
                region.reshape(-1, *[1] * (self.area_px.ndim - 1)), self.area_px.shape
            )
        return area_interval(self.area_px, self.area_px_se, region, level)

    @property
    def intervals(self) -> dict[str, np.ndarray | None]:
        """Ends of the intervals by the names of their columns; None without calibration."""
        found: dict[str, np.ndarray | None] = {}
        for level in LEVELS:
            for end, px in zip(("lo", "hi"), self.interval_px(level), strict=True):
                um2 = _scaled(px, self.pixel_area_um2)
                found[f"area_px_{end}{level}"] = px
                found[f"area_um2_{end}{level}"] = um2
                found[f"volume_um3_{end}{level}"] = self._volume_end(um2, level)
        return found

    def _volume_end(self, area_um2: np.ndarray | None, level: int) -> np.ndarray | None:
        end, volume = _scaled(area_um2, self.thickness_um), self.volume_um3
        if end is None or volume is None:
            return None
        return widened(end, volume, relative_error(self.thickness_um), level)

    @property
    def share_of_frame(self) -> np.ndarray | None:
        return None if self.region_px is None else _over(self.area_px, self.region_px)

    @property
    def visited_share(self) -> np.ndarray | None:
        if self.visited_px is None or self.region_px is None:
            return None
        return _over(self.visited_px, self.region_px)

    @property
    def growth_px_per_frame(self) -> np.ndarray:
        """Central difference of the areas; one-sided at both ends, NaN for a single frame."""
        return _over(_central(self.area_px), _central(self.frame))

    @property
    def growth_px_per_frame_se(self) -> np.ndarray:
        """Its standard error, the errors of the two frames taken as independent.

        That holds where each frame is sampled anew. Where all visit the same pixels the errors
        have much in common, and the difference is known better than this says.
        """
        se = self.area_px_se if self.single_px_se is None else self.single_px_se
        return _over(_central(se, np.hypot), _central(self.frame))

    @property
    def growth_um2_per_s(self) -> np.ndarray | None:
        return self._per_second(self.growth_px_per_frame)

    @property
    def growth_um2_per_s_se(self) -> np.ndarray | None:
        return self._per_second(self.growth_px_per_frame_se)

    def _per_second(self, per_frame: np.ndarray) -> np.ndarray | None:
        if self.time_s is None or self.pixel_area_um2 is None:
            return None
        seconds = _over(_central(np.asarray(self.time_s, float)), _central(self.frame))
        return _over(per_frame * self.pixel_area_um2, seconds)

    @property
    def pixel_size_y_nm(self) -> float | None:
        return None if self.pixel_size_nm is None else self.pixel_size_nm[0]

    @property
    def pixel_size_x_nm(self) -> float | None:
        return None if self.pixel_size_nm is None else self.pixel_size_nm[1]

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

    def of_movie(
        self, movie: Movie, foreground: Sequence[int], thickness_um: float | None = None
    ) -> Growth:
        """The same curve with all that `movie` says of its frames, and the measured classes."""
        known = self.calibrated(
            pixel_area_um2=movie.pixel_area_um2, thickness_um=thickness_um, times_s=movie.times_s
        )
        return dataclasses.replace(
            known,
            source_frame=movie.frame_numbers,
            pixel_size_nm=movie.pixel_size_nm,
            foreground_classes=" ".join(map(str, foreground)),
        )

    def known_where(self, known: np.ndarray, result: np.ndarray) -> Growth:
        """The curve with areas that are not `known` as NaN, and how the fits ended, by name."""
        area, se = (np.where(known, a, np.nan) for a in (self.area_px, self.area_px_se))
        return dataclasses.replace(self, area_px=area, area_px_se=se, result=result)

    def minus_first(self) -> Growth:
        """Growth since the first frame; the errors of both frames add in quadrature."""
        se = np.hypot(self.area_px_se, self.area_px_se[:1])
        se[0] = 0.0
        return dataclasses.replace(
            self,
            area_px=self.area_px - self.area_px[:1],
            area_px_se=se,
            single_px_se=self.area_px_se,
            ends_px=None,
        )

    def smooth(self, way: str = "linear") -> Growth:
        """The same with the curve over time beside it: see `jaxmicro.growth.smoothed.smooth`."""
        times = np.asarray(self.frame if self.time_s is None else self.time_s, float)
        found = smooth(self.area_px, self.area_px_se, times, way)
        return dataclasses.replace(self, smoothed=found)

    def to_pandas(self) -> pd.DataFrame:
        """One row a frame, columns as in growth.csv; what is not known is missing."""
        import pandas as pd

        if self.area_px.ndim > 1:
            raise ValueError("a table needs one replicate: index the replicates first")
        made = self.intervals
        made |= {} if self.smoothed is None else self.smoothed.columns(self.pixel_area_um2)
        columns = {n: made[n] if n in made else getattr(self, n, None) for n in COLUMNS}
        return pd.DataFrame(columns, columns=list(COLUMNS))

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


def _over(values: np.ndarray, per: np.ndarray) -> np.ndarray:
    """Values, (frames,) or (frames, replicates), over a number a frame; NaN where that is 0."""
    per = np.asarray(per, float)
    known = np.where(per > 0, per, np.nan)
    return values / known.reshape(-1, *([1] * (values.ndim - 1)))


def _central(values: np.ndarray, join: Callable[..., np.ndarray] = np.subtract) -> np.ndarray:
    """`join` of each frame's next and previous value, or of its own where there is none."""
    if len(values) < 2:
        return np.full(np.shape(values), np.nan)
    after = np.concatenate([values[1:], values[-1:]])
    before = np.concatenate([values[:1], values[:-1]])
    return join(after, before)


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
        region_px=np.asarray(pixels.n_domain, float),
        visited_px=np.asarray(pixels.n_pixels, float),
    )
