"""What the commands share: option types, opening a movie, one line for a user's mistake."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pathlib
import sys
import time
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxmicro import activity
from jaxmicro.errors import JaxmicroError, UsageError

if TYPE_CHECKING:  # the work is imported when a command begins, so that --help is quick
    from jaxmicro.app.progress import Stages
    from jaxmicro.data.movie import Movie
    from jaxmicro.growth.plan import Sampling

Out = Annotated[pathlib.Path, typer.Option("--out", help="Folder to write; whole or absent.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that a former run wrote.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Pattern = Annotated[str, typer.Option(help="Scan pattern: random, stratified or lines.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, in about how long; write nothing."),
]
Source = Annotated[str, typer.Argument(help="File, folder or glob of images, or FILE::PATH.")]
Thickness = Annotated[
    str | None, typer.Option(help='Along the beam, for volumes: "0.5 um", or "0.5 +- 0.05 um".')
]

Figures = Annotated[str, typer.Option(help="Format of the figures: png, svg or pdf.")]
FigureWidth = Annotated[
    str | None, typer.Option(help="Figures for a paper: one (89 mm) or two (183 mm) columns.")
]


@dataclasses.dataclass(frozen=True)
class MoviePart:
    """The movie that a command works on, and which part of it."""

    roi: Annotated[
        str | None,
        typer.Option(help="Where to look: .roi (ImageJ), .csv (napari shapes), or an image."),
    ] = None
    crop: Annotated[str | None, typer.Option(help="Part of the frame: Y0:Y1,X0:X1.")] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Box to leave out, Y0:Y1,X0:X1 within the crop; may be repeated."),
    ] = None
    frames: Annotated[str | None, typer.Option("--frames", help="Frames A:B.")] = None
    pixel_size: Annotated[str | None, typer.Option(help='Pixel pitch, e.g. "28.2 nm".')] = None
    frame_interval: Annotated[
        str | None, typer.Option(help='Time between frames, e.g. "0.6 s".')
    ] = None

    def open(self, source: str) -> Movie:
        """The movie, narrowed to what the options ask for."""
        from jaxmicro.app import options
        from jaxmicro.data.read import read_movie

        movie = read_movie(
            source,
            pixel_size_nm=options.length_nm(self.pixel_size, "--pixel-size"),
            frame_interval_s=options.duration_s(self.frame_interval, "--frame-interval"),
        )
        asked = self.frames
        return options.narrow(
            movie,
            frames=None if asked is None else options.frame_range(asked, movie.n_frames),
            crop=None if self.crop is None else options.box(self.crop, "--crop"),
            exclude=[options.box(b, "--exclude") for b in self.exclude or ()],
            roi=self.roi,
            **self.places,
        )

    @property
    def places(self) -> dict[str, Any]:
        """Where the beam went, as `narrow` takes it."""
        return {}

    def inputs(self, source: str) -> list[str]:
        """The files that were read, for run.json."""
        return [source, *(f for f in (self.roi,) if f is not None)]


@dataclasses.dataclass(frozen=True)
class MovieOptions(MoviePart):
    """The same, and which of its pixels were visited or are to be."""

    visited: Annotated[
        str | None, typer.Option(help="Image or stack: nonzero where the beam went.")
    ] = None
    mask: Annotated[str | None, typer.Option(help="Old name of --visited.", hidden=True)] = None
    missing: Annotated[
        str | None, typer.Option(help="nan or the grey value of unvisited pixels.")
    ] = None
    rate: Annotated[
        str | None, typer.Option(help="Share of each frame's pixels to visit: 0.01 or 1%.")
    ] = None
    pattern: Pattern = "random"
    seed: Seed = 0

    @property
    def places(self) -> dict[str, Any]:
        from jaxmicro.app import options

        return {
            "visited": options.visited_file(self.visited, self.mask),
            "missing": options.missing_value(self.missing),
        }

    @property
    def sampling(self) -> Sampling:
        from jaxmicro.app import options
        from jaxmicro.growth.plan import Sampling

        return Sampling(options.share(self.rate, "--rate"), self.pattern, self.seed)

    def inputs(self, source: str) -> list[str]:
        more = (f for f in (self.visited, self.mask) if f is not None)
        return [*super().inputs(source), *more]


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a record replaced by one for each of its fields."""
    hints = typing.get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    records: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind))
            continue
        assert isinstance(kind, type)
        records[name] = kind
        types = typing.get_type_hints(kind, include_extras=True)
        parameters += [
            parameter.replace(name=f.name, default=f.default, annotation=types[f.name])
            for f in dataclasses.fields(kind)
        ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in dataclasses.fields(kind)})
            for name, kind in records.items()
        }
        command(**given, **made)

    # Typer reads both: the order from the signature, the types from the annotations.
    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command so that a user's mistake is one line, not a traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what concerns the user is said by the run
                command(*args, **options)
            sys.stdout.flush()
            activity.ended(0)
        except JaxmicroError as err:
            fail(" ".join(str(err).split()), 2 if isinstance(err, UsageError) else 1)
        except KeyboardInterrupt as stop:
            fail(str(stop) or "interrupted; nothing was written", 1)
        except MemoryError:
            fail("out of memory; use --rate, --crop or fewer frames", 1)

    return wrapper


def fail(sentence: str, code: int) -> None:
    """One line on standard error, then out."""
    print(f"jaxmicro: {sentence}", file=sys.stderr)
    activity.ended(code)
    raise typer.Exit(code)


def console() -> Console:
    """Where the words go: standard output."""
    return Console(stderr=False, highlight=False, soft_wrap=True)


def command_line() -> list[str]:
    """The command as typed, for run.json."""
    return ["jaxmicro", *sys.argv[1:]]


Write = Callable[[pathlib.Path], Mapping[str, pathlib.Path]]
Report = Callable[[pathlib.Path, Mapping[str, pathlib.Path], str], None]


@dataclasses.dataclass(frozen=True)
class Job:
    """A command from its start to its finish: where it writes, what it says, how long it takes."""

    out: pathlib.Path
    force: bool
    terminal: Console
    stages: Stages
    began: float

    @classmethod
    def begin(cls, out: pathlib.Path, force: bool) -> Job:
        """Refuses a folder that may not be written before any work is done."""
        from jaxmicro.app import output
        from jaxmicro.app.progress import Stages

        began = time.perf_counter()
        output.check_target(out, force)
        terminal = console()
        return cls(out, force, terminal, Stages(terminal), began)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def finish(
        self, inputs: Sequence[str], seed: int | None, write: Write, report: Report, **more: Any
    ) -> None:
        """Write the folder: files and figures, run.json (with `more` in it), report.html.

        Args:
          inputs: files that were read; run.json holds their hashes.
          write: writes the files into the folder and returns its figures by caption.
          report: writes the page to a path, from the figures and the text of run.json.
        """
        from jaxmicro.app import output
        from jaxmicro.data.read import sha256

        with output.new_folder(self.out, self.force) as folder:
            figures = write(folder)
            self.stages.seconds["total"] = self.seconds
            record = output.run_record(
                command_line(),
                seed=seed,
                inputs={name: sha256(name) for name in inputs},
                seconds=self.stages.seconds,
            )
            output.write_json(folder / "run.json", record | more)
            text = (folder / "run.json").read_text(encoding="utf-8")
            report(folder / "report.html", figures, text)

    def say(self, rows: Sequence[tuple[str, str]]) -> None:
        """Labels and texts, one row each."""
        grid = Table.grid(padding=(0, 2))
        for label, text in rows:
            grid.add_row(label, text)
        self.terminal.print(grid)

    def say_notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            self.terminal.print(f"note: {note}")

    def say_forecast(self, lines: Sequence[str]) -> None:
        """What --dry-run found."""
        for line in lines:
            self.terminal.print(line)
        self.terminal.print(f"nothing was written; the trial took {self.seconds:.0f} s")

    def say_written(self) -> None:
        self.terminal.print(
            f"wrote {self.out} in {self.seconds:.1f} s; open {self.out}/report.html"
        )
