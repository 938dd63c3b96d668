"""`.ci/run` starts from empty caches, leaves nothing behind, and names tests that exist."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / ".ci" / "run"
CACHES = (
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "JAX_COMPILATION_CACHE_DIR",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "HF_HOME",
    "RUFF_CACHE_DIR",
    "MYPY_CACHE_DIR",
    "HYPOTHESIS_STORAGE_DIRECTORY",
    "TMPDIR",
)
# Stands for every program that the script calls: notes how it was called and what was cached.
STUB = """#!/bin/sh
echo "call $(basename "$0") $*" >> "$LOG"
env | sed 's/^/env /' >> "$LOG"
find "$XDG_CACHE_HOME" "$TMPDIR" -type f | sed 's/^/cached /' >> "$LOG"
case "$0" in *python3.*) echo "${0##*python}.0" ;; esac
test "$*" != "$FAILS"
"""


def _run(tmp_path: pathlib.Path, fails: str = "") -> tuple[int, list[str]]:
    """Exit status and the calls' log of the script in a folder where each program is a stub."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    newer = [f"bin/python3.{minor}" for minor in (12, 13, 14)]
    inside = [f"{v}/bin/{name}" for v in (".venv", ".venv-newest") for name in ("python", "ruff")]
    for name in ["bin/make", *newer, *inside, ".venv-newest/bin/jaxmicro"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB)
        path.chmod(0o755)
    warm = {name: str(tmp_path / "warm") for name in CACHES if name != "TMPDIR"}
    (tmp_path / "tmp").mkdir()
    env = {
        **warm,
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "LOG": str(tmp_path / "log"),
        "FAILS": fails,
    }
    script = [str(tmp_path / ".ci" / "run")]
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (tmp_path / "log").read_text().splitlines()


def test_every_cache_starts_empty_and_is_gone_afterwards(tmp_path):
    status, log = _run(tmp_path)
    assert status == 0
    assert not [line for line in log if line.startswith("cached")]
    for name in CACHES:
        (place,) = {line for line in log if line.startswith(f"env {name}=")}
        folder = pathlib.Path(place.partition("=")[2])
        assert folder.is_relative_to(tmp_path / "tmp"), name
    (options,) = {line for line in log if line.startswith("env PYTEST_ADDOPTS=")}
    assert f"cache_dir={tmp_path / 'tmp'}" in options
    (pip,) = {line for line in log if line.startswith("env PIP_CACHE_DIR=")}
    assert pip.endswith("/warm/pip")
    assert not os.listdir(tmp_path / "tmp")


def test_a_failure_is_reported_and_leaves_nothing_behind_either(tmp_path):
    status, log = _run(tmp_path, fails="types")
    assert status != 0
    assert [line for line in log if line.startswith("call")][-1] == "call make types"
    assert not os.listdir(tmp_path / "tmp")


def test_the_readmes_command_comes_first_and_the_newest_python_last(tmp_path):
    status, log = _run(tmp_path)
    calls = [line.removeprefix("call ") for line in log if line.startswith("call")]
    assert status == 0
    assert calls[:4] == ["make test", "make lint", "ruff format --check .", "make types"]
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make VENV=.venv-newest PYTHON=python3.14 .venv-newest/.installed" in calls
    assert calls[-1].startswith("python -m pytest ")


@pytest.mark.parametrize("path", re.findall(r"tests/\S+\.py", SCRIPT.read_text(encoding="utf-8")))
def test_files_that_it_names_exist(path):
    assert (ROOT / path).is_file()
