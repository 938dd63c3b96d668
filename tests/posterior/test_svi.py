"""Stochastic variational inference: agreement with NUTS, sub-samples, one compilation."""

import jax
import numpy as np
import pytest
from numpyro.infer import SVI

from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Sampler, posterior


@pytest.mark.slow
def test_frames_on_their_own_share_one_compiled_step(planted, monkeypatch):
    traces = []
    update = SVI.update

    def counted(self, *args, **options):
        traces.append(self)
        return update(self, *args, **options)

    monkeypatch.setattr(SVI, "update", counted)
    sampler = Sampler(method="svi", chains=1, draws=50, steps=20)
    posterior(jax.random.key(1), GMRM(2, Trend("x")), planted(3, n=192)[0], sampler=sampler)
    assert len(traces) == 1


@pytest.mark.parametrize("guide", ["diagonal", "lowrank"])
def test_a_sub_sample_of_the_pixels_finds_the_means(guide, planted, truth):
    sampler = Sampler(method="svi", chains=1, draws=200, steps=400, subsample=128, guide=guide)
    result = posterior(jax.random.key(1), GMRM(2, Trend("x")), planted()[0], sampler=sampler)
    means = result["posterior"]["means"].values[0, :, 0]
    # gradients of a quarter of the pixels leave noise of a few posterior sds (about .5 grey
    # levels), far below the class sds of 8 and 10
    np.testing.assert_allclose(means.mean(axis=0), truth["means"], atol=3)
