"""Replicates of a study are independent: no replicate's area depends on another."""

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import ForegroundRule, Plan
from jaxmicro.growth.study import RateStudy
from jaxmicro.mixture.gmrm import GMRM

SHAPE = (6, 16, 20)


def _movie(rising, seed):
    """Greys 50, 100 and 150 with sd 4; the share of the class `rising` goes from 0 to half."""
    rng = np.random.default_rng(seed)
    others = [k for k in range(3) if k != rising]
    n = SHAPE[1] * SHAPE[2]
    frames = []
    for share in np.linspace(0, 0.5, SHAPE[0]):
        grows = rng.random(n) < share
        classes = np.where(grows, rising, rng.choice(others, n))
        frames.append(rng.normal(50 + 50 * classes, 4).reshape(SHAPE[1:]))
    return Movie(np.array(frames, np.float32))


def _replicates(*movies):
    """The movies as replicates of one sampling of all their pixels."""
    each = [sample(None, movie) for movie in movies]
    first = each[0]
    values = np.stack([np.asarray(p.values) for p in each], axis=1)
    return Pixels(
        jax.numpy.asarray(values), first.rows, first.cols, first.weight, first.n_domain,
        first.shape, first.pattern,
    )  # fmt: skip


PLAN = Plan(GMRM(3, share=("means", "sds")), foreground=ForegroundRule("grows"))


def _areas(*movies):
    return analyse(_replicates(*movies), PLAN).growth.area_px


@pytest.fixture(scope="module")
def movies():
    """In the first the brightest class grows, then the darkest, then the middle one."""
    return [_movie(rising, seed) for seed, rising in enumerate((2, 0, 1))]


@pytest.fixture(scope="module")
def areas(movies):
    return _areas(*movies)


def test_each_replicate_measures_what_grows_in_it(areas):
    share = np.linspace(0, 0.5, SHAPE[0])[:, None]
    # binomial counts of 320 pixels: four standard deviations of at most 9
    np.testing.assert_allclose(areas, 320 * share * np.ones(3), atol=36)


def test_permuted_replicates_give_permuted_areas(movies, areas):
    order = [2, 0, 1]
    permuted = _areas(*(movies[i] for i in order))
    np.testing.assert_array_equal(permuted, areas[:, order])


@pytest.mark.parametrize("kept", [[1], [0, 2]])
def test_a_replicate_that_is_left_out_changes_no_other(movies, areas, kept):
    fewer = _areas(*(movies[i] for i in kept))
    np.testing.assert_array_equal(fewer, areas[:, kept])


def test_a_replicate_in_which_nothing_grows_is_unknown_and_counted_as_failed(movies, areas):
    rng = np.random.default_rng(9)
    steady = Movie(rng.normal(50 + 50 * rng.integers(0, 3, SHAPE), 4).astype(np.float32))
    found = _areas(movies[0], steady, movies[2])
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_array_equal(found[:, [0, 2]], areas[:, [0, 2]])
    assert RateStudy(1.0, found, np.zeros_like(found)).failed == pytest.approx(1 / 3)
