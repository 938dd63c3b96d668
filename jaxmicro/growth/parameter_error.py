"""What an area owes to class means, sds and trend that are only known so well (delta method).

With a prior pi for every visited pixel, the density of its grey value is sum_k pi_k f_k(z). Scores
of all pixels give the information on the frame's own parameters (a tilt of the prior in each class,
trend) and on those that frames share; the area moves with them through the probabilities of
foreground (White 1982, Econometrica 50:1, for the information as a sum of squared scores).

Where the area is a sum of the probabilities themselves, the tilt follows the other parameters, and
what it owes to the sample alone is the error of the sampling, counted elsewhere. What is left is
the variance of the fitted share less that with the other parameters known.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.inferred import Inferred
from jaxmicro.mixture.gmrm import GMRM, Params

MOST = 2**20  # pixels of a movie that the information is taken from; of larger ones every s-th
LEAST_PRIOR = 1e-6  # proportion of a class at a pixel
LEAST = 1e-7  # of the largest eigenvalue: directions with less information do not move the area


def parameter_variance(
    model: GMRM,
    params: Params,
    pixels: Pixels,
    inferred: Inferred,
    foreground: tuple[int, ...],
) -> Float[np.ndarray, " T"]:
    """Variance of each frame's share of foreground that comes from the fitted parameters.

    Args:
      params: batch axis (frames,), as are the pixels.
      inferred: the labels whose mean is the share.
    """
    wanted = jnp.isin(jnp.arange(model.n_classes), jnp.array(foreground))
    dtype = pixels.values.dtype
    step = -(-pixels.values.size // MOST) | 1  # odd, so that columns of a frame take turns
    few = _every(pixels, step)
    prior, told = (jnp.asarray(a[..., ::step], dtype) for a in (inferred.prior, inferred.told))
    found = _slopes(model, params, few, prior, told, wanted)
    information, slope = (np.asarray(a, float) for a in found)
    information *= step
    weight = np.broadcast_to(np.asarray(few.weight, float), few.values.shape)
    slope /= np.maximum(weight.sum(axis=1), 1)[:, None]
    slope[:, : model.n_classes - 1] = 0  # the labels do not lean on the prior
    shared = _shared(model, information.shape[1])
    return _variance(information, slope, shared)


def share_variance(
    model: GMRM,
    params: Params,
    pixels: Pixels,
    responsibilities: Float[np.ndarray, "*batch K n"],
    foreground: Bool[np.ndarray, "*batch K"],
) -> Float[np.ndarray, "*batch"]:
    """Variance of the mean probability of foreground that comes from the fitted parameters.

    Args:
      params: batch axes (frames,) or (frames, replicates), as are the pixels.
      responsibilities: those of the fit; with the class densities they tell the proportions.
      foreground: which classes are.
    """
    k, batch, dtype = model.n_classes, pixels.values.shape[:-1], pixels.values.dtype
    size = batch[0] * pixels.values.shape[-1]  # of a movie; replicates do not inform one another
    step = -(-size // MOST) | 1
    few = _flat(_every(pixels, step))
    flat = jax.tree.map(lambda a: a.reshape(math.prod(batch), a.shape[-1]), params)
    resp = jnp.asarray(responsibilities)[..., ::step]
    prior = _proportions(model, flat, few, resp.reshape(-1, *resp.shape[-2:]))
    if model.family.ties_sds:  # sds move with the means: left to derivatives by machine
        ones = jnp.ones(few.values.shape, dtype)
        found = _slopes(model, flat, few, prior, ones, jnp.ones(k, bool))[0]
    else:
        found = information_of(model, flat, few, prior)
    information = np.asarray(found, float)
    slope = np.zeros(information.shape[:2])
    slope[:, : k - 1] = _tilted(prior, few.weight, jnp.asarray(foreground).reshape(-1, k))[:, :-1]
    information, slope = (a.reshape(*batch, *a.shape[1:]) for a in (step * information, slope))
    if len(batch) == 1:
        return _beyond_tilt(model, information, slope)
    each = [_beyond_tilt(model, information[:, b], slope[:, b]) for b in range(batch[1])]
    return np.stack(each, axis=1)


def _beyond_tilt(
    model: GMRM, information: Float[np.ndarray, "T q q"], slope: Float[np.ndarray, "T q"]
) -> Float[np.ndarray, " T"]:
    """Variance along `slope`, less that with all but the tilt known."""
    tilt = model.n_classes - 1
    whole = _variance(information, slope, _shared(model, slope.shape[1]))
    alone = _variance(information[:, :tilt, :tilt], slope[:, :tilt], np.zeros(tilt, bool))
    return np.maximum(whole - alone, 0)


@eqx.filter_jit
def _proportions(
    model: GMRM, params: Params, pixels: Pixels, responsibilities: Float[Array, "T K n"]
) -> Float[Array, "T K n"]:
    """Proportions from which Bayes' rule makes these responsibilities."""
    even = eqx.tree_at(lambda p: p.weights, params, jnp.ones_like(params.weights))
    by_grey = model.responsibilities(even, pixels)
    tiny = jnp.finfo(by_grey.dtype).tiny
    logit = jnp.log(jnp.maximum(responsibilities, tiny)) - jnp.log(jnp.maximum(by_grey, tiny))
    known = (responsibilities > tiny) & (by_grey > tiny)
    weights = jnp.log(jnp.maximum(params.weights, tiny))[:, :, None]
    return jnp.maximum(jax.nn.softmax(jnp.where(known, logit, weights), axis=1), LEAST_PRIOR)


@jax.jit
def _tilted(
    prior: Float[Array, "T K n"], weight: Float[Array, "T n"], wanted: Bool[Array, "T K"]
) -> Float[Array, "T K"]:
    """Slope of the mean proportion of foreground with a tilt of the prior in each class."""
    chosen = wanted[:, :, None]
    inside = jnp.sum(jnp.where(chosen, prior, 0), axis=1, keepdims=True)
    slope = prior * (jnp.where(chosen, 1, 0) - inside)
    count = jnp.maximum(weight.sum(axis=1), 1)
    return jnp.sum(slope * weight[:, None], axis=2) / count[:, None]


def _flat(pixels: Pixels) -> Pixels:
    """Replicates as further frames."""
    shape = pixels.values.shape

    def flat(a: Array) -> Array:
        return jnp.broadcast_to(a, shape).reshape(-1, shape[-1])

    rows, cols, weight = (flat(a) for a in (pixels.rows, pixels.cols, pixels.weight))
    per = shape[1] if len(shape) == 3 else 1
    domain = jnp.repeat(pixels.n_domain, per, axis=0)
    return Pixels(flat(pixels.values), rows, cols, weight, domain, pixels.shape, pixels.pattern)


def _every(pixels: Pixels, step: int) -> Pixels:
    rows, cols, weight = (a[..., ::step] for a in (pixels.rows, pixels.cols, pixels.weight))
    values = pixels.values[..., ::step]
    return Pixels(values, rows, cols, weight, pixels.n_domain, pixels.shape, pixels.pattern)


def _shared(model: GMRM, size: int) -> np.ndarray:
    """Which of tilt, trend, means and sds all frames share."""
    k, p = model.n_classes, model.trend.n_terms
    names = np.array(["tilt"] * (k - 1) + ["trend"] * p + ["means"] * k + ["sds"] * k)[:size]
    return np.isin(names, model.share)


@eqx.filter_jit
def _slopes(
    model: GMRM,
    params: Params,
    pixels: Pixels,
    prior: Float[Array, "T K n"],
    told: Float[Array, "T n"],
    wanted: Array,
) -> tuple[Float[Array, "T q q"], Float[Array, "T q"]]:
    """Sums of squared scores, and slope of the summed labels, of every frame."""
    k, p = model.n_classes, model.trend.n_terms
    ends = np.cumsum([k - 1, p, k])
    design = model.design(pixels)
    shape = pixels.values.shape
    design = jnp.broadcast_to(design if design.ndim == 3 else design[:, None], (p, *shape))
    weight = jnp.broadcast_to(pixels.weight.astype(prior.dtype), shape)

    def one(args) -> tuple[Array, Array]:
        of_frame, z, f, w, pi, by = args

        def both(theta: Float[Array, " q"]) -> tuple[Array, Array]:
            tilt, trend, means, *rest = jnp.split(theta, ends)
            sds = of_frame.sds * jnp.exp(rest[0]) if not model.family.ties_sds else of_frame.sds
            even = jnp.ones(k, z.dtype)
            moved = Params(even, means, sds, trend, of_frame.gain, of_frame.law)
            log_f = jnp.stack(model.log_joint(moved, z, f))
            log_pi = jax.nn.log_softmax(jnp.log(pi) + jnp.append(tilt, 0.0)[:, None], axis=0)
            joint = log_f + log_pi
            chance = jax.nn.softmax(joint, axis=0)
            inside = jnp.sum(jnp.where(wanted[:, None], chance, 0), axis=0)
            return jax.nn.logsumexp(joint, axis=0), jnp.sum(w * inside / by)

        pieces = [jnp.zeros(k - 1, z.dtype), of_frame.trend, of_frame.means]
        pieces += [] if model.family.ties_sds else [jnp.zeros(k, z.dtype)]
        score, slope = jax.jacfwd(both)(jnp.concatenate(pieces))
        score = jnp.where(w[:, None] > 0, score, 0)
        high = jax.lax.Precision.HIGHEST
        return jax.lax.dot(score.T * w[None], score, precision=high), slope

    frames = (params, pixels.values, jnp.moveaxis(design, 1, 0), weight, prior, told)
    return jax.lax.map(one, frames)


@eqx.filter_jit
def information_of(
    model: GMRM, params: Params, pixels: Pixels, prior: Float[Array, "T K n"]
) -> Float[Array, "T q q"]:
    """Sums of squared scores of tilt, trend, means and log sds of every frame, written out.

    The same as by `_slopes` in a fifth of the time, for families whose sds are free.
    """
    p = model.trend.n_terms
    design = model.design(pixels)
    shape = pixels.values.shape
    design = jnp.broadcast_to(design if design.ndim == 3 else design[:, None], (p, *shape))
    weight = jnp.broadcast_to(pixels.weight.astype(prior.dtype), shape)

    def one(args) -> Array:
        of_frame, z, f, w, pi = args
        even = eqx.tree_at(lambda a: a.weights, of_frame, jnp.ones_like(of_frame.weights))
        chance = jax.nn.softmax(jnp.stack(model.log_joint(even, z, f)) + jnp.log(pi), axis=0)
        sds, gain = of_frame.sds[:, None], of_frame.gain[:, None]
        surface = jnp.sum(of_frame.trend[:, None] * f, axis=0)
        u = (z[None] - of_frame.means[:, None] - gain * surface[None]) / sds
        pull = chance * model.family.weight(u, of_frame.law) * u
        own = pi / jnp.sum(pi, axis=0, keepdims=True)
        of_trend = f * jnp.sum(pull * gain / sds, axis=0)[None]
        score = jnp.concatenate([(chance - own)[:-1], of_trend, pull / sds, pull * u - chance])
        score = jnp.where(w[None] > 0, score, 0)
        return jax.lax.dot(score * w[None], score.T, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(one, (params, pixels.values, jnp.moveaxis(design, 1, 0), weight, prior))


def _variance(
    information: Float[np.ndarray, "T q q"], slope: Float[np.ndarray, "T q"], shared: np.ndarray
) -> Float[np.ndarray, " T"]:
    """Variance of slope times parameters, where the shared ones learn from all frames."""
    finite = np.isfinite(information).all(axis=(1, 2)) & np.isfinite(slope).all(axis=1)
    own, both = ~shared, shared
    out = np.full(len(slope), np.nan)
    of_shared = np.zeros((both.sum(),) * 2)
    parts = {}
    for t in np.flatnonzero(finite):
        inside = _inverse(information[t][np.ix_(own, own)])
        across = information[t][np.ix_(own, both)]
        of_shared += information[t][np.ix_(both, both)] - across.T @ inside @ across
        parts[t] = inside, slope[t][both] - slope[t][own] @ inside @ across
    covariance = _inverse(of_shared)
    for t, (inside, rest) in parts.items():
        out[t] = slope[t][own] @ inside @ slope[t][own] + rest @ covariance @ rest
    return out


def _inverse(information: np.ndarray) -> np.ndarray:
    """Of a positive semidefinite matrix, in directions about which something is known."""
    if not information.size:
        return information
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    values, vectors = np.linalg.eigh(information / scale[:, None] / scale)
    kept = values > LEAST * max(values.max(), 0)
    inverse = np.divide(1, values, out=np.zeros_like(values), where=kept)
    return (vectors * inverse) @ vectors.T / scale[:, None] / scale
