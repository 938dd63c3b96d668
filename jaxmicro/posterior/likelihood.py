"""Likelihood of the grey values given the mixture, classes summed out, for every family.

All grey values here are standardised, (z - centre) / scale; see `scaling`. With Gaussian classes
the value and the gradient of the log-likelihood both come from one E-step over the pixels: by
Fisher's identity the gradient of sum_i log sum_k exp(l_ik) is the responsibility-weighted sum of
the gradients of l_ik, and the sufficient statistics of the E-step are those sums.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from jaxmicro.errors import UsageError
from jaxmicro.mixture.batch import Item, over_frames
from jaxmicro.mixture.family import Family, PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import Params, Stats, e_step, moments, posterior

_ENDS = (-2.0, 2.0)  # standardised: they hold 99 % of the grey values
_LEAST_VARIANCE = 1e-6  # standardised, of a class


@dataclasses.dataclass(frozen=True)
class Noise:
    """What recording does to grey values, whatever the family of the classes.

    Attributes:
      saturation: right-censoring: a pixel recorded at this grey level or above is only known to be
        at least that bright; None: no pixel is censored.
      grey_step: step between recorded grey levels; class sds include the rounding variance
        grey_step^2 / 12. None: the smallest step found in the values; 0: not rounded. Where class
        sds are close to the step, they are determined by the rounding rather than by the data. A
        family that ties the sds takes them as they are recorded, rounding included.

    Raises:
      UsageError: a negative `grey_step`.
    """

    saturation: float | None = None
    grey_step: float | None = None

    def __post_init__(self) -> None:
        if self.grey_step is not None and not self.grey_step >= 0:
            raise UsageError(f"grey_step = {self.grey_step} is not allowed; use 0 or more")

    def standardised(self, family: Family, centre: float, scale: float, dtype: Any) -> ClassNoise:
        """Family and noise for the standardised grey values (z - centre) / scale."""
        limit = None
        if self.saturation is not None:
            limit = jnp.asarray((self.saturation - centre) / scale, dtype)
        law = None
        if isinstance(family, PoissonGaussian):
            law = jnp.asarray(family.known(centre, scale), dtype)
        return ClassNoise(family, law, limit)


class ClassNoise(eqx.Module):
    """Distribution of standardised grey values about the mean of their class.

    `law` holds what is given of a detector's line, 0 elsewhere. Its free numbers are sampled as
    sds of classes that lie at the ends of the grey values.
    """

    family: Family = eqx.field(static=True)
    law: Float[Array, " 3"] | None = None
    saturation: Float[Array, ""] | None = None

    @property
    def estimates_dof(self) -> bool:
        """Whether the degrees of freedom are a parameter."""
        return self.family.heavy_tailed and bool(self.family.free)

    @property
    def n_ends(self) -> int:
        """Number of free numbers of a detector's line."""
        return len(self.family.free) if self.family.ties_sds else 0

    def dof(self, estimate: float) -> float:
        """The degrees of freedom that are given, or else `estimate`."""
        given = self.family.dof if isinstance(self.family, StudentT) else None
        return estimate if given is None else given

    def line(self, end_sds: Float[Array, " F"]) -> Float[Array, " 3"]:
        """The detector's line from the sds at its ends: at both, or at the one that is free."""
        r, q, o = self._given
        if self.family.free == (0, 1):
            q = (end_sds[1] ** 2 - end_sds[0] ** 2) / (_ENDS[1] - _ENDS[0])
        elif self.family.free == (1,):
            q = end_sds[0] ** 2 / self._reach
        if 0 in self.family.free:
            r = end_sds[0] ** 2 - q * (_ENDS[0] - o)
        return jnp.stack([r, q, o])

    def end_sds(self, line: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " F"]:
        """The inverse of `line`."""
        variance = line[0] + line[1] * (np.asarray(_ENDS) - line[2])
        if self.family.free == (1,):
            variance = line[1:2] * float(self._reach)
        return np.sqrt(np.maximum(variance, 1e-3))[: self.n_ends]

    @property
    def _given(self) -> tuple[Array, Array, Array]:
        if self.law is None:
            raise ValueError(f"family {self.family.name!r} has no line of variances")
        return self.law[0], self.law[1], self.law[2]

    @property
    def _reach(self) -> Array:
        """From the offset to the bright end."""
        return jnp.maximum(_ENDS[1] - self._given[2], 0.1)

    def line_sds(self, line: Float[Array, " 3"], means: Float[Array, " K"]) -> Float[Array, " K"]:
        """Class sds of a detector's line."""
        return jnp.sqrt(jnp.maximum(line[0] + line[1] * (means - line[2]), _LEAST_VARIANCE))

    def log_density(
        self,
        values: Float[Array, "T n"],
        mean: Float[Array, "T n"],
        sd: Float[Array, "T m"],
        dof: Float[Array, ""],
    ) -> Float[Array, "T n"]:
        """log f(z | class) in nats; log P(z >= saturation | class) at censored pixels."""
        u, law = (values - mean) / sd, dof[None]
        plain = self.family.constant(law) - jnp.log(sd) + self.family.kernel(u, law)
        if self.saturation is None:
            return plain
        censored = values >= self.saturation
        return jnp.where(censored, log_ndtr((mean - self.saturation) / sd), plain)

    def draw(
        self,
        keys: tuple[Array, Array],
        mean: Float[Array, "T n"],
        sd: Float[Array, "T n"],
        dof: Float[Array, ""],
    ) -> Float[Array, "T n"]:
        """Grey values about `mean`; `keys` for the normal part and for the tails."""
        unit = jax.random.normal(keys[0], mean.shape, mean.dtype)
        if self.family.heavy_tailed:
            half = jnp.broadcast_to(dof / 2, mean.shape)
            unit = unit / jnp.sqrt(jax.random.gamma(keys[1], half, dtype=mean.dtype) / half)
        values = mean + sd * unit
        return values if self.saturation is None else jnp.minimum(values, self.saturation)


class Mixture(eqx.Module):
    """Parameters of every frame in standardised grey values: T frames, K classes, P trend terms.

    With local proportions `strength` is that of the interaction and `log_weights` are the frames'
    fields, to which a constant may be added; the design of the pixels then has 1 + K rows after the
    terms of the trend: `known`, and log m of every class (see `spacetime.neighbour_proportions`).
    """

    log_weights: Float[Array, "T K"]
    means: Float[Array, "T K"]
    sds: Float[Array, "T K"]
    trend: Float[Array, "T P"]
    dof: Float[Array, ""]
    strength: Float[Array, ""] | None = None


@jax.custom_jvp
def gaussian_log_likelihood(mixture: Mixture, pixels: Item) -> Float[Array, " T"]:
    """Sum over each frame's pixels of log sum_k p_k N(z | class k), in nats; p_k may be local.

    Differentiable any number of times with respect to `mixture`; not with respect to the pixels.
    """
    return _e_pass(mixture, pixels)[0]


@gaussian_log_likelihood.defjvp
def _gaussian_jvp(primals, tangents):
    mixture, pixels = primals
    d = tangents[0]
    value, stats, in_weights, in_strength = _e_pass(mixture, pixels)
    sds = mixture.sds
    slope = jnp.sum(stats.suf / sds[..., None] ** 2, axis=1)
    along = (
        in_weights * d.log_weights
        + stats.su / sds**2 * d.means
        + (stats.suu / sds**3 - stats.s0 / sds) * d.sds
    )
    total = jnp.sum(along, axis=-1) + jnp.sum(slope * d.trend, axis=-1)
    return value, total if d.strength is None else total + in_strength * d.strength


def _e_pass(
    mixture: Mixture, pixels: Item
) -> tuple[Float[Array, " T"], Stats, Float[Array, "T K"], Float[Array, " T"]]:
    """Log-likelihood, sums for its gradient, and that in log weights or field, and strength."""
    local = mixture.strength is not None
    weights = jnp.ones_like(mixture.means) if local else jnp.exp(mixture.log_weights)
    ones = jnp.ones_like(mixture.means)
    params = Params(weights, mixture.means, mixture.sds, mixture.trend, ones)
    strength = jnp.zeros(()) if mixture.strength is None else mixture.strength
    strength = jnp.broadcast_to(strength, mixture.means.shape[:1])

    def one(args, values, design, weight):
        params, field, strength = args
        if not local:
            value, stats = e_step(params, values, design, weight)
            return value, stats, stats.s0, jnp.zeros_like(value)
        terms = design[: params.trend.shape[0]]
        log_pi, known, log_m = local_proportions(field[:, None], strength, design)
        resp, u, value = posterior(params, values, terms, weight, log_pi)
        more = known[None] * (resp - weight[None] * jnp.exp(log_pi))
        return value, moments(params, resp, u, terms), more.sum(1), jnp.sum(more * log_m)

    return over_frames(one, (params, mixture.log_weights, strength), pixels)


def local_proportions(
    field: Float[Array, "K *#T 1"], strength: Float[Array, ""], design: Float[Array, "C *T n"]
) -> tuple[Float[Array, "K *T n"], Float[Array, "*T n"], Float[Array, "K *T n"]]:
    """Log proportions of each pixel, `known` and log m, from the last rows of its design."""
    k = field.shape[0]
    known, log_m = design[-k - 1], design[-k:]
    raw = (1 + (strength - 1) * known)[None] * log_m + known[None] * field
    top = jax.lax.stop_gradient(jnp.max(raw, axis=0, keepdims=True))
    total = jnp.log(jnp.sum(jnp.exp(raw - top), axis=0, keepdims=True))
    return raw - top - total, known, log_m


def log_proportions(
    mixture: Mixture, design: Float[Array, "C T n"]
) -> Float[Array, "K T n"] | Float[Array, "K T 1"]:
    """Log proportions of the classes: at each pixel, or the same in a whole frame."""
    by_class = mixture.log_weights.T[..., None]
    if mixture.strength is None:
        return by_class
    return local_proportions(by_class, mixture.strength, design)[0]


def pixel_log_likelihood(
    noise: ClassNoise,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> Float[Array, "T n"]:
    """log sum_k p_k f(z | class k) of every pixel, in nats, for any family."""
    joint = class_log_joint(noise, mixture, values, design)
    top = jax.lax.stop_gradient(_largest(joint))
    total = sum((jnp.exp(j - top) for j in joint[1:]), jnp.exp(joint[0] - top))
    return top + jnp.log(total)


def class_log_joint(
    noise: ClassNoise,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> list[Float[Array, "T n"]]:
    """log p_k + log f(z | class k) at each pixel, one array per class."""
    slope = trend_at(mixture, design, jnp.zeros_like(values))
    log_p = log_proportions(mixture, design)
    return [
        log_p[k]
        + noise.log_density(
            values, mixture.means[:, k, None] + slope, mixture.sds[:, k, None], mixture.dof
        )
        for k in range(mixture.means.shape[-1])
    ]


def trend_at(
    mixture: Mixture, design: Float[Array, "P S n"], start: Float[Array, "T n"]
) -> Float[Array, "T n"]:
    """`start` plus the trend at every pixel."""
    for j in range(mixture.trend.shape[1]):
        start = start + mixture.trend[:, j, None] * design[j]
    return start


def _largest(arrays: list[Float[Array, "T n"]]) -> Float[Array, "T n"]:
    top = arrays[0]
    for a in arrays[1:]:
        top = jnp.maximum(top, a)
    return top
