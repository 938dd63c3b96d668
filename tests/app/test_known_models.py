"""The model files that come with jaxmicro: listed, found by name, also from a wheel."""

import os
import pathlib
import subprocess
import sys
import tomllib
import zipfile

import pandas as pd
import pytest

from jaxmicro.app.model_file import library
from jaxmicro.app.quantify.spec import load
from jaxmicro.errors import UsageError

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = [p.stem for p in sorted((ROOT / "models").glob("*.toml"))]


def test_models_lists_every_file_with_its_description(ran, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = ran("models")
    lines = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert [n for n in lines if n in NAMES] == NAMES
    for name in NAMES:
        tables = tomllib.loads((ROOT / "models" / f"{name}.toml").read_text("utf-8"))
        assert tables["description"] in lines[name]
        assert ("quantify" if "mixture" in tables else "enhance") in lines[name].split()[1]


def test_a_name_is_enough_and_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linear_k3").mkdir()  # a folder, of a former run perhaps, is no model
    assert load("linear_k3") == load(ROOT / "models" / "linear_k3.toml")
    (tmp_path / "plain_k3").write_text("[mixture]\nclasses = 2\n")
    assert load("plain_k3").mixture.classes == 2
    with pytest.raises(UsageError, match=r"model nothing is not known; .* or one of .*plain_k3"):
        load("nothing")


def test_an_installed_wheel_brings_its_model_files(tmp_path):
    """Unpacked, as pip does, and run in an empty folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    empty.mkdir()
    code = "from jaxmicro.app.model_file import library; print(*library().values(), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        str(installed / "jaxmicro" / "models" / f"{name}.toml") for name in NAMES
    ]


def test_compare_leaves_out_models_of_the_other_job_and_says_so(ran, phantom, tmp_path):
    given = ["plain_k3", ROOT / "models" / "enhance_paper.toml", "enhance_refined"]
    movie, out = phantom / "movie.tif", tmp_path / "out"
    text = ran("compare", movie, *given, "--frames", "0:2", "--out", out)
    assert set(pd.read_csv(out / "comparison.csv")["model"]) == {"plain_k3"}
    left_out = "left out, for they are models of `jaxmicro enhance`: enhance_paper, enhance_refined"
    assert f"note: {left_out}" in text.splitlines()
    assert left_out in (out / "report.html").read_text("utf-8")


@pytest.mark.parametrize("command", ["quantify", "posterior", "compare"])
def test_a_single_model_of_the_other_job_is_refused(run, phantom, tmp_path, command):
    model = ["enhance_paper"] if command == "compare" else ["--model", "enhance_paper"]
    status, _, err = run(command, phantom / "movie.tif", *model, "--out", tmp_path / "out")
    assert status == 2
    assert f"{library()['enhance_paper']}: this is a model for `jaxmicro enhance`" in err
    assert not (tmp_path / "out").exists()


def test_enhance_refuses_a_model_for_movies(run, phantom, tmp_path):
    movie = phantom / "movie.tif"
    given = ["--train", movie, "--apply", movie, "--model", "plain_k3", "--out", tmp_path / "out"]
    status, _, err = run("enhance", *given)
    assert status == 2
    assert "plain_k3.toml: this is a model for `jaxmicro quantify`" in err
