"""Diagnostics name what cannot be trusted; ArviZ is imported without its notices."""

import datetime
import importlib.metadata
import subprocess
import sys

import pytest


def test_chains_that_disagree_are_named(drawn):
    result = drawn(False)
    shifted = result["posterior"].copy(deep=True)
    shifted["trend"][0] += 50.0
    bad = type(result)({**result.groups, "posterior": shifted}, "nuts", True, result.start)
    found = bad.diagnose()
    assert "trend[0, 0]" in found.bad
    assert "worst trend[0, 0]" in found.problems[0]
    assert not found.trusted


_IMPORT = "from jaxmicro.posterior.diagnostics import import_arviz; print(import_arviz().__name__)"


@pytest.mark.parametrize("cache", ["empty", "out of date", "not a folder"])
def test_arviz_is_imported_in_silence_whatever_the_filters_and_the_cache(cache, tmp_path):
    folder = tmp_path / "cache"
    if cache == "not a folder":
        folder.write_text("a file", encoding="utf-8")
    elif cache == "out of date":
        (folder / "arviz").mkdir(parents=True)
        old = datetime.date(2020, 1, 1).isoformat()
        (folder / "arviz" / "daily_warning").write_text(old, encoding="utf-8")
    environment = {
        "PATH": "", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(folder), "MPLCONFIGDIR": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "arviz"


def test_arviz_still_gives_the_notice_that_is_ignored(tmp_path):
    """Once it does not, `import_arviz` has no reason to be."""
    if int(importlib.metadata.version("arviz").split(".")[0]) >= 1:
        pytest.skip("needs ArviZ below 1, which Python 3.11 gets: later ones give no notice")
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import arviz"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ArviZ is undergoing a major refactor" in done.stderr
