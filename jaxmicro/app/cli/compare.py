"""`jaxmicro compare`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from jaxmicro.app.cli.common import Force, Job, MovieOptions, Out, Source, expanded, reported
from jaxmicro.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("model", "n_parameters", "log_likelihood", "aic", "bic", "bic_above_best", "icl")


@expanded
@reported
def compare(
    movie: Source,
    models: Annotated[list[pathlib.Path], typer.Argument(help="Model files (TOML) or names.")],
    out: Out,
    options: MovieOptions,
    force: Force = False,
) -> None:
    """Rank model variants on the same visited pixels by AIC, BIC and ICL."""
    from jaxmicro.app import compare as run
    from jaxmicro.app.model_file import command_of, read_tables
    from jaxmicro.app.quantify import spec

    job = Job.begin(out, force)
    other = [path for path in models if command_of(read_tables(path)[2]) == "enhance"]
    chosen = [path for path in models if path not in other] or models
    variants = {path.stem: spec.load(path) for path in chosen}
    if len(variants) < len(chosen):
        raise UsageError("two model files have the same name; give each its own")
    with job.stages.stage("open"):
        opened = options.open(movie)
    table, notes = run.compare(opened, variants, options.sampling, stages=job.stages)
    if other:
        names = ", ".join(path.stem for path in other)
        notes = (*notes, f"left out, for they are models of `jaxmicro enhance`: {names}")
    job.finish(
        options.inputs(movie),
        options.seed,
        lambda folder: run.write(folder, table),
        lambda path, figures, record: run.write_report(path, opened.name, table, notes, record),
    )
    job.say_notes(notes)
    job.terminal.print(_shown(table))
    job.terminal.print(f"wrote {out}; n is the {table['n_pixels'][0]} visited pixels")


def _shown(table: pd.DataFrame) -> Table:
    grid = Table(box=None, pad_edge=False)
    for name in (*SHOWN, "result"):
        grid.add_column(name, justify="left" if name in ("model", "result") else "right")
    for row in table.to_dict("records"):
        figures = (f"{row[n]:.1f}" for n in SHOWN[2:])
        grid.add_row(row["model"], str(row["n_parameters"]), *figures, row["result"])
    return grid
