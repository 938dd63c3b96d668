"""Dose planning: the rate that is found is the one at which the error is the target."""

import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.dose import (
    CLOSE,
    MOST,
    Trial,
    check_dose,
    find_dose,
    lowest_possible,
    lowest_rate,
)
from jaxmicro.growth.plan import ForegroundRule, Plan
from jaxmicro.mixture.gmrm import GMRM

SHAPE, N_FRAMES = (64, 70), 2


def _trial(rate, se):
    return Trial("random", rate, 2, np.array([se, se]), np.array([se, se]))


def test_a_square_root_law_is_met_inside_and_outside_of_what_was_tried():
    trials = [_trial(r, 3 / np.sqrt(r)) for r in (0.2, 0.0125, 0.05)]
    for rate in (0.001, 0.0125, 0.03, 0.11, 0.4):
        assert lowest_rate(trials, 3 / np.sqrt(rate)) == pytest.approx(rate, rel=1e-6)


def test_a_rate_by_chance_better_than_a_higher_one_is_no_reason_to_take_less():
    """Errors 10, 4, 5 at rising rates: the second is taken for both."""
    trials = [_trial(0.01, 10.0), _trial(0.1, 4.0), _trial(0.2, 5.0)]
    assert 0.01 < lowest_rate(trials, 6.0) < 0.1
    assert lowest_rate(trials, 2.0) == pytest.approx(0.8)  # a quarter of the error at .2 of pixels


def test_frames_without_an_error_are_left_out_and_none_gives_none():
    half = Trial("lines", 0.1, 2, np.array([3.0, np.nan]), np.array([4.0, np.nan]))
    assert half.mean_se == 3
    assert half.mean_error == 4
    nothing = Trial("lines", 0.1, 2, np.full(2, np.nan), np.full(2, np.nan))
    assert np.isnan(lowest_rate([nothing], 1.0))


def test_a_difference_that_chance_does_not_explain_is_planned_with():
    """Reported 3, seen 9 in two frames twice: chi-square of 4 beyond its 99th percentile, 13.3."""
    wrong = Trial("lines", 0.01, 2, np.full(2, 3.0), np.full(2, 9.0))
    assert wrong.surprising
    assert wrong.expected == 9
    chance = Trial("lines", 0.01, 2, np.full(2, 3.0), np.full(2, 5.0))  # 11.1
    assert not chance.surprising
    assert chance.expected == 3


@pytest.fixture(scope="module")
def pilot():
    """A disc that grows, 5 sds above the rest: counting labels has the error of the draw alone."""
    rng = np.random.default_rng(5)
    away = np.hypot(*(i - c for i, c in zip(np.indices(SHAPE), (32, 35), strict=True)))
    discs = np.stack([np.less(away, r) for r in (14, 18)])
    movie = Movie((100 + 50 * discs + rng.normal(0, 10, discs.shape)).astype(np.float32))
    model = GMRM(2, share=("means", "sds"))
    plan = Plan(model, foreground=ForegroundRule("brightest"))
    return movie, plan, discs.mean(axis=(1, 2)), analyse(movie, plan).growth.area_px


def test_the_dose_of_a_count_is_the_one_of_survey_sampling(pilot):
    """se^2 = N^2 p (1 - p) (1 / n - 1 / N), of which the rate n / N follows."""
    movie, plan, share, all_pixels = pilot
    whole = SHAPE[0] * SHAPE[1]
    at = np.mean(share * (1 - share)) * whole
    rate = 0.1
    target = np.sqrt(at * (1 / rate - 1))
    dose = find_dose(movie, plan, "random", target, all_pixels)
    assert dose.rate == pytest.approx(rate, rel=0.1)
    checked = check_dose(movie, plan, dose, all_pixels, replicates=20)
    assert checked.check.mean_se == pytest.approx(target, rel=0.08)
    # the rms of 20 replicates of two frames is known to 11 %
    assert checked.check.mean_error == pytest.approx(target, rel=0.4)


def test_out_of_reach_there_is_no_rate_and_no_check(pilot):
    movie, plan, _, all_pixels = pilot
    dose = find_dose(movie, plan, "random", 5.0, all_pixels)
    assert np.isnan(dose.rate)
    assert dose.trials[-1].rate == MOST
    assert check_dose(movie, plan, dose, all_pixels).check is None


def test_a_target_that_every_rate_reaches_takes_the_fewest_pixels_possible(pilot):
    movie, plan, _, all_pixels = pilot
    dose = find_dose(movie, plan, "random", 1e6, all_pixels)
    assert dose.rate == pytest.approx(lowest_possible(movie))
    assert dose.trials[0].rate < CLOSE * dose.rate


def test_a_frame_of_few_pixels_cannot_be_sub_sampled():
    with pytest.raises(UsageError, match="a frame has 81 pixels, too few"):
        lowest_possible(Movie(np.zeros((1, 9, 9), np.float32)))
