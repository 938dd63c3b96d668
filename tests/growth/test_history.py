"""What grows is decided on the whole movie, whatever frames of it are analysed."""

import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.history import class_shares
from jaxmicro.growth.plan import ForegroundRule, Plan
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM

MODEL = GMRM(3, share=("means", "sds"))
GROWS = Plan(MODEL, foreground=ForegroundRule("grows"))
AREAS = np.array([0, 40, 120, 250, 400, 550, 700, 800, 850, 880])


@pytest.fixture(scope="module")
def movie():
    """An electrode of grey 120 in the last rows, and a deposit of grey 180 that grows."""
    rng = np.random.default_rng(2)
    images = np.full((10, 48, 50), 60.0)
    images[:, 40:] = 120.0
    order = rng.permutation(40 * 50)
    for frame, area in zip(images, AREAS, strict=True):
        frame[:40].reshape(-1)[order[:area]] = 180.0
    return Movie(images + rng.normal(0, 6, images.shape), name="m")


def test_shares_over_the_whole_movie_are_those_of_the_classes(movie):
    few = movie.select_frames(6, 10)
    params = fit(MODEL, sample(None, few)).params
    shares = class_shares(MODEL, params, movie)
    # classes are 10 sds apart: labels are right, and every pixel of a frame is looked at
    np.testing.assert_allclose(shares[:, 2], AREAS / 2400, atol=1e-3)
    np.testing.assert_allclose(shares[:, 1], 400 / 2400, atol=1e-3)
    thin = class_shares(MODEL, params, movie, rate=0.2)
    np.testing.assert_allclose(thin, shares, atol=3.5 * 0.5 / np.sqrt(480))


@pytest.mark.parametrize("frames", [(0, 10), (5, 10), (8, 10), (9, 10)])
def test_a_frame_has_its_area_whatever_frames_are_picked(movie, frames):
    picked = movie.select_frames(*frames)
    found = analyse(sample(None, picked), GROWS, movie=picked)
    assert found.partition.foreground == (2,)
    np.testing.assert_allclose(found.growth.area_px, AREAS[slice(*frames)], atol=2)
    assert ("over the whole movie" in found.partition.reason) == (frames != (0, 10))


def test_without_the_whole_movie_late_frames_cannot_tell(movie):
    with pytest.raises(UsageError, match="no class starts near 0"):
        analyse(sample(None, movie.select_frames(8, 10)), GROWS)


def test_the_whole_movie_is_cropped_with_its_frames(movie):
    part = movie.select_frames(2, 5).crop((10, 48, 0, 30))
    assert part.whole.shape == (10, 38, 30)
    assert part.select_frames(0, 2).whole.shape == (10, 38, 30)
    assert movie.select_frames(0, 10).whole is None
