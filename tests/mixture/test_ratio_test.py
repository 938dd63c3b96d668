"""The chi-square test, and criteria beside those of scikit-learn."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import fit, fit_part
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.ratio_test import ratio_test


def test_ratio_test_by_its_definition():
    statistic, p = ratio_test(-1003.0, -1000.0, 2)
    assert statistic == 6.0
    assert p == pytest.approx(math.exp(-3.0))  # a chi-square of 2 degrees of freedom
    assert ratio_test(-10.0, -10.5, 1) == (-1.0, 1.0)
    assert np.isnan(ratio_test(math.nan, -1.0, 1)).all()
    assert ratio_test(0.0, 3.0, 1)[1] == pytest.approx(2 * stats.norm.sf(6**0.5))
    with pytest.raises(UsageError, match="give the smaller model first"):
        ratio_test(-10.0, -9.0, 0)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(5)
    values = rng.choice([60.0, 100.0, 150.0], 3000) + 9 * rng.standard_normal(3000)
    rows, cols = rng.integers(0, 64, (2, 3000))
    ones = np.ones(3000)
    return Pixels(
        jnp.asarray(values[None]), *(jnp.asarray(a) for a in (rows, cols, ones)),
        jnp.full(1, 4096.0), (64, 64),
    )  # fmt: skip


def test_aic_and_bic_are_those_of_scikit_learn(pixels):
    mixture = pytest.importorskip("sklearn.mixture")
    model = GMRM(3)
    found = criteria(model, fit(model, pixels, tolerance=1e-9, quantum=0.0).params, pixels)
    z = np.asarray(pixels.values[0])[:, None]
    theirs = mixture.GaussianMixture(
        3, tol=1e-10, reg_covar=0, max_iter=5000, means_init=[[60], [100], [150]]
    ).fit(z)
    # both are at the optimum: their likelihoods differ by 3000 x 1e-9 nats
    assert found.aic == pytest.approx(theirs.aic(z), abs=1e-3)
    assert found.bic == pytest.approx(theirs.bic(z), abs=1e-3)


def test_criteria_are_those_of_flexmix(pixels):
    """R package flexmix 2.3-18: FLXMRglmfix(fixed = ~x, varFix = FALSE), and FLXMRglm, k = 3, on
    these pixels with 5 x added. Its ICL counts sure labels, ours the entropy."""
    x = np.linspace(-1, 1, 64)[np.asarray(pixels.cols)]
    sloped = Pixels(
        jnp.asarray(np.asarray(pixels.values, float) + 5 * x), pixels.rows, pixels.cols,
        pixels.weight, pixels.n_domain, pixels.shape,
    )  # fmt: skip
    theirs = {"x": (28177.9483, 28232.0056, 9), "": (28416.7405, 28464.7914, 8)}
    for trend, (aic, bic, free) in theirs.items():
        model = GMRM(3, trend)
        found = criteria(model, fit(model, sloped, tolerance=1e-9, quantum=0.0).params, sloped)
        assert found.n_parameters == free
        # flexmix divides variances by n - 1, not n: .002 nats
        assert found.aic == pytest.approx(aic, abs=0.01)
        assert found.bic == pytest.approx(bic, abs=0.01)


def test_a_part_of_a_model_is_fitted_as_the_model_itself(pixels):
    whole = GMRM(4, "x + y + x:y")
    part = fit_part(whole, pixels, 3, (True, False, False), quantum=0.0, tolerance=1e-9)
    own = fit(GMRM(3, "x"), pixels, quantum=0.0, tolerance=1e-9)
    np.testing.assert_allclose(part.log_likelihood, own.log_likelihood, atol=1e-4)
    np.testing.assert_allclose(part.params.means[:, :3], own.params.means, rtol=1e-4)
    np.testing.assert_allclose(part.params.trend[:, 0], own.params.trend[:, 0], atol=1e-3)
    np.testing.assert_array_equal(part.params.trend[:, 1:], 0)
    assert np.all(np.asarray(part.params.weights[:, 3]) == 0)
