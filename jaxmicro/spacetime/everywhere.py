"""Class proportions at every pixel of a movie: at those that were not visited, and at those that
were from the other pixels alone.

Both are one function of the visited pixels around, so that what it gets wrong shows, on average,
at the visited ones: that is what a model-assisted estimator of an area needs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.ecm import Fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.local import Local, LocalFit
from jaxmicro.spacetime.local_em import Coupling, proportions
from jaxmicro.spacetime.neighbour_proportions import Votes, placed
from jaxmicro.spacetime.smooth import places

MOST = 65_536  # pixels of a frame that a map is evaluated at; larger frames every s-th row, column


@dataclasses.dataclass(frozen=True)
class Everywhere:
    """Class proportions that the visited pixels suggest.

    Attributes:
      visited: (T, K, n) at each visited pixel, from the others alone.
      unvisited: (T, K) mean over the pixels that were not visited; NaN where all were.
    """

    visited: Float[np.ndarray, "T K n"]
    unvisited: Float[np.ndarray, "T K"]


def proportions_everywhere(
    pixels: Pixels,
    fitted: LocalFit,
    local: Local,
    region: Bool[np.ndarray, "*T rows cols"] | None = None,
) -> Everywhere:
    """Proportions by the kernel and coupling of a local fit: see `jaxmicro.spacetime.local`.

    Args:
      pixels: batch axis (frames,).
      local: the settings of the fit.
      region: pixels that count, of all frames or of each; None for the whole frame.

    Raises:
      UsageError: pixels with replicates.
    """
    if pixels.values.ndim != 2:
        raise UsageError("a map needs (frames,) of pixels; index the replicates first")
    at = placed(pixels)
    visited, sums = _visited(at, fitted, fitted.kernel, local)
    grid = _grid(pixels.shape)
    unvisited = np.full(visited.shape[:2], np.nan)
    for t in range(pixels.n_frames):
        spots = _unvisited(pixels.at(t), grid, region if region is None else _of(region, t))
        if spots.any():
            of_frame = Coupling(fitted.coupling.strength, fitted.coupling.field[t])
            weights = fitted.fit.params.weights[t]
            maps = jax.tree.map(lambda a, t=t: a[t], sums[1])
            found = _at_grid(sums[0], maps, weights, of_frame, *map(jnp.asarray, grid))
            unvisited[t] = np.asarray(found, float)[:, spots].mean(axis=1)
    return Everywhere(np.asarray(visited, float), unvisited)


def as_local(model: GMRM, fit: Fit, pixels: Pixels, local: Local) -> LocalFit:
    """A plain fit seen as a local one: neighbours are averaged, and not coupled."""
    weights = fit.params.weights
    kernel = local.kernel(
        float(np.mean(np.asarray(pixels.n_pixels))), pixels.shape, pixels.n_frames
    )
    coupling = Coupling(jnp.ones((), weights.dtype), jnp.zeros_like(weights))
    resp = model.responsibilities(fit.params, pixels)
    return LocalFit(fit, resp, jnp.zeros_like(pixels.values), coupling, None, kernel, False)


def _of(region: Bool[np.ndarray, "*T rows cols"], t: int) -> Bool[np.ndarray, "rows cols"]:
    return region if region.ndim == 2 else region[t]


def _grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a regular grid of at most `MOST` pixels, centred in the frame."""
    step = int(np.ceil(np.sqrt(shape[0] * shape[1] / MOST)))
    axes = [np.arange((n - 1) % step // 2, n, step, dtype=np.int32) for n in shape]
    rows, cols = np.meshgrid(*axes, indexing="ij")
    return rows.ravel(), cols.ravel()


def _unvisited(
    frame: Pixels, grid: tuple[np.ndarray, np.ndarray], region: np.ndarray | None
) -> Bool[np.ndarray, " g"]:
    free = np.ones(frame.shape, bool) if region is None else region.copy()
    seen = np.asarray(frame.weight) > 0
    free[np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]] = False
    return free[grid]


@eqx.filter_jit
def _visited(
    at: Pixels, fitted: LocalFit, kernel: Any, local: Local
) -> tuple[Float[Array, "T K n"], tuple[Votes, Any]]:
    """Proportions at the visited pixels, and what is needed to have them elsewhere."""
    weight = jnp.broadcast_to(at.weight, at.values.shape)[:, None]
    resp = fitted.responsibilities * weight
    votes = Votes.of(at, kernel, local)
    log_m = votes.log_m(resp[:, :-1], fitted.fit.params.weights)
    field = fitted.coupling.field[:, :, None]
    pi = _coupled(log_m, votes.known[:, None], fitted.coupling.strength, field)
    counted = jnp.concatenate([resp[:, :-1], weight], axis=1)
    return pi, (votes, votes.maps(counted))


@eqx.filter_jit
def _at_grid(
    votes: Votes,
    maps: Any,
    weights: Float[Array, " K"],
    coupling: Coupling,
    rows: Array,
    cols: Array,
) -> Float[Array, "K g"]:
    """Proportions at the pixels of a grid of one frame, none of which votes for itself."""
    dtype = weights.dtype
    none = jnp.zeros((weights.shape[0] - 1, rows.size), dtype)
    where, counts = [], []
    for level, total, only in zip(votes.levels, *maps, strict=True):
        here = jax.tree.map(lambda a: a[0], places(level.cells, rows[None], cols[None], dtype))
        last = None if only is None else only[-1:]
        where.append(here)
        counts.append(level.others(total[-1:], last, here, none[0], none[:1])[0])
    sums, only = (jax.tree.map(lambda a: a[:-1], kind) for kind in maps)
    own = (none[0],) * len(where)
    log_m = proportions(
        votes.levels, sums, only, tuple(where), own, tuple(counts), none, weights,
        votes.pseudo_count,
    )  # fmt: skip
    known = counts[0] / (counts[0] + votes.pseudo_count)
    return _coupled(log_m, known[None], coupling.strength, coupling.field[:, None])


def _coupled(log_m: Array, known: Array, strength: Array, field: Array) -> Array:
    return jax.nn.softmax((1 + (strength - 1) * known) * log_m + known * field, axis=-2)
