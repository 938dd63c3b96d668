"""`jaxmicro quantify` leaves the files it promises, whole, and refuses in one line."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr

from jaxmicro.app.quantify.spec import load
from jaxmicro.data.read import read_movie
from jaxmicro.growth.columns import COLUMNS


@pytest.fixture(scope="module")
def result(ran, phantom, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantify") / "result"
    text = ran(
        "quantify", phantom / "movie.tif", "--out", out, "--model", model, "--rate", 0.5,
        "--thickness", "0.5 um", "--seed", 3,
    )  # fmt: skip
    return out, text


def test_files_are_those_of_the_design(result):
    out, _ = result
    names = {p.name for p in out.iterdir()}
    assert names == {
        "growth.csv", "fit.nc", "labels.tif", "report.html", "figures", "model.toml", "run.json",
    }  # fmt: skip
    assert not list(out.parent.glob(".*partial*"))


def test_growth_csv_holds_the_curve(result, phantom):
    table = pd.read_csv(result[0] / "growth.csv")
    truth = pd.read_csv(phantom / "truth.csv")
    assert tuple(table.columns) == COLUMNS
    np.testing.assert_allclose(table["time_s"], truth["time_s"])
    np.testing.assert_allclose(table["volume_um3"], 0.5 * table["area_um2"], rtol=1e-5)
    # half the pixels of a small scene: errors are a few of the standard errors and a little bias
    error = np.abs(table["area_px"] - truth["area_px"])
    assert np.all(error <= 4 * table["area_px_se"] + 0.1 * truth["area_px"])
    assert set(table["result"]) == {"converged"}
    with xr.open_dataset(result[0] / "fit.nc", engine="h5netcdf") as data:
        assert table["check"].tolist() == list(data["check"].values)


def test_fit_nc_names_classes_terms_and_units(result):
    with xr.open_dataset(result[0] / "fit.nc", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"frame": 6, "class": 4, "term": 3}
        assert list(data["term"].values) == ["x", "y", "x:y"]
        assert data["means"].attrs["units"] == "grey"
        np.testing.assert_allclose(data["weights"].sum("class"), 1, rtol=1e-6)
        assert np.all(np.diff(data["means"], axis=1) > 0)


def test_labels_are_calibrated_and_hold_what_was_visited(result, phantom):
    labels = read_movie(result[0] / "labels.tif")
    movie = read_movie(phantom / "movie.tif")
    assert labels.pixel_size_nm == pytest.approx(movie.pixel_size_nm)
    assert labels.frame_interval_s == pytest.approx(movie.frame_interval_s)
    values, classes = np.moveaxis(tifffile.imread(result[0] / "labels.tif"), 1, 0)
    assert values.dtype == np.uint8
    assert set(np.unique(values)) <= {0, 127, 255}
    np.testing.assert_array_equal((values > 0).sum(axis=(1, 2)), 2048)
    np.testing.assert_array_equal(np.stack(list(labels)), values)
    np.testing.assert_array_equal(classes > 0, values > 0)
    assert set(np.unique(classes)) == {0, 1, 2, 3, 4}


def test_run_record_and_model_can_be_used_again(result):
    record = json.loads((result[0] / "run.json").read_text())
    assert record["seed"] == 3
    assert len(next(iter(record["input_sha256"].values()))) == 64
    assert record["wall_time_s"]["fit"] > 0
    assert load(result[0] / "model.toml").mixture.classes == 4


def test_report_is_self_contained_and_the_terminal_says_what_was_done(result):
    page = (result[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page
    text = result[1]
    for words in (
        "4 gaussian classes",
        "6 converged",
        "of 6 frames:",
        "nats per pixel",
        "volume (um3)",
    ):
        assert words in text


def test_default_model_says_which_it_took_and_how_to_pin_it(ran, phantom, tmp_path):
    text = ran("quantify", phantom / "movie.tif", "--out", tmp_path / "o")
    said = " ".join(text.split())
    assert "proportions that follow the neighbours; chosen on 5 frames" in said
    assert "To pin it: --classes" in said
    assert "noise: " in said
    chosen = load(tmp_path / "o" / "model.toml")
    assert chosen.mixture.proportions == "local"
    assert chosen.growth.estimator == "difference"
    assert f"--classes {chosen.mixture.classes} " in said


def test_a_mask_and_a_missing_value_give_the_same_answer(ran, phantom, model, tmp_path):
    movie = tifffile.imread(phantom / "movie.tif")
    mask = np.random.default_rng(1).random(movie.shape) < 0.4
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint8))
    np.save(tmp_path / "sparse.npy", np.where(mask, np.maximum(movie, 1), 0))
    np.save(tmp_path / "full.npy", np.maximum(movie, 1))
    for name, args in {
        "a": (tmp_path / "full.npy", "--visited", tmp_path / "mask.tif"),
        "b": (tmp_path / "sparse.npy", "--missing", "0"),
    }.items():
        ran("quantify", *args, "--model", model, "--out", tmp_path / name)
    a, b = (pd.read_csv(tmp_path / n / "growth.csv") for n in "ab")
    pd.testing.assert_frame_equal(a, b)
    assert a["area_um2"].isna().all()  # no calibration: empty, never 0
    assert "volume_um3" in a


def test_baseline_first_subtracts_the_first_frame(run, phantom, model, tmp_path):
    args = ("quantify", phantom / "movie.tif", "--model", model, "--frames", "2:5")
    assert run(*args, "--out", tmp_path / "a")[0] == 0
    assert run(*args, "--out", tmp_path / "b", "--baseline", "first")[0] == 0
    a, b = (pd.read_csv(tmp_path / n / "growth.csv")["area_px"] for n in "ab")
    np.testing.assert_allclose(b, a - a[0])


def _with_spike(folder, share):
    """Two frames of dark and bright pixels, and a share of the pixels that reads 200 exactly."""
    rng = np.random.default_rng(5)
    bright = np.indices((64, 64))[0] > 40
    grey = np.where(bright, 140.0, 60.0) + rng.normal(0, 6, (2, 64, 64))
    grey[rng.random(grey.shape) < share] = 200
    path = folder / "spike.npy"
    np.save(path, np.round(grey).astype(np.uint8))
    (folder / "m.toml").write_text(
        '[mixture]\nclasses = 3\nshare = ["means", "sds"]\n'
        '[foreground]\nrule = "ranks"\nranks = [1]\n'
    )
    return path


def test_an_area_that_hangs_on_a_spike_may_not_be_used(run, tmp_path):
    path = _with_spike(tmp_path, 0.2)
    status, text, err = run(
        "quantify", path, "--model", tmp_path / "m.toml", "--out", tmp_path / "o"
    )
    assert status == 1
    assert "no frame has an area that may be used (degenerate_class)" in err
    assert "degenerate_class, not usable" in text
    table = pd.read_csv(tmp_path / "o" / "growth.csv")
    assert table["usable"].tolist() == ["no", "no"]
    assert table["area_px"].isna().all()
    assert (tmp_path / "o" / "report.html").exists()  # to look at what went wrong


def test_a_spike_of_few_pixels_leaves_the_area_usable(ran, tmp_path):
    path = _with_spike(tmp_path, 0.008)
    ran("quantify", path, "--model", tmp_path / "m.toml", "--out", tmp_path / "o", "--rate", 0.3)
    table = pd.read_csv(tmp_path / "o" / "growth.csv")
    assert table["result"].tolist() == ["degenerate_class"] * 2
    assert table["usable"].tolist() == ["yes", "yes"]
    # 23 rows of 64; the spike holds less than the standard error of some 45 pixels
    assert ((table["area_px"] - 23 * 64).abs() < 3 * table["area_px_se"]).all()
