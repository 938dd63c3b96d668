"""`jaxmicro plan`: what is asked is understood, refused in one line, or answered in files."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from jaxmicro.app.cli import app
from jaxmicro.app.dose.target import Target
from jaxmicro.errors import UsageError


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("0.1 um2", 0.1 / 0.0004),
        ("0.1 µm²", 0.1 / 0.0004),
        ("2000nm2", 0.002 / 0.0004),
        ("0.05 um^3", 0.05 / (0.0004 * 0.5)),
        ("300 px", 300),
        ("300 pixels", 300),
        ("5 %", 0.05 * 4000),
        ("5e-1 percent", 0.005 * 4000),
    ],
)
def test_targets_in_every_unit(text, pixels):
    assert Target.parse(text).in_pixels(0.0004, 0.5, 4000.0) == pytest.approx(pixels)


@pytest.mark.parametrize("text", ["0.1", "um2", "-1 px", "0 um2", "1 um", "1,5 um2", "nan px"])
def test_what_is_no_target(text):
    with pytest.raises(UsageError, match=r"is not understood; give a number above 0"):
        Target.parse(text)


def test_a_target_that_needs_what_is_not_known():
    with pytest.raises(UsageError, match="give --pixel-size"):
        Target.parse("1 um2").in_pixels(None, None, 1.0)
    with pytest.raises(UsageError, match="give --thickness"):
        Target.parse("1 um3").in_pixels(0.01, None, 1.0)
    with pytest.raises(UsageError, match="no foreground was found"):
        Target.parse("5 %").in_pixels(None, None, 0.0)


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("pilot") / "movie.tif"
    away = np.hypot(*(i - 32 for i in np.indices((64, 64))))
    discs = np.stack([np.less(away, r) for r in (14, 18)])
    noise = np.random.default_rng(6).normal(0, 10, discs.shape)
    tifffile.imwrite(path, (100 + 50 * discs + noise).astype(np.float32))
    return path


ASKED = ["--model", "shared_k4", "--classes", "2", "--foreground", "brightest"]


def _call(*words):
    return CliRunner().invoke(app, ["plan", *map(str, words)])


def test_a_plan_says_the_rate_and_writes_what_it_tried(movie, tmp_path):
    out = tmp_path / "dose"
    words = [movie, "--target-se", "8 %", *ASKED, "--pixel-size", "20 nm", "--replicates", 3]
    found = _call(*words, "--pattern", "random", "--pattern", "stratified", "--out", out)
    assert found.exit_code == 0, found.output
    assert " % of the pixels, " in found.output
    assert "checked on 3 samples: standard error " in found.output
    table = pd.read_csv(out / "dose.csv")
    assert set(table["pattern"]) == {"random", "stratified"}
    assert table["check"].sum() == 1
    tried = table[(table["pattern"] == "random") & ~table["check"]]
    assert (np.diff(tried["rate"]) > 0).all()
    assert (np.diff(tried["se_um2"]) < 0).all()  # a count of hundreds of pixels at each rate
    assert (out / "figures" / "error_by_rate.png").is_file()
    assert "of the pixels, " in (out / "report.html").read_text()
    best = table[table["check"]].iloc[0]
    again = _call(movie, *ASKED, "--target-se", "8 %", "--out", out)
    assert again.exit_code == 2
    assert best["se_um2"] == pytest.approx(0.08 * 805 * 4e-4, rel=0.15)  # mean of both discs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target-se", "5 %", "--pattern", "spiral"], "--pattern 'spiral' is not known"),
        (["--target-se", "5 %", "--pattern", "lines", "--pattern", "lines"], "twice"),
        (["--target-se", "5 %", "--replicates", "1"], "a check needs 2 or more"),
        (["--target-se", "1 um2"], "give --pixel-size"),
        (["--target-se", "0.001 px"], "that all pixels leave"),
    ],
)
def test_refusals(words, said, movie, tmp_path):
    found = _call(movie, *ASKED, "--estimator", "posterior", *words, "--out", tmp_path / "no")
    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())
    assert not (tmp_path / "no").exists()
