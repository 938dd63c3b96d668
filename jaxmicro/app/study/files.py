"""The files that a study leaves behind."""

from __future__ import annotations

import pathlib

import pandas as pd

from jaxmicro.app.study import figures
from jaxmicro.app.study.run import Study
from jaxmicro.app.study.store import Store
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.growth.study import Summary


def write(
    folder: pathlib.Path, study: Study, store: Store, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """study.csv, curves.csv, study.zarr, the plans, and the figures, returned by caption."""
    store.copy(folder)
    summary_table(study).to_csv(folder / "study.csv", index=False, float_format="%.10g")
    curves_table(study).to_csv(folder / "curves.csv", index=False, float_format="%.10g")
    return figures.all_figures(study, folder / "figures", style)


def summary_table(study: Study) -> pd.DataFrame:
    """A row for each plan and rate, laid out as the paper's Table 1; areas in the study's unit."""
    rows = []
    for plan in study.plans:
        for rate in plan.rates:
            row = {"plan": plan.name, **_row(study.summary(plan, rate), study)}
            true = study.against_truth(rate)
            if true is not None:
                told = _row(true, study)
                kept = (f"bias_{study.unit}", "bias_percent", "cover80", "cover95")
                row |= {f"true_{name}": told[name] for name in kept}
            rows.append(row)
    return pd.DataFrame(rows)


def _row(found: Summary, study: Study) -> dict[str, float]:
    return {
        "rate": found.rate,
        "replicates": found.replicates,
        f"bias_{study.unit}": found.bias * study.factor,
        f"width_{study.unit}": found.width * study.factor,
        "bias_percent": found.bias_percent,
        "width_percent": found.width_percent,
        "cover80": found.cover80,
        "failed_percent": found.failed_percent,
        "cover95": found.cover95,
    }


def curves_table(study: Study) -> pd.DataFrame:
    """A row for each plan, rate and frame: percentiles and mean over the replicates."""
    parts = []
    for plan in study.plans:
        for rate in plan.rates:
            curves = rate.curves() | {"all_pixels": plan.reference}
            curves |= {} if study.truth is None else {"truth": study.truth}
            scaled = {f"{name}_{study.unit}": y * study.factor for name, y in curves.items()}
            table = pd.DataFrame(scaled)
            movie = study.movie
            table.insert(0, "time_s", movie.times_s if movie.times_s is not None else None)
            table.insert(0, "source_frame", movie.frame_numbers)
            table.insert(0, "frame", range(movie.n_frames))
            table.insert(0, "rate", rate.rate)
            table.insert(0, "plan", plan.name)
            parts.append(table)
    return pd.concat(parts, ignore_index=True)
