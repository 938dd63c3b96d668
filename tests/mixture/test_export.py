"""The fit lowers for hardware that is not here."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture import ecm
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend

PLATFORMS = ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("share", [(), ("means", "sds")])
@pytest.mark.parametrize("dtype", [jnp.float32])
def test_fit_lowers_for_every_platform(share, dtype):
    model = GMRM(3, Trend("x + y"), share)
    n = 400
    pixels = Pixels(
        jnp.zeros((2, n), dtype), jnp.zeros((2, n), jnp.int32), jnp.zeros((2, n), jnp.int32),
        jnp.ones((2, n), dtype), jnp.ones(2, dtype), (20, 20),
    )  # fmt: skip
    arrays, rest = eqx.partition(pixels, eqx.is_array)

    def run(arrays):
        pixels = eqx.combine(arrays, rest)
        out = ecm.fit(model, pixels, quantum=1.0, max_steps=100)
        return jax.tree.leaves(out)

    exported = jax.export.export(jax.jit(run), platforms=PLATFORMS)(arrays)
    assert exported.platforms == PLATFORMS


def test_the_derivatives_of_a_fit_lower_for_every_platform():
    model = GMRM(2, "x", share=("means", "sds"))
    places = jnp.zeros((2, 100), jnp.int32)

    def run(values, weight):
        pixels = Pixels(values, places, places, weight, jnp.ones(2), (20, 20))
        return jnp.sum(ecm.fit(model, pixels, max_steps=50).params.means)

    z = jnp.zeros((2, 100))
    exported = jax.export.export(jax.jit(jax.grad(run, (0, 1))), platforms=PLATFORMS)(z, z)
    assert exported.platforms == PLATFORMS


def test_classification_lowers_for_every_platform():
    model = GMRM(3, Trend("x + y"))

    def run(values, rows, cols, weights, means, sds, trend):
        params = ecm.Params(weights, means, sds, trend, jnp.ones_like(means))
        pixels = Pixels(values, rows, cols, jnp.ones_like(values), jnp.ones(2), (20, 20))
        return model.classify(params, pixels), model.responsibilities(params, pixels)

    z, place, k = jnp.zeros((2, 50)), jnp.zeros((2, 50), jnp.int32), jnp.ones((2, 3))
    exported = jax.export.export(jax.jit(run), platforms=PLATFORMS)(
        z, place, place, k, k, k, jnp.ones((2, 2))
    )
    assert exported.platforms == PLATFORMS
