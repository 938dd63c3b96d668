"""The Gaussian mixture regression model: its parameters, density and E-step.

Pixel i of frame t belongs to class k with probability p_tk and then
z_i ~ N(delta_k + g_k f(x_i, y_i) . beta_t, sigma_k^2), with g_k = 1 unless `gain` is asked for.
Other distributions about the same means: see `family`.

Arrays are class-major: K unrolled rows of n pixels each, which XLA turns into straight vector
loops. Everything the M-step needs is a responsibility-weighted sum of fixed functions of the
residual and the design, so one pass over the pixels a step is enough.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.arguments import expect, whole
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.family import GAUSSIAN, Family
from jaxmicro.mixture.trend import Trend

NO_TREND = Trend()
SHAREABLE = ("means", "sds", "gain")


class Params(eqx.Module):
    """Parameters of the model, with the batch axes of the pixels they belong to.

    Values are in the movie's grey units; `trend` per unit of the scaled coordinate. Classes are in
    order of increasing mean. `gain` averages 1 over the classes. `law` holds the L numbers of the
    class family, as in `Family.columns`; None where it has none.
    """

    weights: Float[Array, "*batch K"]
    means: Float[Array, "*batch K"]
    sds: Float[Array, "*batch K"]
    trend: Float[Array, "*batch P"]
    gain: Float[Array, "*batch K"]
    law: Float[Array, "*batch L"] | None = None

    def __getitem__(self, index: Any) -> Params:
        return jax.tree.map(lambda a: a[index], self)

    def first(self, n_classes: int) -> Params:
        """The parameters of the darkest `n_classes` classes."""
        weights, means, sds, gain = (
            a[..., :n_classes] for a in (self.weights, self.means, self.sds, self.gain)
        )
        return Params(weights, means, sds, self.trend, gain, self.law)


def choose(condition: Bool[Array, ""], yes: Params, no: Params) -> Params:
    """`yes` where the condition holds, else `no`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


class Stats(eqx.Module):
    """Responsibility-weighted sums about the current parameters (u = z - class mean at pixel).

    `class_counts` are the pixels of each class. In the other sums a pixel of a heavy-tailed class
    counts with its weight w as well, and `log_less` sums log w - w + 1 over all classes.
    """

    class_counts: Float[Array, "*batch K"]
    s0: Float[Array, "*batch K"]
    su: Float[Array, "*batch K"]
    suu: Float[Array, "*batch K"]
    sf: Float[Array, "*batch K P"]
    suf: Float[Array, "*batch K P"]
    sff: Float[Array, "*batch K P P"]
    log_less: Float[Array, "*batch"] | None = None


class GMRM(eqx.Module):
    """Which model: number of classes, trend, and what is shared by all frames of a movie.

    `share` holds any of "means", "sds" and "gain"; weights and trend are always per frame. With
    `share = ()` each frame is fitted alone, as in the paper. With `gain` the trend of class k is
    multiplied by a factor g_k. `family` is the distribution of a class about its mean; its law is
    shared where the sds are. A trend may be given as its formula: `GMRM(3, "x + y")`.

    Raises:
      UsageError: fewer than 1 class, an unknown name in `share`, what the family does not have, or
        an argument of another type.
    """

    n_classes: int = eqx.field(static=True)
    trend: Trend = eqx.field(static=True)
    share: tuple[str, ...] = eqx.field(static=True)
    gain: bool = eqx.field(static=True)
    family: Family = eqx.field(static=True)

    def __init__(
        self,
        n_classes: int,
        trend: Trend | str = NO_TREND,
        share: tuple[str, ...] | list[str] = (),
        gain: bool = False,
        family: Family = GAUSSIAN,
    ) -> None:
        self.n_classes = whole(n_classes, "classes", 1, 32)
        expect(trend, (Trend, str), "GMRM: trend")
        self.trend = Trend(trend) if isinstance(trend, str) else trend
        if isinstance(share, str):
            raise UsageError(f"share = {share!r} is one text; use a tuple: share=({share!r},)")
        expect(share, (tuple, list), "GMRM: share")
        self.share = tuple(share)
        expect(gain, bool, "GMRM: gain")
        self.gain = gain
        expect(family, Family, "GMRM: family")
        self.family = family

    def __check_init__(self) -> None:
        for name in self.share:
            if name not in SHAREABLE:
                raise UsageError(f"share = {name!r} is not known; use any of {SHAREABLE}")
        if self.gain and not self.trend.n_terms:
            raise UsageError("gain = true needs a trend to act on; give one or set gain = false")
        if self.gain and self.family.ties_sds:
            raise UsageError(
                f"gain = true is not supported by family = {self.family.name!r} (a gain moves the "
                "means that the sds depend on); set gain = false"
            )
        if self.n_classes == 1 and len(self.family.free) > 1:
            raise UsageError(
                f"family = {self.family.name!r} cannot estimate its line of variances from one "
                "class; use 2 or more, or give grey_per_quantum"
            )

    def design(self, pixels: Pixels) -> Float[Array, "P *batch n"]:
        return self.trend.design(pixels.rows, pixels.cols, pixels.shape, pixels.values.dtype)

    def n_parameters(self, n_frames: int = 1, n_classes: Any = None) -> Any:
        """Free parameters: K-1 weights and P trend terms a frame, K means, sds (and K-1 gains).

        The sds of a family that ties them are no parameters; the free numbers of its law are.
        With fewer classes than the model's, those of a fit that leaves the others empty.
        """
        k = self.n_classes if n_classes is None else n_classes
        total = n_frames * (k - 1 + self.trend.n_terms)
        of_sds = (0 if self.family.ties_sds else k) + len(self.family.free)
        for name, count in (("means", k), ("sds", of_sds), ("gain", k - 1 if self.gain else 0)):
            total += count * (1 if name in self.share else n_frames)
        return total

    def log_joint(
        self, params: Params, values: Float[Array, "*batch n"], design: Float[Array, "P *#batch n"]
    ) -> list[Float[Array, "*batch n"]]:
        """log p_k + log density of z in class k at each pixel, one array per class."""
        return _log_joint(self.family, params, values, design)

    def responsibilities(self, params: Params, pixels: Pixels) -> Float[Array, "*batch K n"]:
        """C_ik, the posterior class probabilities at each pixel."""
        expect(params, Params, "responsibilities: params")
        expect(pixels, Pixels, "responsibilities: pixels")
        log_joint = self.log_joint(params, pixels.values, _spread(self.design(pixels), pixels))
        return jax.nn.softmax(jnp.stack(log_joint, axis=-2), axis=-2)

    def classify(self, params: Params, pixels: Pixels) -> Int[Array, "*batch n"]:
        """The most probable class of each pixel (0 is the darkest)."""
        expect(params, Params, "classify: params")
        expect(pixels, Pixels, "classify: pixels")
        log_joint = self.log_joint(params, pixels.values, _spread(self.design(pixels), pixels))
        best, label = log_joint[0], jnp.zeros(pixels.values.shape, jnp.int32)
        for k in range(1, self.n_classes):
            label = jnp.where(log_joint[k] > best, k, label)
            best = jnp.maximum(best, log_joint[k])
        return label


def _spread(design: Float[Array, "P *b n"], pixels: Pixels) -> Float[Array, "P *c n"]:
    """Give a design shared by all frames the batch axes of the values."""
    missing = pixels.values.ndim - (design.ndim - 1)
    return design.reshape(design.shape[0], *([1] * missing), *design.shape[1:])


def _log_joint(
    family: Family,
    params: Params,
    values: Float[Array, "*batch n"],
    design: Float[Array, "P *#batch n"],
) -> list[Float[Array, "*batch n"]]:
    """Log joint densities, one array per class."""
    law = None if params.law is None else jnp.moveaxis(params.law, -1, 0)[..., None]
    slope = jnp.zeros_like(values)
    for j in range(design.shape[0]):
        slope = slope + params.trend[..., j, None] * design[j]
    plain = values - slope
    tiny = jnp.finfo(values.dtype).tiny
    log_joint = []
    for k in range(params.means.shape[-1]):
        gain = params.gain[..., k, None]
        u = plain + (1 - gain) * slope - params.means[..., k, None]
        sd = params.sds[..., k, None]
        constant = jnp.log(jnp.maximum(params.weights[..., k, None], tiny)) - jnp.log(sd)
        log_joint.append(constant + family.constant(law) + family.kernel(u / sd, law))
    return log_joint


def e_step(
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
    family: Family = GAUSSIAN,
) -> tuple[Float[Array, ""], Stats]:
    """One pass over the pixels of one frame: log-likelihood and sufficient statistics.

    The sums are taken about the current class means, so that float32 keeps the digits that the
    variances need.
    """
    resp, u, log_likelihood = posterior(params, values, design, weight, family=family)
    return log_likelihood, moments(params, resp, u, design, family)


def moments(
    params: Params,
    resp: Float[Array, "K n"],
    u: Float[Array, "K n"],
    design: Float[Array, "P n"],
    family: Family = GAUSSIAN,
) -> Stats:
    """Sufficient statistics from weighted responsibilities and standardised residuals."""
    class_counts = log_less = None
    if family.heavy_tailed:
        class_counts = jnp.sum(resp, axis=1)
        w = family.weight(u, params.law)
        log_less = jnp.sum(resp * (jnp.log(w) - w + 1))
        resp = resp * w
    moment = resp * u
    sums = product(resp, moment_table(design))
    sums_u = product(moment, moment_table(design, order=1))
    sd, p = params.sds, design.shape[0]
    return Stats(
        sums[:, 0] if class_counts is None else class_counts,
        sums[:, 0],
        sums_u[:, 0] * sd,
        jnp.sum(moment * u, axis=1) * sd**2,
        sums[:, 1 : p + 1],
        sums_u[:, 1:] * sd[:, None],
        sums[:, pair_columns(p)],
        log_less,
    )


def posterior(
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
    log_weights: Float[Array, "K n"] | None = None,
    family: Family = GAUSSIAN,
    judged: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, "K n"], Float[Array, "K n"], Float[Array, ""]]:
    """Weighted responsibilities, standardised residuals, and the summed log-likelihood.

    `log_weights` are class proportions of each pixel, in the place of the frame's weights; the sum
    is over pixels `judged` (1 or 0), if given.

    The residuals of all classes come from one matrix product, whatever the gains: it is faster
    than building the trend row by row, and its result is stored once instead of being
    recomputed by every fused loop that reads it.
    """
    inverse = 1 / params.sds
    slope = -(params.gain * inverse)[:, None] * params.trend[None, :]
    affine = jnp.concatenate([-(params.means * inverse)[:, None], slope], axis=1)
    fixed = jnp.concatenate([jnp.ones_like(values)[None], design])
    shift = jax.lax.dot(affine, fixed, precision=jax.lax.Precision.HIGHEST)
    u = values[None, :] * inverse[:, None] + shift
    tiny = jnp.finfo(values.dtype).tiny
    weights = params.weights if log_weights is None else jnp.ones_like(params.weights)
    constant = jnp.log(jnp.maximum(weights, tiny) * inverse) + family.constant(params.law)
    log_joint = constant[:, None] + family.kernel(u, params.law)
    if log_weights is not None:
        log_joint = log_joint + log_weights
    # The shift cancels; as a constant it also spares derivatives the ties of a maximum (0 / 0).
    top = jax.lax.stop_gradient(jnp.max(log_joint, axis=0))
    density = jnp.exp(log_joint - top[None])
    total = jnp.sum(density, axis=0)
    counted = weight if judged is None else weight * judged
    log_likelihood = _pairwise_sum(counted * (top + jnp.log(total)))
    return density * (weight / total)[None], u, log_likelihood


def moment_table(design: Float[Array, "P n"], order: int = 2) -> Float[Array, "M n"]:
    """1, f_j and (order 2) the distinct products f_i f_j, as rows."""
    p = design.shape[0]
    pairs = [design[i] * design[j] for i in range(p) for j in range(i + 1)] if order == 2 else []
    return jnp.stack([jnp.ones(design.shape[1:], design.dtype), *design, *pairs])


def pair_columns(p: int) -> np.ndarray:
    """Where the product f_i f_j stands among the rows of `moment_table`."""
    i, j = np.indices((p, p))
    high, low = np.maximum(i, j), np.minimum(i, j)
    return 1 + p + high * (high + 1) // 2 + low


def product(a: Float[Array, "A n"], b: Float[Array, "B n"]) -> Float[Array, "A B"]:
    """All pairwise sums over the pixels, in full precision on every platform."""
    dims = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=jax.lax.Precision.HIGHEST)


def _pairwise_sum(terms: Float[Array, " n"]) -> Float[Array, ""]:
    """Sum in two levels: float32 error grows with the length of a run, so keep the runs short."""
    n = terms.shape[0]
    width = max(1, int(n**0.5))
    head = terms[: n - n % width].reshape(-1, width)
    return jnp.sum(jnp.sum(head, axis=1)) + jnp.sum(terms[n - n % width :])
