"""`jaxmicro compare`."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer
from rich.table import Table

from jaxmicro.app.cli.common import (
    Crop,
    Exclude,
    Force,
    FrameRange,
    Mask,
    Missing,
    Out,
    Pattern,
    Rate,
    Seed,
    Source,
    command_line,
    console,
    open_movie,
    reported,
)
from jaxmicro.errors import UsageError


@reported
def compare(
    movie: Source,
    models: Annotated[list[pathlib.Path], typer.Argument(help="Model files (TOML).")],
    out: Out,
    rate: Rate = None,
    pattern: Pattern = "random",
    seed: Seed = 0,
    mask: Mask = None,
    missing: Missing = None,
    crop: Crop = None,
    exclude: Exclude = None,
    frames: FrameRange = None,
    force: Force = False,
) -> None:
    """Rank model variants on the same visited pixels by AIC, BIC and ICL."""
    from jaxmicro.app import compare as job
    from jaxmicro.app import output, report, spec
    from jaxmicro.app.progress import Stages
    from jaxmicro.data.read import sha256

    output.check_target(out, force)
    variants: dict[str, spec.Variant] = {path.stem: spec.load(path) for path in models}
    if len(variants) < len(models):
        raise UsageError("two model files have the same name; give each its own")
    terminal = console()
    stages = Stages(terminal)
    opened = open_movie(movie, crop, exclude, frames, mask, missing, None, None)
    table, notes = job.compare(
        opened, variants, rate=rate, pattern=pattern, seed=seed, stages=stages
    )
    with output.new_folder(out, force) as folder:
        table.to_csv(folder / "comparison.csv", index=False, float_format="%.10g")
        inputs = {movie: sha256(movie)} | ({} if mask is None else {mask: sha256(mask)})
        record = output.run_record(command_line(), seed=seed, inputs=inputs, seconds=stages.seconds)
        output.write_json(folder / "run.json", record)
        report.write_page(
            folder / "report.html",
            f"Models for {opened.name}",
            [("Best BIC first", report.table(list(table.columns), table.values.tolist()))],
            notes,
        )
    grid = Table(box=None, pad_edge=False)
    shown = ("model", "n_parameters", "log_likelihood", "aic", "bic", "bic_above_best", "icl")
    for name in (*shown, "result"):
        grid.add_column(name, justify="left" if name in ("model", "result") else "right")
    for row in table.to_dict("records"):
        grid.add_row(
            row["model"],
            str(row["n_parameters"]),
            *(f"{row[n]:.1f}" for n in shown[2:]),
            row["result"],
        )
    for note in notes:
        terminal.print(f"note: {note}")
    terminal.print(grid)
    terminal.print(f"wrote {out}; n is the {table['n_pixels'][0]} visited pixels")
