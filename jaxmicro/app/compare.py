"""Rank model variants on the same visited pixels by AIC, BIC and ICL."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxmicro.app.progress import Stages
from jaxmicro.app.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import visit
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import Progress, Result, fit
from jaxmicro.spacetime.local import fit_local, local_criteria


def compare(
    movie: Movie,
    variants: Mapping[str, Variant],
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
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
    visited = visit(
        movie, rate=rate, pattern=pattern, seed=seed, n_classes=most, stage=stages.stage
    )
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
    model = variant.mixture.model()
    options, neighbours = variant.stopping, variant.neighbours
    if neighbours is None:
        fitted = fit(model, pixels, **options, progress=say)
        found = criteria(model, fitted.params, pixels)
    else:
        local = fit_local(model, pixels, neighbours, **options, progress=say)
        fitted, found = local.fit, local_criteria(model, local, pixels)
    codes, counts = np.unique(np.asarray(fitted.result), return_counts=True)
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
        "steps": int(np.max(np.asarray(fitted.steps))),
        "seconds": round(time.perf_counter() - began, 3),
    }
