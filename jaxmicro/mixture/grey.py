"""The step between the grey levels of data: sds below that of rounding mean nothing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LOOKED_AT = 10_000  # values
MANY = 32  # levels: whole numbers with more of them are taken as steps of 1


def grey_step(values: np.ndarray) -> float:
    """The step between grey levels in use: 1 for 8-bit data, 0 for continuous data."""
    flat = values.ravel()
    some = flat[:: max(1, flat.size // LOOKED_AT)]
    levels = np.unique(some[np.isfinite(some)])
    if levels.size < 2 or levels.size > some.size // 4:
        return 0.0
    if np.all(levels == np.round(levels)) and levels.size > MANY:
        return 1.0
    return float((levels[-1] - levels[0]) / (levels.size - 1))


def traced_grey_step(values: Float[Array, "*batch n"]) -> Float[Array, ""]:
    """The same inside jax.jit or jax.vmap, where the number of levels is not known yet."""
    flat = jnp.ravel(values)
    some = flat[:: max(1, flat.size // LOOKED_AT)]
    finite = jnp.isfinite(some)
    levels = jnp.sort(jnp.where(finite, some, jnp.inf))
    is_new = jnp.isfinite(levels[1:]) & (levels[1:] > levels[:-1])
    n_levels = jnp.sum(is_new) + jnp.isfinite(levels[0])
    span = jnp.max(jnp.where(finite, some, -jnp.inf)) - levels[0]
    step = span / jnp.maximum(n_levels - 1, 1).astype(flat.dtype)
    whole = jnp.all(jnp.where(finite, some == jnp.round(some), True)) & (n_levels > MANY)
    continuous = (n_levels < 2) | (n_levels > some.size // 4)
    return jnp.where(continuous, 0, jnp.where(whole, 1, step)).astype(flat.dtype)
