"""The Laplace approximation: independent draws from the normal distribution at the mode."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.posterior.coordinates import Coordinates, constrain
from jaxmicro.posterior.density import potential
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sampler import Draws, Progress, Sampler


def draw(
    key: Array,
    problem: Problem,
    coordinates: Coordinates,
    sampler: Sampler,
    progress: Progress | None = None,
) -> Draws:
    """Draws, with their log importance ratios as the statistic `log_ratio`."""
    shape = (sampler.chains, sampler.draws, coordinates.size(problem))
    z = jax.random.normal(key, shape, coordinates.mode.dtype)
    ratio = _log_ratio(problem, coordinates, z.reshape(-1, shape[-1]))
    stats = {"log_ratio": np.asarray(ratio).reshape(shape[:2])}
    return Draws(constrain(problem, coordinates, z), stats, True)


@eqx.filter_jit
def _log_ratio(
    problem: Problem, coordinates: Coordinates, z: Float[Array, "draws N"]
) -> Float[Array, " draws"]:
    """Log of posterior over standard normal density at z, up to a constant."""

    def one(a: Array) -> Array:
        return 0.5 * jnp.sum(a**2) - potential(problem, coordinates.sites(problem, a))

    return jax.lax.map(one, z)
