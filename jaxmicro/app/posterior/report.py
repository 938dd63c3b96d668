"""The files, the page and the terminal's words of a posterior run."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from jaxmicro.app import page
from jaxmicro.app.posterior import figures
from jaxmicro.app.posterior.run import PosteriorRun
from jaxmicro.app.quantify import files
from jaxmicro.app.quantify.report import growth_rows
from jaxmicro.app.style import SCREEN, Style


def summary_rows(run: PosteriorRun) -> list[tuple[str, str]]:
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
                  f"{attrs['trend'] or 'none'}, {attrs['proportions']} proportions, shared over "
                  f"the movie: "
                  f"{attrs['share'] or 'nothing'}"),
        ("foreground", f"class {attrs['foreground']}: {run.partition.reason}"),
    ]  # fmt: skip
    return rows


def parameter_rows(run: PosteriorRun, most: int = 60) -> tuple[list[str], list[list[object]]]:
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


def write(
    folder: pathlib.Path, run: PosteriorRun, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """posterior.nc, growth.csv, model.toml and the figures; returns captions and figures."""
    run.posterior.save(folder / "posterior.nc")
    files.write_growth(folder / "growth.csv", run.growth)
    (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
    return figures.all_figures(run, folder / "figures", style)


def write_report(
    path: pathlib.Path, run: PosteriorRun, figures: Mapping[str, pathlib.Path], record: str
) -> None:
    """The page of a posterior run: what is wrong with it, if anything, comes first."""
    shown = "worst 60 by r-hat" if run.diagnostics.table else "first 60"
    growth = growth_rows(run.growth)
    page.write_page(
        path,
        f"Posterior of {run.movie.name}",
        [
            ("Diagnostics", page.table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(page.figure(p, c) for c, p in figures.items())),
            (f"Parameters ({shown})", page.table(*parameter_rows(run))),
            ("Growth: posterior mean and sd", page.table(*growth)),
            ("Model", page.preformatted(run.variant.to_toml())),
            ("This run", page.preformatted(record)),
        ],
        [*run.diagnostics.problems, *run.notes],
    )
