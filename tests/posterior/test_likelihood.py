"""Likelihoods with classes summed out, against SciPy; noise models that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.errors import UsageError
from jaxmicro.mixture.family import GAUSSIAN, PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.posterior import Mixture, Noise
from jaxmicro.posterior.inference import check_censoring
from jaxmicro.posterior.likelihood import gaussian_log_likelihood, pixel_log_likelihood


def test_e_step_gives_value_gradient_and_hessian_of_the_marginal_likelihood(item, mixture):
    noise = Noise().standardised(GAUSSIAN, 0.0, 1.0, jnp.float64)

    def plain(m):
        return jnp.sum(pixel_log_likelihood(noise, m, item.values, item.design))

    def fast(m):
        return jnp.sum(gaussian_log_likelihood(m, item))

    assert float(fast(mixture)) == pytest.approx(float(plain(mixture)), rel=1e-12)
    ours, theirs = jax.grad(fast)(mixture), jax.grad(plain)(mixture)
    for name in ("log_weights", "means", "sds", "trend"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)

    def mean_only(f, means):
        return f(Mixture(mixture.log_weights, means, mixture.sds, mixture.trend, mixture.dof))

    second = [jax.hessian(functools.partial(mean_only, f))(mixture.means) for f in (fast, plain)]
    np.testing.assert_allclose(*second, rtol=1e-8, atol=1e-8)


def _by_hand(item, mixture, density):
    """log sum_k p_k f(z) with SciPy; `density(z, mean, sd)` is a log density."""
    out = np.zeros(item.values.shape)
    for t in range(out.shape[0]):
        slope = np.asarray(mixture.trend[t]) @ np.asarray(item.design[:, t])
        total = 0
        for k in range(mixture.means.shape[1]):
            mean = float(mixture.means[t, k]) + slope
            one = density(np.asarray(item.values[t]), mean, float(mixture.sds[t, k]))
            total = total + np.exp(float(mixture.log_weights[t, k]) + one)
        out[t] = np.log(total)
    return out


@pytest.mark.parametrize("kind", ["gaussian", "student-t", "censored"])
def test_densities_agree_with_scipy(item, mixture, kind):
    noise, family, density = {
        "gaussian": (Noise(), GAUSSIAN, stats.norm.logpdf),
        "student-t": (Noise(), StudentT(), lambda z, m, s: stats.t.logpdf(z, 5.0, m, s)),
        "censored": (
            Noise(saturation=0.5),
            PoissonGaussian(),
            lambda z, m, s: np.where(
                z >= 0.5, stats.norm.logsf(0.5, m, s), stats.norm.logpdf(z, m, s)
            ),
        ),
    }[kind]
    ours = pixel_log_likelihood(
        noise.standardised(family, 0.0, 1.0, jnp.float64), mixture, item.values, item.design
    )
    np.testing.assert_allclose(ours, _by_hand(item, mixture, density), rtol=1e-9)


@pytest.mark.parametrize(
    "family",
    [
        PoissonGaussian(),
        PoissonGaussian(grey_per_quantum=0.4, offset=-30.0),
        PoissonGaussian(read_noise=2.0, offset=-30.0),
        PoissonGaussian(2.0, 0.4, -30.0),
    ],
    ids=repr,
)
def test_a_detectors_line_is_the_one_through_its_ends(family):
    noise = Noise().standardised(family, 100.0, 25.0, jnp.float64)
    law = family.scaled(jnp.array([4.0, 0.4, -30.0]), 100.0, 25.0)
    line = noise.line(jnp.asarray(noise.end_sds(np.asarray(law))))
    means = jnp.array([-2.0, 0.0, 1.5])
    # the same line about whatever grey level: read noise 2, 0.4 grey levels per quantum
    np.testing.assert_allclose(
        25 * noise.line_sds(line, means), np.sqrt(4 + 0.4 * (100 + 25 * means + 30)), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Noise(grey_step=-1.0), "grey_step = -1.0 is not allowed"),
        (
            lambda: check_censoring(GMRM(2, family=StudentT()), Noise(saturation=255.0)),
            "not supported by the posterior with family 'student-t'",
        ),
    ],
)
def test_noise_that_makes_no_sense(make, words):
    with pytest.raises(UsageError, match=words):
        make()
