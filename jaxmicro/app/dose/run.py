"""Dose planning from a movie: the model, the area of all pixels, each pattern, and a check."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxmicro.app.dose.target import Target
from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.app.study.run import find_model
from jaxmicro.app.study.spec import PlanAsked
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import PATTERNS
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.dose import CLOSE, Dose, Trial, check_dose, find_dose, lowest_possible
from jaxmicro.growth.study import QUANTITIES, measure_all_pixels


@dataclasses.dataclass(frozen=True)
class Planned:
    """What was found; areas are in pixels, `factor` makes them areas in `unit`.

    Attributes:
      all_pixels: (T,) area of every frame from all pixels, and its standard error.
      doses: of each pattern, the lowest rate first; those that do not reach the target last.
      notes: sentences for the user.
    """

    movie: Movie
    variant: Variant
    target: Target
    target_px: float
    all_pixels: Float[np.ndarray, " T"]
    all_pixels_se: Float[np.ndarray, " T"]
    doses: tuple[Dose, ...]
    unit: str
    factor: float
    notes: tuple[str, ...]

    @property
    def best(self) -> Dose | None:
        """The pattern that reaches the target with the fewest pixels."""
        return None if math.isnan(self.doses[0].rate) else self.doses[0]


def plan_dose(
    movie: Movie,
    target: Target,
    asking: PlanAsked,
    *,
    patterns: Sequence[str] = PATTERNS,
    thickness_um: float | None = None,
    seed: int = 0,
    replicates: int = 10,
    stages: Stages | None = None,
) -> Planned:
    """The lowest rate of each pattern that reaches the target, the best one checked.

    Args:
      replicates: samples that the best one is checked with.

    Raises:
      UsageError: a movie that is sub-sampled already, a target that all pixels do not reach, ..
      DataError: the movie carries no statistics, or no area can be measured.
    """
    stages = stages or Stages()
    _refuse(movie, patterns, replicates)
    target.in_pixels(movie.pixel_area_um2, thickness_um, 1.0)  # refused before any work
    visited = visit(movie, stage=stages.stage)
    variant, start, notes = find_model(asking, visited.pixels, stages)
    plan = dataclasses.replace(variant.plan(), start=start)
    with stages.stage("all pixels"):
        found = measure_all_pixels(movie, plan)[..., 0]
    area, se = (found[QUANTITIES.index(name)] for name in ("area_px", "area_px_se"))
    if not np.isfinite(area).any():
        raise DataError("no frame's area could be measured from all pixels; see jaxmicro quantify")
    target_px = target.in_pixels(movie.pixel_area_um2, thickness_um, float(np.nanmean(area)))
    unit, factor = _unit(movie, target, thickness_um)
    _refuse_beyond_reach(target, target_px, se, unit, factor)
    doses = []
    for pattern in patterns:
        with stages.stage(pattern, unit="rates") as advance:

            def done(trial: Trial, advance=advance) -> None:
                advance()
                advance.say(f"rate {trial.rate:.3g}: s.e. {trial.mean_se * factor:.3g} {unit}")

            doses.append(find_dose(movie, plan, pattern, target_px, area, seed=seed, done=done))
    doses.sort(key=lambda d: (math.isnan(d.rate), d.rate))
    with stages.stage("check"):
        doses[0] = check_dose(movie, plan, doses[0], area, seed=seed, replicates=replicates)
    every = (*visited.notes, *notes)
    return Planned(movie, variant, target, target_px, area, se, tuple(doses), unit, factor, every)


def _refuse(movie: Movie, patterns: Sequence[str], replicates: int) -> None:
    unknown = [p for p in patterns if p not in PATTERNS]
    if unknown:
        known = ", ".join(PATTERNS)
        raise UsageError(f"--pattern {unknown[0]!r} is not known; use any of {known}")
    if len(set(patterns)) < len(patterns):
        raise UsageError("--pattern names one pattern twice; give each once")
    if replicates < 2:
        raise UsageError(f"--replicates {replicates} is not allowed; a check needs 2 or more")
    if movie.sampled is not None or movie.missing is not None:
        raise UsageError(
            "a plan sub-samples a pilot movie of which every pixel was visited, and this one is "
            "sub-sampled already (--visited or --missing); record a few frames in full, or take "
            "`jaxmicro phantom operando`"
        )
    lowest_possible(movie)


def _unit(movie: Movie, target: Target, thickness_um: float | None) -> tuple[str, float]:
    """The unit that results are given in, and what a pixel is in it."""
    area = movie.pixel_area_um2
    if target.unit == "um3" and area is not None and thickness_um is not None:
        return "um3", area * thickness_um
    return ("px", 1.0) if area is None or target.unit == "px" else ("um2", area)


def _refuse_beyond_reach(
    target: Target, target_px: float, se: Float[np.ndarray, " T"], unit: str, factor: float
) -> None:
    floor = float(np.sqrt(np.nanmean(se**2)))
    if target_px < floor:
        raise UsageError(
            f"--target-se {target.said} is below the {floor * factor:.3g} {unit} that all pixels "
            "leave, for grey values and fitted parameters are not exact; give a larger target"
        )


def table(planned: Planned) -> pd.DataFrame:
    """dose.csv: a row for every rate that was tried, and the check; errors in the plan's unit."""
    rows = []
    for dose in planned.doses:
        checked = [] if dose.check is None else [(dose.check, True)]
        for trial, check in [*((t, False) for t in dose.trials), *checked]:
            scaled = {
                f"se_{planned.unit}": trial.mean_se * planned.factor,
                f"largest_se_{planned.unit}": float(np.nanmax(trial.se)) * planned.factor,
                f"error_{planned.unit}": trial.mean_error * planned.factor,
            }
            first = {"pattern": trial.pattern, "rate": trial.rate, "replicates": trial.replicates}
            rows.append(first | scaled | {"check": check})
    return pd.DataFrame(rows)


def sentences(planned: Planned) -> list[str]:
    """What to do, and how sure that is."""
    best = planned.best
    if best is None:
        return [
            f"no pattern reaches {planned.target.said} with half of the pixels or fewer; visit all "
            f"of them, or allow a larger error"
        ]
    lines = [f"visit {100 * best.rate:.3g} % of the pixels, {best.pattern}"]
    for other in planned.doses[1:]:
        needs = "more than half" if math.isnan(other.rate) else f"{100 * other.rate:.3g} %"
        lines.append(f"{other.pattern} needs {needs}")
    return [f"{lines[0]} ({', '.join(lines[1:])})" if lines[1:] else lines[0], _checked(planned)]


def _checked(planned: Planned) -> str:
    best, unit, factor = planned.best, planned.unit, planned.factor
    assert best is not None
    assert best.check is not None
    check = best.check
    text = (
        f"checked on {check.replicates} samples: standard error {check.mean_se * factor:.3g} "
        f"{unit} (at most {np.nanmax(check.se) * factor:.3g} in a frame), difference from all "
        f"pixels {check.mean_error * factor:.3g} {unit}"
    )
    if check.surprising:
        text += (
            "; that is more than the standard errors say: look at the labels of jaxmicro quantify"
        )
    elif check.mean_se > CLOSE * planned.target_px:
        text += f"; that is above the target of {planned.target.said}: take some pixels more"
    return text
