"""Density of the grey values with proportions that follow neighbours and position, and its scores.

What `jaxmicro.spacetime.trend_score` differentiates: a frame's pixels in blocks, and sums over
tiles.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmicro.mixture.family import Family
from jaxmicro.spacetime.tiling import N_TILES

ABSENT = -1e4  # log proportion of a class that is not in use


class Frame(eqx.Module):
    """Pixels of one frame in blocks (B, n): standardised greys, design, proportions, tiles."""

    values: Float[Array, "B n"]
    design: Float[Array, "B P n"]
    log_m: Float[Array, "B K n"]
    known: Float[Array, "B n"]
    weight: Float[Array, "B n"]
    tile: Int[Array, "B n"]


class Fixed(eqx.Module):
    """What no step moves: classes in use, their gains, and the law of the family."""

    present: Float[Array, " K"]
    gain: Float[Array, " K"]
    law: Float[Array, " L"] | None


Theta = dict[str, Array]


def log_density(family: Family, theta: Theta, fixed: Fixed, block: Frame) -> Float[Array, " n"]:
    """log sum_k pi_k N_k(z) at each pixel of a block, without its block axis."""
    power = 1 + (theta["strength"] - 1) * block.known
    logit = power[None] * block.log_m + theta["field"][:, None] + theta["lean"] @ block.design
    logit = jnp.where(fixed.present[:, None] > 0, logit, ABSENT)
    slope = theta["trend"] @ block.design
    inverse = jnp.exp(-theta["log_sds"])
    off = block.values[None] - theta["means"][:, None] - fixed.gain[:, None] * slope[None]
    law = None if fixed.law is None else fixed.law[:, None, None]
    kernel = family.constant(law) + family.kernel(off * inverse[:, None], law)
    joint = jax.nn.log_softmax(logit, axis=0) - theta["log_sds"][:, None] + kernel
    return jax.nn.logsumexp(joint, axis=0)


@eqx.filter_jit
def sums_of(
    family: Family, theta: Theta, fixed: Fixed, frame: Frame
) -> tuple[Float[Array, ""], Float[Array, "G q"], Float[Array, "q q"]]:
    """Log-likelihood, scores of each tile, and the information."""
    flat, unflatten = jax.flatten_util.ravel_pytree(theta)

    def one(block: Frame) -> tuple[Array, Array, Array]:
        def density(at: Array) -> Array:
            return block.weight * log_density(family, unflatten(at), fixed, block)

        value = density(flat)
        each = jax.jacfwd(density)(flat)
        scores = jax.ops.segment_sum(each, block.tile, N_TILES)
        return jnp.sum(value), scores, -jax.hessian(lambda at: jnp.sum(density(at)))(flat)

    every = jax.lax.map(one, frame)
    return jax.tree.map(lambda a: jnp.sum(a, axis=0), every)


@eqx.filter_jit
def each_score(family: Family, theta: Theta, fixed: Fixed, frame: Frame) -> Float[Array, "B n q"]:
    """Scores of each pixel."""
    flat, unflatten = jax.flatten_util.ravel_pytree(theta)

    def one(block: Frame) -> Array:
        def density(at: Array) -> Array:
            return block.weight * log_density(family, unflatten(at), fixed, block)

        return jax.jacfwd(density)(flat)

    return jax.lax.map(one, frame)
