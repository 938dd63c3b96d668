"""The GMRM as a NumPyro model: priors, classes marginalised, ordered means, walks over frames.

All priors are in standardised grey values, (z - centre) / spread: the range in which 99 % of the
lane's visited pixels lie (a lane is one frame, or the whole movie) becomes -2 to 2. The range says
where K classes can be; mean and sd of the grey values would say mostly how common they are.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.distributions import constraints
from numpyro.handlers import reparam
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn

from jaxmicro.errors import UsageError
from jaxmicro.mixture.lanes import Lane
from jaxmicro.posterior.likelihood import (
    Mixture,
    Scatter,
    gaussian_log_likelihood,
    pixel_log_likelihood,
)
from jaxmicro.posterior.random_walk import RandomWalk, Whitened

GAP_UNIT = 0.15  # of the usual gap: where the coordinate of a gap bends from linear to log


class _Gaps(dist.LogNormal):
    """A log-normal sampled through softplus: nearly linear where classes are well apart.

    A class mean that is free between two firm neighbours makes one gap grow as the other
    shrinks. In logs that is a thin curved ridge, on which NUTS diverges; in linear coordinates
    it is a straight one, which the observed information whitens.
    """

    support = constraints.softplus_positive


@dataclasses.dataclass(frozen=True)
class Priors:
    """Weakly informative priors, in quarters of the range of grey values (see the module).

    Pairs are (location, scale) of a normal, or (median, sd of the log) of a log-normal.

    Attributes:
      weights: concentration of the Dirichlet on class weights (single frames).
      lowest_mean: normal prior of the darkest class mean; None is (2 / K - 2, 0.5).
      gap: log-normal prior of the distance between neighbouring class means; None is
        (4 / K, 0.5). A log-normal has no mass at 0, so two classes never change places.
      sd: log-normal prior of the sd that classes have in common; None is (1 / K, 0.5).
      sd_ratio: sd of the log of a class's own sd over the common one. One detector records all
        classes: a class of a few dozen pixels must not pose as a wide one under all others.
      trend: (scale, degrees of freedom) of the Student-t that shrinks trend coefficients to 0.
      dof: log-normal prior of the degrees of freedom of Student-t classes.
      log_odds: normal prior, in the first frame, of each class's log odds against the most
        common class (movies).
      reference: the class that log odds are against; None is the most common one.
      walk_weights: log-normal prior of the sd of a frame's step in those log odds (movies).
      walk_trend: log-normal prior of the sd of a frame's step in a trend coefficient (movies).

    Raises:
      UsageError: a scale, a concentration or a median that is not above 0.
    """

    weights: float = 1.0
    lowest_mean: tuple[float, float] | None = None
    gap: tuple[float, float] | None = None
    sd: tuple[float, float] | None = None
    sd_ratio: float = 0.3
    trend: tuple[float, float] = (0.25, 3.0)
    dof: tuple[float, float] = (8.0, 0.75)
    log_odds: tuple[float, float] = (-1.0, 2.5)
    reference: int | None = None
    walk_weights: tuple[float, float] = (0.1, 1.0)
    walk_trend: tuple[float, float] = (0.02, 1.0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None or field.name == "reference":
                continue
            normal = field.name in ("lowest_mean", "log_odds")
            scales = value[1:] if normal else value if isinstance(value, tuple) else (value,)
            if isinstance(value, tuple) and len(value) != 2:
                raise UsageError(f"prior {field.name} = {value}: give two numbers")
            if not all(s > 0 for s in scales):
                raise UsageError(
                    f"prior {field.name} = {value} is not allowed; its "
                    f"{'scale' if normal else 'numbers'} must be above 0"
                )


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is fixed when a program is compiled: sizes and priors of one lane.

    With `movie` means and sds are shared by all frames while log odds and trend walk over them;
    without it the lane is one frame. `subsample` draws that many pixels a step (SVI).
    """

    n_classes: int
    n_terms: int
    movie: bool
    priors: Priors = Priors()
    subsample: int | None = None

    @property
    def n_shared(self) -> int:
        """Length of the vector of shared parameters: means, then log sds."""
        return 2 * self.n_classes


class Hint(eqx.Module):
    """What the pixels say about the walks, given the shared parameters: used to whiten them.

    Frame t's likelihood is roughly normal in walk j about `centre[j, t]`, moved by
    `pull[j, t] . (shared - base)`, with precision `precision[j, t]`.
    """

    centre: Float[Array, "D T"]
    precision: Float[Array, "D T"]
    pull: Float[Array, "D T S"]
    base: Float[Array, " S"]


class Data(eqx.Module):
    """The pixels of one lane in standardised grey values; a pytree, so programs are reused.

    `saturated` holds the pixels known only to be at least that bright; they have no weight in
    `lane`. `level` is the log-likelihood at the starting point: subtracted, it leaves float32
    the digits that differences need. `grey_step` is the step of the grey levels, whose rounding
    variance step^2 / 12 class variances include (Sheppard's correction). `reference` is the
    class that log odds are against.
    """

    lane: Lane
    saturated: Lane | None
    noise: Scatter
    level: Float[Array, " T"]
    grey_step: Float[Array, ""]
    reference: Int[Array, ""]
    hint: Hint | None = None


def model(setting: Setting, data: Data) -> None:
    """The NumPyro model of one lane; unobserved sites carry the standardised parameters."""
    mixture = priors(setting, data)
    lane = data.lane
    weight = jnp.broadcast_to(lane.weight, lane.values.shape)
    if setting.subsample is not None:
        n_frames, n = lane.values.shape
        with (
            numpyro.plate("frames", n_frames, dim=-2),
            numpyro.plate("pixels", n, subsample_size=setting.subsample, dim=-1) as pick,
        ):
            some = pixel_log_likelihood(
                data.noise, mixture, lane.values[:, pick], lane.design[:, :, pick]
            )
            numpyro.factor("pixel_log_likelihood", weight[:, pick] * some)
    else:
        total = lane_log_likelihood(mixture, data)
        numpyro.factor("log_likelihood", jnp.sum(total - data.level))


def lane_log_likelihood(mixture: Mixture, data: Data) -> Float[Array, " T"]:
    """Log-likelihood of every frame of a lane, nats, in standardised grey values."""
    lane = data.lane
    if data.noise.likelihood == "gaussian":
        total = gaussian_log_likelihood(mixture, lane)
    else:
        every = pixel_log_likelihood(data.noise, mixture, lane.values, lane.design)
        total = jnp.sum(lane.weight * every, axis=-1)
    if data.saturated is not None:
        bright = data.saturated
        every = pixel_log_likelihood(data.noise, mixture, bright.values, bright.design)
        total = total + jnp.sum(bright.weight * every, axis=-1)
    return total


def priors(setting: Setting, data: Data) -> Mixture:
    """Sample every parameter from its prior; the generative half of the model."""
    k, p, n_frames = setting.n_classes, setting.n_terms, data.lane.values.shape[0]
    dtype = data.lane.values.dtype
    prior = setting.priors

    def log_normal(name: str, pair: tuple[float, float], size: int) -> Array:
        loc = jnp.full(size, jnp.log(pair[0]), dtype)
        return numpyro.sample(name, dist.LogNormal(loc, pair[1]).to_event(1))

    loc, scale = (jnp.asarray(v, dtype) for v in prior.lowest_mean or (2.0 / k - 2.0, 0.5))
    lowest = numpyro.sample("lowest_mean", dist.Normal(loc, scale))
    means = lowest[None]
    if k > 1:
        median, width = prior.gap or (4.0 / k, 0.5)
        unit = GAP_UNIT * median
        loc = jnp.full(k - 1, -math.log(GAP_UNIT), dtype)
        gaps = unit * numpyro.sample("scaled_gaps", _Gaps(loc, width).to_event(1))
        means = lowest + jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(gaps)])
    common = log_normal("common_sd", prior.sd or (1.0 / k, 0.5), 1)
    about = jnp.broadcast_to(jnp.log(common), (k,))
    own_sds = numpyro.sample("own_sds", dist.LogNormal(about, prior.sd_ratio).to_event(1))
    sds = jnp.sqrt(own_sds**2 + data.grey_step**2 / 12)
    dof = jnp.asarray(1.0, dtype)
    if data.noise.likelihood == "student-t":
        dof = log_normal("dof", prior.dof, 1)[0]
    if setting.movie:
        shared = jnp.concatenate([means, jnp.log(own_sds)])
        log_weights = _walking_weights(setting, data, shared)
        trend = _walking_trend(setting, data, shared)
    else:
        log_weights = jnp.zeros((1, 1), dtype)
        if k > 1:
            concentration = jnp.full(k, prior.weights, dtype)
            weights = numpyro.sample("weights", dist.Dirichlet(concentration))
            log_weights = jnp.log(weights)[None]
        trend = jnp.zeros((1, 0), dtype)
        if p:
            width, tails = prior.trend
            shrink = dist.StudentT(tails, jnp.zeros(p, dtype), width).to_event(1)
            trend = numpyro.sample("trend", shrink)[None]
    numpyro.deterministic("means", means)
    numpyro.deterministic("sds", sds)
    if setting.movie:
        numpyro.deterministic("weights", jnp.exp(log_weights))
        numpyro.deterministic("trend", trend)
    shape = (n_frames, k)
    return Mixture(
        log_weights,
        jnp.broadcast_to(means[None], shape),
        jnp.broadcast_to(sds[None], shape),
        trend,
        dof,
    )


def _walking_weights(setting: Setting, data: Data, shared: Array) -> Float[Array, "T K"]:
    """Log weights whose log odds against the reference class are random walks over frames."""
    k, n_frames = setting.n_classes, data.lane.values.shape[0]
    dtype = data.lane.values.dtype
    if k == 1:
        return jnp.zeros((n_frames, 1), dtype)
    median, spread = setting.priors.walk_weights
    size = jnp.full(k - 1, jnp.log(median), dtype)
    steps = numpyro.sample("walk_weights", dist.LogNormal(size, spread).to_event(1))
    walk = RandomWalk(*setting.priors.log_odds, steps, n_frames, _part(data, 0, k - 1, shared))
    odds = numpyro.sample("log_odds", walk)
    return log_weights_of(odds, data.reference)


def log_weights_of(odds: Float[Array, "J T"], reference: Int[Array, ""]) -> Float[Array, "T K"]:
    """Log class weights from log odds against the class `reference`, which is left out of them."""
    k = odds.shape[0] + 1
    place = jnp.arange(k)
    source = jnp.clip(jnp.where(place > reference, place - 1, place), 0, k - 2)
    full = jnp.where((place == reference)[:, None], 0, odds[source])
    return jax.nn.log_softmax(full, axis=0).T


def _walking_trend(setting: Setting, data: Data, shared: Array) -> Float[Array, "T P"]:
    p, k, n_frames = setting.n_terms, setting.n_classes, data.lane.values.shape[0]
    dtype = data.lane.values.dtype
    if not p:
        return jnp.zeros((n_frames, 0), dtype)
    median, spread = setting.priors.walk_trend
    size = jnp.full(p, jnp.log(median), dtype)
    steps = numpyro.sample("walk_trend", dist.LogNormal(size, spread).to_event(1))
    scale, tails = setting.priors.trend
    # The first frame's coefficients are shrunk to 0 by the same Student-t as a single frame's:
    # a normal whose precision is gamma distributed, so that the walk itself stays normal.
    half = jnp.full(p, 0.5 * tails, dtype)
    precision = numpyro.sample("trend_precision", dist.Gamma(half, half).to_event(1))
    walk = RandomWalk(
        0.0, scale / jnp.sqrt(precision), steps, n_frames, _part(data, k - 1, k - 1 + p, shared)
    )
    return numpyro.sample("trend_walk", walk).T


def _part(data: Data, start: int, stop: int, shared: Array) -> tuple[Array, Array] | None:
    """Where the pixels put walks start:stop given the shared parameters, and how firmly."""
    if data.hint is None:
        return None
    hint = data.hint
    moved = hint.pull[start:stop] @ (shared - hint.base)
    return hint.centre[start:stop] + moved, hint.precision[start:stop]


def whitened(setting: Setting, data: Data) -> None:
    """The model with its walks whitened: what every sampler works on."""
    reparam(model, config=lambda site: Whitened())(setting, data)


def potential(setting: Setting, data: Data, sites: dict[str, Array]) -> Float[Array, ""]:
    """Minus log posterior density at unconstrained site values, up to a constant, in nats."""
    energy = potential_energy(whitened, (setting, data), {}, sites)
    return energy.astype(data.lane.values.dtype)  # constants of the priors may be wider


def constrained(setting: Setting, data: Data, sites: dict[str, Array]) -> dict[str, Array]:
    """All sampled and derived quantities at unconstrained site values."""
    return constrain_fn(whitened, (setting, data), {}, sites, return_deterministic=True)


def unconstrained(setting: Setting, data: Data, values: dict[str, Array]) -> dict[str, Array]:
    """Unconstrained site values from constrained ones."""
    return unconstrain_fn(whitened, (setting, data), {}, values)
