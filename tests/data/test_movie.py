"""Narrowing a movie keeps its calibration and refuses what does not fit."""

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.data.survey import survey
from jaxmicro.errors import DataError, UsageError


@pytest.fixture
def movie(rng):
    images = rng.integers(0, 200, (4, 12, 10)).astype(np.uint8)
    return Movie(images, pixel_size_nm=(20.0, 25.0), times_s=np.arange(4) * 0.5, saturation=255.0)


def test_crop_exclude_and_frames_compose(movie):
    small = movie.select_frames(1, 3).crop((2, 10, 1, 9)).exclude([(0, 2, 0, 3)])
    assert small.shape == (2, 8, 8)
    np.testing.assert_array_equal(small.frame(0), movie.images[1][2:10, 1:9])
    assert small.domain(0).sum() == 64 - 6
    assert small.pixel_area_um2 == pytest.approx(20 * 25 * 1e-6)
    np.testing.assert_array_equal(small.times_s, [0.5, 1.0])
    assert small.frame_interval_s == 0.5
    np.testing.assert_array_equal(small.frame_numbers, [1, 2])
    assert small.offset_px == (2, 1)
    smaller = small.crop((1, 5, 2, 6)).select_frames(1, 2)
    assert smaller.offset_px == (3, 3)
    np.testing.assert_array_equal(smaller.frame_numbers, [2])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.crop((0, 13, 0, 5)), "frame of 12 rows and 10 columns"),
        (lambda m: m.crop((5, 5, 0, 5)), "crop 5:5,0:5"),
        (lambda m: m.exclude([(0, 12, 0, 10)]), "nothing of the frame is left"),
        (lambda m: m.select_frames(3, 3), "frames 3:3"),
        (lambda m: m.select_frames(0, 5), "0:4"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(movie, change, says):
    with pytest.raises(UsageError, match=says):
        change(movie)


def test_masks_of_another_shape_are_refused(movie):
    with pytest.raises(DataError, match="sampled mask has shape"):
        movie.replace(sampled=np.ones((12, 11), bool))


def test_missing_value_and_mask_decide_what_was_visited(movie):
    images = movie.images.copy()
    images[0, 0, :] = 7
    images[0, 1:, :] = np.where(images[0, 1:, :] == 7, 8, images[0, 1:, :])
    mask = np.ones((12, 10), bool)
    mask[:, 0] = False
    sparse = movie.replace(images=images, missing=7.0, sampled=mask)
    assert sparse.usable(0).sum() == 11 * 9
    assert sparse.domain(0).sum() == 120


def test_survey_counts_and_refuses(movie):
    images = movie.images.astype(np.float32)
    images[1, 0, :3] = [np.nan, np.inf, -np.inf]
    found = survey(movie.replace(images=images))
    np.testing.assert_array_equal(found.n_nonfinite, [0, 3, 0, 0])
    assert "3 NaN or infinite pixels in 1 frame(s)" in found.warnings[0]
    images[2] = 12.0
    with pytest.raises(DataError, match="frame 2 of movie is constant"):
        survey(movie.replace(images=images))
    full = movie.images.copy()
    full[3] = 255
    with pytest.raises(DataError, match="frame 3 of movie is saturated everywhere"):
        survey(movie.replace(images=full))
    two = (movie.images > 100).astype(np.uint8)
    with pytest.raises(DataError, match="2 distinct grey values, too few for 3 classes"):
        survey(movie.replace(images=two), 3)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("uint8", "float32"), ("uint16", "float32"), ("float32", "float32"), ("float64", "float64"),
     ("int32", "float64")],
)  # fmt: skip
def test_grey_values_keep_their_digits_where_jax_can_hold_them(dtype, kept):
    grey = 16_777_217 if kept == "float64" else 200  # 2^24 + 1, the first whole number lost
    images = np.full((2, 8, 9), grey).astype(dtype)
    images[:, ::2] -= 1
    pixels = sample(None, Movie(images))
    assert pixels.values.dtype == kept
    assert np.unique(np.asarray(pixels.values)).tolist() == [grey - 1, grey]


def test_grey_values_are_float32_without_64_bit_arrays():
    with jax.enable_x64(False):
        assert Movie(np.zeros((1, 8, 9))).frame(0).dtype == np.float32
