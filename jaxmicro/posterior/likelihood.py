"""Marginal log-likelihoods of the GMRM for gradient-based inference: classes summed out.

Everything works in standardised grey values (mean 0, sd 1 over the lane). The Gaussian form is
the E-step of the fit with its statistics as gradient, so that a value and its gradient cost one
pass over the pixels: by Fisher's identity the gradient of sum_i log sum_k exp(l_ik) is the
responsibility-weighted sum of the gradients of l_ik, and those sums are the statistics.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, log_ndtr
from jaxtyping import Array, Float

from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import Params
from jaxmicro.mixture.lanes import Lane, e_lane

LIKELIHOODS = ("gaussian", "student-t", "poisson-gaussian")
_HALF_LOG_2PI = 0.9189385332046727


@dataclasses.dataclass(frozen=True)
class Noise:
    """How grey values scatter about a class's mean.

    Attributes:
      likelihood: "gaussian"; "student-t", heavier tails with degrees of freedom shared by the
        classes and estimated; "poisson-gaussian", whose variance sd_k^2 + gain * (m - offset)
        grows with the local mean m (Foi et al. 2008, IEEE Trans. Image Process. 17:1737).
      gain: grey levels per detected quantum, needed by "poisson-gaussian" and only there.
      offset: grey level without signal (black level), in grey.
      saturation: a pixel at or above this grey level is only known to be at least that bright;
        None takes every value at its word.

    Raises:
      UsageError: unknown likelihood, a gain that is missing, not positive or not used, or
        saturation together with "student-t".
    """

    likelihood: str = "gaussian"
    gain: float | None = None
    offset: float = 0.0
    saturation: float | None = None

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise UsageError(
                f"likelihood {self.likelihood!r} is not known; use one of {', '.join(LIKELIHOODS)}"
            )
        counts = self.likelihood == "poisson-gaussian"
        if counts and (self.gain is None or not self.gain > 0):
            raise UsageError(
                f"gain = {self.gain} is not allowed with likelihood 'poisson-gaussian'; give the "
                "detector's grey levels per quantum, a number above 0"
            )
        if not counts and self.gain is not None:
            raise UsageError(
                f"gain = {self.gain} has no effect with likelihood {self.likelihood!r}; "
                "leave it out or use 'poisson-gaussian'"
            )
        if self.saturation is not None and self.likelihood == "student-t":
            raise UsageError(
                "censoring of saturated pixels has no posterior form with likelihood 'student-t'; "
                "use 'gaussian' or 'poisson-gaussian', or leave the saturation out"
            )

    def standardised(self, centre: float, spread: float, dtype: Any) -> Scatter:
        """The same noise for (values - centre) / spread, as numbers for a program."""

        def number(value: float | None, shift: float) -> Array | None:
            return None if value is None else jnp.asarray((value - shift) / spread, dtype)

        return Scatter(
            self.likelihood,
            number(self.gain, 0.0),
            jnp.asarray((self.offset - centre) / spread, dtype),
            number(self.saturation, centre),
        )


class Scatter(eqx.Module):
    """A `Noise` in standardised grey values, inside programs."""

    likelihood: str = eqx.field(static=True)
    gain: Float[Array, ""] | None
    offset: Float[Array, ""]
    saturation: Float[Array, ""] | None


class Mixture(eqx.Module):
    """Parameters of one lane in standardised units: T frames, K classes, P trend terms."""

    log_weights: Float[Array, "T K"]
    means: Float[Array, "T K"]
    sds: Float[Array, "T K"]
    trend: Float[Array, "T P"]
    dof: Float[Array, ""]


@jax.custom_jvp
def gaussian_log_likelihood(mixture: Mixture, lane: Lane) -> Float[Array, " T"]:
    """Sum over a frame's pixels of log sum_k p_k N(z | class k), in nats, for every frame.

    Differentiable any number of times with respect to `mixture`; not with respect to the data.
    """
    return _e_pass(mixture, lane)[0]


@gaussian_log_likelihood.defjvp
def _gaussian_jvp(primals, tangents):
    mixture, lane = primals
    d = tangents[0]
    value, stats = _e_pass(mixture, lane)
    sds = mixture.sds
    slope = jnp.sum(stats.suf / sds[..., None] ** 2, axis=1)
    along = (
        stats.s0 * d.log_weights
        + stats.su / sds**2 * d.means
        + (stats.suu / sds**3 - stats.s0 / sds) * d.sds
    )
    return value, jnp.sum(along, axis=-1) + jnp.sum(slope * d.trend, axis=-1)


def _e_pass(mixture: Mixture, lane: Lane):
    params = Params(
        jnp.exp(mixture.log_weights),
        mixture.means,
        mixture.sds,
        mixture.trend,
        jnp.ones_like(mixture.means),
    )
    return e_lane(params, lane)


def pixel_log_likelihood(
    noise: Scatter,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> Float[Array, "T n"]:
    """log sum_k p_k f(z | class k) of every pixel, in nats, for any noise form."""
    joint = class_log_joint(noise, mixture, values, design)
    top = jax.lax.stop_gradient(_largest(joint))
    total = sum((jnp.exp(j - top) for j in joint[1:]), jnp.exp(joint[0] - top))
    return top + jnp.log(total)


def class_log_joint(
    noise: Scatter,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> list[Float[Array, "T n"]]:
    """log p_k + log f(z | class k) at each pixel, one array per class."""
    slope = jnp.zeros_like(values)
    for j in range(design.shape[0]):
        slope = slope + mixture.trend[:, j, None] * design[j]
    return [
        mixture.log_weights[:, k, None]
        + _log_density(noise, values, mixture.means[:, k, None] + slope, mixture, k)
        for k in range(mixture.means.shape[-1])
    ]


def class_scale(
    noise: Scatter, mean: Float[Array, "T n"], sd: Float[Array, "T m"]
) -> Float[Array, "T n"]:
    """Scale of a class at pixels with local mean `mean`: its sd, with shot noise where asked."""
    if noise.gain is None:
        return jnp.broadcast_to(sd, mean.shape)
    return jnp.sqrt(sd**2 + noise.gain * jnp.maximum(mean - noise.offset, 0))


def _log_density(
    noise: Scatter, values: Float[Array, "T n"], mean: Float[Array, "T n"], mixture: Mixture, k: int
) -> Float[Array, "T n"]:
    scale = class_scale(noise, mean, mixture.sds[:, k, None])
    u = (values - mean) / scale
    if noise.likelihood == "student-t":
        half = 0.5 * (mixture.dof + 1)
        constant = gammaln(half) - gammaln(0.5 * mixture.dof) - 0.5 * jnp.log(jnp.pi * mixture.dof)
        return constant - jnp.log(scale) - half * jnp.log1p(u**2 / mixture.dof)
    plain = -_HALF_LOG_2PI - jnp.log(scale) - 0.5 * u**2
    if noise.saturation is None:
        return plain
    censored = values >= noise.saturation
    return jnp.where(censored, log_ndtr((mean - noise.saturation) / scale), plain)


def _largest(arrays: list[Float[Array, "T n"]]) -> Float[Array, "T n"]:
    top = arrays[0]
    for a in arrays[1:]:
        top = jnp.maximum(top, a)
    return top
