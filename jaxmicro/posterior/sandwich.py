"""Widths of a posterior whose likelihood is a pseudo-likelihood.

With local proportions the likelihood is a product of densities of single pixels given the others.
Neighbours share labels and, often, noise, so that the product counts what they say more than once,
and the posterior is too narrow. Its draws are therefore stretched about the mode until their
covariance is that of the estimate,

    H^-1 (J + P) H^-1,

with H the curvature of the log pseudo-posterior, P what the prior adds to it and J the variance of
the score, from its sums over tiles of the frame that are several kernel widths wide (Ribatet,
Cooley and Davison 2012, Statistica Sinica 22:813; Shaby 2014, JCGS 23:615). All is done in
isotropic coordinates, where H is the identity: with L the curvature of the pseudo-likelihood there,
J + P = I + J - L.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.posterior.coordinates import Coordinates
from jaxmicro.posterior.density import constrained, mixture_at
from jaxmicro.posterior.likelihood import Mixture, pixel_log_likelihood
from jaxmicro.posterior.model import Problem

TILE = 4.0  # sides of a tile, in widths of the kernel
LEAST, MOST = 0.25, 16.0  # times the variance along any direction may change


class Tiles(eqx.Module):
    """The tile of the frame that each pixel lies in."""

    tile: Int[Array, "T n"]
    n_tiles: int = eqx.field(static=True)


def tiles_of(pixels: Pixels, reach: float) -> Tiles:
    """Squares over the frame, TILE widths `reach` of the kernel wide, at least 4 a side."""
    side = [max(1, min(round(TILE * reach), length // 4)) for length in pixels.shape]
    across = -(-pixels.shape[1] // side[1])
    down = -(-pixels.shape[0] // side[0])
    at = np.asarray(pixels.rows) // side[0] * across + np.asarray(pixels.cols) // side[1]
    return Tiles(jnp.asarray(np.broadcast_to(at, pixels.values.shape)), down * across)


@eqx.filter_jit
def corrected(problem: Problem, coordinates: Coordinates, tiles: Tiles) -> Coordinates:
    """The coordinates, with the factor by which draws are stretched."""
    scores, curvature, slopes = _in_frames(problem, coordinates, tiles)
    each = jnp.einsum("ftb,tfn->tbn", scores, slopes).reshape(-1, slopes.shape[-1])
    known = jnp.einsum("tfn,tfg,tgm->nm", slopes, curvature, slopes)
    n = slopes.shape[-1]
    variance = jnp.eye(n, dtype=known.dtype) + each.T @ each - 0.5 * (known + known.T)
    scale, vectors = jnp.linalg.eigh(variance)
    root = (vectors * jnp.sqrt(jnp.clip(scale, LEAST, MOST))[None]) @ vectors.T
    return Coordinates(coordinates.mode, coordinates.root, root)


def _in_frames(
    problem: Problem, coordinates: Coordinates, tiles: Tiles
) -> tuple[Float[Array, "F T B"], Float[Array, "T F F"], Float[Array, "T F N"]]:
    """Scores of the tiles and curvature of the frames in F numbers of each frame's mixture at the
    mode, and how these move with the N isotropic coordinates.
    """
    dtype = problem.dtype
    zero = jnp.zeros(coordinates.size(problem), dtype)

    def numbers(z: Array) -> Float[Array, "T F"]:
        mixture = mixture_at(problem, constrained(problem, coordinates.sites(problem, z)))
        return _by_frame(mixture)

    slopes = jax.jacfwd(numbers)(zero)
    at = numbers(zero)
    basis = jnp.eye(at.shape[1], dtype=dtype)
    pixels, n_frames = problem.pixels, at.shape[0]
    some = tiles.tile.shape[1]
    tile = jnp.zeros(pixels.values.shape, tiles.tile.dtype).at[:, :some].set(tiles.tile)
    flat = (tile + tiles.n_tiles * jnp.arange(n_frames)[:, None]).ravel()

    def every(a: Float[Array, "T F"]) -> Float[Array, "T n"]:
        design = jnp.moveaxis(pixels.design, 1, 0)
        return pixels.weight * jax.vmap(of_frame)(a, pixels.values, design)

    def of_frame(a: Array, values: Array, design: Array) -> Array:
        mixture = _mixture_of(a, problem)
        return pixel_log_likelihood(problem.noise, mixture, values[None], design[:, None])[0]

    def score(along: Array) -> Float[Array, "T B"]:
        change = jax.jvp(every, (at,), (jnp.broadcast_to(along, at.shape),))[1]
        sums = jax.ops.segment_sum(change.ravel(), flat, n_frames * tiles.n_tiles)
        return sums.reshape(n_frames, -1)

    def bend(along: Array) -> Float[Array, "T F"]:
        slope = jax.grad(lambda a: jnp.sum(every(a)))
        return -jax.jvp(slope, (at,), (jnp.broadcast_to(along, at.shape),))[1]

    curvature = jnp.moveaxis(jax.lax.map(bend, basis), 0, 1)
    return jax.lax.map(score, basis), curvature, slopes


def _by_frame(mixture: Mixture) -> Float[Array, "T F"]:
    """Field, means, sds, trend, degrees of freedom and strength of every frame."""
    of_all = jnp.stack([mixture.dof, jnp.asarray(mixture.strength)])
    of_all = jnp.broadcast_to(of_all, (mixture.means.shape[0], 2))
    own = (mixture.log_weights, mixture.means, mixture.sds, mixture.trend)
    return jnp.concatenate([*own, of_all], axis=1)


def _mixture_of(numbers: Float[Array, " F"], problem: Problem) -> Mixture:
    """The mixture of one frame with these numbers."""
    k, p = problem.n_classes, problem.n_terms
    field, means, sds, trend, *of_all = jnp.split(numbers, np.cumsum([k, k, k, p, 1]))
    own = [a[None] for a in (field, means, sds, trend)]
    return Mixture(own[0], own[1], own[2], own[3], of_all[0][0], of_all[1][0])
