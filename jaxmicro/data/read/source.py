"""From a path, folder or glob to a Stack: which reader, and errors said in one line.

This is the one place that turns what the format libraries raise into DataError.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxmicro import activity
from jaxmicro.data.read import folder
from jaxmicro.data.read.formats import FORMATS, SUFFIXES, Format
from jaxmicro.data.read.stack import LazyFrames, Stack
from jaxmicro.errors import DataError, JaxmicroError

Source = str | Path


_FOLDER_SUFFIXES = tuple(s for f in FORMATS if f.in_folders for s in f.suffixes)
# libhdf5 follows some damaged tables in circles, for ever: one call may compute for so long, and
# longer by a second for every so many bytes of the file.
_CIRCLES = tuple(f.name for f in FORMATS if f.may_circle)
_LONGEST_S, _BYTES_A_SECOND = 20.0, 5e6


def open_source(source: Source) -> Stack:
    """The frames of a file, a folder, a glob or `FILE::PATH/IN/FILE`; DataError if unreadable."""
    text = str(source)
    path, _, select = text.partition("::") if not Path(text).exists() else (text, "", "")
    paths = files_of(path)
    if len(paths) == 1:
        return _open_file(paths[0], select or None)
    if select:
        raise DataError(f"{text}: '::{select}' chooses inside one file, this is {len(paths)} files")
    with _readable(paths[0], "a movie of image files", (OSError,)):
        stack = folder.open_files(paths, lambda p: _open_file(p, None), _peek)
    return stack


def files_of(source: Source) -> list[Path]:
    """The files that a path, folder or glob stands for, in natural order; DataError if none."""
    text = str(source).partition("::")[0] if not Path(source).exists() else str(source)
    path = Path(text)
    if path.is_dir() and not is_zarr(path):
        return folder.images_in(path, _FOLDER_SUFFIXES)
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = [Path(p) for p in glob.glob(text) if Path(p).is_file() or is_zarr(Path(p))]
        if not found:
            raise DataError(f"{text}: no file matches; quote the pattern and check the folder")
        return sorted(found, key=folder.natural_key)
    raise DataError(f"{text}: there is no such file or folder; check the path")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / n).is_file() for n in (".zarray", ".zgroup", "zarr.json"))


def format_of(path: Path) -> Format:
    """The format of a file by its first bytes, by its suffix where they do not decide.

    DataError if the file is empty, is of no known format, or is not what its suffix says.
    """
    suffix = path.suffix.lower()
    named = next((f for f in FORMATS if suffix in f.suffixes), None)
    if path.is_dir():
        return next(f for f in FORMATS if f.name == "Zarr")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: the file is empty")
    if named is not None and (not named.magic or _has_magic(head, named)):
        return named
    # MRC's signature stands late in its header, and old files lack it: by suffix only, or here.
    if head[208:212] == b"MAP ":
        return next(f for f in FORMATS if f.name == "MRC")
    for candidate in FORMATS:
        if not candidate.shared_magic and _has_magic(head, candidate):
            return candidate
    if named is not None:
        raise DataError(f"{path}: is named like a {named.name} file but is not one")
    raise DataError(
        f"{path}: not a format that can be read; supported are {', '.join(SUFFIXES)}, "
        "and folders or globs of images"
    )


def _has_magic(head: bytes, format: Format) -> bool:
    return any(head[at : at + len(magic)] == magic for at, magic in format.magic)


def _open_file(path: Path, select: str | None) -> Stack:
    format = format_of(path)
    module = importlib.import_module(f"jaxmicro.data.read.{format.module}")
    if select is not None and not format.has_parts:
        raise DataError(f"{path}: a {format.name} file has no parts to choose with '::{select}'")
    opener: Callable[..., Stack] = getattr(module, format.function)
    failures = module.failures()
    with _readable(path, format.name, failures), _heard() as said:
        stack = opener(path, select)
    said.refuse_damage(path, format.name)
    if isinstance(stack.frames, LazyFrames):
        guard = functools.partial(_reading_frame, path, format.name, failures)
        stack = stack.replace(frames=stack.frames.guarded(guard))
    return stack.replace(warnings=(*stack.warnings, *said.sentences))


def _peek(path: Path) -> tuple[int, int, int]:
    format = format_of(path)
    module: Any = importlib.import_module(f"jaxmicro.data.read.{format.module}")
    if not hasattr(module, "peek"):
        n, height, width = _open_file(path, None).frames.shape
        return n, height, width
    with _readable(path, format.name, module.failures()), _heard():
        n, height, width = module.peek(path)
    return n, height, width


@contextlib.contextmanager
def _reading_frame(path: Path, kind: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """As `_readable`, and what the library logs meanwhile is heard: a frame may lack its parts."""
    said = _Heard()
    with _readable(path, kind, failures), _logged_to(said):
        yield
    said.refuse_damage(path, kind)


def _longest_s(path: Path, kind: str) -> float | None:
    """Seconds that one call of the format's library may compute; None without a limit."""
    if kind not in _CIRCLES or not path.is_file():
        return None
    return _LONGEST_S + path.stat().st_size / _BYTES_A_SECOND


@contextlib.contextmanager
def _readable(path: Path, kind: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turns what a format's library raises on a bad file into one line of DataError."""
    try:
        with activity.doing(f"reading {path}"), activity.limited(_longest_s(path, kind)):
            yield
    except JaxmicroError:
        raise
    except failures as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        _let_go(error)
        raise DataError(
            f"{path}: cannot be read as {kind} ({reason}); the file may be truncated or damaged"
        ) from error


def _let_go(error: BaseException | None) -> None:
    """Closes the files that a library left open in the calls that failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__context__


class _Heard(logging.Handler):
    """What a format library says in warnings and in its log while a file is opened."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []
        self.damaged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.add(record.getMessage())

    def add(self, text: str) -> None:
        text = " ".join(text.split())
        lost = "invalid value offset" in text and "TiffTag 270" in text  # the calibration
        parts = ("invalid page offset", "corrupted file", "segments, got")
        if lost or any(part in text for part in parts):
            self.damaged.append(text)
        elif text not in self.sentences:
            self.sentences.append(text)

    def refuse_damage(self, path: Path, kind: str) -> None:
        """DataError if the library said that the file lacks something."""
        if self.damaged:
            raise DataError(f"{path}: the {kind} file is truncated or damaged: {self.damaged[0]}")


@contextlib.contextmanager
def _heard() -> Iterator[_Heard]:
    """What is said while a file is opened, in the library's log and in warnings."""
    handler = _Heard()
    with _logged_to(handler), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield handler
    for warning in caught:
        # Deprecations and unclosed handles are the libraries' affair, not the user's.
        if not issubclass(
            warning.category, DeprecationWarning | PendingDeprecationWarning | ResourceWarning
        ):
            handler.add(str(warning.message))


@contextlib.contextmanager
def _logged_to(handler: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("tifffile", "rsciio", "libav")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, propagated, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
