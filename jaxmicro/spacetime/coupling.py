"""Fitting how proportions follow the neighbours: the strength, and a field of each frame."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.m_step import solve_spd
from jaxmicro.spacetime.local_em import FEW, Coupling, Sums

# Fitted strengths stay inside. At 0 the neighbours say nothing, as where labels are scattered: a
# floor of .3 cost .04 nats a pixel of prediction there, more than a class is worth.
INTERACTION_RANGE = (0.0, 6.0)
FIELD_RANGE = (-5.0, 5.0)  # and fields: at 5 a class is 150 times as likely as its neighbours say
RIDGE = 1e-4  # a pixel, on the curvature in the strength
TOGETHER = 2.0  # pixels' worth by which the fields of the frames are held together


def _every(item: Item) -> int:
    """One pixel in this many decides the coupling."""
    return max(1, item.values.shape[1] // FEW)


def newton_step(old: Coupling, sums: Sums, item: Item) -> Coupling:
    """A damped Newton step of the pseudo-likelihood in the strength and the frames' fields."""
    dtype = sums.slope.dtype
    ridge = RIDGE * jnp.sum(jnp.broadcast_to(item.weight, item.values.shape)) / _every(item)
    # A frame's field is held to the mean of all by as much as a few of its pixels would say.
    off = old.field - jnp.mean(old.field, axis=0)[None]
    slope = sums.slope[:, 1:] - TOGETHER * off
    curvature = sums.curvature[:, 1:, 1:] + TOGETHER * jnp.eye(off.shape[1], dtype=dtype)[None]
    cross = sums.curvature[:, 0, 1:]
    both = solve_spd(curvature, jnp.stack([slope, cross], axis=-1))
    rest = jnp.sum(sums.curvature[:, 0, 0]) - jnp.sum(cross * both[..., 1]) + ridge
    step = (jnp.sum(sums.slope[:, 0]) - jnp.sum(cross * both[..., 0])) / rest
    step = jnp.clip(step, -0.5, 0.5)
    strength = jnp.clip(old.strength + step, *INTERACTION_RANGE)
    move = jnp.clip(both[..., 0] - both[..., 1] * step, -0.5, 0.5)
    return Coupling(strength, jnp.clip(old.field + move, *FIELD_RANGE))


def squared_length(old: Coupling, new: Coupling, sums: Sums, item: Item) -> Float[Array, ""]:
    """Squared length of a coupling step in the curvature of the pseudo-likelihood, nats."""
    field = new.field - old.field
    strength = jnp.broadcast_to(new.strength - old.strength, field.shape[:1])
    step = jnp.concatenate([strength[:, None], field], axis=1)
    return _every(item) * jnp.einsum("tc,tcd,td->", step, sums.curvature, step)
