"""What the commands share: option types, opening a movie, one line for a user's mistake."""

from __future__ import annotations

import functools
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from jaxmicro import activity
from jaxmicro.data.movie import Movie
from jaxmicro.errors import JaxmicroError, UsageError

Out = Annotated[pathlib.Path, typer.Option("--out", help="Folder to write; whole or absent.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that a former run wrote.")]
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
            sys.stdout.flush()
            activity.ended(0)
        except JaxmicroError as err:
            fail(" ".join(str(err).split()), 2 if isinstance(err, UsageError) else 1)
        except KeyboardInterrupt:
            fail("interrupted; nothing was written", 1)
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


def open_movie(
    source: str,
    crop: str | None,
    exclude: list[str] | None,
    frames: str | None,
    mask: str | None,
    missing: str | None,
    pixel_size: str | None,
    frame_interval: str | None,
) -> Movie:
    """The movie of the options, narrowed to what they ask for."""
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


def command_line() -> list[str]:
    """The command as typed, for run.json."""
    return ["jaxmicro", *sys.argv[1:]]
