"""The model that a movie chooses: number of classes, trend and start, on scenes of known make.

All scenes have the same size and all searches the same largest model: they share one program.
"""

import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import NumericalError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.check import check
from jaxmicro.growth.choose import TRENDS, choose
from jaxmicro.growth.plan import Plan
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend

T, SIDE = 3, 32
Y, X = np.indices((SIDE, SIDE))
BLOBS = ((Y - 9) ** 2 + (X - 9) ** 2 < 49) | ((Y - 22) ** 2 + (X - 23) ** 2 < 36)
TWO = np.where(BLOBS, 130.0, 100.0)
THREE = np.where((Y - 9) ** 2 + (X - 9) ** 2 < 12, 165.0, TWO)
DOME = -12.0 * ((X / 15.5 - 1) ** 2 + (Y / 15.5 - 1) ** 2)
LAYERS = np.array([100.0, 125.0, 150.0])[
    np.searchsorted([10, 21], Y + 2 * np.sin(4 * np.pi * X / SIDE))
]


def pixels_of(grey, sd, seed=1):
    """Every pixel of three frames of this scene with normal noise."""
    noise = np.random.default_rng(seed).normal(0, sd, (T, SIDE, SIDE))
    return sample(None, Movie((grey + noise).astype(np.float32)))


@pytest.fixture(scope="module")
def layers():
    return pixels_of(LAYERS, 12.0)


@pytest.fixture(scope="module")
def of_layers(layers):
    return choose(layers)


def test_layers_do_not_become_a_slope(layers, of_layers):
    plain = fit(GMRM(3, Trend("x + y"), ("means", "sds")), layers)
    # the layers of 100, 125 and 150 grey lie one below the other: the plain fit takes their steps
    # for 64 grey from top to bottom
    assert np.all(np.asarray(plain.params.trend)[:, 1] > 20)
    assert of_layers.model.n_classes == 3
    # where a slope is allowed it is fitted within 3 standard errors of sd 12 over 1024 pixels
    # (those of sd(y) = 0.6 are 0.65 grey)
    slopes = [
        np.asarray(c.fit.fit.params.trend)[:, :2]
        for c in of_layers.tried
        if c.name == "3 classes, x + y" and c.score > of_layers.chosen.score - 0.005
    ]
    assert of_layers.model.trend.formula == "" or slopes
    assert all(np.max(np.abs(s)) < 2 for s in slopes)
    # 1000 pixels of sd 12 a class and frame: 3 standard errors of a mean are 0.7 grey
    np.testing.assert_allclose(of_layers.start.means[0], [100, 125, 150], atol=1.2)


def test_the_choice_can_be_fitted_as_it_stands(layers, of_layers):
    """Its start has the model's shape in every frame, and its parts are those that were tried."""
    start, model = of_layers.start, of_layers.model
    assert start.means.shape == (T, model.n_classes)
    assert start.trend.shape == (T, model.trend.n_terms)
    assert of_layers.chosen in of_layers.tried
    assert of_layers.n_frames == T
    assert of_layers.noise.buffer == 0
    assert of_layers.n_independent == T * SIDE**2
    found = analyse(layers, Plan(model, local=of_layers.local, start=start))
    truth = np.asarray(LAYERS[Y, X]).ravel()[None] == np.array([[100.0], [125.0], [150.0]])
    assert np.mean(found.classes == truth.argmax(axis=0)) > 0.97


def test_three_planted_classes_are_found():
    found = choose(pixels_of(THREE, 10.0))
    assert found.model.n_classes == 3
    assert found.model.trend.formula == ""
    # 110 pixels of the rarest class in three frames: 3 standard errors of its mean are 2.9 grey
    np.testing.assert_allclose(found.start.means[0], [100, 130, 165], atol=3)


def test_two_planted_classes_and_their_vignette_are_found():
    found = choose(pixels_of(TWO + DOME, 10.0))
    assert found.model.n_classes == 2
    terms = found.model.trend.terms
    assert set(terms) >= {"x**2", "y**2"}
    trend = dict(zip(terms, np.asarray(found.start.trend).mean(axis=0), strict=True))
    # standard errors over three frames are 0.3 grey for slopes and 0.6 for squares
    for term in terms:
        assert trend[term] == pytest.approx(-12 if "**2" in term else 0, abs=2.4), term


def test_classes_and_trend_can_be_pinned():
    found = choose(pixels_of(THREE, 10.0), classes=(5,), trends=TRENDS[-1:])
    assert found.model.n_classes == 5
    assert found.model.trend.formula == TRENDS[-1]
    assert {c.classes for c in found.tried} == {4, 5}  # 4 to start from
    assert {c.trend for c in found.tried} == set(TRENDS[-1:])


def test_a_number_of_classes_that_cannot_be_is_refused_in_a_line_that_helps():
    with pytest.raises(NumericalError) as caught:  # two grey values hold no five classes
        choose(pixels_of(TWO, 0.0), classes=(5,), trends=TRENDS[-1:])
    text = str(caught.value)
    assert "5 classes: empty_class" in text
    assert "name the number of classes" in text
    bright = np.mean(TWO == 130)
    assert f"{bright if bright > 0.5 else 1 - bright:.0%} of the pixels have the value" in text
    assert "\n" not in text


def test_areas_of_noise_alone_are_said_to_be_doubtful():
    """Two classes can always be fitted; that they may mean nothing has to be said."""
    pixels = pixels_of(100.0, 10.0)
    found = choose(pixels, classes=(2, 5))
    assert found.gain < found.least_gain
    plan = Plan(found.model, local=found.local, start=found.start, estimator="posterior")
    checked = check(analyse(pixels, plan), found)
    assert all("noise" in words.split() for words in checked.words)
    assert any("one class alone predicts" in s and "--foreground" in s for s in checked.sentences)


def test_planted_classes_predict_better_than_one_class(of_layers):
    # one class with a quadratic trend can follow the layers in part, so that little is left to gain
    assert of_layers.gain > 10 * of_layers.least_gain > 0
