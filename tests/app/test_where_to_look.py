"""--roi and --visited: a region of interest is not a scan pattern, and areas show it."""

import numpy as np
import pandas as pd
import pytest
import tifffile

SHAPE = (96, 110)
ROWS, COLS = np.indices(SHAPE)
DISC = (ROWS - 40) ** 2 + (COLS - 52) ** 2 < 222
REGIONS = {
    "left 60 %": COLS < 70,
    "the disc's row": (ROWS > 20) & (ROWS < 60),
    "a round one": (ROWS - 44) ** 2 + (COLS - 50) ** 2 < 36**2,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A movie of a bright disc of 697 pixels, and a model of two classes."""
    folder = tmp_path_factory.mktemp("disc")
    assert DISC.sum() == 697
    rng = np.random.default_rng(3)
    images = np.where(DISC, 150.0, 80.0) + rng.normal(0, 9, (4, *SHAPE))
    np.save(folder / "movie.npy", images.astype(np.float32))
    (folder / "m.toml").write_text(
        '[mixture]\nclasses = 2\nshare = ["means", "sds"]\n[foreground]\nrule = "brightest"\n'
    )
    for name, region in REGIONS.items():
        tifffile.imwrite(folder / f"{name}.tif", region.astype(np.uint8))
    return folder


def _areas(ran, scene, out, *options):
    text = ran("quantify", scene / "movie.npy", "--model", scene / "m.toml", "--out", out, *options)
    return pd.read_csv(out / "growth.csv"), " ".join(text.split())


@pytest.mark.parametrize(
    ("region", "frames"), [("left 60 %", "0:4"), ("a round one", "2:4"), ("the disc's row", "0:4")]
)
def test_the_disc_has_its_area_under_any_region_rate_and_frame_range(
    ran, scene, tmp_path, region, frames
):
    args = ("--roi", scene / f"{region}.tif", "--frames", frames)
    full, said = _areas(ran, scene, tmp_path / "full", *args)
    # classes are 7.8 sds apart: a label in 20 000 is wrong, half a pixel of the region at most
    assert (full["area_px"] - 697).abs().max() <= 2
    assert f"region of interest: {REGIONS[region].sum()} of {SHAPE[0] * SHAPE[1]} pixels" in said
    part, _ = _areas(ran, scene, tmp_path / "part", *args, "--rate", 0.2)
    assert ((part["area_px"] - 697).abs() <= 3 * part["area_px_se"]).all()
    assert part["area_px_se"].between(20, 60).all()


def test_a_region_given_as_the_old_mask_is_refused_with_both_names(run, scene, tmp_path):
    args = ("quantify", scene / "movie.npy", "--out", tmp_path / "o", "--mask")
    status, _, err = run(*args, scene / "left 60 %.tif")
    assert status == 2
    assert "is one connected region; use --roi if only that region" in err
    assert "or --visited if the beam went nowhere else" in err
    assert err.count("\n") == 1
    status, _, err = run(*args, "x.tif", "--visited", "y.tif")
    assert status == 2
    assert "--mask is the old name of --visited" in err


def test_a_visited_region_is_taken_at_its_word_and_noted(ran, scene, tmp_path):
    table, said = _areas(ran, scene, tmp_path / "o", "--visited", scene / "a round one.tif")
    assert "the visited pixels are one connected region" in said
    share = DISC.sum() / REGIONS["a round one"].sum()
    assert (table["area_px"] - share * DISC.size).abs().max() < 10


def test_a_scan_pattern_under_the_old_name_still_works(ran, scene, tmp_path):
    visited = np.random.default_rng(0).random(SHAPE) < 0.3
    tifffile.imwrite(tmp_path / "v.tif", visited.astype(np.uint8))
    old, _ = _areas(ran, scene, tmp_path / "old", "--mask", tmp_path / "v.tif")
    new, _ = _areas(ran, scene, tmp_path / "new", "--visited", tmp_path / "v.tif")
    pd.testing.assert_frame_equal(old, new)
    inside, _ = _areas(
        ran, scene, tmp_path / "both", "--visited", tmp_path / "v.tif",
        "--roi", scene / "a round one.tif",
    )  # fmt: skip
    assert ((inside["area_px"] - 697).abs() <= 3 * inside["area_px_se"]).all()


def test_a_region_outside_the_crop_is_refused(run, scene, tmp_path):
    status, _, err = run(
        "quantify", scene / "movie.npy", "--out", tmp_path / "o",
        "--roi", scene / "a round one.tif", "--crop", "85:96,95:110",
    )  # fmt: skip
    assert status in (1, 2)
    assert "usable pixel" in err or "nothing of the frame" in err
    assert err.count("\n") == 1
