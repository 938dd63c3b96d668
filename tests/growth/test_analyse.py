"""The step that quantify, compare and posterior begin with: refuse, survey, sample."""

import contextlib

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.plan import Sampling


@pytest.fixture
def movie(rng):
    images = rng.integers(10, 200, (3, 21, 32)).astype(np.uint8)
    images[1, :8] = 255
    return Movie(images, saturation=255.0, warnings=("read with care",))


def test_pixels_are_those_of_the_sampling_and_notes_come_in_order(movie):
    visited = visit(movie, Sampling(0.2, "stratified", seed=5))
    expected = sample(jax.random.key(5), movie, 0.2, "stratified")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), visited.pixels, expected))
    assert visited.notes[0] == "read with care"
    assert "38 % of a frame (frame 1) is saturated" in visited.notes[1]


class Done:
    """What a stage is told."""

    def __init__(self, counts):
        self.counts = counts

    def __call__(self, count=1):
        self.counts.append(count)

    def say(self, text):
        raise AssertionError("nothing is said while frames can be counted")


def test_stages_are_opened_in_order_and_told_of_every_frame(movie):
    seen = []

    @contextlib.contextmanager
    def stage(name, total):
        done = []
        yield Done(done)
        seen.append((name, total, sum(done)))

    visit(movie, stage=stage)
    assert seen == [("check", 3, 3), ("sample", 3, 3)]


@pytest.mark.parametrize("already", [{"missing": 0.0}, {"sampled": np.ones((21, 32), bool)}])
def test_a_sub_sample_is_not_sub_sampled(movie, already):
    with pytest.raises(UsageError, match=r"--rate 0\.5 .* sub-sampled already"):
        visit(movie.replace(**already), Sampling(0.5))
    assert visit(movie.replace(**already)).pixels.n_frames == 3


def test_the_movie_is_surveyed_before_it_is_sampled(movie):
    images = np.full((3, 21, 32), 7, np.uint8)
    with pytest.raises(DataError, match="frame 0 of movie is constant"):
        visit(movie.replace(images=images), Sampling(0.001))
    images[:, ::2] = 9
    with pytest.raises(DataError, match="2 distinct grey values, too few for 3 classes"):
        visit(movie.replace(images=images), n_classes=3)
