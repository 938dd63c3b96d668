"""Coordinates in which the posterior is close to an independent standard normal distribution.

The observed information at the mode standardises the shared parameters, and the random walks are
whitened given those (see `random_walk`), so that a sampler needs neither a long warm-up nor long
trajectories.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmicro.posterior.density import (
    constrained,
    frame_log_likelihood,
    mixture_at,
    potential,
    unconstrained,
)
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sites import BY_NAME, coordinate_shapes, walk_coordinates

_NEWTON_STEPS = 12
_LEAST_CURVATURE = 1e-2  # of the potential along an eigenvector of its Hessian
_LARGEST_STEP = 1.5  # of a Newton step in any unconstrained parameter

Derivatives = tuple[Float[Array, ""], Float[Array, " L"], Float[Array, "L L"]]


class Coordinates(eqx.Module):
    """Affine map from isotropic coordinates z (N,) to unconstrained parameters.

    The first L coordinates give the shared parameters, mode + root z; the others are the whitened
    walks. `widths` is by what draws are multiplied in the end; see `sandwich`.
    """

    mode: Float[Array, " L"]
    root: Float[Array, "L L"]
    widths: Float[Array, "N N"] | None = None

    def size(self, problem: Problem) -> int:
        """Number N of coordinates."""
        walks = problem.n_terms + problem.n_classes - 1 if problem.movie else 0
        return self.mode.shape[0] + walks * problem.n_frames

    def sites(self, problem: Problem, z: Float[Array, " N"]) -> dict[str, Array]:
        """Unconstrained parameters, in their shapes."""
        n_shared = self.mode.shape[0]
        z = z.astype(self.mode.dtype)
        flat = jnp.concatenate([self.mode + self.root @ z[:n_shared], z[n_shared:]])
        out, at = {}, 0
        for name, shape in coordinate_shapes(problem).items():
            length = int(np.prod(shape))
            out[name] = flat[at : at + length].reshape(shape)
            at += length
        return out


@eqx.filter_jit
def find_mode(problem: Problem, values: dict[str, Array]) -> tuple[Problem, Coordinates]:
    """The mode of the shared parameters by damped Newton steps from `values` (constrained).

    Returns the problem with the log-likelihood at the mode as its baseline, and the coordinates
    about the mode; they are not finite where no mode was found.
    """
    sites = unconstrained(problem, values)
    shapes = coordinate_shapes(problem)
    walks = {n: sites[n] for n in walk_coordinates(problem)}
    shared = {n: sites[n].reshape(s) for n, s in shapes.items() if n not in walks}
    flat, unravel = ravel_pytree(shared)  # dictionaries are laid out in sorted order

    def height(u: Array) -> Array:
        return potential(problem, {**unravel(u), **walks})

    mode, hessian = _damped_newton(height, flat)
    scale, vectors = jnp.linalg.eigh(hessian)
    sds = jnp.sqrt(jnp.maximum(jnp.abs(scale), _LEAST_CURVATURE))
    root = (vectors / sds[None, :]) @ vectors.T
    at_mode = constrained(problem, {**unravel(mode), **walks})
    baseline = frame_log_likelihood(problem, mixture_at(problem, at_mode))
    return eqx.tree_at(lambda p: p.baseline, problem, baseline), Coordinates(mode, root)


def _damped_newton(
    height: Callable[[Array], Array], start: Float[Array, " L"]
) -> tuple[Float[Array, " L"], Float[Array, "L L"]]:
    """Minimum of `height`, and its Hessian there: Levenberg's damping, steps of bounded size."""
    dtype = start.dtype
    along = jnp.eye(start.shape[0], dtype=dtype)

    def derivatives(u: Array) -> Derivatives:
        """Value, gradient and Hessian: one traced program, a forward derivative per column."""
        slopes, push = jax.linearize(jax.value_and_grad(height), u)
        matrix = jax.vmap(lambda d: push(d)[1])(along)
        return slopes[0], slopes[1], 0.5 * (matrix + matrix.T)

    def newton(_, state):
        at, best, damping = state
        scale, vectors = jnp.linalg.eigh(best[2])
        scale = jnp.maximum(jnp.abs(scale), _LEAST_CURVATURE) + damping
        step = vectors @ ((vectors.T @ best[1]) / scale)
        step = step / jnp.maximum(1.0, jnp.max(jnp.abs(step)) / _LARGEST_STEP)
        trial = derivatives(at - step)
        slack = 8 * jnp.finfo(dtype).eps * jnp.abs(best[0])
        better = trial[0] <= best[0] + slack
        chosen = jax.tree.map(lambda a, b: jnp.where(better, a, b), trial, best)
        damping = jnp.where(better, 0.1 * damping, 10 * damping + 1.0)
        return jnp.where(better, at - step, at), chosen, damping

    # The derivatives at the start are taken by a first step of length 0: the loop then holds the
    # only copy of the program.
    nowhere = (jnp.asarray(jnp.inf, dtype), jnp.zeros_like(start), along)
    state = (start, nowhere, jnp.zeros((), dtype))
    mode, (_, _, hessian), _ = jax.lax.fori_loop(0, _NEWTON_STEPS + 1, newton, state)
    return mode, hessian


@eqx.filter_jit
def _constrain(
    problem: Problem, coordinates: Coordinates, z: Float[Array, "draws N"]
) -> dict[str, Array]:
    return jax.lax.map(lambda a: constrained(problem, coordinates.sites(problem, a)), z)


@eqx.filter_jit
def isotropic(
    problem: Problem, coordinates: Coordinates, values: dict[str, Array]
) -> Float[Array, "draws N"]:
    """Isotropic coordinates of draws (draws, ...) of the sampled sites, constrained."""
    n_shared = coordinates.mode.shape[0]

    def one(values: dict[str, Array]) -> Float[Array, " N"]:
        sites = unconstrained(problem, values)
        flat = jnp.concatenate([sites[n].ravel() for n in coordinate_shapes(problem)])
        first = jnp.linalg.solve(coordinates.root, flat[:n_shared] - coordinates.mode)
        return jnp.concatenate([first, flat[n_shared:]])

    return jax.lax.map(one, values)


def constrain(
    problem: Problem, coordinates: Coordinates, z: Float[Array, "chain draw N"]
) -> dict[str, np.ndarray]:
    """Values of the model's sites, arrays (chain, draw, ...), at draws in isotropic coordinates."""
    flat = z.reshape(-1, z.shape[-1])
    if coordinates.widths is not None:
        flat = flat @ coordinates.widths.T.astype(flat.dtype)
    sites = _constrain(problem, coordinates, flat)
    kept = {n: np.asarray(a) for n, a in sites.items() if n in BY_NAME}
    return {n: a.reshape(*z.shape[:2], *a.shape[1:]) for n, a in kept.items()}
