"""`jaxmicro posterior`."""

from __future__ import annotations

import pathlib
import time
from typing import Annotated

import typer
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


@reported
def posterior(
    movie: Source,
    out: Out,
    model: Annotated[
        pathlib.Path | None,
        typer.Option(help="Model file (TOML), with a table [posterior]; default: by BIC."),
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
    force: Force = False,
) -> None:
    """Draw from the posterior of a movie's model: full uncertainty from few pixels."""
    from jaxmicro.app import options, output, spec
    from jaxmicro.app import posterior as job
    from jaxmicro.app.progress import Stages
    from jaxmicro.data.read import sha256

    began = time.perf_counter()
    output.check_target(out, force)
    thickness_nm = options.length_nm(thickness, "--thickness")
    variant = None if model is None else spec.load(model)
    terminal = console()
    stages = Stages(terminal)
    with stages.stage("open"):
        opened = open_movie(movie, crop, exclude, frames, mask, missing, pixel_size, frame_interval)
    run = job.run(
        opened,
        variant,
        rate=rate,
        pattern=pattern,
        seed=seed,
        thickness_um=None if thickness_nm is None else thickness_nm / 1000,
        stages=stages,
    )
    with output.new_folder(out, force) as folder:
        with stages.stage("write"):
            figures = job.write(folder, run)
        inputs = {movie: sha256(movie)} | ({} if mask is None else {mask: sha256(mask)})
        stages.seconds["total"] = time.perf_counter() - began
        record = output.run_record(command_line(), seed=seed, inputs=inputs, seconds=stages.seconds)
        record["trusted"] = run.diagnostics.trusted
        record["problems"] = list(run.diagnostics.problems)
        output.write_json(folder / "run.json", record)
        text = (folder / "run.json").read_text(encoding="utf-8")
        job.write_report(folder / "report.html", run, figures, text)
    for problem in run.diagnostics.problems:
        terminal.print(f"WARNING: {problem}")
    grid = Table.grid(padding=(0, 2))
    for label, words in job.summary_rows(run):
        grid.add_row(label, words)
    terminal.print(grid)
    for note in run.notes:
        terminal.print(f"note: {note}")
    terminal.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")
    if not run.diagnostics.trusted:
        fail("; ".join(run.diagnostics.problems), 1)
