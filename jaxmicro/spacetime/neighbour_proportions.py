"""The proportions that the neighbours suggest at each visited pixel, as a local fit leaves them.

With the responsibilities of a local fit (see `jaxmicro.spacetime.local`) every pixel has

    log pi_k = (1 + (b - 1) known) log m_k + known a_k + constant,

where m is made of the responsibilities of the *other* visited pixels near it and `known` goes from
0 without neighbours to 1 with many. Here m and `known` are taken from the fit, for those who ask
for other values of strength, field, means and sds at the same neighbours.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import CHUNK, batched_map
from jaxmicro.mixture.ecm import Fit
from jaxmicro.spacetime.local import WIDER, Local, LocalFit
from jaxmicro.spacetime.local_em import Coupling, Level, gathered, make_level, proportions
from jaxmicro.spacetime.smooth import Kernel, cells_for, over_time


class Neighbours(eqx.Module):
    """What the neighbours say at each visited pixel of a movie, and the fit it is taken from.

    Attributes:
      fit, coupling: as in `LocalFit`.
      log_proportions: log m of every class.
      known: n / (n + c) of n neighbours and the pseudo-count c.
      reach: sd of the kernel in space, in pixels; pixels further apart than a few of it share no
        neighbours.
    """

    fit: Fit
    coupling: Coupling
    log_proportions: Float[Array, "T K n"]
    known: Float[Array, "T n"]
    reach: float = eqx.field(static=True)


def neighbours_of(pixels: Pixels, fitted: LocalFit, local: Local) -> Neighbours:
    """Proportions m from the responsibilities of a fit of these pixels.

    Args:
      pixels: batch axis (frames,).
      local: the settings that the fit was made with.
    """
    shared = pixels.shared
    places = Pixels(
        pixels.values,
        pixels.rows[None] if shared else pixels.rows,
        pixels.cols[None] if shared else pixels.cols,
        (pixels.weight[None] if shared else pixels.weight).astype(pixels.values.dtype),
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )
    log_m, known = _proportions(places, fitted, fitted.kernel, local)
    reach = (WIDER if local.levels > 1 else 1.0) * fitted.kernel.width
    return Neighbours(fitted.fit, fitted.coupling, log_m, known, reach)


@eqx.filter_jit
def _proportions(
    places: Pixels, fitted: LocalFit, kernel: Kernel, local: Local
) -> tuple[Float[Array, "T K n"], Float[Array, "T n"]]:
    dtype = places.values.dtype
    n_frames, n = places.values.shape
    old = fitted.responsibilities[:, :-1] * places.weight[:, None]
    levels = _levels(places, kernel, local)
    decay = jnp.asarray(kernel.decay, dtype)
    frames = tuple(gathered(v.cells, v.places.cell, old, n_frames) for v in levels)
    maps = tuple(over_time(f, decay, local.causal)[0] for f in frames)
    only = tuple(None if v.hole is None else f for v, f in zip(levels, frames, strict=True))

    def of_frames(level: Level) -> tuple:
        fixed = level.places, level.own
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (n_frames, n)), fixed)

    where, own = zip(*(of_frames(v) for v in levels), strict=True)
    counts = tuple(v.neighbours for v in levels)
    c = jnp.asarray(local.pseudo_count, dtype)
    args = (maps, only, where, own, counts, old, fitted.fit.params.weights)

    def one(args: Any) -> Float[Array, "K n"]:
        total, frame, at, share, count, old, weights = args
        return proportions(levels, total, frame, at, share, count, old, weights, c)

    log_m = batched_map(one, args, max(1, CHUNK // n))
    return log_m, counts[0] / (counts[0] + c)


def _levels(places: Pixels, kernel: Kernel, local: Local) -> tuple[Level, ...]:
    """The kernels over the pixels, from the narrowest to the widest."""
    dtype = places.values.dtype
    decay = jnp.asarray(kernel.decay, dtype)
    hole = jnp.asarray(local.buffer, dtype) if local.buffer else None
    out = []
    for width in (kernel.width, WIDER * kernel.width)[: local.levels]:
        cells = cells_for(width, places.shape, single=local.buffer > 0)
        wide = jnp.asarray(width, dtype)
        out.append(make_level(cells, places, wide, decay, local.causal, None, hole)[0])
    return tuple(out)
