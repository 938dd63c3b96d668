"""The run behind `jaxmicro posterior`: movie -> sample -> fit -> partition -> draw -> areas."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.choose import choose
from jaxmicro.app.quantify.run import NO_PIXEL_SIZE
from jaxmicro.app.quantify.spec import Posterior as Table
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import fit_plan, result_names, visit
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.history import class_shares
from jaxmicro.growth.intervals import LEVELS
from jaxmicro.growth.partition import GROWING, Partition, partition
from jaxmicro.growth.plan import EVERY_PIXEL, Plan, Sampling
from jaxmicro.mixture.ecm import Fit
from jaxmicro.posterior import (
    Diagnostics,
    Noise,
    Posterior,
    check,
    check_local,
    posterior,
)
from jaxmicro.spacetime.neighbour_proportions import Neighbours, neighbours_of

if TYPE_CHECKING:
    import pandas as pd

BAND = 0.8  # share of the posterior that the bands of figures and growth.csv hold


@dataclasses.dataclass(frozen=True)
class PosteriorRun:
    """Everything a posterior run found; `write` and `app.plot_posterior` show it."""

    movie: Movie
    variant: Variant
    pixels: Pixels
    partition: Partition
    posterior: Posterior
    diagnostics: Diagnostics
    growth: Growth
    band: tuple[np.ndarray, np.ndarray]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        drawn = self.posterior["posterior"]
        trust = "trusted" if self.diagnostics.trusted else "; ".join(self.diagnostics.problems)
        return (
            f"PosteriorRun({self.movie.name}: {drawn.sizes['chain']} x {drawn.sizes['draw']} draws "
            f"by {self.posterior.method}, {trust}; {self.growth!r}; {len(self.notes)} notes)"
        )

    def to_pandas(self) -> pd.DataFrame:
        """Posterior means and sds of the areas, one row a frame, columns as in growth.csv."""
        return self.growth.to_pandas()


def run(
    movie: Movie,
    variant: Variant | None = None,
    sampling: Sampling = EVERY_PIXEL,
    *,
    thickness_um: float | None = None,
    stages: Stages | None = None,
) -> PosteriorRun:
    """Draw from the posterior of a movie's model and of its growth curve.

    Args:
      movie, variant, sampling, thickness_um, stages: as for `quantify`.

    Raises:
      UsageError, DataError, NumericalError: see `visit`, `partition` and `posterior`.
      KeyboardInterrupt: interrupted before a single draw was kept.
    """
    stages = stages or Stages()
    table = variant.posterior if variant is not None and variant.posterior else Table()
    noise = _noise(table, movie)
    draw_key = jax.random.fold_in(jax.random.key(sampling.seed), 1)
    n_classes = None if variant is None else variant.mixture.classes
    visited = visit(movie, sampling, n_classes=n_classes, stage=stages.stage)
    pixels, notes, first = visited.pixels, list(visited.notes), None
    if variant is None:
        with stages.stage("choose") as advance:
            variant, choice, note = choose(pixels, progress=advance.say)
            first = choice.start
            notes += [note, choice.noise.sentence]
    plan = dataclasses.replace(variant.plan(sampling), start=first)
    model, rule = plan.model, plan.foreground
    check(model, pixels)
    if plan.local is not None:
        check_local(model, plan.local)
    with stages.stage("fit") as advance:
        fitted = fit_plan(pixels, plan, advance.say)
    start = fitted.fit
    shares = None
    if movie.whole is not None and rule.rule in GROWING:
        shares = class_shares(model, start.params, movie.whole, rate=sampling.rate)
    parts = partition(start.params, rule.rule, rule.ranks, rule.overlap, model.family, shares)
    with stages.stage("draw", 100, unit="%") as advance:
        shown = 0

        def progress(done: int, total: int) -> None:
            nonlocal shown
            now = int(100 * done / total)
            advance(now - shown)
            shown = now

        drawn = posterior(
            draw_key,
            model,
            pixels,
            _begin(fitted, plan),
            priors=table.priors.settings(),
            noise=noise,
            sampler=table.sampler(parts.foreground),
            progress=progress,
        )
    drawn = drawn.with_calibration(movie.pixel_area_um2, thickness_um, movie.times_s)
    if movie.pixel_size_nm is None:
        notes.append(NO_PIXEL_SIZE)
    with stages.stage("diagnose"):
        diagnostics = drawn.diagnose()
    growth, band = _growth(drawn, pixels, movie.n_frames, start)
    growth = _judged(growth, diagnostics.trusted)
    growth = growth.of_movie(movie, parts.foreground, thickness_um)
    return PosteriorRun(
        movie, variant, pixels, parts, drawn, diagnostics, growth, band, tuple(notes)
    )


def _begin(fitted: Fitted, plan: Plan) -> Fit | Neighbours:
    """What to draw from: the fit, or its neighbours where proportions are local."""
    if fitted.local is None or plan.local is None:
        return fitted.fit
    return neighbours_of(fitted.pixels, fitted.local, plan.local)


def _noise(table: Table, movie: Movie) -> Noise:
    saturation = None
    if table.censoring == "saturated":
        saturation = table.saturation if table.saturation is not None else movie.saturation
        if saturation is None:
            raise UsageError(
                "censoring = 'saturated' needs the grey level at which the detector saturates and "
                "the file does not say; give posterior.saturation"
            )
    return Noise(saturation)


def _growth(
    drawn: Posterior, pixels: Pixels, n_frames: int, start: Fit
) -> tuple[Growth, tuple[np.ndarray, np.ndarray]]:
    """Posterior means and sds of the areas, and the band; frames never drawn stay unknown."""
    area = drawn["growth"]["area_px"].values
    flat = area.reshape(-1, area.shape[-1])

    def full(column: np.ndarray) -> np.ndarray:
        return np.concatenate([column, np.full(n_frames - column.size, np.nan)])

    ends = {level: drawn.area_interval(level / 100) for level in LEVELS}
    band = drawn.area_interval(BAND)
    names = result_names(start).astype(object)
    names[area.shape[-1] :] = "not_drawn"
    growth = Growth(
        frame=np.arange(n_frames),
        area_px=full(flat.mean(axis=0)),
        area_px_se=full(flat.std(axis=0)),
        result=names.astype(str),
        region_px=np.asarray(pixels.n_domain, float),
        visited_px=np.asarray(pixels.n_pixels, float),
        ends_px={level: (full(lo), full(hi)) for level, (lo, hi) in ends.items()},
    )
    return growth, (full(band[0]), full(band[1]))


def _judged(growth: Growth, trusted: bool) -> Growth:
    """With whether areas may be used: those of frames that were drawn, if the draws are trusted."""
    drawn = np.isfinite(growth.area_px)
    words = np.where(drawn, "ok" if trusted else "draws not trusted", "not drawn")
    return dataclasses.replace(growth, usable=np.where(drawn & trusted, "yes", "no"), check=words)
