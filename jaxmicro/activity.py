"""What this process is doing, on a page that its parent process can read after a crash.

The page is shared memory, so what it says outlives the process. Only the standard library is
imported: `jaxmicro.guard` reads the page before anything else has been loaded.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from collections.abc import Iterator

_FIELD = 4096  # bytes: the longest path
_DOING, _WORK, _OUT, _OLD, _STATUS, _KEPT = range(6)
_page = mmap.mmap(-1, 6 * _FIELD)
_watched = False


def share() -> None:
    """A clean page for this process and the child that it forks next and will speak for."""
    global _page, _watched
    _page, _watched = mmap.mmap(-1, len(_page)), True


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """End a watched process that computes for longer than this within the block.

    For libraries that a damaged file leads in circles below Python, where no exception reaches.
    """
    if not _watched or seconds is None:
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is being done, e.g. "reading x.emd", until the block ends."""
    before = _text(_DOING)
    _set(_DOING, what)
    yield
    _set(_DOING, before)  # an exception leaves it: the next activity replaces it


def writing(work: str | os.PathLike[str], out: str | os.PathLike[str], old: object = None) -> None:
    """Say that the temporary folder `work` becomes `out`, whose former content becomes `old`."""
    for field, path in ((_WORK, work), (_OUT, out), (_OLD, old)):
        _set(field, "" if path is None else os.path.abspath(str(path)))


def keeping(folder: str | os.PathLike[str]) -> None:
    """Say that finished parts of the work are kept there, and that the same command goes on."""
    _set(_KEPT, os.path.abspath(str(folder)))


def ended(status: int) -> None:
    """Say that the command is over and its result or its mistake was said to the user."""
    _set(_STATUS, str(status))


def current() -> str:
    """What is being done; empty if nothing was said."""
    return _text(_DOING)


def status() -> int | None:
    """The exit status that the command ended with; None while it is at work."""
    text = _text(_STATUS)
    return int(text) if text.isdigit() else None


def folders() -> tuple[str, str, str]:
    """(temporary folder, target, folder of the target's former content), empty where none."""
    return _text(_WORK), _text(_OUT), _text(_OLD)


def kept() -> str:
    """The folder of finished parts; empty where nothing is kept."""
    return _text(_KEPT)


def _set(field: int, text: str) -> None:
    raw = os.fsencode(text)[: _FIELD - 1]
    _page[field * _FIELD : (field + 1) * _FIELD] = raw.ljust(_FIELD, b"\0")


def _text(field: int) -> str:
    raw = bytes(_page[field * _FIELD : (field + 1) * _FIELD])
    return os.fsdecode(raw.partition(b"\0")[0])
