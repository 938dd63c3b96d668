"""Replicates are independent of one another; blocks depend on seed, rate and number alone; what a
study is summed up to has known answers."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import ForegroundRule, Plan, Sampling
from jaxmicro.growth.study import (
    QUANTITIES,
    Blocks,
    RateStudy,
    Summary,
    measure_all_pixels,
    measure_block,
    replicates_of,
    study_rate,
)
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
    assert _study(found).failed == pytest.approx(1 / 3)


# -- blocks -------------------------------------------------------------------------------------

TWO = Plan(GMRM(2), foreground=ForegroundRule("brightest"))


@pytest.fixture(scope="module")
def movie():
    """Half of each frame of 24 x 24 is bright, 40 sds from the rest, so that no label is wrong."""
    rng = np.random.default_rng(4)
    grey = rng.normal(50, 5, (3, 24, 24))
    grey[:, :, 12:] += 200
    return Movie(grey.astype(np.float32))


@pytest.mark.parametrize(("rate", "expected"), [(0.1, 100), (0.05, 200), (0.01, 1000), (0.9, 11)])
def test_replicates_times_rate_is_ten(rate, expected):
    assert replicates_of(rate) == expected


@pytest.mark.parametrize("replicates", [1, 2, 15, 16, 17, 33, 100, 1000])
def test_blocks_are_of_one_size_and_hold_every_replicate_once(movie, replicates):
    blocks = Blocks.of(movie, 0.5, replicates)
    held = [i for b in range(blocks.count) for i in range(10**4)[blocks.span(b)]]
    assert held == list(range(replicates))
    # every block is begun, and the last lacks less than a block
    assert 0 <= blocks.count * blocks.size - replicates < blocks.size


def test_blocks_of_a_large_movie_stay_within_memory():
    large = Movie(np.broadcast_to(np.zeros(1, np.uint8), (60, 2048, 2048)))
    assert Blocks.of(large, 0.1).size == 1
    assert Blocks.of(large[:1, :512, :512], 0.01, 10**5).size == 800  # x 2621 pixels: 2^21


def test_blocks_have_keys_of_their_own(movie):
    rates = [Blocks.of(movie, rate) for rate in (0.5, 0.5000001, 0.25)]
    keys = {
        tuple(np.asarray(jax.random.key_data(b.key(seed, block))))
        for b in rates
        for seed in (0, 1)
        for block in range(3)
    }
    assert len(keys) == 18


@pytest.fixture(scope="module")
def measured(movie):
    blocks = Blocks(0.5, 7, 3)
    return blocks, [measure_block(movie, TWO, blocks, 5, b) for b in range(3)]


def test_a_block_follows_from_its_number_alone(movie, measured):
    blocks, found = measured
    again = [measure_block(movie, TWO, blocks, 5, b) for b in (2, 0)]
    np.testing.assert_array_equal(again[0], found[2])
    np.testing.assert_array_equal(again[1], found[0])
    assert [f.shape[2] for f in found] == [3, 3, 1]
    assert not np.array_equal(found[0], measure_block(movie, TWO, blocks, 6, 0))


def test_a_longer_study_extends_a_shorter_one(movie, measured):
    longer = measure_block(movie, TWO, Blocks(0.5, 9, 3), 5, 2)
    np.testing.assert_array_equal(longer[..., :1], measured[1][2])


def test_plans_are_compared_on_the_same_pixels(movie, measured):
    """Without a mistake in the labels, the count and the posterior sum agree sample by sample."""
    blocks, found = measured
    other = dataclasses.replace(TWO, estimator="posterior")
    again = measure_block(movie, other, blocks, 5, 0)
    np.testing.assert_allclose(again[0], found[0][0], rtol=1e-6)  # float32 probabilities of 1


def test_counts_have_the_spread_and_the_coverage_of_the_hypergeometric_law(movie):
    """288 of 576 pixels are bright; 288 are drawn, and none is labelled wrongly."""
    study = study_rate(movie, TWO, 0.5, seed=1, replicates=200)
    law = stats.hypergeom(576, 288, 288)
    # mean of 600 areas of sd 2 * law.std(): four standard errors
    assert abs(study.bias(np.full(3, 288.0))) < 4 * 2 * law.std() / 600**0.5
    width = 2 * (law.ppf(0.9) - law.ppf(0.1))
    assert study.width() == pytest.approx(width, rel=0.15)  # 3 x 200 draws of a discrete law
    assert study.failed == 0
    # exact coverage of counts within 1.28 standard errors; binomial error of 600 intervals
    assert study.coverage(np.full(3, 288.0), 80) == pytest.approx(0.8, abs=0.07)
    np.testing.assert_array_equal(measure_all_pixels(movie, TWO)[0, :, 0], 288)


def test_a_start_is_taken_for_every_replicate(movie, measured):
    """From the parameters of all pixels the plain fit finds the same optimum."""
    from jaxmicro.growth.analyse import fit_plan

    start = fit_plan(sample(None, movie), TWO).fit.params
    blocks, found = measured
    begun = measure_block(movie, dataclasses.replace(TWO, start=start), blocks, 5, 0)
    np.testing.assert_array_equal(begun[0], found[0][0])


def test_lines_through_a_region_share_one_program(movie):
    """Lines meet more or fewer pixels of a ragged region; the arrays have one size all the same."""
    region = np.tri(24, 24, 6, dtype=bool)
    ragged = dataclasses.replace(TWO, sampling=Sampling(pattern="lines"))
    blocks = Blocks(0.5, 4, 2)
    found = [measure_block(movie.within(region), ragged, blocks, 0, b) for b in range(2)]
    truth = np.count_nonzero(region[:, 12:])
    se = found[0][1]
    assert (abs(found[0][0] - truth) < 5 * se + 30).all()  # a handful of lines a frame


# -- what is made of them -----------------------------------------------------------------------


def _study(areas, low=-1.0, high=1.0, usable=None):
    """A study with these areas (T, R) and intervals from `low` to `high` about them."""
    rows = dict.fromkeys(QUANTITIES, np.zeros_like(areas)) | {"area_px": areas}
    rows |= {f"area_px_lo{level}": areas + low for level in (80, 95)}
    rows |= {f"area_px_hi{level}": areas + high for level in (80, 95)}
    rows["usable"] = np.isfinite(areas) if usable is None else usable
    return RateStudy(0.1, np.stack([np.asarray(rows[n], float) for n in QUANTITIES]))


def test_bias_width_and_coverage_of_known_numbers():
    areas = np.stack([np.arange(11.0), np.full(11, 5.0)])  # 10th and 90th percentile: 1, 9; 5, 5
    study, reference = _study(areas), np.array([4.0, 5.0])
    assert study.bias(reference) == 0.5
    assert study.width() == 4.0
    # of the first frame 3, 4 and 5 lie within 1 of the reference, of the second all
    assert study.coverage(reference, 80) == pytest.approx(14 / 22)
    found = Summary.of(study, reference)
    assert found.bias_percent == pytest.approx(100 * 0.5 / 4.5)
    assert found.width_percent == pytest.approx(100 * 4 / 4.5)
    assert Summary.of(study, reference, np.array([10.0, 10.0])).bias_percent == pytest.approx(5)


def test_areas_that_are_not_known_are_left_out_and_counted_as_failed():
    areas = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    study = _study(areas)
    assert study.bias(np.array([0.0, 7.0])) == 2.0
    assert study.failed == pytest.approx(4 / 6)
    assert study.coverage(np.array([2.0, 0.0]), 95) == 1.0
    np.testing.assert_array_equal(study.curves()["p50"], [2.0, np.nan])
    nothing = _study(np.full((2, 3), np.nan))
    assert np.isnan([nothing.bias(np.zeros(2)), nothing.width()]).all()
    assert Summary.of(nothing, np.zeros(2)).failed_percent == 100


@pytest.mark.parametrize(
    ("rate", "replicates", "words"),
    [
        (0.0, None, "rate 0 is not allowed"),
        (1.0, None, "above 0 and below 1"),
        (1.5, None, "rate 1.5 is not allowed"),
        (0.05, None, "rate 0.05 leaves 29 of 576 pixels of a frame and at least 50 are needed"),
        (0.5, 0, "replicates = 0 is not allowed; use 1 or more"),
    ],
)
def test_a_study_that_cannot_be_is_refused(movie, rate, replicates, words):
    with pytest.raises(UsageError, match=words):
        Blocks.of(movie, rate, replicates)
