"""Post-hoc spatio-temporal correction of hard labels by a vote of the sampled neighbours.

A pixel keeps its class where at least a share `threshold` of its neighbours in space-time agree
with it, and takes its neighbours' majority class elsewhere. All pixels decide at once, on the
labels as they came. Neighbours are sampled pixels only, so at low rates a small radius leaves
many pixels without any: those keep their class.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from jaxmicro.arguments import expect
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.spacetime.neighbourhood import (
    TILE_VOXELS,
    Neighbourhood,
    neighbour_sum,
    sum_at_pixels,
)


class Vote(eqx.Module):
    """Corrected labels, and how much the vote did.

    Attributes:
      labels: as they came in, in shape and type, corrected; padding is left as it was.
      n_changed: sampled pixels whose class changed, per frame (and replicate).
      n_alone: sampled pixels without a single sampled neighbour, per frame (and replicate).
    """

    labels: Shaped[Array, ...]
    n_changed: Int[Array, "*batch"]
    n_alone: Int[Array, "*batch"]


def vote(
    labels: Shaped[Array, "*batch n"],
    pixels: Pixels,
    neighbourhood: Neighbourhood,
    threshold: float | int | Array,
    n_classes: int = 2,
) -> Vote:
    """The vote on the sampled pixels of a movie.

    Args:
      labels: class of each pixel, bool (foreground or not) or 0..n_classes-1; batch axes are
        (frames,) or (frames, replicates). Replicates never see one another.
      pixels: the pixels that the labels belong to.
      neighbourhood: who votes; the paper's settings are radius 5, 20, 10 with threshold
        .05, .2, .4.
      threshold: gamma, the share of agreeing neighbours below which a pixel changes its class.

    Raises:
      UsageError: labels that do not fit the pixels or have no frame axis, a threshold outside
        [0, 1], fewer than 2 classes.
    """
    expect(pixels, Pixels, "vote: pixels")
    expect(neighbourhood, Neighbourhood, "vote: neighbourhood")
    _check(labels, threshold, n_classes, 2)
    if labels.ndim > 3:
        raise UsageError(
            f"labels have {labels.ndim} axes; use (frames, n) or (frames, replicates, n)"
        )
    if labels.shape != pixels.values.shape:
        raise UsageError(
            f"labels of shape {labels.shape} do not belong to pixels of shape "
            f"{pixels.values.shape}; give one label for each pixel"
        )
    gamma = jnp.asarray(threshold, jnp.float32)
    if labels.ndim == 2:
        return _vote_movie(labels, pixels, neighbourhood, gamma, n_classes)
    return _vote_replicates(labels, pixels, neighbourhood, gamma, n_classes)


def vote_frames(
    labels: Shaped[Array, "t y x"],
    neighbourhood: Neighbourhood,
    threshold: float | int | Array,
    visited: Bool[Array, "t y x"] | None = None,
    n_classes: int = 2,
) -> Vote:
    """The same vote on whole frames; pixels that were not `visited` neither vote nor change.

    Raises:
      UsageError: a threshold outside [0, 1], fewer than 2 classes.
    """
    _check(labels, threshold, n_classes, 3)
    visited = jnp.ones(labels.shape, bool) if visited is None else visited
    gamma = jnp.asarray(threshold, jnp.float32)
    return _vote_frames(labels, visited, neighbourhood, gamma, n_classes)


@eqx.filter_jit
def _vote_replicates(labels, pixels, neighbourhood, gamma, n_classes) -> Vote:
    names = ("values",) if pixels.shared else ("values", "rows", "cols", "weight")

    def arrays(p: Pixels):
        return [getattr(p, name) for name in names]

    def replicate_first(a):
        return jnp.moveaxis(jnp.broadcast_to(a, labels.shape), 1, 0)

    def one(item):
        mine, own = item
        alone = eqx.tree_at(arrays, pixels, own)
        return _vote_movie(mine, alone, neighbourhood, gamma, n_classes)

    items = jax.tree.map(replicate_first, (labels, arrays(pixels)))
    # replicates in turn, as many at once as keeps the dense grids within the memory of one tile
    at_once = max(1, TILE_VOXELS // (labels.shape[0] * math.prod(pixels.shape)))
    out = jax.lax.map(one, items, batch_size=at_once)
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), out)


@eqx.filter_jit
def _vote_frames(labels, visited, neighbourhood, gamma, n_classes) -> Vote:
    classes = labels.astype(jnp.int32)

    def count(k):
        return neighbour_sum(visited & (classes == k), neighbourhood)

    counts = jax.lax.map(count, jnp.arange(n_classes, dtype=jnp.int32))
    new, alone = _decide(classes, counts, gamma)
    return _result(labels, new, alone, visited, (1, 2))


@eqx.filter_jit
def _vote_movie(labels, pixels, neighbourhood, gamma, n_classes) -> Vote:
    visited = jnp.broadcast_to(pixels.weight > 0, labels.shape)
    classes = labels.astype(jnp.int32)

    def count(k):
        return sum_at_pixels(classes == k, pixels, lambda grid: neighbour_sum(grid, neighbourhood))

    counts = jax.lax.map(count, jnp.arange(n_classes, dtype=jnp.int32))
    new, alone = _decide(classes, counts, gamma)
    return _result(labels, new, alone, visited, (1,))


def _decide(classes, counts, gamma):
    """New classes (...) and who is alone, from neighbour counts (K, ...)."""
    neighbours = jnp.sum(counts, axis=0)
    own = jnp.take_along_axis(counts, classes[None], axis=0)[0]
    most = jnp.max(counts, axis=0)
    # a share of exactly gamma is enough; 1e-6 is rounding, a vote weighs 3e-5 or more
    needed = neighbours.astype(jnp.float32) * (gamma * (1 - 1e-6))
    outvoted = (own.astype(jnp.float32) < needed) & (own < most)
    winner = jnp.argmax(counts, axis=0).astype(classes.dtype)  # of equals the lowest class
    return jnp.where(outvoted, winner, classes), neighbours == 0


def _result(labels, new, alone, visited, axes) -> Vote:
    new = jnp.where(visited, new.astype(labels.dtype), labels)
    return Vote(
        labels=new,
        n_changed=jnp.sum(new != labels, axis=axes, dtype=jnp.int32),
        n_alone=jnp.sum(alone & visited, axis=axes, dtype=jnp.int32),
    )


def _check(labels, threshold, n_classes, least_axes) -> None:
    if labels.ndim < least_axes:
        raise UsageError(f"labels of shape {labels.shape} have no frame axis; give one frame as 1")
    if isinstance(threshold, float | int) and not 0 <= threshold <= 1:
        raise UsageError(f"threshold {threshold} is not a share; use a number from 0 to 1")
    if n_classes < 2:
        raise UsageError(f"{n_classes} classes cannot vote; use 2 or more")
    if labels.dtype == jnp.bool_ and n_classes != 2:
        raise UsageError(f"bool labels have 2 classes, not {n_classes}; give class numbers")
