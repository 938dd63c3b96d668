"""`jaxmicro enhance` end to end on a small phantom, and every mistake that costs one line."""

import csv
import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from jaxmicro.app.enhance.metrics import doubts
from jaxmicro.app.enhance.spec import EnhanceVariant
from jaxmicro.app.model_file import load_as
from jaxmicro.dictionary.dictionary_file import load_dictionary
from jaxmicro.errors import UsageError

SMALL = """
[dictionary]
variant = "coupled"
patch_size = 6
atoms = 32
patches = 2000
"""


@pytest.fixture(scope="module")
def scene(ran, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stem") / "scene"
    out = ran("phantom", "stem-txm", "--out", folder, "--size", 96, "--n-slices", 2, "--seed", 6)
    assert "truth.tif" in out
    (folder / "small.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def done(ran, scene):
    """A whole run on the volume of two slices."""
    out = scene.parent / "out"
    text = ran(
        "enhance", "--train", scene / "stem_0.tif", "--apply", scene / "txm.tif", "--out", out,
        "--model", scene / "small.toml", "--psf-fwhm", "60 nm", "--train-fwhm", "15 nm",
        "--figure-width", "one",
    )  # fmt: skip
    return out, text


def test_everything_is_written_and_calibrated(done):
    out, text = done
    found = {p.name for p in out.iterdir()}
    assert found == {
        "enhanced.tif", "uncertainty.tif", "dictionary.npz", "learning.npz", "metrics.csv",
        "model.toml", "report.html", "run.json", "figures",
    }  # fmt: skip
    with tifffile.TiffFile(out / "enhanced.tif") as file:
        values = file.asarray()
        assert file.imagej_metadata["unit"] == "micron"
        assert file.pages[0].tags["XResolution"].value == (100, 3)  # pixels per micrometre
    assert values.shape == (2, 96, 96)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    with open(out / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert float(rows[0]["half_data_before_nm"]) > 60
    assert 0.9 < float(rows[0]["control_correlation"]) < 1
    assert rows[0]["psnr_db"] == ""  # no reference was given: not known, not 0
    assert 0.4 < float(rows[0]["residual_sd_over_noise"]) < 1.4
    record = json.loads((out / "run.json").read_text())
    assert {"learn", "enhance", "total"} <= set(record["wall_time_s"])
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((out / "figures").iterdir())) >= 5
    assert not re.search(r'(src|href)="http', page)
    assert "residual" in text
    assert re.search(r"verdict +\S.*; (structure below|the training images add nothing)", text)
    assert "verdict" in page
    written = load_as(out / "model.toml", EnhanceVariant)
    assert written.dictionary.atoms == 32


def test_figures_fit_a_column_and_nothing_is_cut_off(done):
    for path in (done[0] / "figures").iterdir():
        with Picture.open(path) as picture:
            values = np.asarray(picture.convert("L"))
        assert values.shape[1] == pytest.approx(89 / 25.4 * 300, abs=1)
        for edge in (values[:2], values[-2:], values[:, :2], values[:, -2:]):
            assert edge.min() == 255, path.name  # what reaches the edge was cut there


def test_saved_dictionary_gives_the_same_slices_one_by_one(ran, scene, done, tmp_path):
    out, _ = done
    volume = tifffile.imread(out / "enhanced.tif")
    slices = tifffile.imread(scene / "txm.tif")
    tifffile.imwrite(tmp_path / "one.tif", slices[1])
    truth = tifffile.imread(scene / "truth.tif")[1]
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    text = ran(
        "enhance", "--dictionary", out / "dictionary.npz", "--apply", tmp_path / "one.tif",
        "--apply-pixel-size", "30 nm", "--reference", tmp_path / "truth.tif",
        "--out", tmp_path / "again", "--no-evidence",
    )  # fmt: skip
    alone = tifffile.imread(tmp_path / "again" / "enhanced.tif")
    np.testing.assert_array_equal(alone, volume[1])
    with open(tmp_path / "again" / "metrics.csv", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert float(row["psnr_db"]) > float(row["psnr_before_db"])
    assert float(row["ssim"]) > float(row["ssim_before"])
    assert "PSNR" in text
    assert load_dictionary(tmp_path / "again" / "dictionary.npz").pixel_size_nm == pytest.approx(
        30.0
    )


def _arguments(scene, tmp_path, **changes):
    given = {
        "--train": scene / "stem_0.tif",
        "--apply": scene / "txm.tif",
        "--out": tmp_path / "out",
        "--model": scene / "small.toml",
        "--psf-fwhm": "60 nm",
        "--train-fwhm": "15 nm",
    } | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [part for pair in given.items() if pair[1] is not None for part in pair]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"train": None}, 2, "--train IMAGE or --dictionary FILE"),
        ({"penalty": "-1"}, 2, "--penalty '-1'"),
        ({"penalty": "x"}, 2, "--penalty 'x'"),
        ({"penalty": "1e6"}, 1, "penalty is too large"),
        ({"psf_fwhm": "10 nm"}, 2, "must be above --train-fwhm 15 nm"),
        ({"psf_fwhm": None}, 2, "needs --psf-fwhm"),
        ({"psf_fwhm": "60"}, 2, "--psf-fwhm '60'"),
        ({"atoms": 2100}, 1, "fewer than 2100 atoms"),
        ({"atoms": 4000}, 2, "levels 3 with 4000 atoms"),
        ({"patch_size": 200}, 2, "--patch-size 200 is not allowed"),
        ({"reference": "nowhere.tif"}, 1, "nowhere.tif"),
        ({"apply": "nowhere.tif"}, 1, "nowhere.tif"),
    ],
)
def test_mistakes_cost_one_line(run, scene, tmp_path, changes, status, words):
    found, _, err = run("enhance", *_arguments(scene, tmp_path, **changes))
    assert found == status, err
    assert words in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_missing_sizes_constant_images_and_foreign_dictionaries(run, scene, done, tmp_path):
    plain = tifffile.imread(scene / "txm.tif")[0]
    tifffile.imwrite(tmp_path / "bare.tif", plain)
    tifffile.imwrite(tmp_path / "flat.tif", np.full((72, 72), 7.0, np.float32))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    cases = [
        ({"apply": tmp_path / "bare.tif"}, 2, "--apply-pixel-size"),
        ({"train": tmp_path / "bare.tif"}, 2, "--train-pixel-size"),
        ({"apply": tmp_path / "flat.tif", "apply_pixel_size": "30 nm"}, 1, "constant"),
        ({"dictionary": tmp_path / "junk.npz"}, 2, "one of the two"),
    ]
    for changes, status, words in cases:
        found, _, err = run("enhance", *_arguments(scene, tmp_path, **changes))
        assert (found, words in err) == (status, True), err
    only = ["--apply", scene / "txm.tif", "--out", tmp_path / "out", "--dictionary"]
    for extra, status, words in (
        ([tmp_path / "junk.npz"], 1, "not a dictionary"),
        ([done[0] / "learning.npz"], 1, "kind"),
        ([done[0] / "dictionary.npz", "--patch-size", "9"], 2, "--patch-size 9 contradicts"),
        ([done[0] / "dictionary.npz", "--atoms", "64"], 2, "--atoms"),
        ([done[0] / "dictionary.npz", "--penalty", "auto"], 2, "--penalty"),
        ([done[0] / "dictionary.npz", "--upscale", "1"], 2, "--upscale"),
    ):
        found, _, err = run("enhance", *only, *extra)
        assert (found, words in err) == (status, True), err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("atomz = 5", "dictionary.atomz is not a known key"),
        ('variant = "best"', "use 'coupled' or 'paper'"),
        ("atoms = 2", "16 to 4096"),
        ("levels = 9", "1 to 8"),
        ('variant = "paper"\nlevels = 2', "'paper' has no paired atoms"),
    ],
)
def test_model_files_are_checked_key_by_key(tmp_path, line, words):
    path = tmp_path / "m.toml"
    path.write_text(f"[dictionary]\n{line}\n")
    with pytest.raises(UsageError, match=re.escape(words)):
        load_as(path, EnhanceVariant)


def test_a_residual_unlike_the_noise_is_called_so():
    assert doubts("slice 3", 1.1) == ()
    (left_out,) = doubts("slice 3", 2.59)
    assert left_out.startswith("slice 3: the residual is 2.6 times the noise")
    (kept,) = doubts("slice 3", 0.3)
    assert "0.3 of the noise" in kept
    assert doubts("slice 3", None) == ()  # nothing is known of the residual


def test_a_corner_of_some_slices_to_try_settings(ran, run, done, scene, tmp_path):
    """The corner by --crop is the corner of the whole slice, patches at its rim apart."""
    out, _ = done
    common = ("enhance", "--dictionary", out / "dictionary.npz", "--apply", scene / "txm.tif")
    corner = (*common, "--frames", "1:2", "--crop", "16:80,0:64")
    ran(*corner, "--out", tmp_path / "a", "--no-evidence")
    part = tifffile.imread(tmp_path / "a" / "enhanced.tif")
    assert part.shape == (64, 64)
    whole = tifffile.imread(out / "enhanced.tif")[1, 16:80, 0:64]
    inside = np.s_[8:-8, 8:-8]  # a patch of 6 pixels does not reach there from outside
    # the noise is estimated on the corner alone: codes differ by some percent of the noise of .05
    assert np.abs(part[inside] - whole[inside]).mean() < 0.01
    with open(tmp_path / "a" / "metrics.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["slice"].endswith("slice 1")
    region = np.zeros((96, 96), np.uint8)
    region[30:70, 10:50] = 1
    tifffile.imwrite(tmp_path / "roi.tif", region)
    ran(*corner, "--roi", tmp_path / "roi.tif", "--out", tmp_path / "b", "--no-evidence")
    found = tifffile.imread(tmp_path / "b" / "enhanced.tif")
    assert np.isfinite(found[20:48, 16:44]).all()
    assert np.isnan(found[:10]).all()
    for wrong, says in (
        (("--crop", "0:64,200:300"), "does not lie in the frame of 96 rows"),
        (("--frames", "2:5"), "frames 2:5 is not a range inside 0:2"),
        (("--roi", "x.tif", "--mask", "y.tif"), "--mask is the old name of --roi"),
    ):
        status, _, err = run(*common, *wrong, "--out", tmp_path / "c")
        assert status == 2
        assert says in err
