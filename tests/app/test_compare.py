"""`jaxmicro compare`: its files, its table, its tests, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
import tifffile

COLUMNS = [
    "frame", "model", "classes", "trend", "family", "free_parameters", "n", "log_likelihood",
    "aic", "bic", "icl", "score", "score_se", "delta", "weight", "result", "optimum_gap", "check",
    "seconds",
]  # fmt: skip
NAMES = ["k2 0", "k2 x", "k3 0", "k3 x"]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Two frames of a bright disc on a ground with a slope in x, white noise of sd 6."""
    rng = np.random.default_rng(11)
    rows, cols = np.indices((64, 64))
    disc = (rows - 30) ** 2 + (cols - 34) ** 2 < 400
    clean = 80 + 50.0 * disc + 8 * np.linspace(-1, 1, 64)[None, :]
    frames = np.rint(clean + 6 * rng.standard_normal((2, 64, 64))).clip(0, 255)
    path = tmp_path_factory.mktemp("scene") / "disc.tif"
    tifffile.imwrite(path, frames.astype(np.uint8), photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "base.toml"
    path.write_text('[mixture]\nclasses = 2\nshare = ["means", "sds"]\n', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def out(ran, movie, base, tmp_path_factory):
    """The folder and the words of a grid of 2 x 2 plain models."""
    folder = tmp_path_factory.mktemp("out") / "grid"
    grid = ("--classes", "2:3", "--trend", "0", "--trend", "x")
    text = ran("compare", movie, base, *grid, "--rate", 0.3, "--bootstrap", 19, "--out", folder)
    return folder, text


def test_rows_of_all_frames_come_first_and_add_up(out):
    table = pd.read_csv(out[0] / "comparison.csv", dtype={"frame": str})
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    total = table[table["frame"] == "all"].set_index("model")
    assert set(total.index) == set(NAMES)
    parts = table[table["frame"] != "all"].groupby("model")["log_likelihood"].sum()
    np.testing.assert_allclose(parts[NAMES], total["log_likelihood"][NAMES], rtol=1e-9)
    free = dict(zip(NAMES, (4 + 2 * 1, 4 + 2 * 2, 6 + 2 * 2, 6 + 2 * 3), strict=True))
    assert total["free_parameters"].to_dict() == free
    assert np.all(total["n"] == 2 * round(0.3 * 64 * 64))  # white noise: every pixel counts
    bic = -2 * total["log_likelihood"] + total["free_parameters"] * np.log(total["n"])
    np.testing.assert_allclose(total["bic"], bic, rtol=1e-9)
    assert total["delta"].min() == 0
    assert total["weight"].sum() == pytest.approx(1)
    # the third class of two is flat: its fits may end without a certificate, and say so
    assert np.all(total["optimum_gap"][total["ranked"] == "yes"] < 1e-6)
    assert np.all(total["ranked"][["k2 0", "k2 x"]] == "yes")


def test_the_truth_is_best_and_tests_say_why(out):
    folder, text = out
    assert "recommended: k2 x\n" in text
    found = pd.read_csv(folder / "tests.csv")
    assert list(found.columns) == [
        "null", "alternative", "method", "statistic", "p_value", "recommended",
    ]  # fmt: skip
    by = found.set_index(["null", "alternative", "method"])["p_value"]
    # a slope of 16 grey levels at n 1229 a frame: 30 standard errors
    assert by["k2 0", "k2 x", "tile score"] < 0.001
    assert by["k2 0", "k2 x", "chi-square"] < 1e-6
    assert by["k2 x", "k3 x", "layout bootstrap"] > 0.05
    best = found[found["recommended"] == "yes"]
    assert set(best["method"]) == {"tile score", "layout bootstrap"}


def test_the_table_fits_80_columns_uncut(out):
    lines = out[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("model "))
    table = lines[start : start + 5]
    assert all(len(line) <= 80 for line in table)
    assert "…" not in "".join(table)
    assert table[1].startswith("k2 x  ")
    assert {p.name for p in (out[0] / "figures").iterdir()} == {
        "scores.png", "tests.png", "over_time.png",
    }  # fmt: skip


@pytest.mark.slow
def test_every_method_of_one_pair(ran, movie, base, tmp_path):
    given = ("--classes", "2:3", "--trend", "0", "--trend", "x", "--test", "k2 0 vs k2 x")
    more = ("--tests", "all", "--rate", 0.3, "--bootstrap", 19, "--every", 2)
    ran("compare", movie, base, *given, *more, "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "tests.csv")
    assert found["method"].tolist() == [
        "chi-square", "tile score", "bootstrap", "layout bootstrap",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table["n_pixels"][0] == round(0.3 * 64 * 64)  # one of two frames


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (("--classes", "3:2"), 2, "--classes '3:2' runs downwards; write 2:3"),
        (("--classes", "2", "--family", "gauss"), 2, "--family 'gauss' is not known"),
        (("--classes", "2", "--tests", "some"), 2, "--tests 'some' is not known"),
        (("--classes", "2", "--bootstrap", "5"), 2, "--bootstrap 5 is not allowed; use 19"),
        (("--classes", "2", "--every", "0"), 2, "--every 0 is not allowed"),
        (("--classes", "2:3", "--test", "k2 0"), 2, "name two models, the smaller one first"),
        (("--classes", "2:3", "--test", "k2 0 vs k9 0"), 2, "--test names 'k9 0', which is not"),
        (("--classes", "2:3", "--test", "k3 0 vs k2 0"), 2, "name the smaller model first"),
        (("--trend", "x", "--trend", "y", "--test", "k2 x vs k2 y"), 2, "are not nested: neither"),
        (("--classes", "30", "--rate", "0.02"), 1, "82 visited pixels, fewer than the 89"),
    ],
)
def test_refusals(run, movie, base, tmp_path, options, status, says):
    given = ("compare", movie, base, *options, "--frames", "0:1", "--out", tmp_path / "out")
    found, _, err = run(*given)
    assert says in err
    assert found == status
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_refusals_of_model_files(run, movie, base, tmp_path):
    twin = tmp_path / "twin.toml"
    twin.write_text(base.read_text("utf-8"), encoding="utf-8")
    status, _, err = run("compare", movie, base, twin, "--out", tmp_path / "out")
    assert (status, "'base' and 'twin' are two names for one model" in err) == (2, True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "base.toml").write_text("[mixture]\nclasses = 3\n", encoding="utf-8")
    status, _, err = run("compare", movie, base, other / "base.toml", "--out", tmp_path / "out")
    assert (status, "two models have the name 'base'" in err) == (2, True)
    status, _, err = run("compare", movie, base, twin, "--classes", "2:3", "--out", tmp_path / "o")
    assert (status, "vary one model, but 2 are named" in err) == (2, True)
