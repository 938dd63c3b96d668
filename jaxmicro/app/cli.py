"""The command line: options in, one call, words out. The only module that prints."""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import jaxmicro
from jaxmicro.errors import JaxmicroError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Quantities with honest error bars from microscopy that saw too few counts.",
)
phantom_app = typer.Typer(no_args_is_help=True, help="Write a scene whose truth is known.")
app.add_typer(phantom_app, name="phantom")

Out = Annotated[pathlib.Path, typer.Option("--out", help="Folder to write; whole or absent.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that has content.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Source = Annotated[str, typer.Argument(help="File, folder or glob of images, or FILE::PATH.")]
Rate = Annotated[
    float | None, typer.Option(help="Share of each frame's pixels to visit, e.g. 0.01.")
]
Pattern = Annotated[str, typer.Option(help="Scan pattern: random, stratified or lines.")]
Crop = Annotated[str | None, typer.Option(help="Part of the frame: Y0:Y1,X0:X1.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Box to leave out, Y0:Y1,X0:X1 within the crop; may be repeated."),
]
FrameRange = Annotated[str | None, typer.Option("--frames", help="Frames A:B.")]
Mask = Annotated[str | None, typer.Option(help="Image or stack: nonzero where visited.")]
Missing = Annotated[str | None, typer.Option(help="nan or the grey value of unvisited pixels.")]
PixelSize = Annotated[str | None, typer.Option(help='Pixel pitch, e.g. "28.2 nm".')]
Interval = Annotated[str | None, typer.Option(help='Time between frames, e.g. "0.6 s".')]


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command so that a user's mistake is one line, not a traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what concerns the user is said by the run
                command(*args, **options)
        except JaxmicroError as err:
            _fail(" ".join(str(err).split()), 2 if isinstance(err, UsageError) else 1)
        except KeyboardInterrupt:
            _fail("interrupted; nothing was written", 1)
        except MemoryError:
            _fail("out of memory; use --rate, --crop or fewer frames", 1)

    return wrapper


def _fail(sentence: str, code: int) -> None:
    print(f"jaxmicro: {sentence}", file=sys.stderr)
    raise typer.Exit(code)


def _console() -> Console:
    return Console(stderr=False, highlight=False, soft_wrap=True)


def _open_movie(
    source: str,
    crop: str | None,
    exclude: list[str] | None,
    frames: str | None,
    mask: str | None,
    missing: str | None,
    pixel_size: str | None,
    frame_interval: str | None,
):
    from jaxmicro.app import options
    from jaxmicro.app.quantify import narrow
    from jaxmicro.data.read import read_movie

    movie = read_movie(
        source,
        pixel_size_nm=options.length_nm(pixel_size, "--pixel-size"),
        frame_interval_s=options.duration_s(frame_interval, "--frame-interval"),
    )
    return narrow(
        movie,
        frames=None if frames is None else options.frame_range(frames, movie.n_frames),
        crop=None if crop is None else options.box(crop, "--crop"),
        exclude=[options.box(b, "--exclude") for b in exclude or ()],
        mask=mask,
        missing=options.missing_value(missing),
    )


@app.command()
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
    console = _console()
    stages = Stages(console)
    with stages.stage("open"):
        opened = _open_movie(
            movie, crop, exclude, frames, mask, missing, pixel_size, frame_interval
        )
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
            files.write_labels(folder / "labels.tif", run)
            (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
            figures = plot.all_figures(run, folder / "figures")
        inputs = {movie: sha256(movie)} | ({} if mask is None else {mask: sha256(mask)})
        stages.seconds["total"] = time.perf_counter() - began
        record = output.run_record(_command(), seed=seed, inputs=inputs, seconds=stages.seconds)
        output.write_json(folder / "run.json", record)
        text = (folder / "run.json").read_text(encoding="utf-8")
        report.write_report(folder / "report.html", run, figures, text)
    for note in run.notes:
        console.print(f"note: {note}")
    grid = Table.grid(padding=(0, 2))
    for label, text in report.summary_rows(run):
        grid.add_row(label, text)
    console.print(grid)
    _growth_table(console, run.growth)
    console.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")


def _growth_table(console: Console, growth: Any) -> None:
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
        table.add_row(*map(number, cells), str(growth.result[t]))
    console.print(table)


def _command() -> list[str]:
    return ["jaxmicro", *sys.argv[1:]]


@app.command()
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
    variants = {path.stem: spec.load(path) for path in models}
    if len(variants) < len(models):
        raise UsageError("two model files have the same name; give each its own")
    console = _console()
    stages = Stages(console)
    opened = _open_movie(movie, crop, exclude, frames, mask, missing, None, None)
    table = job.compare(opened, variants, rate=rate, pattern=pattern, seed=seed, stages=stages)
    with output.new_folder(out, force) as folder:
        table.to_csv(folder / "comparison.csv", index=False, float_format="%.10g")
        record = output.run_record(
            _command(), seed=seed, inputs={movie: sha256(movie)}, seconds=stages.seconds
        )
        output.write_json(folder / "run.json", record)
        report.write_page(
            folder / "report.html",
            f"Models for {opened.name}",
            [("Best BIC first", report.table(list(table.columns), table.values.tolist()))],
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
    console.print(grid)
    console.print(f"wrote {out}; n is the {table['n_pixels'][0]} visited pixels")


@app.command()
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
    _console().print(grid)


@phantom_app.command()
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
    _console().print(
        f"wrote {out}: movie.tif, truth.csv, truth_labels.tif; the deposit peaks at "
        f"{made.area_um2.max():.3g} um2, {made.volume_um3.max():.3g} um3"
    )


@app.command()
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
    from jaxmicro.app import output, report
    from jaxmicro.app.progress import Stages

    began = time.perf_counter()
    console = _console()
    with output.new_folder(out, force) as folder:
        table = job.demo(folder, seed, (n_frames, size, size), Stages(console))
    grid = Table(box=None, pad_edge=False)
    for name in table.columns:
        grid.add_column(name, justify="left" if name == "sampling" else "right")
    for row in table.values.tolist():
        grid.add_row(*map(report.number, row))
    console.print(grid)
    console.print(f"wrote {out} in {time.perf_counter() - began:.1f} s; open {out}/report.html")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"jaxmicro {jaxmicro.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the `jaxmicro` command."""
    # Compilation is most of a short run: keep compiled programs from run to run.
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "jaxmicro"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    app(prog_name="jaxmicro")


__all__ = ["app", "main"]
