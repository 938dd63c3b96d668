"""One image is a movie of one frame to every command that takes a movie."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as PillowImage

from jaxmicro.data.read import read_movie

SHAPE = (40, 48)
NOTE = "one image: taken as a movie of one frame"
MIXTURE = "[mixture]\nclasses = 2\n"
MODELS = {
    "auto": MIXTURE + "[foreground]\nrule = 'auto'\n",
    "vote": MIXTURE + "trend = 'x'\n[correction]\nradius = 2\nthreshold = 0.4\n",
    "local": "[mixture]\nclasses = 2\nshare = ['means', 'sds']\nproportions = 'local'\n",
    "posterior": MIXTURE + "trend = 'x'\n[posterior]\nmethod = 'laplace'\ndraws = 100\n",
}


@pytest.fixture(scope="module")
def truth():
    """(y, x) bool: a bright disc."""
    y, x = np.indices(SHAPE)
    return (y - 18) ** 2 + (x - 25) ** 2 < 12**2


@pytest.fixture(scope="module")
def image(truth):
    noise = np.random.default_rng(3).normal(0, 12, SHAPE)
    return (np.where(truth, 180, 70) + noise).clip(1, 254).astype(np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, text in MODELS.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def _saved(folder, image, name):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, image)
    elif name.endswith(".tif"):
        tifffile.imwrite(path, image)
    elif name.startswith("colour"):
        PillowImage.fromarray(np.stack([image, image // 2, 255 - image], axis=-1)).save(path)
    else:
        PillowImage.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("name", ["one.png", "one.tif", "one.npy", "colour.png"])
def test_quantify_measures_it_and_says_so(ran, models, image, truth, tmp_path, name):
    path = _saved(tmp_path, image, name)
    out = tmp_path / "out"
    model = models / "auto.toml"
    text = ran("quantify", path, "--out", out, "--model", model)
    assert NOTE in " ".join(text.split())
    assert ("colour was turned into luminance" in text) == name.startswith("colour")
    table = pd.read_csv(out / "growth.csv")
    # classes 9 sds apart: all but a few pixels of the disc's 437 are told right
    assert table["area_px"].tolist() == pytest.approx([truth.sum()], abs=8)
    labels = read_movie(out / "labels.tif")
    assert labels.shape == (1, *SHAPE)
    assert np.mean((labels.frame(0) == 255) == truth) > 0.99


@pytest.mark.parametrize("model", ["vote", "local"])
def test_neighbours_of_one_frame_are_those_in_it(ran, models, image, truth, tmp_path, model):
    path = _saved(tmp_path, image, "one.npy")
    args = ("--model", models / f"{model}.toml", "--rate", 0.5, "--baseline", "first", "--dense")
    ran("quantify", path, "--out", tmp_path / "out", *args)
    assert pd.read_csv(tmp_path / "out" / "growth.csv")["area_px"].tolist() == [0.0]
    labels = tifffile.imread(tmp_path / "out" / "labels.tif").reshape(3, *SHAPE)[0]
    assert np.mean((labels == 255) == truth) > 0.97  # half the pixels are estimates


def test_the_default_model_is_chosen_from_it(ran, image, truth, tmp_path):
    path = _saved(tmp_path, image, "one.png")
    text = ran("quantify", path, "--out", tmp_path / "out")
    assert "model: 2 classes, no trend, proportions" in " ".join(text.split())
    area = pd.read_csv(tmp_path / "out" / "growth.csv")["area_px"]
    assert area.tolist() == pytest.approx([truth.sum()], abs=8)
    names = {p.name for p in (tmp_path / "out" / "figures").iterdir()}
    assert {"growth.png", "strip.png", "histogram.png", "parameters.png"} == names  # no trend
    # a line of one point shows nothing: each class has a mark of its own colour
    drawn = np.asarray(PillowImage.open(tmp_path / "out" / "figures" / "parameters.png"))
    left = drawn[:, : drawn.shape[1] // 3, :3].astype(int)
    blue = (left[..., 2] - left[..., 0] > 100).sum()
    legend = 60  # pixels of the legend's sample line, about
    assert blue > legend


def test_compare_ranks_models_of_it(ran, models, image, tmp_path):
    path = _saved(tmp_path, image, "one.tif")
    names = [models / "auto.toml", models / "local.toml"]
    ran("compare", path, *names, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert set(table["model"]) == {"auto", "local"}
    assert set(table["result"]) == {"1 converged"}
    assert table["n_pixels"].tolist() == [image.size] * 2


def test_posterior_draws_from_it(run, models, image, truth, tmp_path):
    path = _saved(tmp_path, image, "one.npy")
    model = models / "posterior.toml"
    status, text, err = run("posterior", path, "--model", model, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert status == (0 if record["trusted"] else 1), err
    assert NOTE in " ".join(text.split())
    row = pd.read_csv(tmp_path / "out" / "growth.csv").iloc[0]
    assert abs(row["area_px"] - truth.sum()) < 8 + 4 * row["area_px_se"]


def test_info_says_one_frame(ran, image, tmp_path):
    text = ran("info", _saved(tmp_path, image, "one.png"))
    assert "1 frame(s) of 40 x 48" in text


def test_a_real_image_of_one_kind_of_pixel_says_so(run, models, data_dir, tmp_path):
    """Noise about one grey value: two classes coincide, and no area is made of them."""
    path = data_dir / "formats" / "test_STEM_image.dm3"
    args = ("quantify", path, "--out", tmp_path / "out", "--model", models / "auto.toml")
    status, text, err = run(*args)
    assert status == 1
    assert "no frame has an area that may be used (max_steps)" in err
    assert "0.2485" in text  # nm a pixel, from the file
    table = pd.read_csv(tmp_path / "out" / "growth.csv")
    assert table["usable"].tolist() == ["no"]
    assert table["area_um2"].isna().all()
