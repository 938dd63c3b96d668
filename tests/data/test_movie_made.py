"""A movie is put into one form, or refused in one line, where it is made; slices are movies."""

import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.read import read_movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.estimate import estimate

FRAMES = np.arange(5 * 8 * 10, dtype=np.float32).reshape(5, 8, 10)


@pytest.fixture
def movie():
    sampled = np.random.default_rng(0).random(FRAMES.shape) < 0.5
    valid = np.ones((8, 10), bool)
    valid[:2] = False
    return Movie(FRAMES, valid, sampled, pixel_size_nm=28.2, frame_interval_s=0.6)


@pytest.mark.parametrize("kind", [list, jnp.asarray, np.asarray, tuple])
def test_anything_like_an_array_is_a_movie(kind):
    made = Movie(kind(FRAMES) if kind is not list else FRAMES.tolist())
    assert made.shape == (5, 8, 10)
    np.testing.assert_array_equal(made.frame(3), FRAMES[3])


class Lazy:
    """Frames that are made when they are asked for."""

    shape, dtype = (5, 8, 10), np.float32

    def __getitem__(self, t):
        return FRAMES[t]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("a lazy movie is read frame by frame")


class Tensor:
    """Like an array of another library, whose types are not NumPy's."""

    shape, dtype = (5, 8, 10), "torch.float32"

    def __array__(self, dtype=None, copy=None):
        return FRAMES


def test_what_is_read_frame_by_frame_stays_so_and_other_arrays_are_converted():
    lazy = Movie(Lazy(), frame_interval_s=1)
    np.testing.assert_array_equal(lazy[1:, 2:, 3:][2], FRAMES[3, 2:, 3:])
    np.testing.assert_array_equal(Movie(Tensor()).frame(4), FRAMES[4])


def test_one_image_is_a_movie_of_one_frame():
    made = Movie(FRAMES[2], pixel_size_nm=(20, 25), frame_interval_s=2)
    assert made.shape == (1, 8, 10)
    assert made.pixel_size_nm == (20.0, 25.0)
    np.testing.assert_array_equal(made.times_s, [0.0])
    np.testing.assert_array_equal(made.frame(0), FRAMES[2])


@pytest.mark.parametrize("size", [28.2, np.float32(28.2), (28.2, 28.2), np.array([28.2, 28.2])])
def test_one_pixel_size_means_both_axes(size):
    made = Movie(FRAMES, pixel_size_nm=size)
    # a float32 has seven digits
    assert made.pixel_size_nm == pytest.approx((28.2, 28.2), rel=1e-7)
    assert made.pixel_area_um2 == pytest.approx(0.0282**2, rel=1e-6)


def test_an_interval_gives_the_times_and_replace_keeps_them(movie):
    np.testing.assert_allclose(movie.times_s, 0.6 * np.arange(5), rtol=1e-15)
    assert movie.frame_interval_s == pytest.approx(0.6, rel=1e-15)
    other = dataclasses.replace(movie, name="other")
    assert (other.name, other.pixel_size_nm) == ("other", (28.2, 28.2))
    np.testing.assert_array_equal(other.times_s, movie.times_s)
    np.testing.assert_array_equal(movie.replace(frame_interval_s=2.0).times_s, 2.0 * np.arange(5))
    np.testing.assert_array_equal(movie.with_interval(2.0).times_s, 2.0 * np.arange(5))


def test_a_mask_of_numbers_means_yes_where_it_is_not_0():
    mask = (FRAMES[0] % 3).astype(np.uint8)
    made = Movie(FRAMES, valid=mask.tolist())
    np.testing.assert_array_equal(made.usable(1), mask != 0)


REFUSED = [
    (lambda: Movie([[[1.0, 2.0], [3.0]]]), "rows and frames must be of equal length"),
    (lambda: Movie(FRAMES[None]), r"shape \(1, 5, 8, 10\); give \(time, y, x\)"),
    (lambda: Movie(FRAMES[0, 0]), r"three axes \(time, y, x\)"),
    (lambda: Movie(FRAMES > 3), "real numbers, these are True or False"),
    (lambda: Movie(FRAMES + 1j), "these are complex numbers"),
    (lambda: Movie(FRAMES.astype(str)), "these are text"),
    (lambda: Movie(FRAMES[:0]), "hold no pixel"),
    (lambda: Movie(np.ma.masked_less(FRAMES, 3)), "sampled=~numpy.ma.getmaskarray"),
    (lambda: Movie(FRAMES, pixel_size_nm=-28.2), "pixel_size_nm = -28.2 is not allowed"),
    (lambda: Movie(FRAMES, pixel_size_nm=0), "one number above 0 or a pair"),
    (lambda: Movie(FRAMES, pixel_size_nm=float("nan")), "pixel_size_nm = nan"),
    (lambda: Movie(FRAMES, pixel_size_nm=(1.0, 2.0, 3.0)), r"\(1.0, 2.0, 3.0\) is not allowed"),
    (lambda: Movie(FRAMES, frame_interval_s=0), "frame_interval_s = 0 is not allowed"),
    (lambda: Movie(FRAMES, frame_interval_s=float("inf")), "frame_interval_s = inf"),
    (lambda: Movie(FRAMES, times_s=[0, 1, 2]), "3 times for 5 frames"),
    (lambda: Movie(FRAMES, times_s=[0, 1, 2, 2, 3]), "frame 3 starts at 2 s after 2 s"),
    (lambda: Movie(FRAMES, times_s=[0, 1, np.nan, 3, 4]), "frame 2 starts at nan s"),
    (lambda: Movie(FRAMES, times_s=range(5), frame_interval_s=1), "cannot both be given"),
    (lambda: Movie(FRAMES, sampled=FRAMES[0, 0] > 0), "sampled mask has shape"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_what_is_no_movie_is_refused_where_it_is_made(make, says):
    with pytest.raises((UsageError, DataError), match=says) as found:
        make()
    assert "\n" not in str(found.value)


def test_a_movie_is_a_sequence_of_frames(movie):
    assert len(movie) == 5
    np.testing.assert_array_equal(movie[3], movie.frame(3))
    np.testing.assert_array_equal(movie[-1], FRAMES[4])
    np.testing.assert_array_equal(np.stack(list(movie)), FRAMES)
    np.testing.assert_array_equal(movie[2, 1:4, 5:], FRAMES[2, 1:4, 5:])
    with pytest.raises(IndexError, match="frame 5 of 5"):
        movie[5]


@pytest.mark.parametrize(
    "index", [np.s_[1:4], np.s_[::2], np.s_[1:4, 2:7, 3:], np.s_[-2:, :, -4:], np.s_[:, 1:]]
)
def test_a_slice_cuts_everything_that_belongs_to_the_frames(movie, index):
    cut = movie[index]
    frames, *box = index if isinstance(index, tuple) else (index,)
    np.testing.assert_array_equal(np.stack(list(cut)), FRAMES[index])
    np.testing.assert_array_equal(cut.sampled, movie.sampled[index])
    np.testing.assert_array_equal(cut.valid, movie.valid[tuple(box)])
    np.testing.assert_array_equal(cut.times_s, movie.times_s[frames])
    np.testing.assert_array_equal(cut.frame_numbers, np.arange(5)[frames])
    first = [(s.start or 0) % n for s, n in zip([*box, slice(0)][:2], (8, 10), strict=False)]
    assert cut.offset_px == tuple([*first, 0][:2])
    # A cut of a cut counts in the frames that were read.
    again = cut[1:, 1:, 1:]
    np.testing.assert_array_equal(again.frame_numbers, cut.frame_numbers[1:])
    assert again.offset_px == tuple(o + 1 for o in cut.offset_px)
    np.testing.assert_array_equal(again[0], FRAMES[cut.frame_numbers[1]][tuple(box)][1:, 1:])


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (np.s_[3:3], r"movie\[3:3\] keeps no frame of 5"),
        (np.s_[::-1], "runs backwards"),
        (np.s_[1:3, ::2], "a step of 2 in y or x"),
        (np.s_[1:3, 9:], "crop 8:8"),
        (np.s_[1:3, 2], "is not understood"),
        ("first", "'first'"),
    ],
)
def test_a_slice_that_is_no_movie_is_refused(movie, index, says):
    with pytest.raises(UsageError, match=says):
        movie[index]


def test_a_movie_says_what_it_is_in_one_line(movie):
    valid = np.ones((8, 10), bool)
    valid[:2] = False
    assert repr(movie.replace(sampled=None, name="zn")) == (
        "Movie(zn: 5 frames of 8 x 10, float32, 28.2 nm a pixel, 0.6 s a frame, 25 % excluded)"
    )
    assert repr(Movie(FRAMES[0], pixel_size_nm=(20, 25), missing=-1)) == (
        "Movie(movie: 1 frame of 8 x 10, float32, 20 x 25 nm a pixel, -1 means not visited)"
    )


def test_64_bit_values_reach_the_pixels_and_areas():
    images = 1e9 + np.random.default_rng(0).normal(size=(1, 8, 10))
    pixels = sample(None, Movie(images, pixel_size_nm=10))
    np.testing.assert_array_equal(np.asarray(pixels.values), images.reshape(1, -1))
    half = np.arange(80)[None] < 40
    assert estimate(half, pixels).area_px[0] == 40


def test_a_file_with_impossible_times_is_refused_unless_an_interval_is_given(tmp_path):
    path = tmp_path / "movie.npz"
    np.savez(path, images=FRAMES, times_s=np.array([0.0, 1.0, 3.0, 2.0, 4.0]))
    with pytest.raises(DataError, match=r"frame 3 starts at 2 s after 3 s.*give a frame interval"):
        read_movie(path)
    np.testing.assert_array_equal(read_movie(path, frame_interval_s=2).times_s, 2.0 * np.arange(5))


def test_a_movie_is_made_without_loading_jax():
    code = (
        "import sys, numpy as np\nfrom jaxmicro.data.movie import Movie\n"
        "m = Movie(np.zeros((2, 8, 9), np.uint8), pixel_size_nm=3.0)[1:]\n"
        "assert m.frame(0).shape == (8, 9)\nassert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
