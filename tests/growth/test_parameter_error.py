"""What an area owes to the fitted parameters: the information on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.growth.parameter_error import _slopes, information_of
from jaxmicro.mixture.family import Gaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM, Params


@pytest.mark.parametrize("family", [Gaussian(), StudentT(5.0)], ids=["normal", "student-t"])
def test_scores_written_out_are_the_derivatives(rng, family):
    frames, k = 2, 3
    movie = Movie(rng.normal(100, 15, (frames, 12, 14)).astype(np.float32))
    pixels = sample(4, movie, 0.5)
    model = GMRM(k, "x + y", family=family)
    law = jnp.full((frames, 1), 5.0) if isinstance(family, StudentT) else None
    params = Params(
        jnp.full((frames, k), 1 / k),
        jnp.tile(jnp.array([85.0, 100.0, 118.0]), (frames, 1)),
        jnp.tile(jnp.array([6.0, 8.0, 7.0]), (frames, 1)),
        jnp.asarray(rng.normal(0, 3, (frames, 2)), jnp.float32),
        jnp.tile(jnp.array([0.8, 1.0, 1.2]), (frames, 1)),
        law,
    )
    n = pixels.values.shape[-1]
    prior = jax.nn.softmax(jnp.asarray(rng.normal(0, 1, (frames, k, n)), jnp.float32), axis=1)
    ones = jnp.ones_like(pixels.values)
    by_machine = _slopes(model, params, pixels, prior, ones, jnp.ones(k, bool))[0]
    written = information_of(model, params, pixels, prior)
    # sums of 84 float32 products: rounding is 1e-7 times a few of the diagonal's entries
    scale = np.sqrt(np.einsum("tqq->tq", by_machine))
    relative = (written - by_machine) / scale[:, :, None] / scale[:, None, :]
    assert np.abs(relative).max() < 2e-5
