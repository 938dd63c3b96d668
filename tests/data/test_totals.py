"""How much less a sampling pattern's mean varies than that of as many pixels at random."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import design_effect


def pixels_in(pattern: str) -> tuple[Pixels, np.ndarray]:
    """Every fourth pixel of a frame in the order of its columns, and labels: its left half."""
    at = np.arange(0, 1024, 4)
    rows, cols = jnp.asarray(at % 32)[None], jnp.asarray(at // 32)[None]
    ones = jnp.ones((1, at.size), jnp.float32)
    pixels = Pixels(ones, rows, cols, ones, jnp.full(1, 1024.0), (32, 32), pattern)
    return pixels, (np.asarray(cols) < 16).astype(float)


def test_blocks_that_follow_the_object_vary_less_than_random_pixels():
    pixels, labels = pixels_in("stratified")
    # two neighbouring blocks differ once in 255: half of that in place of p (1 - p) = 1 / 4
    effect = design_effect(labels, pixels)
    np.testing.assert_allclose(effect, (1 / 255 / 2) / (256 / 255 / 4), rtol=1e-6)
    assert design_effect(labels, dataclasses.replace(pixels, pattern="random")) == 1


def test_an_effect_that_is_not_known_is_1():
    pixels, labels = pixels_in("lines")
    one = dataclasses.replace(pixels, cols=jnp.arange(256)[None])  # a single long line
    assert design_effect(labels, one) == 1
    every = dataclasses.replace(pixels, n_domain=jnp.full(1, 256.0))
    assert design_effect(labels, every) == 1
