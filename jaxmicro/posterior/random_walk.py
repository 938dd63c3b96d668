"""Random walks over frames as a NumPyro distribution, and coordinates that whiten them.

The whitening uses prior and data, so that NUTS meets neither the funnel of the step sizes nor the
correlations between frames.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.infer.reparam import Reparam


class RandomWalk(dist.Distribution):
    """D independent Gaussian random walks over T frames: an event of shape (D, T).

    Args:
      loc, scale: mean and sd of the first frame, scalars or (D,).
      steps: sd of the frame-to-frame step of each walk (D,).
      n_frames: T.
      approximation: mean and precision, both (D, T), of a normal approximation of the likelihood
        in each walk and frame, or None; `Whitened` uses it, the distribution itself does not.
    """

    support = constraints.real_matrix
    reparametrized_params: tuple[str, ...] = ()

    def __init__(self, loc, scale, steps, n_frames: int, approximation=None):
        self.loc, self.scale, self.steps, self.approximation = loc, scale, steps, approximation
        super().__init__((), (steps.shape[0], n_frames), validate_args=False)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, (*sample_shape, *self.event_shape), self.steps.dtype)
        first = self.loc + self.scale * noise[..., 0]
        walk = self.steps[:, None] * noise[..., 1:]
        return jnp.cumsum(jnp.concatenate([first[..., None], walk], axis=-1), axis=-1)

    def log_prob(self, value):
        steps = jnp.diff(value, axis=-1)
        first = dist.Normal(self.loc, self.scale).log_prob(value[..., 0])
        return jnp.sum(first + jnp.sum(dist.Normal(0, self.steps[:, None]).log_prob(steps), -1), -1)


class Whitened(Reparam):
    """Samples a `RandomWalk` in coordinates close to independent standard normals.

    Given the step sizes, the product of the walk's prior and the approximated likelihood is a
    normal distribution with tridiagonal precision A = C C', C lower bidiagonal; the walk is its
    mean plus C'^-1 times the new coordinates. Those are close to independent standard normals
    whatever the step sizes, which removes both the funnel of the centred form and the
    correlations of the non-centred one. The sweeps are an information filter and its smoother
    (Rue and Held 2005, Gaussian Markov Random Fields).
    """

    def __call__(self, name, fn, obs):
        if not isinstance(fn, RandomWalk) or fn.approximation is None:
            return fn, obs
        # An improper flat prior on the coordinates: the factor adds the walk's density.
        flat = dist.ImproperUniform(constraints.real_matrix, (), fn.event_shape)
        white = numpyro.sample(f"{name}_white", flat)
        walk, log_volume = unwhiten(fn, white)
        numpyro.factor(f"{name}_density", fn.log_prob(walk) + log_volume)
        return None, walk


def unwhiten(fn: RandomWalk, white: Float[Array, "D T"]) -> tuple[Float[Array, "D T"], Array]:
    """The walk at coordinates `white`, and log |d walk / d white|."""
    centre, precision = fn.approximation
    step_precision = 1 / fn.steps**2
    dtype, shape = step_precision.dtype, step_precision.shape
    first = jnp.broadcast_to(1 / jnp.asarray(fn.scale, dtype) ** 2, shape)
    start = jnp.broadcast_to(jnp.asarray(fn.loc, dtype), shape)

    # known: precision of this frame's value given the prior and the frames up to it.
    def forward(carry, at):
        known, message = carry
        added, mean, last = at
        known = known + added
        message = message + added * mean
        diagonal = known + jnp.where(last, 0, step_precision)
        link = jnp.where(last, 0, step_precision / diagonal)
        return (known * link, message * link), (diagonal, message, link)

    n_frames = white.shape[1]
    last = jnp.arange(n_frames) == n_frames - 1
    begin = (first, first * start)
    _, (diagonal, message, link) = jax.lax.scan(forward, begin, (precision.T, centre.T, last))

    def backward(later, at):
        diagonal, message, link, w = at
        value = message / diagonal + link * later + w / jnp.sqrt(diagonal)
        return value, value

    _, walk = jax.lax.scan(
        backward, jnp.zeros_like(step_precision), (diagonal, message, link, white.T), reverse=True
    )
    return walk.T, -0.5 * jnp.sum(jnp.log(diagonal))
