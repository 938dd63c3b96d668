"""Likelihood of the grey values given the mixture, classes summed out, for every noise model.

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
from jax.scipy.special import gammaln, log_ndtr
from jaxtyping import Array, Float

from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import Params, Stats
from jaxmicro.mixture.lanes import Lane, e_lane

LIKELIHOODS = ("gaussian", "student-t", "poisson-gaussian")
_HALF_LOG_2PI = 0.9189385332046727


@dataclasses.dataclass(frozen=True)
class Noise:
    """Distribution of the grey values about the mean of their class.

    Attributes:
      likelihood: "gaussian"; "student-t", with heavier tails, whose degrees of freedom are
        estimated and common to all classes; "poisson-gaussian", with variance
        sd_k^2 + grey_per_quantum * (m - offset) at a pixel with mean m (Foi et al. 2008, IEEE
        Trans. Image Process. 17:1737).
      grey_per_quantum: grey levels per detected quantum (electron, photon); required by
        "poisson-gaussian" and refused with other likelihoods.
      offset: grey level without signal (black level).
      saturation: right-censoring: a pixel recorded at this grey level or above is only known to be
        at least that bright; None: no pixel is censored.
      grey_step: step between recorded grey levels; class sds include the rounding variance
        grey_step^2 / 12. None: the smallest step found in the values; 0: not rounded. Where class
        sds are close to the step, they are determined by the rounding rather than by the data.

    Raises:
      UsageError: unknown likelihood; `grey_per_quantum` missing, not positive or without effect; a
        negative `grey_step`; or saturation together with "student-t".
    """

    likelihood: str = "gaussian"
    grey_per_quantum: float | None = None
    offset: float = 0.0
    saturation: float | None = None
    grey_step: float | None = None

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise UsageError(
                f"likelihood {self.likelihood!r} is not known; use one of {', '.join(LIKELIHOODS)}"
            )
        quantum, counts = self.grey_per_quantum, self.likelihood == "poisson-gaussian"
        if counts and (quantum is None or not quantum > 0):
            raise UsageError(
                f"grey_per_quantum = {quantum} is not allowed with likelihood 'poisson-gaussian'; "
                "give the detector's grey levels per quantum, a number above 0"
            )
        if not counts and quantum is not None:
            raise UsageError(
                f"grey_per_quantum = {quantum} has no effect with likelihood "
                f"{self.likelihood!r}; leave it out or use 'poisson-gaussian'"
            )
        if self.grey_step is not None and not self.grey_step >= 0:
            raise UsageError(f"grey_step = {self.grey_step} is not allowed; use 0 or more")
        if self.saturation is not None and self.likelihood == "student-t":
            raise UsageError(
                "censoring of saturated pixels is not supported by the posterior with likelihood "
                "'student-t'; use 'gaussian' or 'poisson-gaussian', or leave the saturation out"
            )

    def standardised(self, centre: float, scale: float, dtype: Any) -> StandardNoise:
        """The same noise for the standardised grey values (z - centre) / scale."""

        def number(value: float | None, shift: float) -> Array | None:
            return None if value is None else jnp.asarray((value - shift) / scale, dtype)

        return StandardNoise(
            self.likelihood,
            number(self.grey_per_quantum, 0.0),
            jnp.asarray((self.offset - centre) / scale, dtype),
            number(self.saturation, centre),
        )


class StandardNoise(eqx.Module):
    """A `Noise` in standardised grey values: `grey_per_quantum`, `offset` and `saturation`."""

    likelihood: str = eqx.field(static=True)
    grey_per_quantum: Float[Array, ""] | None
    offset: Float[Array, ""]
    saturation: Float[Array, ""] | None

    @property
    def estimates_dof(self) -> bool:
        """Whether the degrees of freedom are a parameter."""
        return self.likelihood == "student-t"

    def shot_variance(self, mean: Float[Array, "T n"]) -> Float[Array, "T n"]:
        """Variance of the counting noise at pixels with the given mean; 0 without it."""
        if self.grey_per_quantum is None:
            return jnp.zeros_like(mean)
        return self.grey_per_quantum * jnp.maximum(mean - self.offset, 0)

    def class_scale(
        self, mean: Float[Array, "T n"], sd: Float[Array, "T m"]
    ) -> Float[Array, "T n"]:
        """Scale of a class with sd `sd` at pixels with local mean `mean`."""
        if self.grey_per_quantum is None:
            return jnp.broadcast_to(sd, mean.shape)
        return jnp.sqrt(sd**2 + self.shot_variance(mean))

    def log_density(
        self,
        values: Float[Array, "T n"],
        mean: Float[Array, "T n"],
        sd: Float[Array, "T m"],
        dof: Float[Array, ""],
    ) -> Float[Array, "T n"]:
        """log f(z | class) in nats; log P(z >= saturation | class) at censored pixels."""
        scale = self.class_scale(mean, sd)
        u = (values - mean) / scale
        if self.likelihood == "student-t":
            half = 0.5 * (dof + 1)
            constant = gammaln(half) - gammaln(0.5 * dof) - 0.5 * jnp.log(jnp.pi * dof)
            return constant - jnp.log(scale) - half * jnp.log1p(u**2 / dof)
        plain = -_HALF_LOG_2PI - jnp.log(scale) - 0.5 * u**2
        if self.saturation is None:
            return plain
        censored = values >= self.saturation
        return jnp.where(censored, log_ndtr((mean - self.saturation) / scale), plain)

    def draw(
        self,
        keys: tuple[Array, Array],
        mean: Float[Array, "T n"],
        sd: Float[Array, "T n"],
        dof: Float[Array, ""],
    ) -> Float[Array, "T n"]:
        """Grey values about `mean`; `keys` for the normal part and for the tails."""
        scale = self.class_scale(mean, sd)
        unit = jax.random.normal(keys[0], mean.shape, mean.dtype)
        if self.likelihood == "student-t":
            half = jnp.broadcast_to(dof / 2, mean.shape)
            unit = unit / jnp.sqrt(jax.random.gamma(keys[1], half, dtype=mean.dtype) / half)
        values = mean + scale * unit
        return values if self.saturation is None else jnp.minimum(values, self.saturation)


class Mixture(eqx.Module):
    """Parameters of every frame in standardised grey values: T frames, K classes, P trend terms."""

    log_weights: Float[Array, "T K"]
    means: Float[Array, "T K"]
    sds: Float[Array, "T K"]
    trend: Float[Array, "T P"]
    dof: Float[Array, ""]


@jax.custom_jvp
def gaussian_log_likelihood(mixture: Mixture, pixels: Lane) -> Float[Array, " T"]:
    """Sum over each frame's pixels of log sum_k p_k N(z | class k), in nats.

    Differentiable any number of times with respect to `mixture`; not with respect to the pixels.
    """
    return _e_pass(mixture, pixels)[0]


@gaussian_log_likelihood.defjvp
def _gaussian_jvp(primals, tangents):
    mixture, pixels = primals
    d = tangents[0]
    value, stats = _e_pass(mixture, pixels)
    sds = mixture.sds
    slope = jnp.sum(stats.suf / sds[..., None] ** 2, axis=1)
    along = (
        stats.s0 * d.log_weights
        + stats.su / sds**2 * d.means
        + (stats.suu / sds**3 - stats.s0 / sds) * d.sds
    )
    return value, jnp.sum(along, axis=-1) + jnp.sum(slope * d.trend, axis=-1)


def _e_pass(mixture: Mixture, pixels: Lane) -> tuple[Float[Array, " T"], Stats]:
    params = Params(
        jnp.exp(mixture.log_weights),
        mixture.means,
        mixture.sds,
        mixture.trend,
        jnp.ones_like(mixture.means),
    )
    return e_lane(params, pixels)


def pixel_log_likelihood(
    noise: StandardNoise,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> Float[Array, "T n"]:
    """log sum_k p_k f(z | class k) of every pixel, in nats, for any noise model."""
    joint = class_log_joint(noise, mixture, values, design)
    top = jax.lax.stop_gradient(_largest(joint))
    total = sum((jnp.exp(j - top) for j in joint[1:]), jnp.exp(joint[0] - top))
    return top + jnp.log(total)


def class_log_joint(
    noise: StandardNoise,
    mixture: Mixture,
    values: Float[Array, "T n"],
    design: Float[Array, "P S n"],
) -> list[Float[Array, "T n"]]:
    """log p_k + log f(z | class k) at each pixel, one array per class."""
    slope = trend_at(mixture, design, jnp.zeros_like(values))
    return [
        mixture.log_weights[:, k, None]
        + noise.log_density(
            values, mixture.means[:, k, None] + slope, mixture.sds[:, k, None], mixture.dof
        )
        for k in range(mixture.means.shape[-1])
    ]


def trend_at(
    mixture: Mixture, design: Float[Array, "P S n"], start: Float[Array, "T n"]
) -> Float[Array, "T n"]:
    """`start` plus the trend at every pixel."""
    for j in range(design.shape[0]):
        start = start + mixture.trend[:, j, None] * design[j]
    return start


def _largest(arrays: list[Float[Array, "T n"]]) -> Float[Array, "T n"]:
    top = arrays[0]
    for a in arrays[1:]:
        top = jnp.maximum(top, a)
    return top
