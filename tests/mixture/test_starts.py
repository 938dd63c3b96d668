"""Starts of a fit: mixtures of a histogram, robust surfaces, and fits with a class more or less."""

import jax
import numpy as np
import pytest
from pixels_at import pixels_at

from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.neighbour_start import between_neighbours, neighbour_start
from jaxmicro.mixture.starts import (
    OUT_OF_REACH,
    histogram_mixture,
    starts,
    surface,
    with_one_fewer,
    with_one_more,
)
from jaxmicro.mixture.trend import Trend

WEIGHTS, MEANS, SDS = (
    np.array(a) for a in ([0.5, 0.3, 0.2], [60.0, 100.0, 150.0], [4.0, 6.0, 8.0])
)
SHAPE = (40, 50)
FULL = GMRM(4, Trend("x + y + x:y + x**2 + y**2"), ("means", "sds"))


def drawn(rng, n, weights=WEIGHTS, means=MEANS, sds=SDS):
    label = rng.choice(len(weights), n, p=weights)
    return rng.normal(means[label], sds[label])


def test_a_histogram_mixture_recovers_planted_classes(rng):
    weights, means, sds = histogram_mixture(drawn(rng, 20_000), 3)
    # 4000 pixels of the rarest class: 3 standard errors are 0.4 grey of a mean, 0.3 of an sd and
    # 0.01 of a weight. The ends of the histogram hold the outermost half per cent, which takes a
    # few per cent off the outer sds.
    np.testing.assert_allclose(weights, WEIGHTS, atol=0.012)
    np.testing.assert_allclose(means, MEANS, atol=0.5)
    np.testing.assert_allclose(sds, SDS, rtol=0.06)


def test_tied_classes_share_one_sd_and_keep_their_means(rng):
    weights, means, sds = histogram_mixture(drawn(rng, 20_000), 3, tied=True)
    assert np.ptp(sds) == 0
    assert sds[0] == pytest.approx(np.sqrt(WEIGHTS @ SDS**2), rel=0.06)
    # classes are 5 sds apart or more, so one sd for all moves hardly any pixel
    np.testing.assert_allclose(means, MEANS, atol=0.6)
    assert weights.sum() == pytest.approx(1, abs=1e-9)


def test_a_histogram_of_one_value_has_finite_classes():
    weights, means, sds = histogram_mixture(np.full(100, 7.0), 2)
    assert np.all(np.isfinite([weights, means, sds]))
    assert np.all(sds > 0)
    assert np.all(np.abs(means - 7) <= 0.5)


def vignette(rng, share):
    """Grey values, design and coefficients: a dome with noise of 2 grey, some pixels 60 above."""
    by_row, by_col = FULL.trend.factors(SHAPE)
    design = (by_row[:, :, None] * by_col[:, None, :]).reshape(len(by_row), -1)
    planted = np.array([3.0, -2.0, 1.0, -12.0, -8.0])
    z = 80 + planted @ design + rng.normal(0, 2, design.shape[1])
    # more of them on the right, so that least squares sees a slope that is not there
    right = np.arange(z.size) % SHAPE[1] / SHAPE[1]
    return np.where(rng.random(z.size) < 2 * share * right, z + 60, z), design, planted


def test_a_surface_through_most_pixels_ignores_a_fifth_of_outliers(rng):
    z, design, planted = vignette(rng, 0.2)
    plain = np.linalg.lstsq(np.vstack([np.ones(z.size), design]).T, z, rcond=None)[0][1:]
    assert np.max(np.abs(plain - planted)) > 8
    # 1600 pixels of sd 2: the largest standard error, that of a square, is 0.17 grey
    np.testing.assert_allclose(surface(z, design), planted, atol=0.6)


def test_a_surface_without_outliers_is_that_of_least_squares(rng):
    z, design, planted = vignette(rng, 0.0)
    np.testing.assert_allclose(surface(z, design), planted, atol=0.6)


@pytest.fixture
def pixels(rng):
    """Two frames of 400 pixels of three classes, every pixel somewhere in the frame."""
    spots = np.stack([rng.permutation(SHAPE[0] * SHAPE[1])[:400] for _ in range(2)])
    rows, cols = np.divmod(spots.astype(np.int32), SHAPE[1])
    values = drawn(rng, (2, 400)).astype(np.float32)
    return pixels_at(values, rows, cols, np.ones((2, 400), np.float32), SHAPE)


def test_three_starts_of_which_one_has_a_trend_and_all_the_dtype_of_the_pixels(pixels):
    found = starts(FULL, pixels)
    assert [s.name for s in found] == ["no trend", "one sd", "trend of most pixels"]
    assert [bool(np.any(np.asarray(s.params.trend))) for s in found] == [False, False, True]
    assert len(starts(GMRM(3), pixels)) == 2
    for start in found:
        assert {a.dtype for a in jax.tree.leaves(start.params)} == {np.dtype(np.float32)}
        assert start.params.means.shape == (2, 4)
        assert start.params.trend.shape == (2, 5)
        np.testing.assert_allclose(start.params.weights.sum(axis=1), 1, atol=1e-6)


def holds_nothing(params, k, values):
    """Classes from k on have weight 0 and a mean that no value comes near."""
    spare = np.asarray(params.weights)[:, k:]
    far = np.asarray(params.means)[:, k:] - np.max(values)
    return np.all(spare == 0) and np.all(far > 1000 * np.asarray(params.sds)[:, k:])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_classes_that_are_not_in_use_hold_nothing(pixels, k):
    for start in starts(FULL, pixels, k):
        assert holds_nothing(start.params, k, np.asarray(pixels.values))
        used = np.asarray(start.params.means)[:, :k]
        assert np.all(np.diff(used, axis=1) > 0)
        assert np.all((used > 30) & (used < 190))
        classes = np.asarray(FULL.classify(start.params, pixels))
        assert classes.max() < k


def fitted(k):
    """Parameters of two frames with k of four classes in use."""
    spare = 4 - k
    even = np.ones((2, 1))
    far = 1e6 * np.ones(spare)
    arrays = (
        np.append(np.arange(1, k + 1) / np.arange(1, k + 1).sum(), np.zeros(spare)),
        np.append(50 + 30.0 * np.arange(k), far),
        np.append(4 + 2.0 * np.arange(k), np.full(spare, 4.0)),
    )
    weights, means, sds = (jax.numpy.asarray(even * a) for a in arrays)
    return Params(weights, means, sds, jax.numpy.full((2, 5), 0.5), jax.numpy.ones((2, 4)))


def assert_whole(start, like):
    """Every array keeps its shape and dtype, and the weights of a frame sum to 1."""
    shapes = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, start, like)
    assert jax.tree.all(shapes)
    np.testing.assert_allclose(start.weights.sum(axis=1), 1, atol=1e-12)
    assert np.all(np.asarray(start.weights) >= 0)
    assert np.all(np.asarray(start.sds) > 0)
    np.testing.assert_array_equal(start.trend, like.trend)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_one_class_more_is_added_at_either_end_or_splits_the_widest(k):
    like = fitted(k)
    darker, brighter, split = (s.params for s in with_one_more(like, k))
    for params in (darker, brighter, split):
        assert_whole(params, like)
        assert np.all(np.asarray(params.weights)[:, k] > 0)
        assert k == 3 or holds_nothing(params, k + 1, 300.0)
    assert np.all(darker.means[:, k] < like.means[:, 0] - like.sds[:, 0])
    assert np.all(brighter.means[:, k] > like.means[:, k - 1] + like.sds[:, k - 1])
    # the widest is the brightest here; its two halves have its mean between them
    halves = np.asarray(split.means)[:, [k - 1, k]]
    np.testing.assert_allclose(halves.mean(axis=1), like.means[:, k - 1], rtol=1e-12)
    np.testing.assert_allclose(split.weights[:, k], 0.5 * like.weights[:, k - 1], rtol=1e-12)


def test_no_class_is_added_where_there_is_no_room():
    with pytest.raises(ValueError, match="no room"):
        with_one_more(fitted(4), 4)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_one_class_fewer_leaves_the_rarest_out_or_joins_the_closest(k):
    like = fitted(k)
    without, joined = (s.params for s in with_one_fewer(like, k))
    for params in (without, joined):
        assert_whole(params, like)
        assert holds_nothing(params, k - 1, 300.0)
        assert np.all(np.diff(np.asarray(params.means)[:, : k - 1], axis=1) > 0)
    np.testing.assert_allclose(without.means[:, : k - 1], like.means[:, 1:k], rtol=1e-12)
    # joined classes have the mean and the variance of the two together
    weights, means, sds = (np.asarray(a)[0, :k] for a in (like.weights, like.means, like.sds))
    w, m, s = (np.asarray(a)[0, : k - 1] for a in (joined.weights, joined.means, joined.sds))
    assert w @ m == pytest.approx(weights @ means, rel=1e-12)
    assert w @ (s**2 + m**2) == pytest.approx(weights @ (sds**2 + means**2), rel=1e-12)


def test_a_mean_out_of_reach_is_finite_in_single_precision():
    assert np.isfinite(np.float32(OUT_OF_REACH) ** 2)


def test_the_trend_between_neighbours_is_not_moved_by_the_layout(rng):
    """Bright layers at the bottom: the surface through most pixels takes them up, this does not."""
    rows, cols = np.divmod(np.arange(64 * 64), 64)
    y, x = rows / 31.5 - 1, cols / 31.5 - 1
    values = 60 + 40 * (rows // 22) + 5 * x + 8 * y + 3 * rng.standard_normal(rows.size)
    design = np.stack([x, y])
    found = between_neighbours(values, design, np.stack([rows, cols], axis=1).astype(float))
    # 40 960 differences of noise 3 sqrt(2), 2 pixels or .06 of x apart: errors of .4 and, as pairs
    # share pixels, somewhat more; the layers rise by 60 in y
    np.testing.assert_allclose(found, [5.0, 8.0], atol=2.0)
    every = np.ones((1, rows.size))
    pixels = pixels_at(
        values[None], rows[None].astype(np.int32), cols[None].astype(np.int32), every, (64, 64)
    )
    start = neighbour_start(GMRM(4, Trend("x + y")), pixels, 3)
    np.testing.assert_allclose(start.params.trend[0], [5.0, 8.0], atol=2.0)
    np.testing.assert_allclose(start.params.means[0, :3], [60.0, 100.0, 140.0], atol=3.0)
    assert np.all(np.asarray(start.params.weights)[0, 3:] == 0)
