"""Blocks of pixels: every number of pixels has one, found at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import BLOCK, Item, blocks_of, e_steps, padded
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend


def test_every_number_of_pixels_is_cut_into_equal_blocks(rng):
    squares = np.arange(16, 4201) ** 2
    cameras = [438 * 438, 523 * 523, 438 * 523, 727 * 1026, 3838 * 3710, 4096 * 4096]
    for n in np.concatenate(
        [squares, cameras, np.arange(1, 2000), rng.integers(1, 2**25, 100_000)]
    ):
        n_blocks, size = blocks_of(int(n))
        assert size % 64 == 0
        assert n <= n_blocks * size < n + 64 * n_blocks
        assert size <= 1.5 * BLOCK + 64  # what was chosen to stay in cache


@pytest.mark.parametrize("shape", [(438, 438), (523, 523), (727, 1026), (3838, 3710), (1, 50)])
def test_a_fit_of_any_frame_can_be_traced(shape):
    """Shapes alone: nothing is computed, so a camera's frame costs what a small one does."""
    n = shape[0] * shape[1]

    def traced(values):
        at = jnp.zeros(n, jnp.int32)
        pixels = Pixels(values, at, at, jnp.ones(n, values.dtype), jnp.full(2, float(n)), shape)
        return fit(GMRM(3, Trend("x + y")), pixels, quantum=1.0)

    out = jax.eval_shape(traced, jax.ShapeDtypeStruct((2, n), jnp.float32))
    assert out.params.means.shape == (2, 3)
    assert out.result.shape == (2,)


def test_padding_adds_pixels_without_weight(rng):
    """Log-likelihood and sums of an item of 438 x 523 pixels, in blocks and as one sum in NumPy."""
    n = 438 * 523
    values, design = rng.normal(size=(1, n)), rng.uniform(-1, 1, (1, 1, n))
    item = padded(Item(jnp.asarray(values), jnp.asarray(design), jnp.ones((1, n))))
    assert item.n_blocks == 28
    assert float(item.weight.sum()) == n
    one = jnp.ones((1, 2))
    params = Params(one / 2, jnp.asarray([[-1.0, 1.0]]), one, jnp.asarray([[0.3]]), one)
    log_likelihood, stats = e_steps(params, item)
    u = values[0] - 0.3 * design[0, 0] - np.array([[-1.0], [1.0]])
    density = 0.5 * np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(log_likelihood[0], np.log(density.sum(axis=0)).sum(), rtol=1e-12)
    resp = density / density.sum(axis=0)
    np.testing.assert_allclose(stats.s0[0], resp.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(stats.suf[0, :, 0], (resp * u) @ design[0, 0], rtol=1e-10)
