"""Rank model variants on the same visited pixels by AIC, BIC and ICL."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jaxmicro.app import page
from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import fit_plan, visit
from jaxmicro.growth.plan import EVERY_PIXEL, Sampling
from jaxmicro.mixture.ecm import Progress, Result


def compare(
    movie: Movie,
    variants: Mapping[str, Variant],
    sampling: Sampling = EVERY_PIXEL,
    *,
    stages: Stages | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per variant, best BIC first, and sentences for the user.

    `n_pixels` is the number of visited pixels, which is what the fit saw; `bic_above_best` in
    nats x 2. Local proportions are ranked by their pseudo-likelihood, in which each pixel is left
    out of its own proportions (Forbes and Peyrard 2003). A variant whose fit did not converge in
    every frame says so in `result`, and its criteria are those of the parameters it reached.

    Raises:
      UsageError, DataError: see `visit`.
    """
    stages = stages or Stages()
    most = max(v.mixture.classes for v in variants.values())
    visited = visit(movie, sampling, n_classes=most, stage=stages.stage)
    rows = []
    for name, variant in variants.items():
        with stages.stage(name) as advance:
            rows.append(_row(name, variant, visited.pixels, advance.say))
            advance(movie.n_frames)
    table = pd.DataFrame(rows).sort_values("bic", ignore_index=True)
    table.insert(
        list(table.columns).index("bic") + 1, "bic_above_best", table["bic"] - table["bic"].min()
    )
    return table, visited.notes


def _row(name: str, variant: Variant, pixels: Pixels, say: Progress) -> dict[str, object]:
    began = time.perf_counter()
    fitted = fit_plan(pixels, variant.plan(), say)
    found = fitted.criteria()
    codes, counts = np.unique(np.asarray(fitted.fit.result), return_counts=True)
    ended = " ".join(f"{n} {Result(int(c)).name}" for c, n in zip(codes, counts, strict=True))
    return {
        "model": name,
        "classes": variant.mixture.classes,
        "family": variant.mixture.family,
        "trend": variant.mixture.trend or "none",
        "shared": " ".join(variant.mixture.share) or "none",
        "proportions": variant.mixture.proportions,
        "n_pixels": found.n_pixels,
        "n_parameters": found.n_parameters,
        "log_likelihood": found.log_likelihood,
        "aic": found.aic,
        "bic": found.bic,
        "icl": found.icl,
        "result": ended,
        "steps": int(np.max(np.asarray(fitted.fit.steps))),
        "seconds": round(time.perf_counter() - began, 3),
    }


def write(folder: pathlib.Path, table: pd.DataFrame) -> dict[str, pathlib.Path]:
    """comparison.csv; there are no figures."""
    table.to_csv(folder / "comparison.csv", index=False, float_format="%.10g")
    return {}


def write_report(
    path: pathlib.Path, name: str, table: pd.DataFrame, notes: Sequence[str], record: str
) -> None:
    """The page of a comparison."""
    sections = [
        ("Best BIC first", page.table(list(table.columns), table.values.tolist())),
        ("This run", page.preformatted(record)),
    ]
    page.write_page(path, f"Models for {name}", sections, notes)
