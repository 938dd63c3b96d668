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

_PACKAGES = ("jax", "jaxlib", "equinox", "numpy", "numpyro", "arviz", "xarray")


def check_target(out: pathlib.Path, force: bool) -> None:
    """Refuse a target that cannot be written, before any work is done.

    Raises:
      UsageError: `out` is a file, or a folder with content and `force` is not set, or its parent
        cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise UsageError(f"--out {out} has content already; give another folder or add --force")
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise UsageError(f"--out {out} cannot be made: {parent} is not writable")


@contextlib.contextmanager
def new_folder(out: pathlib.Path, force: bool = False) -> Iterator[pathlib.Path]:
    """A temporary folder that becomes `out` when the block ends well, and vanishes otherwise.

    Raises:
      UsageError: see `check_target`.
      DataError: the disk is full or the folder cannot be written.
    """
    check_target(out, force)
    out = out.absolute()
    work = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        activity.writing(work, out)
        yield work
        work.chmod(0o755)
        old = None
        if out.exists():
            old = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
            activity.writing(work, out, old)
            out.rename(old / "replaced")
        work.rename(out)
        if old is not None:
            shutil.rmtree(old)
    except OSError as err:
        raise DataError(
            f"--out {out}: writing failed ({err.strerror or err}); nothing was kept, "
            "free some space or give another folder"
        ) from err
    finally:
        if work is not None and work.exists():
            shutil.rmtree(work, ignore_errors=True)


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
