"""`jaxmicro quantify`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jaxmicro.app.cli.common import (
    DryRun,
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
from jaxmicro.errors import UsageError

if TYPE_CHECKING:
    from jaxmicro.growth.estimate import Growth

SHOWN = 12  # frames of the growth curve on the terminal


@expanded
@reported
def quantify(
    movie: Source,
    out: Out,
    options: MovieOptions,
    model: Annotated[
        pathlib.Path | None, typer.Option(help="Model file (TOML) or name; default: chosen.")
    ] = None,
    foreground: Annotated[
        str | None,
        typer.Option(
            help="auto, brightest, darkest, grows, merge, or class ranks such as 0 or 1,2."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Number of classes, or several to choose from: 2,3,4.")
    ] = None,
    trend: Annotated[
        str | None, typer.Option(help="Formula in x and y, such as 'x + y'; 0 for none.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(help="What all frames share: means,sds, sds, means or none.")
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="How areas are estimated: count, posterior or difference."),
    ] = None,
    thickness: Thickness = None,
    baseline: Annotated[
        str, typer.Option(help="none, or first: subtract the first frame's area.")
    ] = "none",
    smooth: Annotated[
        str, typer.Option(help="A curve over time beside the areas: none, linear or log.")
    ] = "none",
    dense: Annotated[
        bool,
        typer.Option(
            "--dense",
            help="labels.tif estimates every pixel, with an entropy channel; areas do not use it.",
        ),
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="overlay.tif: the movie, foreground outlined.")
    ] = False,
    hspy: Annotated[
        bool, typer.Option("--hspy", help="Labels as .hspy too, for HyperSpy.")
    ] = False,
    excel: Annotated[bool, typer.Option("--excel", help="growth.xlsx too, for Excel.")] = False,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Measure the foreground of a movie, frame by frame, with standard errors."""
    from jaxmicro.app.options import thickness_asked
    from jaxmicro.app.quantify import files, maps, report, run, spec
    from jaxmicro.app.quantify.choose import Asked
    from jaxmicro.app.style import Style
    from jaxmicro.growth.smoothed import WAYS

    job = Job.begin(out, force)
    if baseline not in ("none", "first"):
        raise UsageError(f"--baseline {baseline!r} is not known; use none or first")
    if smooth not in WAYS:
        raise UsageError(f"--smooth {smooth!r} is not known; use one of {', '.join(WAYS)}")
    style = Style.asked(figures, figure_width)
    asked = Asked(classes, trend, share, foreground, estimator)
    thickness_um = thickness_asked(thickness)
    variant = None if model is None else spec.load(model)
    with job.stages.stage("open"):
        opened = options.open(movie)
    if dry_run:
        from jaxmicro.app.quantify.forecast import forecast

        lines = forecast(opened, variant, options.sampling, asked, job.stages)
        job.say_forecast(lines)
        return
    found = run.quantify(
        opened,
        variant,
        options.sampling,
        asked=asked,
        thickness_um=thickness_um,
        baseline=baseline == "first",
        smooth=smooth,
        stages=job.stages,
    )

    wanted = files.Wanted(dense, overlay, hspy, excel, style)

    def write(folder: pathlib.Path) -> dict[str, pathlib.Path]:
        with job.stages.stage("write"):
            return files.write(folder, found, wanted)

    job.finish(
        options.inputs(movie),
        options.seed,
        write,
        lambda path, drawn, record: report.write_report(path, found, drawn, record),
        movie=files.movie_record(opened),
    )
    job.say_notes([*found.notes, *maps.notes(found, dense, overlay)])
    job.say(report.summary_rows(found))
    job.terminal.print(_growth_table(found.growth))
    job.say_written()
    if found.failure is not None:
        fail(found.failure, 1)


def _growth_table(growth: Growth) -> Table:
    """A dozen frames of the growth curve."""
    import numpy as np

    from jaxmicro.app.page import number

    area, se, unit = growth.in_best_units()
    table = Table(box=None, pad_edge=False)
    header = ["frame", "time (s)", f"area ({unit})", "s.e."]
    volume, volume_se = growth.volume_um3, growth.volume_um3_se
    header += ["volume (um3)", "s.e."] if volume is not None else []
    for text in [*header, "result"]:
        table.add_column(text, justify="right")
    result, usable = growth.result, growth.usable
    assert result is not None
    assert usable is not None
    for t in np.unique(np.linspace(0, area.size - 1, SHOWN).round().astype(int)):
        time_s = None if growth.time_s is None else float(growth.time_s[t])
        cells: list[Any] = [int(t), time_s, float(area[t]), float(se[t])]
        if volume is not None and volume_se is not None:
            cells += [float(volume[t]), float(volume_se[t])]
        doubt = "" if usable[t] == "yes" else ", not usable"
        table.add_row(*map(number, cells), f"{result[t]}{doubt}")
    return table
