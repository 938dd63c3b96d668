"""Functions of the degrees of freedom of Student-t classes that keep their digits in float32.

An estimate of the degrees of freedom is a coordinate of the Newton steps like any other parameter,
so that the certificate of a fit holds for it too.

Source: Liu and Rubin (1995), Stat. Sinica 5:19.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LEAST_DOF, MOST_DOF = 1.0, 1000.0  # estimates stay between: Cauchy, and next to normal
HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
_SHIFT = 6  # the series below hold 7 digits from here on


def log_constant(dof: Any, xp: ModuleType) -> Any:
    """log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(pi nu) / 2.

    The difference of two log-gammas of large arguments would keep no digits in float32: it is
    carried by recurrence to where its asymptotic series holds.
    """
    a = 0.5 * dof
    y = a + _SHIFT
    out = 0.5 * xp.log1p(_SHIFT / a) - HALF_LOG_2PI
    for j in range(_SHIFT):
        out = out - xp.log1p(0.5 / (a + j))
    return out - 1 / (8 * y) + 1 / (192 * y**3) - 1 / (640 * y**5)


def log_less_digamma(x: Array) -> Array:
    """log x - digamma(x), with the same care; it falls from infinity to 0."""
    y = x + _SHIFT
    out = 1 / (2 * y) + 1 / (12 * y**2) - 1 / (120 * y**4) - jnp.log1p(_SHIFT / x)
    for j in range(_SHIFT):
        out = out + 1 / (x + j)
    return out


def dof_score(dof: Array, log_less: Array) -> Array:
    """d g / d log nu at a pixel, from log w - w + 1 of its weight w."""
    slope = jax.grad(lambda a: jnp.sum(log_constant(a, jnp)))(dof)
    return dof * (slope - 0.5 * jnp.log1p(1 / dof) + 0.5 / dof + 0.5 * log_less)


def next_dof(dof: Float[Array, "*b"], mean_log_less: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The M-step of the degrees of freedom, from the mean of log w - w + 1 over the pixels.

    Solves log x - digamma(x) = target for x = nu / 2 by Newton's steps in log x, from an
    approximate inverse that is good to a few per cent.
    """
    target = log_less_digamma(0.5 * (dof + 1)) - mean_log_less
    x = 1 / (jnp.sqrt(9 + 12 * target) - 3)
    for _ in range(4):
        value, slope = jax.jvp(log_less_digamma, (x,), (x,))
        x = x * jnp.exp(jnp.clip((target - value) / slope, -1, 1))
    return jnp.clip(2 * x, LEAST_DOF, MOST_DOF)
