"""The proportions that the neighbours suggest at each visited pixel, as a local fit leaves them.

With the responsibilities of a local fit (see `jaxmicro.spacetime.local`) every pixel has

    log pi_k = (1 + (b - 1) known) log m_k + known a_k + constant,

where m is made of the responsibilities of the *other* visited pixels near it and `known` goes from
0 without neighbours to 1 with many. Here m and `known` are taken from the fit, for those who ask
for other values of strength, field, means and sds at the same neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
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

APART = 5  # frames between those whose labels are taken to be independent
RESPONSES = 16  # passes in which a change spreads to the neighbours


class Neighbours(eqx.Module):
    """What the neighbours say at each visited pixel of a movie, and the fit it is taken from.

    Attributes:
      fit, coupling: as in `LocalFit`.
      log_proportions: log m of every class.
      known: n / (n + c) of n neighbours and the pseudo-count c.
      covariance: of the numbers of visited pixels in each class given their grey values. Labels of
        neighbours go together, so that it is larger than that of independent labels (linear
        response: Giordano, Broderick and Jordan 2018, JMLR 19:51).
      reach: sd of the kernel in space, in pixels; pixels further apart than a few of it share no
        neighbours.
    """

    fit: Fit
    coupling: Coupling
    log_proportions: Float[Array, "T K n"]
    known: Float[Array, "T n"]
    covariance: Float[Array, "T K K"]
    reach: float = eqx.field(static=True)


def neighbours_of(pixels: Pixels, fitted: LocalFit, local: Local) -> Neighbours:
    """Proportions m from the responsibilities of a fit of these pixels.

    Args:
      pixels: batch axis (frames,).
      local: the settings that the fit was made with.
    """
    log_m, known, covariance = _proportions(placed(pixels), fitted, fitted.kernel, local)
    reach = (WIDER if local.levels > 1 else 1.0) * fitted.kernel.width
    return Neighbours(fitted.fit, fitted.coupling, log_m, known, covariance, reach)


def placed(pixels: Pixels) -> Pixels:
    """The pixels with places and weights of shape (S, n); S is 1 where all frames share them."""
    shared = pixels.shared
    return Pixels(
        pixels.values,
        pixels.rows[None] if shared else pixels.rows,
        pixels.cols[None] if shared else pixels.cols,
        (pixels.weight[None] if shared else pixels.weight).astype(pixels.values.dtype),
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )


class Votes(eqx.Module):
    """How the visited pixels of a movie, as `placed`, vote on the proportions near them."""

    levels: tuple[Level, ...]
    decay: Float[Array, ""]
    pseudo_count: Float[Array, ""]
    batch: tuple[int, int] = eqx.field(static=True)
    causal: bool = eqx.field(static=True)

    @classmethod
    def of(cls, places: Pixels, kernel: Kernel, local: Local) -> Votes:
        dtype = places.values.dtype
        decay, c = (jnp.asarray(v, dtype) for v in (kernel.decay, local.pseudo_count))
        levels = _levels(places, kernel, local)
        n_frames, n = places.values.shape
        return cls(levels, decay, c, (n_frames, n), local.causal)

    @property
    def known(self) -> Float[Array, "T n"]:
        """n / (n + c) of n neighbours and the pseudo-count c."""
        counts = self.levels[0].neighbours
        return counts / (counts + self.pseudo_count)

    def maps(self, values: Float[Array, "T k n"]) -> tuple[tuple, tuple]:
        """Sums over the cells of each level, over time and of each frame alone (None: no hole)."""
        cells = [(v.cells, v.places.cell) for v in self.levels]
        frames = tuple(gathered(*c, values, self.batch[0]) for c in cells)
        sums = tuple(over_time(f, self.decay, self.causal)[0] for f in frames)
        only = (None if v.hole is None else f for v, f in zip(self.levels, frames, strict=True))
        return sums, tuple(only)

    def log_m(
        self, old: Float[Array, "T k n"], weights: Float[Array, "T K"]
    ) -> Float[Array, "T K n"]:
        """Log of the proportions m at each pixel from the responsibilities of the others."""

        def of_frames(level: Level) -> tuple:
            fixed = level.places, level.own
            return jax.tree.map(lambda a: jnp.broadcast_to(a, self.batch), fixed)

        where, own = zip(*(of_frames(v) for v in self.levels), strict=True)
        counts = tuple(v.neighbours for v in self.levels)

        def one(args: Any) -> Float[Array, "K n"]:
            total, frame, at, share, count, mine, beside = args
            of_pixels = (at, share, count, mine, beside)
            return proportions(self.levels, total, frame, *of_pixels, self.pseudo_count)

        args = (*self.maps(old), where, own, counts, old, weights)
        return batched_map(one, args, max(1, CHUNK // self.batch[1]))


@eqx.filter_jit
def _proportions(
    places: Pixels, fitted: LocalFit, kernel: Kernel, local: Local
) -> tuple[Float[Array, "T K n"], Float[Array, "T n"], Float[Array, "T K K"]]:
    """Log m, `known`, and the covariance of the class counts."""
    n_frames, n = places.values.shape
    weight = jnp.broadcast_to(places.weight, (n_frames, n))
    resp = fitted.responsibilities * weight[:, None]
    votes = Votes.of(places, kernel, local)

    def log_m_of(old: Float[Array, "T k n"]) -> Float[Array, "T K n"]:
        return votes.log_m(old, fitted.fit.params.weights)

    power = 1 + (fitted.coupling.strength - 1) * votes.known
    apart = 1 if kernel.decay == 0 else min(n_frames, APART)
    covariance = _count_covariance(log_m_of, resp, power, apart)
    return log_m_of(resp[:, :-1]), votes.known, covariance


def _count_covariance(
    log_m_of: Callable[[Array], Array],
    resp: Float[Array, "T K n"],
    power: Float[Array, "T n"],
    apart: int,
) -> Float[Array, "T K K"]:
    """Covariance of the class counts of the visited pixels, by linear response.

    A field e_k added to class k everywhere in a frame moves the responsibilities, and those move
    their neighbours': d r = r (d log pi + e - mean), solved by iteration. The count of class l then
    moves by its covariance with that of class k. Frames that are `apart` are moved together.
    """
    n_frames, k, _ = resp.shape

    def moved(old: Array, field: Float[Array, "T K"]) -> Float[Array, "T K n"]:
        change = jax.jvp(log_m_of, (resp[:, :-1],), (old,))[1]
        push = power[:, None] * change + field[:, :, None]
        return resp * (push - jnp.sum(resp * push, axis=1, keepdims=True))

    def response(which: tuple[Array, Array]) -> Float[Array, "T K"]:
        kind, phase = which
        frames = jnp.arange(n_frames) % apart == phase
        field = (frames[:, None] & (jnp.arange(k) == kind)[None, :]).astype(resp.dtype)

        def again(_: Any, change: Array) -> Array:
            return moved(change[:, :-1], field)

        last = jax.lax.fori_loop(0, RESPONSES, again, jnp.zeros_like(resp))
        return jnp.where(frames[:, None], jnp.sum(last, axis=-1), 0)

    kinds, phases = jnp.divmod(jnp.arange(k * apart), apart)
    every = jax.lax.map(response, (kinds, phases)).reshape(k, apart, n_frames, k)
    covariance = jnp.moveaxis(jnp.sum(every, axis=1), 0, 1)
    return 0.5 * (covariance + jnp.swapaxes(covariance, 1, 2))


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
