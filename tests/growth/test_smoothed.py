"""Smoothing: the answer of Gauss's normal equations, honest bands, and what cannot be smoothed."""

import numpy as np
import pytest

from jaxmicro.errors import UsageError
from jaxmicro.growth.smoothed import _filter, _smoother, smooth

TIMES = np.array([0.0, 1.0, 2.5, 3.0, 4.0, 7.0])
Y = np.array([3.0, 5.0, 4.0, 8.0, 9.0, 12.0])
SE = np.array([1.0, 0.5, 2.0, 1.0, 0.7, 1.0])


def _direct(y, se, times, q):
    """The same by one linear system: precision of the walk and of the areas."""
    seen = np.isfinite(se)
    difference = np.diff(np.eye(len(y)), axis=0)
    precision = difference.T @ np.diag(1 / (q * np.diff(times))) @ difference
    weight = np.where(seen, 1 / np.where(seen, se, 1.0) ** 2, 0.0)
    covariance = np.linalg.inv(precision + np.diag(weight))
    return covariance @ (weight * y), np.diag(covariance)


@pytest.mark.parametrize("gaps", [(), (2,), (0, 1), (4, 5)])
def test_it_is_the_solution_of_the_normal_equations(gaps):
    se = SE.copy()
    se[list(gaps)] = np.inf
    level, variance = _smoother(Y, se, TIMES, 1.7)
    expected = _direct(Y, se, TIMES, 1.7)
    np.testing.assert_allclose(level, expected[0], rtol=1e-9)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-9)


def test_the_likelihood_is_that_of_the_differences():
    """Given the first area, the others are jointly normal about it."""
    from scipy import stats

    q = 0.8
    walk = q * np.minimum(TIMES[1:, None], TIMES[None, 1:])
    covariance = walk + np.diag(SE[1:] ** 2) + SE[0] ** 2
    expected = stats.multivariate_normal(np.full(5, Y[0]), covariance).logpdf(Y[1:])
    assert _filter(Y, SE, TIMES, q)[-1] == pytest.approx(expected, rel=1e-10)


def test_bands_hold_the_walk_and_are_narrower_than_the_errors():
    rng = np.random.default_rng(4)
    held, ratio = [], []
    times, se = np.arange(40.0), np.full(40, 30.0)
    for _ in range(200):
        truth = 1000 + np.cumsum(rng.normal(0, 10.0, 40))
        found = smooth(truth + rng.normal(0, 30.0, 40), se, times)
        held.append(np.abs(found.area_px - truth) < 1.2816 * found.area_px_se)
        ratio.append(found.area_px_se.mean() / 30)
    # 200 curves, whose frames are alike: known to 2 %
    assert np.mean(held) == pytest.approx(0.8, abs=0.04)
    assert np.mean(ratio) < 0.6


def test_a_constant_curve_is_averaged():
    """Errors of 6 explain all steps of 1 and 2: next to that of a mean of nine, which is 2."""
    y = 100 + np.tile([1.0, -1.0, 0.0], 3)
    found = smooth(y, np.full(9, 6.0), np.arange(9.0))
    assert found.step_variance < 2**2
    np.testing.assert_allclose(found.area_px, y.mean(), atol=0.5)
    assert np.all((found.area_px_se > 2.0) & (found.area_px_se < 3.0))


def test_logarithms_follow_shares():
    """Ten times the areas and their errors: the same curve ten times as large."""
    one = smooth(Y, SE, TIMES, "log")
    ten = smooth(10 * Y, 10 * SE, TIMES, "log")
    np.testing.assert_allclose(ten.area_px, 10 * one.area_px, rtol=1e-5)
    np.testing.assert_allclose(ten.area_px_se, 10 * one.area_px_se, rtol=1e-4)
    assert (one.area_px > 0).all()


def test_what_cannot_be_smoothed():
    with pytest.raises(UsageError, match="'cubic' is not known"):
        smooth(Y, SE, TIMES, "cubic")
    few = np.where(np.arange(6) < 3, Y, np.nan)
    with pytest.raises(UsageError, match=r"3 frames have an area .* needs 4"):
        smooth(few, SE, TIMES)
    with pytest.raises(UsageError, match="frame 1 is -2 pixels and has no logarithm"):
        smooth(np.array([3.0, -2, 4, 8, 9, 12]), SE, TIMES, "log")
