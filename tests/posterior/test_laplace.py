"""Laplace approximation: agreement with NUTS, and every noise model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.family import GAUSSIAN, PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Sampler, posterior


@pytest.mark.parametrize(
    ("family", "noise"),
    [(StudentT(), Noise()), (PoissonGaussian(), Noise()), (GAUSSIAN, Noise(saturation=130.0))],
    ids=["student-t", "poisson-gaussian", "censored"],
)
def test_other_families_and_censoring_recover_the_means(family, noise, planted, truth):
    pixels, _ = planted()
    if noise.saturation is not None:
        clipped = jnp.minimum(pixels.values, noise.saturation)
        pixels = Pixels(
            clipped, pixels.rows, pixels.cols, pixels.weight, pixels.n_domain, pixels.shape
        )
    sampler = Sampler(method="laplace", draws=250)
    model = GMRM(2, Trend("x"), family=family)
    result = posterior(jax.random.key(3), model, pixels, noise=noise, sampler=sampler)
    means = result["posterior"]["means"].values
    gap = np.abs(means.mean(axis=(0, 1))[0] - truth["means"])
    assert np.all(gap < 4 * means.std(axis=(0, 1))[0])
    if family.ties_sds:  # two classes of sds 8 and 10: the line goes through both
        slope = result["posterior"]["grey_per_quantum"].values
        true = (truth["sds"][1] ** 2 - truth["sds"][0] ** 2) / 60
        assert abs(slope.mean() - true) < 4 * slope.std()
