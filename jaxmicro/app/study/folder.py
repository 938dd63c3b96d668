"""The folder that a study works in: `OUT.unfinished`, for one run at a time, whole files only."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import socket
from collections.abc import Iterable, Iterator

import numpy as np

from jaxmicro import activity
from jaxmicro.errors import DataError, UsageError

REQUEST, TABLES, PLANS, LOCK = "study.json", "study.zarr", "plans", "lock"


@contextlib.contextmanager
def at_work(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """`OUT.unfinished`, made if need be, for this process alone until the block ends.

    The system gives the lock back when the process ends, however it ends.

    Raises:
      UsageError: another process is at work there.
      DataError: it cannot be written.
    """
    folder = unfinished(out)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
    with file:
        if not _locked(file.fileno()):
            file.seek(0)
            raise UsageError(
                f"{folder}: another run is at work on this study ({file.read().strip()}); wait "
                "until it has finished, or stop it"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        activity.keeping(folder)
        try:
            yield folder
        finally:
            if not (has_blocks(folder) or any(folder.glob(f"{PLANS}/*.toml"))):
                shutil.rmtree(folder, ignore_errors=True)


def has_blocks(folder: pathlib.Path) -> bool:
    """Whether a block has been finished there."""
    return any(folder.glob(f"{TABLES}/*/*/c/*/*/*"))


def unfinished(out: pathlib.Path) -> pathlib.Path:
    """Where a study is kept until it is whole."""
    real = pathlib.Path(os.path.realpath(out))
    return real.with_name(f"{real.name}.unfinished")


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file; False where another process has it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: two runs are then the user's to avoid
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def empty(folder: pathlib.Path) -> None:
    """Remove everything but the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextlib.contextmanager
def disk(folder: pathlib.Path) -> Iterator[None]:
    """What the system says of a file that cannot be written, as one line."""
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"{folder}: writing failed ({problem.strerror or problem}); free some space, then "
            "repeat the command and it goes on"
        ) from problem


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write that gets its name when it is whole."""
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)


def write_text(path: pathlib.Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def save_array(path: pathlib.Path, parts: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
    """An array (.npy) written part by part, so that it need not fit into memory."""
    parts = iter(parts)
    first = next(parts)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": shape}
    with whole(path) as part, open(part, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for values in itertools.chain([first], parts):
            file.write(np.ascontiguousarray(values).tobytes())
