"""Scan patterns visit what they promise, each usable pixel with the same probability."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import PATTERNS, sample
from jaxmicro.errors import DataError, UsageError

SHAPE = (24, 30)


@pytest.fixture
def movie(rng):
    return Movie(rng.integers(0, 255, (3, *SHAPE)).astype(np.uint8))


def visited(pixels, t, b=None):
    at = (t,) if b is None else (t, b)
    use = np.asarray(pixels.weight[at]) > 0
    return np.asarray(pixels.rows[at])[use], np.asarray(pixels.cols[at])[use]


@pytest.mark.parametrize("pattern", ["random", "stratified"])
@pytest.mark.parametrize("rate", [0.1, 0.37, 0.9])
def test_exact_counts_of_distinct_pixels_with_their_own_values(key, movie, pattern, rate):
    pixels = sample(key, movie, rate, pattern)
    for t in range(3):
        rows, cols = visited(pixels, t)
        assert len(rows) == round(rate * 24 * 30)
        assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == len(rows)
        np.testing.assert_array_equal(
            np.asarray(pixels.values[t])[: len(rows)], movie.images[t][rows, cols]
        )


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3])  # .3: blocks and bands of unequal size
def test_every_pixel_is_as_likely_as_any_other(key, pattern, rate):
    """Chi-square of the visits to each pixel; seeded, refused at p < 1e-4."""
    movie = Movie(np.zeros((1, *SHAPE), np.uint8))
    draws = 1500
    pixels = sample(key, movie, rate, pattern, replicates=draws)
    use = np.asarray(pixels.weight[0]) > 0
    flat = (np.asarray(pixels.rows[0]) * SHAPE[1] + np.asarray(pixels.cols[0]))[use]
    visits = np.bincount(flat, minlength=SHAPE[0] * SHAPE[1])
    share = visits.sum() / visits.size / draws
    expected = draws * share
    # Visits of one pixel over the draws are binomial; pixels of one draw exclude one another,
    # which only lowers the spread of the sum (random: by 1/n; blocks and bands: further).
    chi = np.sum((visits - expected) ** 2) / (expected * (1 - share))
    # within a line neighbouring columns move together, so the sum has fewer free terms
    free = visits.size / (1 if pattern != "lines" else 8)
    assert stats.chi2.sf(chi * free / visits.size, free) > 1e-4


def test_one_pixel_per_block_of_equal_size(key):
    movie = Movie(np.zeros((1, 40, 40), np.uint8))
    rows, cols = visited(sample(key, movie, 0.25, "stratified"), 0)
    # rate 1/4: bands of 2 rows, taken column by column: blocks are 2 x 2
    blocks = {(r // 2, c // 2) for r, c in zip(rows.tolist(), cols.tolist(), strict=True)}
    assert len(rows) == len(blocks) == 400


def test_lines_hop_by_at_most_one_row_within_their_band(key):
    movie = Movie(np.zeros((1, 40, 50), np.uint8))
    rows, cols = visited(sample(key, movie, 0.1, "lines"), 0)
    rows, cols = rows.reshape(4, 50), cols.reshape(4, 50)
    np.testing.assert_array_equal(cols, np.tile(np.arange(50), (4, 1)))
    for line, band in enumerate(rows):
        assert band.min() >= 10 * line
        assert band.max() < 10 * (line + 1)
    assert np.abs(np.diff(rows, axis=1)).max() <= 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masked_missing_and_nan_pixels_are_never_visited(key, rng, pattern):
    images = rng.uniform(10, 20, (2, *SHAPE)).astype(np.float32)
    images[0, 3] = np.nan
    images[1, :, 4] = -1.0
    valid = np.ones(SHAPE, bool)
    valid[10:14, 5:9] = False
    pixels = sample(key, Movie(images, valid=valid, missing=-1.0), 0.4, pattern, replicates=5)
    for t in range(2):
        for b in range(5):
            rows, cols = visited(pixels, t, b)
            assert np.all(valid[rows, cols])
            assert np.all(np.isfinite(images[t][rows, cols]))
            assert np.all(images[t][rows, cols] > 0)
    np.testing.assert_array_equal(pixels.n_domain, np.full(2, valid.sum()))


def test_all_pixels_share_their_places(movie):
    pixels = sample(None, movie)
    assert pixels.rows.shape == (720,)
    assert pixels.values.shape == (3, 720)
    np.testing.assert_array_equal(np.asarray(pixels.values[1]).reshape(SHAPE), movie.images[1])


def test_same_key_same_pixels_other_key_others(movie):
    a, b, c = (sample(jax.random.key(k), movie, 0.2) for k in (1, 1, 2))
    np.testing.assert_array_equal(a.rows, b.rows)
    assert not np.array_equal(a.rows, c.rows)
    np.testing.assert_array_equal(sample(1, movie, 0.2).rows, a.rows)  # a number is a seed


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"rate": 0.0}, "rate 0"),
        ({"rate": -0.5}, "rate -0.5"),
        ({"rate": 1.5}, "rate 1.5"),
        ({"rate": 0.01}, "at least 50"),
        ({"rate": 0.5, "pattern": "spiral"}, "spiral"),
        ({"rate": 0.5, "replicates": 0}, "replicates = 0"),
    ],
)
def test_impossible_samplings_are_refused_by_value(key, movie, arguments, word):
    with pytest.raises(UsageError, match=word):
        sample(key, movie, **arguments)


def test_lines_that_meet_too_few_usable_pixels_are_refused(key):
    valid = np.zeros((60, 60), bool)
    valid[30:32] = True  # two rows of sixty: lines of one row in two meet about half of each
    valid[:, 40:] = False
    movie = Movie(np.ones((1, 60, 60), np.float32), valid=valid)
    with pytest.raises(UsageError, match=r"'lines' at rate 0.63 met \d+ usable pixels in frame 0"):
        sample(key, movie, 0.63, "lines")  # .63 of 80 pixels is 50, the lines meet some 40
    assert float(sample(key, movie, 0.63, "stratified").n_pixels[0]) == 50


def test_a_frame_without_pixels_is_named(key):
    images = np.ones((2, *SHAPE), np.float32)
    images[1] = np.nan
    with pytest.raises(DataError, match="frame 1 has 0 usable"):
        sample(key, Movie(images), 0.5)


@pytest.mark.parametrize("rate", [None, 0.5])
def test_pixels_give_frames_and_single_frames(rng, rate):
    movie = Movie(rng.random((5, 12, 15), np.float32))
    pixels = sample(jax.random.key(0), movie, rate)
    assert pixels.shared == (rate is None)
    some = pixels[[3, 1]]
    assert some.n_frames == 2
    for place, t in enumerate((3, 1)):
        one, same = some.at(place), pixels.at(t)
        np.testing.assert_array_equal(one.values, same.values)
        rows, cols = np.asarray(one.rows), np.asarray(one.cols)
        np.testing.assert_array_equal(one.values, movie.images[t][rows, cols])
    np.testing.assert_array_equal(pixels[1:3].values, pixels.values[1:3])
    with pytest.raises(UsageError, match=r"use \.at\(2\)"):
        pixels[2]
