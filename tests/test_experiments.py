"""Every experiment runs with --quick and says in its docstring what to expect."""

import ast
import pathlib
import subprocess
import sys

import pytest

LONG = (
    *("area_estimators", "calibration", "certificate", "compare_models", "enhance_settings"),
    *("enhance_volumes", "families", "posterior_coverage", "psc_cells", "soft_correction"),
    *("study_kills", "subsampling_study", "test_levels", "zoo"),
)
EXPERIMENTS = sorted((pathlib.Path(__file__).resolve().parent.parent / "experiments").glob("*.py"))


def _often(path):
    """Benchmarks and studies against rivals take half a minute or more each even so."""
    long = path.stem.startswith("benchmark") or "against" in path.stem
    slow = long or path.stem in LONG
    return pytest.param(path, marks=pytest.mark.slow if slow else (), id=path.stem)


@pytest.mark.parametrize("path", [_often(p) for p in EXPERIMENTS])
def test_quick_run(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path), "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_docstring_gives_command_time_and_figures(path):
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    for heading in ("Command:", "Run time:", "Expected:"):
        assert heading in text, f"{path.name} does not say {heading!r}"
    assert "to be measured" not in text


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_experiments_never_import_one_another(path):
    names = {p.stem for p in EXPERIMENTS}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not names & {a.name.split(".")[0] for a in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in names
