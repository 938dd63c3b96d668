"""Areas are unbiased over the sampling design and their standard errors are the spread."""

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.growth.columns import COLUMNS, MEANINGS
from jaxmicro.growth.estimate import Growth, estimate

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


def test_the_rate_of_growth_is_a_central_difference_with_its_error():
    """By hand: A = 10, 14, 12, 20 at 0, 1, 3, 4 s, errors 1, 2, 2, 1, pixels of 0.5 um2."""
    growth = Growth(
        np.arange(4), np.array([10.0, 14, 12, 20]), np.array([1.0, 2, 2, 1]), pixel_area_um2=0.5,
        time_s=np.array([0.0, 1, 3, 4]),
    )  # fmt: skip
    np.testing.assert_allclose(growth.growth_px_per_frame, [4, 1, 3, 8])
    se = np.sqrt([5, 5, 5, 5])
    np.testing.assert_allclose(growth.growth_px_per_frame_se, se / [1, 2, 2, 1])
    np.testing.assert_allclose(growth.growth_um2_per_s, [2, 1 / 3, 1, 4])
    np.testing.assert_allclose(growth.growth_um2_per_s_se, 0.5 * se / [1, 3, 3, 1])
    # what is subtracted from all frames changes no difference and no error of one
    since = growth.minus_first()
    np.testing.assert_allclose(since.growth_um2_per_s, growth.growth_um2_per_s)
    np.testing.assert_allclose(since.growth_um2_per_s_se, growth.growth_um2_per_s_se)


def test_a_rate_that_is_not_known_is_missing():
    one = Growth(np.arange(1), np.array([3.0]), np.array([1.0]), 0.5, time_s=np.array([2.0]))
    assert np.isnan(one.growth_um2_per_s).all()
    assert np.isnan(one.growth_px_per_frame_se).all()
    three = Growth(np.arange(3), np.array([1.0, np.nan, 5.0]), np.array([1.0, np.nan, 1.0]))
    assert np.isnan(three.growth_px_per_frame[[0, 2]]).all()
    assert three.growth_px_per_frame[1] == 2
    assert three.growth_um2_per_s is None


def test_rates_cover_the_truth_as_often_as_they_say(movie):
    """The error of a difference of two frames, each sampled anew, is the spread of its rate."""
    found = _estimates(movie, 0.1, "random", 400)
    rates, errors = found.growth_px_per_frame, found.growth_px_per_frame_se
    truth = movie.images.sum(axis=(1, 2)).astype(float)
    true = np.array([truth[1] - truth[0], (truth[2] - truth[0]) / 2, truth[2] - truth[1]])
    spread = rates.std(axis=1)
    np.testing.assert_array_less(np.abs(rates.mean(axis=1) - true), 4 * spread / 20)
    # a spread from 400 replicates is itself good to 3.5 %, three of that is 11 %
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2, axis=1)) / spread, 1.0, atol=0.11)


def test_the_table_says_of_what_the_area_is_an_area(movie):
    masked = movie.replace(valid=np.broadcast_to(np.arange(SHAPE[1]) < 45, SHAPE)).exclude(
        [(0, 10, 0, 60)]
    )
    masked = masked.replace(source_frames=np.array([7, 8, 9]), times_s=np.array([3.5, 4.0, 4.5]))
    pixels = sample(jax.random.key(1), masked, 0.1)
    found = estimate(np.asarray(pixels.values) > 0.5, pixels).of_movie(masked, (1, 3), 0.5)
    table = found.to_pandas()
    assert table["source_frame"].tolist() == [7, 8, 9]
    assert set(table["region_px"]) == {30 * 45}
    np.testing.assert_allclose(table["visited_share"], 0.1, atol=1 / (30 * 45))
    np.testing.assert_allclose(table["share_of_frame"], table["area_px"] / (30 * 45))
    assert set(table["foreground_classes"]) == {"1 3"}
    assert set(table["pixel_size_x_nm"]) == set(table["pixel_size_y_nm"]) == {100.0}
    assert set(table["thickness_um"]) == {0.5}
    assert set(MEANINGS) == set(table.columns) == set(COLUMNS)
