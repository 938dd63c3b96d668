"""The run behind `jaxmicro posterior`: movie -> sample -> fit -> partition -> draw -> areas."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify import choose
from jaxmicro.app.spec import Posterior as Table
from jaxmicro.app.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.partition import Partition, partition
from jaxmicro.mixture.ecm import Result, fit
from jaxmicro.posterior import (
    Diagnostics,
    Noise,
    Posterior,
    Priors,
    Sampler,
    check,
    posterior,
)

BAND = 0.8  # share of the posterior that the bands of figures and growth.csv hold


@dataclasses.dataclass(frozen=True)
class Drawn:
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


def run(
    movie: Movie,
    variant: Variant | None = None,
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    thickness_um: float | None = None,
    stages: Stages | None = None,
) -> Drawn:
    """Draw from the posterior of a movie's model and of its growth curve.

    Args:
      movie, variant, rate, pattern, seed, thickness_um, stages: as for `quantify`.

    Raises:
      UsageError, DataError, NumericalError: see `visit`, `partition` and `posterior`.
      KeyboardInterrupt: interrupted before a single draw was kept.
    """
    stages = stages or Stages()
    if variant is not None and variant.mixture.proportions == "local":
        raise UsageError(
            "proportions = 'local' is not supported by the posterior; use proportions = 'global' "
            "(the frame's own weights, which for a movie walk from frame to frame)"
        )
    table = variant.posterior if variant is not None and variant.posterior else Table()
    noise = _noise(table, movie)
    draw_key = jax.random.fold_in(jax.random.key(seed), 1)
    n_classes = None if variant is None else variant.mixture.classes
    visited = visit(
        movie, rate=rate, pattern=pattern, seed=seed, n_classes=n_classes, stage=stages.stage
    )
    pixels, notes = visited.pixels, list(visited.notes)
    if variant is None:
        with stages.stage("choose") as advance:
            variant, note = choose(pixels, advance.say)
            notes.append(note)
    model = variant.mixture.model()
    check(model, pixels)
    with stages.stage("fit") as advance:
        start = fit(model, pixels, **variant.stopping, progress=advance.say)
        start = jax.block_until_ready(start)
    rule = variant.foreground
    parts = partition(start.params, rule.rule, tuple(rule.ranks), rule.overlap, model.family)
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
            start,
            priors=_priors(table),
            noise=noise,
            sampler=_sampler(table, parts.foreground),
            progress=progress,
        )
    drawn = drawn.with_calibration(movie.pixel_area_um2, thickness_um, movie.times_s)
    if movie.pixel_size_nm is None:
        notes.append("the pixel size is not known, so areas are in pixels; give --pixel-size")
    with stages.stage("diagnose"):
        diagnostics = drawn.diagnose()
    growth, band = _growth(drawn, movie, thickness_um, start.result)
    return Drawn(movie, variant, pixels, parts, drawn, diagnostics, growth, band, tuple(notes))


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


def _sampler(table: Table, foreground: tuple[int, ...]) -> Sampler:
    return Sampler(
        method=table.method,
        chains=table.chains,
        draws=table.draws,
        warmup=table.warmup,
        target_accept=table.target_accept,
        placement=table.placement,
        guide=table.guide,
        steps=table.steps,
        learning_rate=table.learning_rate,
        subsample=table.subsample,
        foreground=foreground,
        log_likelihood_every=table.log_likelihood_every,
    )


def _priors(table: Table) -> Priors:
    values: dict[str, Any] = table.priors.model_dump()
    given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return Priors(**given)


def _growth(
    drawn: Posterior, movie: Movie, thickness_um: float | None, results: jax.Array
) -> tuple[Growth, tuple[np.ndarray, np.ndarray]]:
    """Posterior means and sds of the areas, and the band; frames never drawn stay unknown."""
    n_frames = movie.n_frames
    area = drawn["growth"]["area_px"].values
    flat = area.reshape(-1, area.shape[-1])
    columns = [flat.mean(axis=0), flat.std(axis=0), *drawn.area_interval(BAND)]
    full = []
    for column in columns:
        out = np.full(n_frames, np.nan)
        out[: column.size] = column
        full.append(out)
    names = np.array([Result(int(r)).name for r in np.asarray(results)], dtype=object)
    names[area.shape[-1] :] = "not_drawn"
    growth = Growth(
        frame=np.arange(n_frames),
        area_px=full[0],
        area_px_se=full[1],
        pixel_area_um2=movie.pixel_area_um2,
        thickness_um=thickness_um,
        time_s=movie.times_s,
        result=names.astype(str),
    )
    return growth, (full[2], full[3])


def summary_rows(run: Drawn) -> list[tuple[str, str]]:
    """Diagnostics first, then what was drawn, as label and text."""
    found, attrs = run.diagnostics, run.posterior["posterior"].attrs
    sizes = run.posterior["posterior"].sizes
    rows = []
    if found.table:
        worst = max(found.table, key=lambda n: found.table[n][0])
        bulk = min(v[1] for v in found.table.values())
        tail = min(v[2] for v in found.table.values())
        rows += [
            ("r-hat", f"at most {found.table[worst][0]:.4f} ({worst}); 1.01 is allowed"),
            ("effective draws", f"at least {bulk:.0f} bulk, {tail:.0f} tail"),
            ("divergences", str(found.divergences)),
            ("E-BFMI", ", ".join(f"{b:.2f}" for b in found.bfmi) + " (below 0.3 is poor)"),
        ]
    if found.overlap is not None:
        rows.append(("overlap", f"{100 * found.overlap:.2g} % effective importance draws"))
    rows += [
        ("method", f"{attrs['method']}, {sizes['chain']} x {sizes['draw']} draws"),
        ("model", f"{attrs['classes']} {attrs['family']} classes, trend "
                  f"{attrs['trend'] or 'none'}, shared over the movie: "
                  f"{attrs['share'] or 'nothing'}"),
        ("foreground", f"class {attrs['foreground']}: {run.partition.reason}"),
    ]  # fmt: skip
    return rows


def parameter_rows(run: Drawn, most: int = 60) -> tuple[list[str], list[list[object]]]:
    """Posterior mean, sd, and diagnostics of each parameter; a long movie's first ones."""
    header = ["parameter", "mean", "sd", "r-hat", "ESS bulk", "ESS tail"]
    rows: list[list[object]] = []
    draws = run.posterior["posterior"]
    for name in draws.data_vars:
        values = draws[name].values
        for at in np.ndindex(*values.shape[2:]):
            label = f"{name}[{', '.join(map(str, at))}]" if at else str(name)
            one = values[(slice(None), slice(None), *at)]
            r, bulk, tail = run.diagnostics.table.get(label, (np.nan, np.nan, np.nan))
            rows.append([label, float(one.mean()), float(one.std()), r, bulk, tail])
    rows.sort(key=lambda row: -np.nan_to_num(float(row[3])))  # type: ignore[arg-type]
    return header, rows[:most]


def write(folder: pathlib.Path, run: Drawn) -> dict[str, pathlib.Path]:
    """posterior.nc, growth.csv, model.toml and the figures; returns captions and figures."""
    from jaxmicro.app import files, plot_posterior

    run.posterior.save(folder / "posterior.nc")
    files.write_growth(folder / "growth.csv", run.growth)
    (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
    return plot_posterior.all_figures(run, folder / "figures")


def write_report(
    path: pathlib.Path, run: Drawn, figures: dict[str, pathlib.Path], record: str
) -> None:
    """The page of a posterior run: what is wrong with it, if anything, comes first."""
    from jaxmicro.app import report

    shown = "worst 60 by r-hat" if run.diagnostics.table else "first 60"
    keep = run.growth.to_pandas().dropna(axis=1, how="all")
    report.write_page(
        path,
        f"Posterior of {run.movie.name}",
        [
            ("Diagnostics", report.table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(report.figure(p, c) for c, p in figures.items())),
            (f"Parameters ({shown})", report.table(*parameter_rows(run))),
            ("Growth: posterior mean and sd", report.table(list(keep), keep.values.tolist())),
            ("Model", report.preformatted(run.variant.to_toml())),
            ("This run", report.preformatted(record)),
        ],
        [*run.diagnostics.problems, *run.notes],
    )
