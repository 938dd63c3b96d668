"""The step that quantify, compare and posterior begin with: refuse, survey, sample."""

import contextlib

import jax
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.analyse import analyse, visit
from jaxmicro.growth.notes import notes
from jaxmicro.growth.plan import ForegroundRule, Plan, Sampling
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.soft_correction import SoftSettings


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


def test_a_soft_correction_decides_labels_and_probabilities():
    """Two halves with a few pixels that the noise takes to the other class."""
    rng = np.random.default_rng(4)
    truth = np.broadcast_to(np.arange(40) < 20, (3, 40, 40))
    movie = Movie(rng.normal(100 + 30 * truth, 12).astype(np.float32))
    pixels = sample(2, movie, 0.5)
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    real = truth[np.arange(3)[:, None], rows, cols]
    soft = SoftSettings(radius=2.0, steps=3)

    def run(correction, estimator="count"):
        plan = Plan(
            GMRM(2, share=("means", "sds")),
            foreground=ForegroundRule("brightest"),
            correction=correction,
            estimator=estimator,
        )
        return analyse(pixels, plan)

    plain, corrected = run(None), run(soft)
    wrong = (plain.foreground != real).mean(), (corrected.foreground != real).mean()
    assert wrong[1] < 0.5 * wrong[0]
    assert np.asarray(corrected.corrected.n_changed).sum() > 0
    assert any(note.startswith("soft correction") for note in notes(corrected))
    chance = np.asarray(corrected.corrected.foreground(corrected.partition.foreground))
    added = run(soft, "posterior").growth.area_px
    np.testing.assert_allclose(added, 1600 * chance.mean(axis=1), rtol=1e-5)


def test_a_soft_correction_of_local_proportions_is_refused():
    with pytest.raises(UsageError, match="count the neighbours twice"):
        Plan(GMRM(2), local=Local(), correction=SoftSettings())
