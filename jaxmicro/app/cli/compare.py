"""`jaxmicro compare`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from jaxmicro.app.cli.common import (
    Figures,
    FigureWidth,
    Force,
    Job,
    MovieOptions,
    Out,
    Source,
    expanded,
    reported,
)
from jaxmicro.errors import UsageError

if TYPE_CHECKING:
    from jaxmicro.app.quantify.spec import Variant


@expanded
@reported
def compare(
    movie: Source,
    out: Out,
    options: MovieOptions,
    models: Annotated[
        list[pathlib.Path] | None,
        typer.Argument(help="Model files (TOML) or names; or one to vary, or none."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Numbers of classes to put into the model: 2:6 or 2,3,5.")
    ] = None,
    trend: Annotated[
        list[str] | None,
        typer.Option(help="Trend to put into the model, 0 for none; may be repeated."),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="Class family to put into the model; may be repeated."),
    ] = None,
    every: Annotated[int | None, typer.Option(help="Every n-th frame only.")] = None,
    tests: Annotated[
        str, typer.Option(help="Tests of nested models: recommended, all or none.")
    ] = "recommended",
    test: Annotated[
        list[str] | None,
        typer.Option(help="One pair to test, 'SMALLER vs LARGER'; may be repeated."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Samples of each bootstrap.")] = 99,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    force: Force = False,
) -> None:
    """Rank model variants on the same visited pixels, and test which terms and classes they need.

    With model files: these models. With --classes, --trend or --family: every combination, put
    into the one model named, or into that of quantify.
    """
    from jaxmicro.app.compare import files, report, run, terminal
    from jaxmicro.app.style import Style

    job = Job.begin(out, force)
    style = Style.asked(figures, figure_width)
    wanted = run.Tests(tests, tuple(_pair(text) for text in test or ()), bootstrap)
    variants, left_out = _variants(models or [], classes, trend or [], family or [])
    with job.stages.stage("open"):
        opened = options.open(movie)
        if every is not None:
            opened = _every(opened, every)
    found = run.compare(opened, variants, options.sampling, tests=wanted, stages=job.stages)
    notes = (*found.notes, *left_out)
    job.finish(
        options.inputs(movie),
        options.seed,
        lambda folder: files.write(folder, found, style),
        lambda path, drawn, record: report.write_report(path, found, notes, drawn, record),
    )
    job.say_notes(notes)
    for line in terminal.lines(found):
        job.terminal.print(line)
    job.say_written()


def _every(movie, n: int):
    if n < 1:
        raise UsageError(f"--every {n} is not allowed; use a whole number of frames from 1")
    return movie[::n]


def _pair(text: str) -> tuple[str, str]:
    """`SMALLER vs LARGER` as two names."""
    names = tuple(name.strip() for name in text.split(" vs "))
    if len(names) != 2 or not all(names):
        raise UsageError(
            f"--test {text!r} is not understood; name two models, the smaller one first, as in "
            '--test "linear_k3 vs quadratic_k3"'
        )
    return names[0], names[1]


def _variants(
    models: list[pathlib.Path], classes: str | None, trends: list[str], families: list[str]
) -> tuple[dict[str, Variant], tuple[str, ...]]:
    """The models to compare by name, and a note on those that were left out."""
    from jaxmicro.app.compare import grid
    from jaxmicro.app.model_file import command_of, read_tables
    from jaxmicro.app.quantify import spec

    vary = classes is not None or trends or families
    if vary and len(models) > 1:
        raise UsageError(
            f"--classes, --trend and --family vary one model, but {len(models)} are named; name one"
        )
    other = [path for path in models if command_of(read_tables(path)[2]) == "enhance"]
    chosen = [path for path in models if path not in other] or models
    if vary or not models:
        base = spec.load(chosen[0]) if chosen else None
        numbers = () if classes is None else grid.class_numbers(classes)
        return grid.expanded(base, numbers, trends, families), ()
    variants = {path.stem: spec.load(path) for path in chosen}
    if len(variants) < len(chosen):
        names = [path.stem for path in chosen]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two models have the name {twice!r}; name each once, or rename a file")
    if not other:
        return variants, ()
    listed = ", ".join(path.stem for path in other)
    return variants, (f"left out, for they are models of `jaxmicro enhance`: {listed}",)
