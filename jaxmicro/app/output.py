"""Output folders: whole or absent, with a record of the run that made them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

import jaxmicro
from jaxmicro import activity
from jaxmicro.errors import DataError, UsageError

RECORD = "run.json"
_PACKAGES = ("jax", "jaxlib", "equinox", "numpy", "numpyro", "arviz", "xarray")
_SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")  # dropped by operating systems


def check_target(out: pathlib.Path, force: bool) -> None:
    """Refuse a target that cannot be written, before any work is done.

    With `force` a folder may be replaced if a former run wrote everything in it: the key `files`
    of its run.json lists what that run wrote.

    Raises:
      UsageError: `out` is a file, the current folder, or a folder with content that may not be
        replaced, or its parent cannot be written to.
    """
    reason = _refusal(out, force)
    if reason is not None:
        advice = "" if force or not out.is_dir() else " or add --force"
        raise UsageError(f"{reason}; give another folder{advice}")
    parent = _real(out).parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise UsageError(f"--out {out} cannot be made: {parent} is not writable")


@contextlib.contextmanager
def new_folder(out: pathlib.Path, force: bool = False) -> Iterator[pathlib.Path]:
    """A temporary folder that becomes `out` when the block ends well, and vanishes otherwise.

    Its run.json gets the list of its files. Call `check_target` before the work begins: what may
    not be replaced when the work is done stays, and the new folder is kept beside it.

    Raises:
      DataError: the disk is full, the folder cannot be written, or `out` may not be replaced.
    """
    target = _real(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name}.partial-"
        work = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        activity.writing(work, target)
        try:
            yield work
            _list_files(work)
            work.chmod(0o755)
            _put_in_place(work, target, force)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # nothing is there once it has its name
    except OSError as err:
        raise DataError(
            f"--out {out}: writing failed ({err.strerror or err}); nothing was kept, "
            "free some space or give another folder"
        ) from err


def _real(out: pathlib.Path) -> pathlib.Path:
    """The absolute path behind links: a link stays and what it points to is written."""
    return pathlib.Path(os.path.realpath(out))


def _refusal(out: pathlib.Path, force: bool) -> str | None:
    """Why `out` may not be replaced, or None."""
    real, here = _real(out), pathlib.Path.cwd()
    if not real.is_dir():
        return f"--out {out} is a file" if real.exists() else None
    if real == here or real in here.parents:
        return f"--out {out} is the current folder or holds it, and cannot be replaced whole"
    if not force:
        return f"--out {out} has content already" if any(real.iterdir()) else None
    content = [n for n in _content(real) if pathlib.PurePosixPath(n).name not in _SYSTEM_FILES]
    if not content:
        return None
    listed, why = _listed(real)
    foreign = [name for name in content if name not in listed]
    if not foreign:
        return None
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return (
        f"--out {out}: --force replaces only what a former run wrote, and {why} {foreign[0]}{more}"
    )


def _content(folder: pathlib.Path) -> list[str]:
    """Relative POSIX paths of all files, links and unreadable folders, sorted."""
    found: list[str] = []

    def closed(err: OSError) -> None:
        found.append(err.filename)

    for root, folders, files in os.walk(folder, onerror=closed):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found += [os.path.join(root, name) for name in (*files, *links)]
    return sorted(pathlib.Path(name).relative_to(folder).as_posix() for name in found)


def _listed(folder: pathlib.Path) -> tuple[set[str], str]:
    """The files that the folder's run.json lists, and what to say of a file that it does not."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return set(), f"there is no {RECORD} that lists"
    except (OSError, ValueError):
        return set(), f"its {RECORD} cannot be read and says nothing of"
    if not isinstance(record, dict) or not isinstance(record.get("jaxmicro"), str):
        return set(), f"its {RECORD} is not of jaxmicro and says nothing of"
    if not isinstance(record.get("files"), list):
        return set(), f"its {RECORD}, written by an older version, has no list with"
    return {n for n in record["files"] if isinstance(n, str)}, f"its {RECORD} does not list"


def _list_files(folder: pathlib.Path) -> None:
    """Add the list of all files to the folder's run.json, or write one that has just that."""
    path = folder / RECORD
    record: dict[str, Any] = {"jaxmicro": jaxmicro.__version__}
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, record | {"files": sorted({*_content(folder), RECORD})})


def _put_in_place(work: pathlib.Path, out: pathlib.Path, force: bool) -> None:
    """Give `work` its name, or one beside it where `out` may not or cannot be replaced."""
    reason = _refusal(out, force)
    if reason is None:
        try:
            return _remove(_swap(work, out))
        except OSError as err:
            reason = f"--out {out} cannot be replaced ({err.strerror or err})"
    names = (f"{out.name}-new", *(f"{out.name}-new-{n}" for n in range(2, 1000)))
    kept = next(p for p in map(out.with_name, names) if not os.path.lexists(p))
    work.rename(kept)
    raise DataError(f"{reason}; what is there was left, and the finished run is in {kept}")


def _swap(work: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Rename `work` to `out`; returns the new name of what was there, if anything.

    An interruption leaves either the old folder or the new one as `out`.
    """
    old = out.with_name(work.name.replace(".partial-", ".old-"))
    activity.writing(work, out, old)
    try:
        if out.exists():
            out.rename(old)
        work.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
    return old


def _remove(old: pathlib.Path) -> None:
    """Delete what a former run wrote, and the folders that this leaves empty."""
    listed, _ = _listed(old)
    try:
        for root, _, files in os.walk(old, topdown=False):
            for path in (pathlib.Path(root, name) for name in files):
                if path.name in _SYSTEM_FILES or path.relative_to(old).as_posix() in listed:
                    path.unlink()
            os.rmdir(root)
    except OSError as err:
        raise DataError(
            f"the run was written, but what is left of the former folder is kept in {old} "
            f"({err.strerror or err})"
        ) from err


def run_record(
    command: list[str], *, seed: int | None, inputs: dict[str, str], seconds: dict[str, float]
) -> dict[str, Any]:
    """What a run.json holds: enough to do the run again."""
    device = jax.devices()[0]
    return {
        "command": command,
        "jaxmicro": jaxmicro.__version__,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "seed": seed,
        "device": f"{device.platform}: {device.device_kind}, {jax.device_count()} device(s)",
        "input_sha256": inputs,
        "wall_time_s": {k: round(v, 3) for k, v in seconds.items()},
    }


def write_json(path: pathlib.Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
