"""Likelihoods with classes summed out, against SciPy; noise models that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.errors import UsageError
from jaxmicro.posterior import Mixture, Noise
from jaxmicro.posterior.likelihood import gaussian_log_likelihood, pixel_log_likelihood


def test_e_step_gives_value_gradient_and_hessian_of_the_marginal_likelihood(lane, mixture):
    noise = Noise().standardised(0.0, 1.0, jnp.float64)

    def plain(m):
        return jnp.sum(pixel_log_likelihood(noise, m, lane.values, lane.design))

    def fast(m):
        return jnp.sum(gaussian_log_likelihood(m, lane))

    assert float(fast(mixture)) == pytest.approx(float(plain(mixture)), rel=1e-12)
    ours, theirs = jax.grad(fast)(mixture), jax.grad(plain)(mixture)
    for name in ("log_weights", "means", "sds", "trend"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)

    def mean_only(f, means):
        return f(Mixture(mixture.log_weights, means, mixture.sds, mixture.trend, mixture.dof))

    second = [jax.hessian(functools.partial(mean_only, f))(mixture.means) for f in (fast, plain)]
    np.testing.assert_allclose(*second, rtol=1e-8, atol=1e-8)


def _by_hand(lane, mixture, density):
    """log sum_k p_k f(z) with SciPy; `density(z, mean, sd)` is a log density."""
    out = np.zeros(lane.values.shape)
    for t in range(out.shape[0]):
        slope = np.asarray(mixture.trend[t]) @ np.asarray(lane.design[:, t])
        total = 0
        for k in range(mixture.means.shape[1]):
            mean = float(mixture.means[t, k]) + slope
            one = density(np.asarray(lane.values[t]), mean, float(mixture.sds[t, k]))
            total = total + np.exp(float(mixture.log_weights[t, k]) + one)
        out[t] = np.log(total)
    return out


@pytest.mark.parametrize("kind", ["gaussian", "student-t", "poisson-gaussian", "censored"])
def test_densities_agree_with_scipy(lane, mixture, kind):
    def variance(mean, sd):
        return sd**2 + 0.3 * np.maximum(mean + 1, 0)

    noise, density = {
        "gaussian": (Noise(), stats.norm.logpdf),
        "student-t": (
            Noise("student-t"),
            lambda z, m, s: stats.t.logpdf(z, 5.0, m, s),
        ),
        "poisson-gaussian": (
            Noise("poisson-gaussian", grey_per_quantum=0.3, offset=-1.0),
            lambda z, m, s: stats.norm.logpdf(z, m, np.sqrt(variance(m, s))),
        ),
        "censored": (
            Noise(saturation=0.5),
            lambda z, m, s: np.where(
                z >= 0.5, stats.norm.logsf(0.5, m, s), stats.norm.logpdf(z, m, s)
            ),
        ),
    }[kind]
    ours = pixel_log_likelihood(
        noise.standardised(0.0, 1.0, jnp.float64), mixture, lane.values, lane.design
    )
    np.testing.assert_allclose(ours, _by_hand(lane, mixture, density), rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Noise("cauchy"), "likelihood 'cauchy' is not known"),
        (lambda: Noise("poisson-gaussian"), "grey_per_quantum = None is not allowed"),
        (lambda: Noise(grey_per_quantum=1.0), "grey_per_quantum = 1.0 has no effect"),
        (lambda: Noise(grey_step=-1.0), "grey_step = -1.0 is not allowed"),
        (lambda: Noise("student-t", saturation=255.0), "not supported by the posterior"),
    ],
)
def test_noise_that_makes_no_sense(make, words):
    with pytest.raises(UsageError, match=words):
        make()
