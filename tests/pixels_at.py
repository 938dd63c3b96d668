"""Pixels from arrays, for tests that choose the places themselves."""

import jax.numpy as jnp

from jaxmicro.data.sampling import Pixels


def pixels_at(like, rows, cols, weight, shape):
    """Pixels at these places, one for each entry of `like`: its grey values, if it holds floats."""
    like = jnp.asarray(like)
    floating = jnp.issubdtype(like.dtype, jnp.floating)
    values = like if floating else jnp.zeros(like.shape, jnp.float32)
    domain = jnp.full(like.shape[0], float(shape[0] * shape[1]), values.dtype)
    return Pixels(values, *(jnp.asarray(a) for a in (rows, cols, weight)), domain, shape)
