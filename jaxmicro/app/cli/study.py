"""`jaxmicro study`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from jaxmicro.app.cli.common import (
    Figures,
    FigureWidth,
    Force,
    Job,
    MoviePart,
    Out,
    Pattern,
    Seed,
    Source,
    Thickness,
    expanded,
    reported,
)
from jaxmicro.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from jaxmicro.app.quantify.choose import Asked
    from jaxmicro.app.study.store import Store

Text = str | None
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a disk that is full


@dataclasses.dataclass(frozen=True)
class Model:
    """What is said of the model beside, or in the place of, a model file."""

    classes: Annotated[Text, typer.Option(help="Number of classes, or several: 2,3,4.")] = None
    trend: Annotated[Text, typer.Option(help="Formula such as 'x + y'; 0 for none.")] = None
    share: Annotated[Text, typer.Option(help="Of all frames: means,sds, sds, means, none.")] = None
    foreground: Annotated[Text, typer.Option(help="As for quantify: a rule, or ranks.")] = None

    @property
    def asked(self) -> Asked:
        from jaxmicro.app.quantify.choose import Asked

        return Asked(self.classes, self.trend, self.share, self.foreground)


@expanded
@reported
def study(
    movie: Source,
    out: Out,
    part: MoviePart,
    model: Model,
    rates: Annotated[list[str], typer.Option(help="Shares of the pixels: 0.1 0.05 0.01, or 10%.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Model files (TOML) or names, such as paper; default: chosen."),
    ] = None,
    replicates: Annotated[
        str, typer.Option(help="Samples of each rate; auto: replicates x rate = 10.")
    ] = "auto",
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="count, posterior or difference; may be repeated: a plan each."),
    ] = None,
    pattern: Pattern = "random",
    seed: Seed = 0,
    truth: Annotated[
        Text, typer.Option(help="CSV of the true curve: frame and area_px, area_um2 or volume_um3.")
    ] = None,
    thickness: Thickness = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes of this machine; default: this one, a thread a core."),
    ] = None,
    scheduler: Annotated[
        Text, typer.Option(help="Address of a Dask scheduler, such as tcp://node1:8786.")
    ] = None,
    figures: Figures = "png",
    figure_width: FigureWidth = None,
    force: Force = False,
) -> None:
    """How bias and spread of the growth curve depend on the rate; goes on where it was stopped."""
    if workers is not None:  # which share the GPUs with this process
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxmicro.app.options import thickness_asked
    from jaxmicro.app.study import files, folder, report, run, spec, store
    from jaxmicro.app.study.truth import read_truth
    from jaxmicro.app.style import Style

    if workers is not None and (workers < 1 or scheduler is not None):
        raise UsageError("--workers is a number from 1, and does not go with --scheduler")
    job = Job.begin(out, force or store.begun(out) is not None)
    style = Style.asked(figures, figure_width)
    asked_rates, number = spec.rates_of(rates), spec.replicates_asked(replicates)
    plans = spec.plans_of(models or (), estimator or (), model.asked)
    thickness_um = thickness_asked(thickness)
    with job.stages.stage("open"):
        opened = part.open(movie)
        request = spec.Request.of(opened, plans, asked_rates, number, pattern, seed)
        true = None if truth is None else read_truth(truth, opened, thickness_um)
    if scheduler is not None:
        from jaxmicro.app.study.cluster import check

        check(scheduler)
    with folder.at_work(out) as place:
        told = store.go_on(out, place, request, force)
        kept = store.Store.create(place, request, opened)
        with _resumable(kept):
            run.prepare(kept, opened, plans, job.stages)
            _say_begun(job, kept, told)
            run.measure(kept, job.stages, workers, scheduler)
            found = run.collect(kept, opened, thickness_um, true)
            job.finish(
                [*part.inputs(movie), *([] if truth is None else [truth])],
                seed,
                lambda target: files.write(target, found, kept, style),
                lambda path, drawn, record: report.write_report(path, found, drawn, record),
            )
        kept.remove()
    job.say_notes(found.notes)
    job.terminal.print(_shown(files.summary_table(found)))
    job.say_written()


def _say_begun(job: Job, kept: Store, told: str) -> None:
    """What is done already, and what is left."""
    total, left = len(kept.tasks()), len(kept.left())
    if told:
        job.terminal.print(f"{told}: {total - left} of {total} blocks are finished")
    if not left:
        job.terminal.print("nothing is left to measure; tables and figures are written again")


@contextlib.contextmanager
def _resumable(kept: Store) -> Iterator[None]:
    """Say what is kept when the run is interrupted, or cannot write."""
    try:
        yield
    except DataError as problem:
        why = problem.__cause__
        if not isinstance(why, OSError) or why.errno not in FULL:
            raise
        raise DataError(
            f"writing failed ({why.strerror}); finished blocks are kept in {kept.folder}: free "
            "some space, then repeat the command and it goes on"
        ) from problem
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; finished blocks are kept in {kept.folder}, and the same command goes "
            "on from there"
        ) from None


def _shown(table: pd.DataFrame) -> Table:
    grid = Table(box=None, pad_edge=False, collapse_padding=True)
    shown = [c for c in table if c != "cover95" and not str(c).startswith("true_")]
    for name in shown:
        heading = str(name).replace("_percent", " %").replace("_", " ")
        heading = "n" if name == "replicates" else heading
        grid.add_column(heading, justify="left" if name == "plan" else "right", no_wrap=True)
    for row in table[shown].itertuples(index=False):
        grid.add_row(row[0], f"{row[1]:g}", str(row[2]), *(f"{value:.3g}" for value in row[3:]))
    return grid
