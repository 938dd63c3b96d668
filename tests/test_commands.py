"""Every model file through its own commands: what is written opens, and model.toml repeats it.

The cases are data, in command_cases.py: over the whole set every option of every command is used at
least once, which a test checks against the commands themselves.
"""

import pathlib
import re
import shlex
import tomllib

import numpy as np
import pandas as pd
import pytest
import tifffile
import typer
from command_cases import (
    ALWAYS,
    ASKED,
    ENHANCE_CASES,
    GRID,
    HALF,
    MOVIE_CASES,
    POSTERIOR,
    RESUMED,
    REUSED,
    SCENES,
    STUDY_CASES,
    USED,
)
from reading_back import read_back
from typer.testing import CliRunner

from jaxmicro.app import output
from jaxmicro.app.cli import app
from jaxmicro.app.enhance.files import write_sections
from jaxmicro.app.enhance.spec import EnhanceVariant
from jaxmicro.app.model_file import load_as
from jaxmicro.app.phantoms import write_operando
from jaxmicro.data.phantom import operando
from jaxmicro.data.phantom_stem_txm import stem_txm

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
slow = pytest.mark.slow
POSTERIOR_MARKS = {name: [slow] for name in POSTERIOR if name != "plain_k3"}


def _options(command):
    """Names of the options of a command, flags by what they switch on or off."""
    group = typer.main.get_command(app)
    for part in command.split():
        group = group.commands[part]
    shown = (p for p in group.params if p.param_type_name == "option" and not p.hidden)
    return {p.opts[0].replace("--no-", "--") for p in shown}


def _pairs(text):
    """`--a 1 --b` as [["--a", "1"], ["--b"]]."""
    out = []
    for word in shlex.split(text):
        if word.startswith("--"):
            out.append([word])
        else:
            out[-1].append(word)
    return out


def _of(command, text):
    """The words of those options that the command has."""
    known = _options(command)
    return [w for pair in _pairs(text) for w in pair if pair[0].replace("--no-", "--") in known]


def test_every_model_file_has_its_cases():
    kinds = {p.stem: tomllib.loads(p.read_text("utf-8")) for p in MODELS.glob("*.toml")}
    assert {n for n, tables in kinds.items() if "mixture" in tables} == set(MOVIE_CASES)
    assert {n for n, tables in kinds.items() if "dictionary" in tables} == set(ENHANCE_CASES)
    assert set(MOVIE_CASES) == set(POSTERIOR)


def test_every_option_of_every_command_is_used_by_a_case():
    group = typer.main.get_command(app)
    commands = {n for n, c in group.commands.items() if not hasattr(c, "commands")}
    phantoms = {f"phantom {n}" for n in group.commands["phantom"].commands}
    assert commands | phantoms == set(USED)
    for command, cases in USED.items():
        words = [text.partition("--")[1] + text.partition("--")[2] for text in cases]
        used = {pair[0].replace("--no-", "--") for text in words for pair in _pairs(text)}
        assert _options(command) - used - ALWAYS == set(), command


# -- the workplace ------------------------------------------------------------------------------


def _call(*words):
    """Exit status, standard output and standard error of a command; no traceback."""
    found = CliRunner().invoke(app, [str(w) for w in words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the movies, masks, slices and training images that the cases name."""
    folder = tmp_path_factory.mktemp("commands")
    scene = operando(1, shape=(5, 37, 52))
    write_operando(scene, folder)
    frames = np.maximum(tifffile.imread(folder / "movie.tif"), 1)  # 0 marks what is missing
    rng = np.random.default_rng(0)
    mask = np.zeros((5, 37 * 52), np.uint8)
    for row in mask:
        row[rng.choice(37 * 52, 962, replace=False)] = 1
    mask = mask.reshape(frames.shape)
    grey = {"photometric": "minisblack"}
    large = np.pad(tifffile.imread(folder / "movie.tif"), ((1, 1), (1, 3), (2, 5)), "reflect")
    tifffile.imwrite(folder / "large.tif", large, **grey)
    tifffile.imwrite(folder / "mask.tif", mask, **grey)
    np.save(folder / "movie.npy", frames)
    np.save(folder / "sparse.npy", frames * mask)

    sections = stem_txm(6, shape=(75, 83), n_stem=1, n_slices=2)
    write_sections(sections, folder)
    tifffile.imwrite(folder / "slice.tif", tifffile.imread(folder / "txm.tif")[0], **grey)
    tifffile.imwrite(folder / "bare.tif", tifffile.imread(folder / "stem_0.tif"), **grey)
    good = np.ones((75, 83), np.uint8)
    good[:4, :9] = 0
    tifffile.imwrite(folder / "good.tif", good, **grey)
    for z, values in enumerate(tifffile.imread(folder / "truth.tif")):
        tifffile.imwrite(folder / f"truth_{z}.tif", values, **grey)
    return folder


@pytest.fixture
def call(place, tmp_path, monkeypatch):
    """Run a command beside the data, into the folder of a former run, and read all it wrote."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("jaxmicro.app.canvas.PRINT_DPI", 40)
    monkeypatch.setattr("jaxmicro.app.canvas.DPI", 20)  # most of a run this small is drawing

    def run(name, *words, allowed=(0,)):
        out = tmp_path / name
        if not out.exists():
            with output.new_folder(out) as folder:
                (folder / "former.txt").write_text("of a former run")
        status, _, err = _call(*words, "--out", out, "--force")
        assert status in allowed, err
        assert not (out / "former.txt").exists()
        read_back(out)
        return out

    return run


def _answer(folder):
    """What a repeated run must give again, byte by byte."""
    found = {}
    for name in ("growth.csv", "model.toml"):
        if (folder / name).exists():
            found[name] = (folder / name).read_bytes()
    for path in folder.glob("*.tif"):
        found[path.name] = tifffile.imread(path).tobytes()
    return found


# -- the commands -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOVIE_CASES)
def test_quantify(name, call):
    movie, _, text = MOVIE_CASES[name].partition(" ")
    words = ["quantify", movie, *_of("quantify", text), "--model"]
    out = call("out", *words, MODELS / f"{name}.toml")
    assert {p.name for p in out.iterdir()} == {
        "fit.nc", "figures", "growth.csv", "labels.tif", "model.toml", "report.html", "run.json",
    }  # fmt: skip
    first = _answer(out)
    (out.parent / "model.toml").write_bytes(first["model.toml"])
    assert _answer(call("out", *words, out.parent / "model.toml")) == first
    table = pd.read_csv(out / "growth.csv")
    assert len(table) == 5
    good = table["usable"] == "yes"
    assert good.sum() >= 4  # a frame without deposit, fitted alone, may not find its optimum
    assert (table["area_px"].notna() == good).all()
    assert table["time_s"].notna().all() == (movie == "movie.tif" or "interval" in text)
    assert table["volume_um3"][good].notna().all() == ("thickness" in text)


def test_quantify_as_asked(call):
    out = call("out", "quantify", *shlex.split(ASKED))
    tables = tomllib.loads((out / "model.toml").read_text("utf-8"))
    asked = {"trend": "x", "share": ["means", "sds"]}
    assert {k: tables["mixture"][k] for k in asked} == asked
    assert tables["mixture"]["classes"] in (2, 3)
    assert tables["foreground"]["rule"] == "brightest"
    assert {"overlay.tif", "labels.hspy", "growth.xlsx"} < {p.name for p in out.iterdir()}
    table = pd.read_csv(out / "growth.csv")
    # the file says the same model; its fit starts from another search, at another tolerance
    again = call(
        "again", "quantify", *shlex.split(f"movie.tif {HALF}"), "--model", out / "model.toml"
    )
    change = pd.read_csv(again / "growth.csv")["area_px"] - table["area_px"]
    assert (change.abs() < table["area_px_se"]).all()


@pytest.mark.parametrize("name", MOVIE_CASES)
def test_compare(name, call):
    movie, _, text = MOVIE_CASES[name].partition(" ")
    out = call("out", "compare", movie, MODELS / f"{name}.toml", *_of("compare", text))
    assert {p.name for p in out.iterdir()} == {
        "comparison.csv", "figures", "report.html", "run.json",
    }  # fmt: skip
    row, *frames = pd.read_csv(out / "comparison.csv").to_dict("records")
    assert [r["frame"] for r in frames] == [str(t) for t in range(5)]
    assert row["model"] == name
    assert np.isfinite([row[n] for n in ("aic", "bic", "icl", "log_likelihood")]).all()
    half = 481 if "--roi" in text else 962  # the region is half of the frame
    assert row["n_pixels"] == 5 * (936 if "lines" in text else half)


def test_study(call):
    out = call("out", "study", *shlex.split(STUDY_CASES[0]))
    (row,) = pd.read_csv(out / "study.csv").to_dict("records")
    assert (row["plan"], row["replicates"]) == ("shared_k4_posterior", 2)
    assert np.isfinite([row[n] for n in ("bias_um3", "width_um3", "true_bias_um3")]).all()
    # a model file as run gives the same study again
    text = STUDY_CASES[0].replace(" --estimator posterior", "")
    text = text.replace("shared_k4", str(out / "plans" / "shared_k4_posterior.toml"))
    words = shlex.split(text)
    again = call("again", "study", *words)
    kept = [pd.read_csv(folder / "curves.csv").drop(columns="plan") for folder in (out, again)]
    pd.testing.assert_frame_equal(*kept)


@slow
def test_compare_a_grid(call):
    out = call("out", "compare", *shlex.split(GRID))
    tests = pd.read_csv(out / "tests.csv")
    assert tests["method"].tolist() == ["bootstrap", "layout bootstrap"]
    assert tests["p_value"].between(0, 1).all()
    table = pd.read_csv(out / "comparison.csv")
    assert set(table["model"]) == {"k2 x", "k3 x"}
    assert set(table["frame"]) == {"all", "0", "1", "2"}  # every second of five


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=POSTERIOR_MARKS.get(name, [])) for name in POSTERIOR]
)
def test_posterior(name, call, tmp_path):
    movie, _, text = MOVIE_CASES[name].partition(" ")
    table = "\n[posterior]\ndraws = 50\nchains = 2\n" + POSTERIOR[name]
    model = tmp_path / f"{name}.toml"
    model.write_text((MODELS / f"{name}.toml").read_text("utf-8") + table, encoding="utf-8")
    words = ["posterior", movie, *_of("posterior", text), "--model"]
    # 50 draws are few: a run that says so ends with status 1, all its files written
    out = call("out", *words, model, allowed=(0, 1))
    first = _answer(out)
    (tmp_path / "again.toml").write_bytes(first["model.toml"])
    assert _answer(call("out", *words, tmp_path / "again.toml", allowed=(0, 1))) == first
    assert len(pd.read_csv(out / "growth.csv")) == 5


def _small(name, folder):
    """The model file with few training patches, so that it learns in a second."""
    variant = load_as(MODELS / f"{name}.toml", EnhanceVariant)
    few = {"patches": 1500, "refine": min(variant.dictionary.refine, 6), "refinements": 1}
    table = variant.dictionary.model_copy(update=few)
    path = folder / f"{name}.toml"
    path.write_text(variant.model_copy(update={"dictionary": table}).to_toml(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[slow] if "refined" in n else []) for n in ENHANCE_CASES]
)
def test_enhance(name, call, tmp_path):
    words = ["enhance", *_of("enhance", ENHANCE_CASES[name])]
    out = call("out", *words, "--model", _small(name, tmp_path))
    first = _answer(out)
    assert {"enhanced.tif", "uncertainty.tif", "model.toml"} == set(first)
    (tmp_path / "again.toml").write_bytes(first["model.toml"])
    # what these options said is in the file, and the evidence changes no slice
    left_out = {"--patch-size", "--atoms", "--penalty", "--upscale", "--no-evidence"}
    kept = [p for p in _pairs(ENHANCE_CASES[name]) if p[0] not in left_out]
    words = ["enhance", *(w for pair in kept for w in pair), "--no-evidence"]
    assert _answer(call("out", *words, "--model", tmp_path / "again.toml")) == first
    scale = 2 if name == "enhance_coupled" else 1
    assert tifffile.imread(out / "enhanced.tif").shape[-2:] == (75 * scale, 83 * scale)
    if name == "enhance_optax":
        _goes_on(call, out, tmp_path)


def _goes_on(call, out, folder):
    """A run resumes from learning.npz, and dictionary.npz gives the same slice again."""
    here = {"learning.npz": out / "learning.npz", "dictionary.npz": out / "dictionary.npz"}
    words = [str(here.get(w, w)) for w in shlex.split(RESUMED)]
    later = call("later", "enhance", *words, "--model", folder / "again.toml")
    done = [int(np.load(p / "learning.npz")["minibatches"]) for p in (out, later)]
    assert done[1] == 2 * done[0]
    words = [str(here.get(w, w)) for w in shlex.split(REUSED)]
    again = call("reused", "enhance", *words, "--stride", 3)
    one, other = (tifffile.imread(p / "enhanced.tif") for p in (out, again))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[slow] if c == "demo" else []) for c in SCENES]
)
def test_scenes(command, call):
    out = call("out", *command.split(), *shlex.split(SCENES[command]))
    first = _answer(out)
    assert first or command == "demo"
    assert _answer(call("out", *command.split(), *shlex.split(SCENES[command]))) == first


def test_info(place):
    status, text, _ = _call("info", place / "movie.tif")
    assert status == 0
    assert re.search(r"shape +5 frame\(s\) of 37 x 52", text)
