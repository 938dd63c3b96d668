"""`jaxmicro plan`."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from jaxmicro.app.cli.common import (
    Figures,
    FigureWidth,
    Force,
    Job,
    MoviePart,
    Out,
    Seed,
    Source,
    Thickness,
    expanded,
    reported,
)
from jaxmicro.app.cli.study import Model


@expanded
@reported
def plan(
    movie: Source,
    out: Out,
    part: MoviePart,
    said: Model,
    target_se: Annotated[
        str, typer.Option(help='Standard error to reach: "0.1 um2", "0.05 um3", "300 px", "5 %".')
    ],
    model: Annotated[
        pathlib.Path | None, typer.Option(help="Model file (TOML) or name; default: chosen.")
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help="How areas are estimated: count, posterior or difference.")
    ] = None,
    pattern: Annotated[
        list[str] | None, typer.Option(help="Patterns to try; default: all three.")
    ] = None,
    replicates: Annotated[int, typer.Option(help="Samples that the result is checked with.")] = 10,
    seed: Seed = 0,
    thickness: Thickness = None,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    force: Force = False,
) -> None:
    """The fewest pixels, and the best pattern, that reach a standard error; from a pilot movie."""
    import dataclasses

    from jaxmicro.app.dose import files, run
    from jaxmicro.app.dose.target import Target
    from jaxmicro.app.options import thickness_asked
    from jaxmicro.app.quantify import spec
    from jaxmicro.app.study.spec import PlanAsked
    from jaxmicro.app.style import Style
    from jaxmicro.data.sampling import PATTERNS

    job = Job.begin(out, force)
    style, target = Style.asked(figures, figure_width), Target.parse(target_se)
    thickness_um = thickness_asked(thickness)
    variant = None if model is None else spec.load(model)
    with job.stages.stage("open"):
        opened = part.open(movie)
    found = run.plan_dose(
        opened,
        target,
        PlanAsked(variant, dataclasses.replace(said.asked, estimator=estimator)),
        patterns=pattern or PATTERNS,
        thickness_um=thickness_um,
        seed=seed,
        replicates=replicates,
        stages=job.stages,
    )
    job.finish(
        part.inputs(movie),
        seed,
        lambda folder: files.write(folder, found, style),
        lambda path, drawn, record: files.write_report(path, found, drawn, record),
    )
    job.say_notes(found.notes)
    for line in run.sentences(found):
        job.terminal.print(line)
    job.say_written()
