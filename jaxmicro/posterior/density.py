"""The posterior density as a NumPyro model: priors, random walks, and classes summed out."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.distributions import constraints
from numpyro.handlers import reparam
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn

from jaxmicro.posterior.likelihood import (
    Mixture,
    gaussian_log_likelihood,
    log_proportions,
    pixel_log_likelihood,
)
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.random_walk import RandomWalk, Whitened
from jaxmicro.posterior.sites import BY_NAME, is_sampled, size

GAP_UNIT = 0.15  # of the prior median gap: where the coordinate of a gap bends from linear to log


class _Gaps(dist.LogNormal):
    """A log-normal sampled through softplus: nearly linear where classes are well apart.

    Where a poorly determined class mean lies between two well determined ones, one gap grows as
    the other shrinks. In logs that is a thin curved ridge, on which NUTS diverges; in linear
    coordinates it is a straight one, which the observed information whitens.
    """

    support = constraints.softplus_positive


def model(problem: Problem) -> None:
    """The NumPyro model of one batch item; its sites are those of `sites.SITES`."""
    mixture = sample_prior(problem)
    pixels = problem.pixels
    if problem.subsample is None:
        total = frame_log_likelihood(problem, mixture)
        numpyro.factor("log_likelihood", jnp.sum(total - problem.baseline))
        return
    weight = jnp.broadcast_to(pixels.weight, pixels.values.shape)
    n_frames, n = pixels.values.shape
    with (
        numpyro.plate("frames", n_frames, dim=-2),
        numpyro.plate("pixels", n, subsample_size=problem.subsample, dim=-1) as pick,
    ):
        some = pixel_log_likelihood(
            problem.noise, mixture, pixels.values[:, pick], pixels.design[:, :, pick]
        )
        numpyro.factor("pixel_log_likelihood", weight[:, pick] * some)


def frame_log_likelihood(problem: Problem, mixture: Mixture) -> Float[Array, " T"]:
    """Log-likelihood of the pixels of every frame, nats, in standardised grey values."""
    pixels, noise = problem.pixels, problem.noise
    if not noise.family.heavy_tailed:
        total = gaussian_log_likelihood(mixture, pixels)
    else:
        every = pixel_log_likelihood(noise, mixture, pixels.values, pixels.design)
        total = jnp.sum(pixels.weight * every, axis=-1)
    if problem.saturated is not None:
        bright = problem.saturated
        every = pixel_log_likelihood(noise, mixture, bright.values, bright.design)
        total = total + jnp.sum(bright.weight * every, axis=-1)
    return total


def sample_prior(problem: Problem) -> Mixture:
    """Sample every parameter from its prior, inside a NumPyro model."""
    means = _sample_means(problem)
    own_sds, sds, line = _sample_sds(problem, means)
    dof = jnp.asarray(problem.noise.dof(1.0), problem.dtype)
    if is_sampled(problem, "dof"):
        dof = _sample_log_normal(problem, "dof", problem.priors.dof, 1)[0]
    strength = None
    if problem.movie:
        shared = jnp.concatenate([means, jnp.log(own_sds)])
        if is_sampled(problem, "strength"):
            strength = _sample_strength(problem)
            shared = jnp.concatenate([shared, jnp.log(strength)])
        log_weights = _sample_walking_weights(problem, shared)
        trend = _sample_walking_trend(problem, shared)
    else:
        log_weights, trend = _sample_frame(problem)
    mixture = _mixture(problem, log_weights, means, sds, trend, dof, strength)
    derived = {"means": means, "sds": sds, "weights": mean_weights(problem, mixture)}
    centre = jnp.mean(log_weights, axis=1, keepdims=True)
    derived |= {"trend": trend, "field": log_weights - centre}
    derived |= {"line": line} if line is not None else {}
    for name, value in derived.items():
        if BY_NAME[name].derived(problem):
            numpyro.deterministic(name, value)
    return mixture


def mean_weights(problem: Problem, mixture: Mixture) -> Float[Array, "T K"]:
    """Class weights of each frame: with local proportions their mean over its visited pixels."""
    log_p, weight = log_proportions(mixture, problem.pixels.design), problem.pixels.weight
    if not problem.local:
        return jnp.exp(log_p[..., 0].T)
    total = jnp.sum(weight[None] * jnp.exp(log_p), axis=-1).T
    return total / jnp.maximum(jnp.sum(weight, axis=-1), 1)[:, None]


def _mixture(
    problem: Problem, log_weights, means, sds, trend, dof, strength: Array | None
) -> Mixture:
    shape = (problem.n_frames, problem.n_classes)
    return Mixture(
        log_weights,
        jnp.broadcast_to(means[None], shape),
        jnp.broadcast_to(sds[None], shape),
        trend,
        dof,
        None if strength is None else strength[0],
    )


def rounded(problem: Problem, own_sds: Float[Array, " K"]) -> Float[Array, " K"]:
    """Class sds with the variance of rounding to grey levels; a detector's line includes it."""
    if problem.noise.family.ties_sds:
        return own_sds
    return jnp.sqrt(own_sds**2 + problem.grey_step**2 / 12)


def _sample_log_normal(
    problem: Problem, name: str, pair: tuple[float, float], length: int
) -> Float[Array, " N"]:
    median = jnp.full(length, jnp.log(pair[0]), problem.dtype)
    return numpyro.sample(name, dist.LogNormal(median, pair[1]).to_event(1))


def _sample_means(problem: Problem) -> Float[Array, " K"]:
    """Class means in increasing order: the lowest one, and the gaps between neighbours."""
    k, dtype, prior = problem.n_classes, problem.dtype, problem.priors
    loc, scale = (jnp.asarray(v, dtype) for v in prior.lowest_mean or (2.0 / k - 2.0, 0.5))
    lowest = numpyro.sample("lowest_mean", dist.Normal(loc, scale))
    if not is_sampled(problem, "scaled_gaps"):
        return lowest[None]
    width = (prior.gap or (0.0, 0.5))[1]
    loc = jnp.full(size(problem, "scaled_gaps"), -math.log(GAP_UNIT), dtype)
    scaled = numpyro.sample("scaled_gaps", _Gaps(loc, width).to_event(1))
    gaps = gap_unit(problem) * scaled
    return lowest + jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(gaps)])


def gap_unit(problem: Problem) -> float:
    """Standardised grey value of one unit of the site `scaled_gaps`."""
    return GAP_UNIT * (problem.priors.gap or (4.0 / problem.n_classes,))[0]


def _sample_sds(
    problem: Problem, means: Float[Array, " K"]
) -> tuple[Float[Array, " K"], Float[Array, " K"], Float[Array, " 3"] | None]:
    """Class sds without and with the variance of rounding, and the detector's line."""
    k, prior = problem.n_classes, problem.priors
    if problem.noise.family.ties_sds:
        ends = jnp.zeros(0, problem.dtype)
        if is_sampled(problem, "end_sds"):
            n = size(problem, "end_sds")
            ends = _sample_log_normal(problem, "end_sds", prior.sd or (1.0 / k, 0.5), n)
        line = problem.noise.line(ends)
        sds = problem.noise.line_sds(line, means)
        return sds, sds, line
    common = _sample_log_normal(problem, "common_sd", prior.sd or (1.0 / k, 0.5), 1)
    about = jnp.broadcast_to(jnp.log(common), (k,))
    own_sds = numpyro.sample("own_sds", dist.LogNormal(about, prior.sd_ratio).to_event(1))
    return own_sds, rounded(problem, own_sds), None


def _sample_frame(problem: Problem) -> tuple[Float[Array, "1 K"], Float[Array, "1 P"]]:
    """Log weights and trend of a single frame."""
    dtype, prior = problem.dtype, problem.priors
    log_weights, trend = jnp.zeros((1, 1), dtype), jnp.zeros((1, 0), dtype)
    if is_sampled(problem, "weights"):
        concentration = jnp.full(problem.n_classes, prior.weights, dtype)
        log_weights = jnp.log(numpyro.sample("weights", dist.Dirichlet(concentration)))[None]
    if is_sampled(problem, "trend"):
        scale, tails = prior.trend
        zero = jnp.zeros(size(problem, "trend"), dtype)
        trend = numpyro.sample("trend", dist.StudentT(tails, zero, scale).to_event(1))[None]
    return log_weights, trend


def _sample_strength(problem: Problem) -> Float[Array, " 1"]:
    """Strength of the interaction, about that of the fit."""
    assert problem.strength is not None
    median = jnp.log(problem.strength)[None]
    prior = dist.LogNormal(median, problem.priors.strength).to_event(1)
    return numpyro.sample("strength", prior)


def _sample_walking_weights(problem: Problem, shared: Float[Array, " S"]) -> Float[Array, "T K"]:
    """Log weights, or fields, whose differences to the reference class walk over the frames."""
    if not is_sampled(problem, "log_odds"):
        return jnp.zeros((problem.n_frames, 1), problem.dtype)
    prior, n = problem.priors, size(problem, "walk_weights")
    steps = _sample_log_normal(problem, "walk_weights", prior.walk_weights, n)
    known = _expected_walks(problem, 0, n, shared)
    first = prior.field if problem.local else prior.log_odds
    odds = numpyro.sample("log_odds", RandomWalk(*first, steps, problem.n_frames, known))
    return log_weights_of(odds, problem.reference)


def log_weights_of(odds: Float[Array, "J T"], reference: Int[Array, ""]) -> Float[Array, "T K"]:
    """Log class weights from log odds against the class `reference`, which is left out of them."""
    k = odds.shape[0] + 1
    place = jnp.arange(k)
    source = jnp.clip(jnp.where(place > reference, place - 1, place), 0, k - 2)
    full = jnp.where((place == reference)[:, None], 0, odds[source])
    return jax.nn.log_softmax(full, axis=0).T


def _sample_walking_trend(problem: Problem, shared: Float[Array, " S"]) -> Float[Array, "T P"]:
    """Trend coefficients that are random walks over frames."""
    dtype, n_frames = problem.dtype, problem.n_frames
    if not is_sampled(problem, "trend_walk"):
        return jnp.zeros((n_frames, 0), dtype)
    p, first = size(problem, "walk_trend"), problem.n_classes - 1
    steps = _sample_log_normal(problem, "walk_trend", problem.priors.walk_trend, p)
    scale, tails = problem.priors.trend
    # The first frame's coefficients have the same Student-t prior as a single frame's: a normal
    # distribution whose precision is gamma distributed, so that the walk itself stays normal.
    half = jnp.full(p, 0.5 * tails, dtype)
    precision = numpyro.sample("trend_precision", dist.Gamma(half, half).to_event(1))
    known = _expected_walks(problem, first, first + p, shared)
    walk = RandomWalk(0.0, scale / jnp.sqrt(precision), steps, n_frames, known)
    return numpyro.sample("trend_walk", walk).T


def _expected_walks(
    problem: Problem, start: int, stop: int, shared: Float[Array, " S"]
) -> tuple[Float[Array, "D T"], Float[Array, "D T"]] | None:
    """Mean and precision of the likelihood in walks start:stop given the shared parameters."""
    if problem.walks is None:
        return None
    near = problem.walks
    moved = near.slope[start:stop] @ (shared - near.at)
    return near.centre[start:stop] + moved, near.precision[start:stop]


def whitened(problem: Problem) -> None:
    """The model with whitened walks, on which every sampler works."""
    reparam(model, config=lambda site: Whitened())(problem)


def potential(problem: Problem, sites: dict[str, Array]) -> Float[Array, ""]:
    """Minus log posterior density at unconstrained parameters, up to a constant, in nats."""
    energy = potential_energy(whitened, (problem,), {}, sites)
    return energy.astype(problem.dtype)  # constants of the priors may be wider


def constrained(problem: Problem, sites: dict[str, Array]) -> dict[str, Array]:
    """All sampled and derived quantities at unconstrained parameters."""
    return constrain_fn(whitened, (problem,), {}, sites, return_deterministic=True)


def unconstrained(problem: Problem, values: dict[str, Array]) -> dict[str, Array]:
    """Unconstrained parameters from constrained ones."""
    return unconstrain_fn(whitened, (problem,), {}, values)


def mixture_at(problem: Problem, values: dict[str, Array]) -> Mixture:
    """The mixture at values of the sites, as `constrained` gives them."""
    k, p, n_frames, dtype = problem.n_classes, problem.n_terms, problem.n_frames, problem.dtype
    weights = values.get("weights", jnp.ones(1, dtype))
    trend = values.get("trend", jnp.zeros(0, dtype))
    log_weights = jnp.log(jnp.maximum(weights, jnp.finfo(dtype).tiny))
    if problem.local:
        log_weights = values["field"]
    return _mixture(
        problem,
        jnp.broadcast_to(log_weights, (n_frames, k)),
        values["means"],
        values["sds"],
        jnp.broadcast_to(trend, (n_frames, p)),
        values.get("dof", jnp.full(1, problem.noise.dof(1.0), dtype))[0],
        values.get("strength"),
    )
