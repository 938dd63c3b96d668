"""The commands as functions: the same answers from a movie or an array, and no file needed."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import jaxmicro as jm
from jaxmicro.app.model_file import command_of, library, read_tables
from jaxmicro.app.quantify import run
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.app.wording import as_python
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.plan import Plan, Sampling
from jaxmicro.mixture.ecm import fit
from jaxmicro.spacetime.soft_correction import SoftSettings

MODEL = jm.GMRM(2, "x", share=("means", "sds"))
TEXT = """
[mixture]
classes = 2
trend = "x"
share = ["means", "sds"]
[foreground]
rule = "brightest"
"""
X = np.linspace(-1, 1, 40)


@pytest.fixture(scope="module")
def scene():
    """A disc that grows, its movie and its true areas."""
    rng = np.random.default_rng(2)
    y, x = np.indices((36, 40))
    label = np.array([np.hypot(y - 18, x - 20) < r for r in (6.0, 9.0, 12.0)])
    images = 50 + 40.0 * label + 4 * X + 5 * rng.normal(size=label.shape)
    movie = jm.Movie(images, pixel_size_nm=100.0, frame_interval_s=0.5)
    return movie, label.sum(axis=(1, 2))


@pytest.fixture(scope="module")
def found(scene):
    return jm.quantify(scene[0], TEXT, rate=0.5, seed=3, thickness_um=0.5)


def test_quantify_is_what_the_command_runs(scene, found):
    sampling = Sampling(0.5, "random", 3)
    theirs = run.quantify(scene[0], jm.load_model(TEXT), sampling, thickness_um=0.5)
    pd.testing.assert_frame_equal(found.to_pandas(), theirs.growth.to_pandas())
    assert found.notes == theirs.notes


def test_growth_is_calibrated_by_itself_and_true(scene, found):
    _, area = scene
    growth = found.growth
    np.testing.assert_array_equal(growth.time_s, [0.0, 0.5, 1.0])
    # a pixel is .1 x .1 um
    assert np.all(np.abs(growth.area_um2 - 0.01 * area) < 3 * growth.area_um2_se)
    np.testing.assert_allclose(growth.volume_um3, 0.5 * growth.area_um2, rtol=1e-15)


@pytest.mark.parametrize(
    "model",
    [
        jm.load_model(TEXT),
        jm.Plan(MODEL, foreground=jm.ForegroundRule("brightest")),
        MODEL,
    ],
    ids=["variant", "plan", "GMRM"],
)
def test_every_way_to_say_a_model_gives_the_same_answer(scene, found, model):
    again = jm.quantify(scene[0], model, rate=0.5, seed=3, thickness_um=0.5, foreground="brightest")
    pd.testing.assert_frame_equal(again.to_pandas(), found.to_pandas())


def test_a_file_of_the_model_is_a_model_too(scene, found, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(found.variant.to_toml(), encoding="utf-8")
    again = jm.quantify(scene[0], path, rate=0.5, seed=3, thickness_um=0.5)
    pd.testing.assert_frame_equal(again.to_pandas(), found.to_pandas())


def test_an_array_without_calibration_gives_pixels_and_says_so(scene, found):
    movie, _ = scene
    again = jm.quantify(np.asarray(movie.images), MODEL, rate=0.5, seed=3, foreground=-1)
    np.testing.assert_array_equal(again.growth.area_px, found.growth.area_px)
    assert again.growth.area_um2 is None
    assert again.notes[-1].endswith("give Movie(..., pixel_size_nm=)")
    assert not any("--" in note for note in again.notes)


def test_analyse_takes_a_movie_and_hands_its_calibration_on(scene, found):
    movie, _ = scene
    sampling = Sampling(0.5, "random", 3)
    plan = jm.Plan(MODEL, foreground=jm.ForegroundRule("brightest"), sampling=sampling)
    whole = jm.analyse(movie, plan, thickness_um=0.5).growth
    pixels = jm.sample(3, movie, rate=0.5)
    told = jm.analyse(pixels, plan, movie=movie, thickness_um=0.5).growth
    bare = jm.analyse(pixels, plan).growth
    for growth in (whole, told):
        np.testing.assert_array_equal(growth.volume_um3, found.growth.volume_um3)
        np.testing.assert_array_equal(growth.time_s, movie.times_s)
    assert bare.area_um2 is None
    assert bare.time_s is None
    with pytest.raises(UsageError, match="give the movie that they were sampled from"):
        jm.analyse(pixels, plan, movie=movie[1:])


def test_the_record_says_what_it_holds(scene, found):
    text = repr(found)
    assert text.startswith("Quantified(movie: 2 classes, trend x, foreground class 1; Growth(3 ")
    assert "\n" not in text
    assert "<table" in found._repr_html_()
    assert isinstance(found.to_xarray(), xr.Dataset)
    fitted = fit(MODEL, found.pixels).params
    np.testing.assert_allclose(found.to_xarray()["trend"].values, fitted.trend, rtol=1e-12)


def test_a_record_is_written_as_the_command_writes_it(found, tmp_path):
    folder = found.write(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "growth.csv", "fit.nc", "labels.tif", "model.toml", "run.json", "report.html", "figures",
    }  # fmt: skip
    read = pd.read_csv(folder / "growth.csv")
    np.testing.assert_allclose(read["area_um2"], found.growth.area_um2, rtol=1e-5)
    with pytest.raises(UsageError, match="has content already"):
        found.write(folder)
    assert found.write(folder, force=True) == folder


def test_compare_ranks_models_by_name_and_record(scene):
    movie, _ = scene
    models = {"with x": MODEL, "without": jm.GMRM(2, share=("means", "sds"))}
    table = jm.compare(movie, models, rate=0.5)
    assert table["model"].tolist() == ["with x", "without"]
    assert table["delta"][1] > 100
    assert isinstance(table.attrs["notes"], tuple)
    alone = jm.compare(movie, MODEL, rate=0.5)
    assert alone["bic"][0] == pytest.approx(table["bic"][0], abs=0.04)  # twice .02 nats
    with pytest.raises(UsageError, match="two models are called"):
        jm.compare(movie, [MODEL, MODEL])
    with pytest.raises(UsageError, match="one model at least"):
        jm.compare(movie, [])


def test_a_model_with_terms_of_its_own_goes_the_whole_way(scene, tmp_path):
    movie, area = scene
    y, x = np.meshgrid(np.linspace(-1, 1, 36), X, indexing="ij")
    flat = np.cos(3 * x) * y
    images = np.asarray(movie.images) + 12 * flat
    trend = jm.Trend("x + flat", own={"flat": flat})
    model = jm.GMRM(2, trend, share=("means", "sds"))
    found = jm.quantify(movie.replace(images=images), model, rate=0.5, foreground="brightest")
    slope = found.to_xarray()["trend"].sel(term="flat")
    # the se of the coefficient: 5 / sqrt(720) / .4 = .47
    np.testing.assert_allclose(slope, 12, atol=2)
    assert np.all(np.abs(found.growth.area_px - area) < 3 * found.growth.area_px_se)
    with pytest.raises(UsageError, match="takes no other classes, trend or share"):
        jm.quantify(movie, model, classes=3)
    written = found.write(tmp_path / "own") / "model.toml"
    with pytest.raises(UsageError, match="cannot read 'flat'"):
        jm.load_model(written)


@pytest.mark.parametrize(
    "name", [n for n, p in library().items() if command_of(read_tables(p)[2]) == "quantify"]
)
def test_a_variant_made_of_a_plan_says_the_same(name):
    plan = jm.load_model(name).plan()
    variant = Variant.of(plan)
    assert variant.plan() == plan
    read = jm.load_model(variant.to_toml()).plan()
    assert read == plan


def test_a_soft_correction_survives_too():
    plan = Plan(MODEL, correction=SoftSettings(radius=3.0, steps=5))
    assert jm.load_model(Variant.of(plan).to_toml()).plan() == plan


REFUSED = [
    (lambda m: jm.quantify(m, MODEL, rate=10.0), "for 10 % give 0.1"),
    (lambda m: jm.quantify(m, "shared_k9"), "model shared_k9 is not known"),
    (lambda m: jm.quantify(m, pathlib.Path("no.toml")), "no.toml: cannot be read"),
    (lambda m: jm.quantify(m, "[mixture]\nclases = 3\n"), "line 2: mixture.clases is not a known"),
    (lambda m: jm.quantify(m, "[mixture]\nclasses ="), "given as text: not valid TOML"),
    (lambda m: jm.quantify(m, MODEL, classes=0), "classes=0 is not allowed"),
    (lambda m: jm.quantify(m, MODEL, classes=[2, 3]), "classes=2,3 leaves a choice"),
    (lambda m: jm.quantify(m, MODEL, share="mean"), "share='mean' is not known"),
    (lambda m: jm.quantify(m, MODEL, foreground="brightst"), "foreground='brightst' is not known"),
    (lambda m: jm.quantify(m, MODEL, thickness_um=-1.0), "thickness_um = -1.0 is not allowed"),
    (lambda m: jm.quantify(m, MODEL, baseline="last"), "baseline 'last' is not known"),
    (lambda m: jm.quantify(m.replace(missing=0), MODEL, rate=0.5), "rate=0.5 sub-samples a full"),
    (lambda m: jm.quantify("movie.tif"), "give read_movie"),
    (lambda m: jm.quantify({"a": 1}), "movie is of type dict"),
    (lambda m: jm.quantify(np.zeros((2, 2, 40, 40))), "needs three axes"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_what_cannot_be_is_refused_by_the_argument_s_name(scene, call, says):
    with pytest.raises((UsageError, DataError)) as caught:
        call(scene[0])
    assert says in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "python"),
    [
        ("give --pixel-size", "give Movie(..., pixel_size_nm=)"),
        ('To pin it: --classes 4 --trend "x + y"', 'To pin it: classes=4 trend="x + y"'),
        ("use --rate 0.21 or more", "use rate=0.21 or more"),
        (
            "leave the frame out with --frames or use",
            "leave the frame out with movie[t0:t1] or use",
        ),
        ("a - b -- c", "a - b -- c"),
    ],
)
def test_sentences_name_arguments(said, python):
    assert as_python(said) == python


def test_a_posterior_is_drawn_and_handed_to_arviz(scene):
    movie, area = scene
    text = TEXT + "[posterior]\nmethod = 'laplace'\nchains = 2\ndraws = 100\n"
    drawn = jm.draw_posterior(movie, text, rate=0.5, seed=3)
    assert "2 x 100 draws by laplace" in repr(drawn)
    known = drawn.growth
    assert np.all(np.abs(known.area_px - area) < 4 * known.area_px_se + 3)
    data = drawn.posterior.to_inferencedata()
    theirs = data["posterior"]["means"].values
    np.testing.assert_array_equal(theirs, drawn.posterior["posterior"]["means"].values)
    assert "growth" in drawn.to_pandas().columns or "area_px" in drawn.to_pandas().columns


def test_a_movie_may_be_replaced_field_by_field(scene):
    movie = dataclasses.replace(scene[0], pixel_size_nm=50.0)
    assert movie.pixel_size_nm == (50.0, 50.0)
