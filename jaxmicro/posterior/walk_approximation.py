"""Normal approximation of each frame's likelihood in the random walks, near the fit.

Frames are independent given the shared parameters, so that one forward derivative along a walk,
taken in all frames at once, is one column of every frame's information matrix. The walks are
found by an iterated Kalman smoother: approximate, smooth, approximate again at the smoothed walks.
A class that is absent from a frame leaves no curvature at the fit, but does at the smoothed walks.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.posterior.density import frame_log_likelihood, log_weights_of, rounded
from jaxmicro.posterior.likelihood import Mixture
from jaxmicro.posterior.model import Problem, WalkApproximation
from jaxmicro.posterior.random_walk import RandomWalk, unwhiten

_SMOOTHINGS = 12
_LEAST_PRECISION = 1e-2

Shared = Float[Array, " S"]  # K class means, K log sds; the log strength of local proportions
Walks = Float[Array, "D T"]  # log odds or fields of K - 1 classes, then P trend coefficients
Change = Float[Array, "C D T"]  # derivative by S shared parameters, then by D walks


@eqx.filter_jit
def approximate_walks(
    problem: Problem, shared: Shared, walks: Walks
) -> tuple[WalkApproximation, Float[Array, " D"]]:
    """The approximation at `shared`, from a first guess of the walks; and sds of their steps."""
    n_walks, n_frames = walks.shape
    dtype = walks.dtype
    slope = jax.grad(_total, argnums=(1, 2))
    basis = jnp.eye(shared.shape[0] + n_walks, dtype=dtype)

    def derivatives(walks: Array) -> tuple[Array, Array]:
        """Gradient along the walks (D, T), and its derivatives (S + D, D, T)."""

        def column(along: Array) -> tuple[Array, Array]:
            d_shared = along[: shared.shape[0]]
            d_walks = jnp.broadcast_to(along[shared.shape[0] :, None], walks.shape)
            (_, here), (_, change) = jax.jvp(
                lambda s, w: slope(problem, s, w), (shared, walks), (d_shared, d_walks)
            )
            return here, change

        here, change = jax.vmap(column)(basis)
        return here[0], change

    loc, scale, usual = _walk_prior(problem, n_walks, dtype)

    def smooth(_, state):
        walks, steps, _ = state
        here, change = derivatives(walks)
        information = -jnp.diagonal(change[shared.shape[0] :]).T
        precision = jnp.maximum(information, _LEAST_PRECISION)
        centre = walks + jnp.clip(here / precision, -2, 2)
        walk = RandomWalk(loc, scale, steps, n_frames, (centre, precision))
        walks = unwhiten(walk, jnp.zeros_like(walks))[0]
        moved = jnp.sum(jnp.diff(walks) ** 2, axis=1) + 4 * usual**2
        return walks, jnp.sqrt(moved / (n_frames + 3)), (centre, precision, change)

    empty = jnp.zeros((shared.shape[0] + n_walks, n_walks, n_frames), dtype)
    start = (walks, usual, (walks, walks, empty))
    _, steps, (centre, precision, change) = jax.lax.fori_loop(0, _SMOOTHINGS, smooth, start)
    return WalkApproximation(centre, precision, _centre_slope(change), shared), steps


def _total(problem: Problem, shared: Shared, walks: Walks) -> Float[Array, ""]:
    """Log-likelihood of all frames, nats."""
    k, n_frames, dtype = problem.n_classes, walks.shape[1], walks.dtype
    means, sds = shared[:k], rounded(problem, jnp.exp(shared[k : 2 * k]))
    if k > 1:
        log_weights = log_weights_of(walks[: k - 1], problem.reference)
    else:
        log_weights = jnp.zeros((n_frames, 1), dtype)
    mixture = Mixture(
        log_weights,
        jnp.broadcast_to(means[None], (n_frames, k)),
        jnp.broadcast_to(sds[None], (n_frames, k)),
        walks[k - 1 :].T,
        jnp.asarray(problem.noise.dof(problem.priors.dof[0]), dtype),
        jnp.exp(shared[2 * k]) if problem.local else None,
    )
    return jnp.sum(frame_log_likelihood(problem, mixture))


def _walk_prior(
    problem: Problem, n_walks: int, dtype
) -> tuple[Float[Array, " D"], Float[Array, " D"], Float[Array, " D"]]:
    """Prior mean and sd of each walk in the first frame, and prior median sd of its steps."""
    prior = problem.priors
    odds = jnp.arange(n_walks) < problem.n_classes - 1
    first = prior.field if problem.local else prior.log_odds
    loc = jnp.where(odds, jnp.asarray(first[0], dtype), 0)
    scale = jnp.where(odds, first[1], prior.trend[0]).astype(dtype)
    usual = jnp.where(odds, prior.walk_weights[0], prior.walk_trend[0]).astype(dtype)
    return loc, scale, usual


def _centre_slope(change: Change) -> Float[Array, "D T S"]:
    """How the centre of each frame's approximation moves with the shared parameters."""
    n_walks = change.shape[1]
    n_shared = change.shape[0] - n_walks
    block = -jnp.transpose(change[n_shared:], (2, 0, 1))
    cross = jnp.transpose(change[:n_shared], (2, 1, 0))
    # A class that is almost absent from a frame is determined by neighbouring frames, which are
    # not in this matrix: a weak prior stands for them.
    own = jnp.eye(n_walks, dtype=bool)[None]
    block = jnp.where(own, jnp.maximum(block, _LEAST_PRECISION) + 1.0, block)
    return jnp.transpose(jnp.linalg.solve(block, cross), (1, 0, 2))
