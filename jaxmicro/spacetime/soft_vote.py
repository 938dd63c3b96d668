"""The differentiable form of the neighbours' vote: probabilities in, probabilities out.

The ball becomes h(d) = sigmoid((radius - d) / edge) with d the L1 or L2 distance in space-time
(dt times `time_scale`), and both decisions of the vote become smooth: with s_k the share of the
neighbours' probability that class k holds and m the largest share,

    keep_k = sigmoid(sharpness (s_k - min(threshold, m))),    winner = softmax(sharpness s),
    out_k = p_k keep_k + winner_k sum_c p_c (1 - keep_c).

The vote keeps a label when its share reaches the threshold or is the largest. As edge falls to 0
and sharpness rises, one-hot probabilities come out as `vote` would have them. All numbers are
continuous and may be traced; the box that the kernel lives in (`reach`, `frames`) is not.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.spacetime.neighbourhood import Neighbourhood, correlate, sum_at_pixels

# Distances on the pixel grid differ by 1/(2r) or more, so this margin puts whole-number radii
# inside the ball and nothing else; a vote weighs 3e-5 or more, so 1e-6 breaks ties and no vote.
_MARGIN = 1e-2
_TIE = 1e-6


class SoftVote(eqx.Module):
    """The vote's settings as numbers with gradients.

    Attributes:
      radius: in pixels; the kernel is cut at `reach`.
      time_scale: pixels that one frame counts for.
      threshold: share of agreement below which a pixel gives in.
      sharpness: of both decisions; large is hard.
      edge: width in pixels over which the ball fades; small is hard.
      reach, frames: the box of the kernel, in pixels and in frames.
      metric, causal: as in `Neighbourhood`.
    """

    radius: Float[Array, ""]
    time_scale: Float[Array, ""]
    threshold: Float[Array, ""]
    sharpness: Float[Array, ""]
    edge: Float[Array, ""]
    reach: int = eqx.field(static=True)
    frames: int = eqx.field(static=True)
    metric: str = eqx.field(static=True, default="l2")
    causal: bool = eqx.field(static=True, default=True)

    @classmethod
    def from_vote(
        cls,
        neighbourhood: Neighbourhood,
        threshold: float,
        *,
        sharpness: float = 20.0,
        edge: float = 0.5,
        reach: int | None = None,
        frames: int | None = None,
        dtype: Any = None,
    ) -> SoftVote:
        """A soft vote near the hard one; `reach` and `frames` leave room for the ball to grow.

        Raises:
          UsageError: a threshold outside [0, 1], a sharpness or edge that is not positive.
        """
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold {threshold} is not a share; use a number from 0 to 1")
        for name, value in (("sharpness", sharpness), ("edge", edge)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} {value} is not allowed; use a positive number")
        r, s = neighbourhood.radius, neighbourhood.time_scale
        room = r + min(3 * edge, r)

        def number(value: float | int) -> Array:
            return jnp.asarray(value, dtype or jnp.float32)

        return cls(
            number(r),
            number(s),
            number(threshold),
            number(sharpness),
            number(edge),
            reach=max(1, math.ceil(room)) if reach is None else reach,
            frames=math.ceil(room / s) if frames is None else frames,
            metric=neighbourhood.metric,
            causal=neighbourhood.causal,
        )

    def kernel(self) -> Float[Array, "dt dy dx"]:
        """h, with 0 at the pixel itself; its origin is `origin`."""
        dtype = self.radius.dtype
        last = 0 if self.causal else self.frames
        dt = jnp.arange(-self.frames, last + 1, dtype=dtype)[:, None, None] * self.time_scale
        dy = jnp.arange(-self.reach, self.reach + 1, dtype=dtype)[None, :, None]
        dx = jnp.arange(-self.reach, self.reach + 1, dtype=dtype)[None, None, :]
        if self.metric == "l1":
            distance = jnp.abs(dt) + jnp.abs(dy) + jnp.abs(dx)
        else:
            square = dt**2 + dy**2 + dx**2
            here = square == 0
            distance = jnp.sqrt(jnp.where(here, 1.0, square))
        h = jax.nn.sigmoid((self.radius + _MARGIN - distance) / self.edge)
        return h.at[self.origin].set(0.0)

    @property
    def origin(self) -> tuple[int, int, int]:
        return self.frames, self.reach, self.reach


def neighbour_shares(
    settings: SoftVote, probabilities: Float[Array, "t K n"], pixels: Pixels
) -> tuple[Float[Array, "t K n"], Float[Array, "t n"]]:
    """Kernel-weighted sums of the other pixels' probabilities (t, K, n), and of ones (t, n)."""
    n_frames, _, n = probabilities.shape
    kernel = settings.kernel().astype(probabilities.dtype)

    def total(values: Float[Array, "t n"]) -> Float[Array, "t n"]:
        return sum_at_pixels(values, pixels, lambda g: correlate(g, kernel, settings.origin))

    sums = jax.lax.map(total, jnp.moveaxis(probabilities, 1, 0))
    count = total(jnp.ones((n_frames, n), probabilities.dtype))
    return jnp.moveaxis(sums, 0, 1), count


@eqx.filter_jit
def soft_vote(
    settings: SoftVote, probabilities: Float[Array, "t K n"], pixels: Pixels
) -> Float[Array, "t K n"]:
    """Corrected class probabilities of the sampled pixels of a movie.

    Args:
      settings: the vote.
      probabilities: of each class at each pixel, summing to 1 over the K classes.
      pixels: the pixels they belong to; batch axes (frames,).

    Returns:
      Probabilities of the same shape; a pixel without neighbours keeps its own.
    """
    return decide(settings, probabilities, *neighbour_shares(settings, probabilities, pixels))


def decide(
    settings: SoftVote,
    p: Float[Array, "t K n"],
    sums: Float[Array, "t K n"],
    count: Float[Array, "t n"],
) -> Float[Array, "t K n"]:
    """Corrected probabilities from a pixel's own `p` and what `neighbour_shares` gave."""
    # FFT sums leave rounding errors of about 1e-7 of the largest sum where there is nothing.
    size = jnp.sum(settings.kernel()).astype(count.dtype)
    rounding = 16 * jnp.finfo(count.dtype).eps * size
    alone = count[:, None] <= rounding
    share = jnp.where(alone, 0, sums / jnp.where(alone, 1, count[:, None]))
    sharpness = settings.sharpness.astype(p.dtype)
    threshold = settings.threshold.astype(p.dtype) * (1 - _TIE)
    most = jnp.max(share, axis=1, keepdims=True)
    keep = jax.nn.sigmoid(sharpness * (share + _TIE - jnp.minimum(threshold + _TIE, most)))
    keep = jnp.where(alone, 1.0, keep)
    order = jnp.arange(p.shape[1], dtype=p.dtype)[None, :, None]  # of equals the lowest class
    winner = jax.nn.softmax(sharpness * (share - _TIE * order), axis=1)
    leaving = jnp.sum(p * (1 - keep), axis=1, keepdims=True)
    return p * keep + winner * leaving
