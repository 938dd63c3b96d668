"""`jaxmicro quantify`."""

from __future__ import annotations

import pathlib
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxmicro.app.cli.common import (
    Crop,
    Exclude,
    Force,
    FrameRange,
    Interval,
    Mask,
    Missing,
    Out,
    Pattern,
    PixelSize,
    Rate,
    Seed,
    Source,
    command_line,
    console,
    fail,
    open_movie,
    reported,
)
from jaxmicro.errors import UsageError


@reported
def quantify(
    movie: Source,
    out: Out,
    model: Annotated[
        pathlib.Path | None, typer.Option(help="Model file (TOML); default: chosen by BIC.")
    ] = None,
    rate: Rate = None,
    pattern: Pattern = "random",
    seed: Seed = 0,
    mask: Mask = None,
    missing: Missing = None,
    crop: Crop = None,
    exclude: Exclude = None,
    frames: FrameRange = None,
    pixel_size: PixelSize = None,
    frame_interval: Interval = None,
    thickness: Annotated[
        str | None, typer.Option(help='Thickness along the beam, e.g. "0.5 um", for volumes.')
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="none, or first: subtract the first frame's area.")
    ] = "none",
    dense: Annotated[
        bool,
        typer.Option(
            "--dense",
            help="labels.tif estimates every pixel, with an entropy channel; areas do not use it.",
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Measure the foreground of a movie, frame by frame, with standard errors."""
    from jaxmicro.app import files, options, output, plot, report, spec
    from jaxmicro.app import quantify as job
    from jaxmicro.app.progress import Stages
    from jaxmicro.data.read import sha256

    began = time.perf_counter()
    output.check_target(out, force)
    if baseline not in ("none", "first"):
        raise UsageError(f"--baseline {baseline!r} is not known; use none or first")
    thickness_nm = options.length_nm(thickness, "--thickness")
    variant = None if model is None else spec.load(model)
    terminal = console()
    stages = Stages(terminal)
    with stages.stage("open"):
        opened = open_movie(movie, crop, exclude, frames, mask, missing, pixel_size, frame_interval)
    run = job.quantify(
        opened,
        variant,
        rate=rate,
        pattern=pattern,
        seed=seed,
        thickness_um=None if thickness_nm is None else thickness_nm / 1000,
        baseline=baseline == "first",
        stages=stages,
    )
    with output.new_folder(out, force) as folder:
        with stages.stage("write"):
            files.write_growth(folder / "growth.csv", run.growth)
            files.write_fit(folder / "fit.nc", run)
            files.write_labels(folder / "labels.tif", run, dense)
            (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
            figures = plot.all_figures(run, folder / "figures")
        inputs = {movie: sha256(movie)} | ({} if mask is None else {mask: sha256(mask)})
        stages.seconds["total"] = time.perf_counter() - began
        record = output.run_record(command_line(), seed=seed, inputs=inputs, seconds=stages.seconds)
        output.write_json(folder / "run.json", record)
        text = (folder / "run.json").read_text(encoding="utf-8")
        report.write_report(folder / "report.html", run, figures, text)
    for note in run.notes:
        terminal.print(f"note: {note}")
    grid = Table.grid(padding=(0, 2))
    for label, text in report.summary_rows(run):
        grid.add_row(label, text)
    terminal.print(grid)
    _growth_table(terminal, run.growth)
    terminal.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")
    if run.failure is not None:
        fail(run.failure, 1)


def _growth_table(terminal: Console, growth: Any) -> None:
    """A dozen frames of the growth curve."""
    import numpy as np

    from jaxmicro.app.plot import in_best_units
    from jaxmicro.app.report import number

    area, se, unit = in_best_units(growth)
    unit = unit.replace("µm$^2$", "um2")
    table = Table(box=None, pad_edge=False)
    header = ["frame", "time (s)", f"area ({unit})", "s.e."]
    volume, volume_se = growth.volume_um3, growth.volume_um3_se
    header += ["volume (um3)", "s.e."] if volume is not None else []
    for text in [*header, "result"]:
        table.add_column(text, justify="right")
    for t in np.unique(np.linspace(0, area.size - 1, 12).round().astype(int)):
        time_s = None if growth.time_s is None else float(growth.time_s[t])
        cells: list[Any] = [int(t), time_s, float(area[t]), float(se[t])]
        if volume is not None:
            cells += [float(volume[t]), float(volume_se[t])]
        doubt = "" if growth.usable[t] == "yes" else ", not usable"
        table.add_row(*map(number, cells), f"{growth.result[t]}{doubt}")
    terminal.print(table)
