"""Areas are unbiased over the sampling design and their standard errors are the spread."""

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.growth.estimate import COLUMNS, Growth, estimate

SHAPE = (40, 60)


@pytest.fixture(scope="module")
def movie():
    """One disc of known area per frame, in grey 1 on 0."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    discs = [(y - 20) ** 2 + (x - 30) ** 2 <= r**2 for r in (4, 9, 15)]
    return Movie(np.array(discs, np.uint8), pixel_size_nm=(100.0, 100.0))


def _estimates(movie, rate, pattern, replicates):
    pixels = sample(jax.random.key(5), movie, rate, pattern, replicates)
    return estimate(np.asarray(pixels.values) > 0.5, pixels)


@pytest.mark.parametrize("pattern", ["random", "stratified", "lines"])
def test_areas_are_unbiased_and_errors_match_the_spread(movie, pattern):
    found = _estimates(movie, 0.1, pattern, 400)
    truth = movie.images.sum(axis=(1, 2))
    spread = found.area_px.std(axis=1)
    # four standard errors of a mean over 400 replicates
    np.testing.assert_array_less(np.abs(found.area_px.mean(axis=1) - truth), 4 * spread / 20)
    ratio = np.sqrt(np.mean(found.area_px_se**2, axis=1)) / spread
    if pattern == "random":
        # a spread from 400 replicates is itself good to 3.5 %, three of that is 11 %
        np.testing.assert_allclose(ratio, 1.0, atol=0.11)
    else:
        # successive differences may overstate the error of a finer design, never understate it
        assert np.all(ratio > 0.85)
        assert np.all(ratio < 3.0)


def test_every_pixel_visited_is_exact(movie):
    pixels = sample(None, movie)
    found = estimate(np.asarray(pixels.values) > 0.5, pixels, pixel_area_um2=0.01)
    np.testing.assert_array_equal(found.area_px, movie.images.sum(axis=(1, 2)))
    np.testing.assert_array_equal(found.area_px_se, 0)
    np.testing.assert_allclose(found.area_um2, found.area_px * 0.01)


def test_nothing_seen_is_not_an_error_of_zero(movie):
    empty = movie.replace(images=np.zeros_like(movie.images))
    found = _estimates(empty, 0.05, "random", 3)
    np.testing.assert_array_equal(found.area_px, 0)
    # rule of three: with n = 120 visits an upper 95 % limit of 3/n of the frame is 60 pixels;
    # one standard error must be a sensible part of that
    assert np.all(found.area_px_se > 8)
    assert np.all(found.area_px_se < 60)


def test_table_leaves_unknown_figures_missing(movie):
    growth = Growth(np.arange(3), np.array([1.0, 2, 4]), np.array([0.1, 0.2, 0.3]))
    table = growth.to_pandas()
    assert tuple(table.columns) == COLUMNS
    assert table["area_um2"].isna().all()
    assert table["volume_um3"].isna().all()
    first = growth.minus_first()
    np.testing.assert_allclose(first.area_px, [0, 1, 3])
    np.testing.assert_allclose(first.area_px_se, [0, np.hypot(0.1, 0.2), np.hypot(0.1, 0.3)])
    axes = growth.plot()
    assert axes.get_ylabel() == "area (pixels)"
