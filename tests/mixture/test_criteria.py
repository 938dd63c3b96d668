"""AIC, BIC and ICL against sums written out."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend


def random_pixels(rng, frames, n, dtype=np.float32):
    values = rng.choice([60.0, 100.0, 150.0], (frames, n)) + 9 * rng.standard_normal((frames, n))
    rows, cols = (rng.integers(0, 64, n) for _ in range(2))
    weight = np.ones(n, dtype)
    weight[-5:] = 0
    return Pixels(
        jnp.asarray(values.astype(dtype)),
        jnp.asarray(rows),
        jnp.asarray(cols),
        jnp.asarray(weight),
        jnp.full(frames, 4096.0),
        (64, 64),
    )


def some_params(frames):
    def rep(row):
        return jnp.broadcast_to(jnp.asarray(row, jnp.float32), (frames, len(row)))

    return Params(
        rep([0.3, 0.3, 0.4]), rep([60.0, 101.0, 149.0]), rep([9.0, 10.0, 8.0]), rep([1.5]),
        rep([1.0, 1.0, 1.0]),
    )  # fmt: skip


def test_log_likelihood_to_a_twentieth_of_a_nat_at_four_million_pixels(rng):
    """Float32 pixels and parameters, summed against math.fsum over float64 densities."""
    model, frames, n = GMRM(3, Trend("x")), 16, 250_005
    pixels, params = random_pixels(rng, frames, n), some_params(16)
    x = np.linspace(-1, 1, 64)[np.asarray(pixels.cols)]
    total = 0.0
    for t in range(frames):
        z = np.asarray(pixels.values[t], np.float64)
        weights, means, sds, trend, _ = (
            np.asarray(a[t], np.float64)
            for a in (params.weights, params.means, params.sds, params.trend, params.gain)
        )
        mixture = sum(
            p * stats.norm.pdf(z, m + trend[0] * x, s)
            for p, m, s in zip(weights / weights.sum(), means, sds, strict=True)
        )
        total += math.fsum(np.log(mixture)[:-5].tolist())
    got = criteria(model, params, pixels)
    assert got.n_pixels == 16 * 250_000
    assert abs(got.log_likelihood - total) < 1e-3  # 0.05 is asked; float64 does better


def test_criteria_follow_their_definitions(rng):
    model = GMRM(3, Trend("x"), ("means", "sds"))
    pixels, params = random_pixels(rng, 2, 500), some_params(2)
    got = criteria(model, params, pixels)
    resp = np.asarray(model.responsibilities(params, pixels), np.float64)
    log = np.log(np.where(resp > 0, resp, 1))
    entropy = -np.sum(resp * log * np.asarray(pixels.weight))
    assert got.n_parameters == 2 * (2 + 1) + 6
    assert got.n_pixels == 990
    assert got.aic == pytest.approx(-2 * got.log_likelihood + 2 * 12, abs=1e-9)
    assert got.bic == pytest.approx(-2 * got.log_likelihood + 12 * math.log(990), abs=1e-9)
    assert got.icl == pytest.approx(got.bic + 2 * entropy, abs=1e-2)  # float32 entropy


def test_replicates_are_refused(rng):
    pixels = random_pixels(rng, 2, 500)
    deep = Pixels(pixels.values[:, None], pixels.rows, pixels.cols, pixels.weight,
                  pixels.n_domain, pixels.shape)  # fmt: skip
    with pytest.raises(UsageError, match="replicate"):
        criteria(GMRM(3, Trend("x")), some_params(2), deep)
