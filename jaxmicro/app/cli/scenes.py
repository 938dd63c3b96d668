"""`jaxmicro info`, `jaxmicro phantom` and `jaxmicro demo`."""

from __future__ import annotations

import pathlib
import time
from typing import Annotated

import typer
from rich.table import Table

from jaxmicro.app.cli.common import (
    Force,
    Out,
    Seed,
    Source,
    console,
    reported,
)


@reported
def info(file: Source) -> None:
    """Say what was understood of a file: shape, axes, calibration, range, saturation."""
    from jaxmicro.data.read import describe

    found = describe(file)
    grid = Table.grid(padding=(0, 2))
    t, y, x = found.shape
    rows: list[tuple[str, str]] = [
        ("format", found.format),
        ("shape", f"{t} frame(s) of {y} x {x}"),
        ("type", found.dtype),
        *(("axis", text) for text in found.axes),
        ("pixel size", "not known" if found.pixel_size_nm is None
         else " x ".join(f"{p:.6g}" for p in found.pixel_size_nm) + " nm (y, x)"),
        ("frame interval", "not known" if found.frame_interval_s is None
         else f"{found.frame_interval_s:.6g} s"),
        ("values", "none finite" if found.value_range is None
         else f"{found.value_range[0]:g} to {found.value_range[1]:g}"),
        ("saturated", "saturation value not known" if found.saturated_share is None
         else f"{100 * found.saturated_share:.3g} % of the pixels at {found.saturation:g}"),
        ("NaN", f"{found.nan_count} pixels"),
    ]  # fmt: skip
    rows += [("note", text) for text in found.warnings]
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


@reported
def operando(
    out: Out,
    seed: Seed = 0,
    n_frames: Annotated[int, typer.Option("--n-frames", help="Number of frames.")] = 60,
    size: Annotated[int, typer.Option(help="Rows and columns of a frame.")] = 512,
    scene: Annotated[str, typer.Option(help="dendrite, rods, islands or front.")] = "dendrite",
    force: Force = False,
) -> None:
    """A deposit that grows and is stripped: movie.tif, truth.csv, truth_labels.tif."""
    from jaxmicro.app import output
    from jaxmicro.app.phantoms import write_operando
    from jaxmicro.data import phantom

    output.check_target(out, force)
    made = phantom.operando(seed, shape=(n_frames, size, size), scene=scene)
    with output.new_folder(out, force) as folder:
        write_operando(made, folder)
    console().print(
        f"wrote {out}: movie.tif, truth.csv, truth_labels.tif; the deposit peaks at "
        f"{made.area_um2.max():.3g} um2, {made.volume_um3.max():.3g} um3"
    )


@reported
def demo(
    out: Out = pathlib.Path("demo-out"),
    seed: Seed = 0,
    n_frames: Annotated[int, typer.Option("--n-frames", help="Number of frames.")] = 60,
    size: Annotated[int, typer.Option(help="Rows and columns of a frame.")] = 512,
    force: Force = False,
) -> None:
    """Make a phantom, quantify it at 10 % and 1 %, and compare with the truth."""
    from jaxmicro.app import demo as job
    from jaxmicro.app import output, page
    from jaxmicro.app.progress import Stages

    began = time.perf_counter()
    output.check_target(out, force)
    terminal = console()
    with output.new_folder(out, force) as folder:
        table = job.demo(folder, seed, (n_frames, size, size), Stages(terminal))
    grid = Table(box=None, pad_edge=False)
    for name in table.columns:
        grid.add_column(name, justify="left" if name == "sampling" else "right")
    for row in table.values.tolist():
        grid.add_row(*map(page.number, row))
    terminal.print(grid)
    terminal.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")
