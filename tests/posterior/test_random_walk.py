"""Random walks: density and whitening against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.posterior.random_walk import RandomWalk, unwhiten


def test_whitening_is_the_exact_square_root_of_prior_times_likelihood():
    rng = np.random.default_rng(5)
    n = 6
    centre, precision = rng.normal(size=(1, n)), rng.uniform(0, 4, (1, n))
    steps, loc, scale = jnp.asarray([0.4]), 0.5, 1.5
    approximation = (jnp.asarray(centre), jnp.asarray(precision))
    walk = RandomWalk(loc, scale, steps, n, approximation)
    difference = (np.eye(n) - np.eye(n, k=-1)) / 0.4
    difference[0, 0] = 1 / scale
    matrix = difference.T @ difference + np.diag(precision[0])
    right = precision[0] * centre[0]
    right[0] += loc / scale**2
    flat, log_volume = unwhiten(walk, jnp.zeros((1, n)))
    np.testing.assert_allclose(flat[0], np.linalg.solve(matrix, right), rtol=1e-10)
    root = jax.jacobian(lambda w: unwhiten(walk, w)[0][0])(jnp.zeros((1, n)))[:, 0]
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)
    assert float(log_volume) == pytest.approx(np.linalg.slogdet(np.asarray(root))[1], rel=1e-10)
    prior = difference.T @ difference
    value = rng.normal(size=(1, n))
    expected = stats.multivariate_normal(
        np.full(n, loc), np.linalg.inv(prior)
    ).logpdf(value[0])  # fmt: skip
    assert float(walk.log_prob(jnp.asarray(value))) == pytest.approx(expected, rel=1e-10)
