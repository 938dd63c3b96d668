"""`jaxmicro posterior`."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from jaxmicro.app.cli.common import (
    Figures,
    FigureWidth,
    Force,
    Job,
    MovieOptions,
    Out,
    Source,
    Thickness,
    expanded,
    fail,
    reported,
)


@expanded
@reported
def posterior(
    movie: Source,
    out: Out,
    options: MovieOptions,
    model: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Model file (TOML) or name, with a table \\[posterior]; default: chosen."
        ),
    ] = None,
    thickness: Thickness = None,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    force: Force = False,
) -> None:
    """Draw from the posterior of a movie's model: full uncertainty from few pixels."""
    from jaxmicro.app.options import thickness_asked
    from jaxmicro.app.posterior import report, run
    from jaxmicro.app.quantify import spec
    from jaxmicro.app.style import Style

    job = Job.begin(out, force)
    style = Style.asked(figures, figure_width)
    thickness_um = thickness_asked(thickness)
    variant = None if model is None else spec.load(model)
    with job.stages.stage("open"):
        opened = options.open(movie)
    found = run.run(opened, variant, options.sampling, thickness_um=thickness_um, stages=job.stages)
    checked = found.diagnostics

    def write(folder: pathlib.Path) -> dict[str, pathlib.Path]:
        with job.stages.stage("write"):
            return report.write(folder, found, style)

    job.finish(
        options.inputs(movie),
        options.seed,
        write,
        lambda path, drawn, record: report.write_report(path, found, drawn, record),
        trusted=checked.trusted,
        problems=list(checked.problems),
    )
    for problem in checked.problems:
        job.terminal.print(f"WARNING: {problem}")
    job.say(report.summary_rows(found))
    job.say_notes(found.notes)
    job.say_written()
    if not checked.trusted:
        fail("; ".join(checked.problems), 1)
