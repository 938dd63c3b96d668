"""Stochastic variational inference: a normal guide fitted to the posterior, and draws from it."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value
from numpyro.infer.svi import SVIState

from jaxmicro.posterior.coordinates import Coordinates, constrain, isotropic
from jaxmicro.posterior.density import constrained, whitened
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sampler import Draws, Progress, Sampler

_GUIDES = {
    "multivariate": autoguide.AutoMultivariateNormal,
    "diagonal": autoguide.AutoDiagonalNormal,
    "lowrank": autoguide.AutoLowRankMultivariateNormal,
}
_STEPS_PER_BLOCK = 250  # progress and interruptions are handled between blocks
_PARTICLES = 4  # draws from the guide per estimate of the evidence lower bound
_START_SCALE = 0.03  # sd of the guide at the start, in unconstrained parameters
_LAST_RATE = 0.01  # learning rate at the end over the one at the start


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What of a `Sampler` the optimiser depends on."""

    guide: str
    steps: int
    learning_rate: float

    @property
    def block(self) -> int:
        return max(1, min(self.steps, _STEPS_PER_BLOCK))


@dataclasses.dataclass(frozen=True)
class _Optimiser:
    """NumPyro's optimiser of the evidence lower bound, and its guide, whose model is `whitened`.

    Two are equal where their settings are: their steps differ in the problem and the state only,
    which are arguments. So frames on their own share one compiled step.
    """

    settings: _Settings
    svi: SVI = dataclasses.field(compare=False)
    guide: autoguide.AutoContinuous = dataclasses.field(compare=False)


def draw(
    key: Array,
    problem: Problem,
    coordinates: Coordinates,
    sampler: Sampler,
    progress: Progress | None = None,
) -> Draws:
    """Fit a normal guide by stochastic gradients and draw from it; `loss` holds the fit's trace.

    An interruption stops the fit and draws from the guide as it is then.
    """
    fitted = problem
    if sampler.subsample is not None and sampler.subsample < problem.pixels.values.shape[-1]:
        fitted = dataclasses.replace(problem, subsample=sampler.subsample)
    zero = jnp.zeros(coordinates.size(problem), coordinates.mode.dtype)
    at_mode = constrained(problem, coordinates.sites(problem, zero))
    settings = _Settings(sampler.guide, sampler.steps, sampler.learning_rate)
    optimiser = _optimiser(settings, at_mode)
    fit_key, draw_key = jax.random.split(key)
    state = optimiser.svi.init(fit_key, fitted)
    state, losses, complete = _fit(optimiser, fitted, state, progress)
    shape = (sampler.chains, sampler.draws)
    params = optimiser.svi.get_params(state)
    keys = jax.random.split(draw_key, shape[0] * shape[1])
    samples = jax.vmap(lambda k: optimiser.guide.sample_posterior(k, params))(keys)
    z = isotropic(problem, coordinates, samples)
    drawn = constrain(problem, coordinates, z.reshape(*shape, -1))
    return Draws(drawn, {}, complete, losses)


def _optimiser(settings: _Settings, at_mode: dict[str, Array]) -> _Optimiser:
    """An optimiser that starts at the mode."""
    start = init_to_value(values=at_mode)
    guide = _GUIDES[settings.guide](whitened, init_loc_fn=start, init_scale=_START_SCALE)
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.steps, alpha=_LAST_RATE)
    svi = SVI(whitened, guide, optax.adam(rate), Trace_ELBO(num_particles=_PARTICLES))
    return _Optimiser(settings, svi, guide)


def _fit(
    optimiser: _Optimiser, problem: Problem, state: SVIState, progress: Progress | None
) -> tuple[SVIState, Float[np.ndarray, " steps"], bool]:
    """The optimiser's last state, the loss of every step, and whether it ran to the end."""
    losses: list[np.ndarray] = []
    settings = optimiser.settings
    n_blocks = -(-settings.steps // settings.block)
    complete = True
    try:
        for b in range(n_blocks):
            state, loss = _advance(optimiser, problem, state)
            losses.append(np.asarray(loss))
            if progress is not None:
                progress(b + 1, n_blocks)
    except KeyboardInterrupt:
        if not losses:
            raise
        complete = False
    return state, np.concatenate(losses), complete


@eqx.filter_jit
def _advance(
    optimiser: _Optimiser, problem: Problem, state: SVIState
) -> tuple[SVIState, Float[Array, " steps"]]:
    """One block of steps of the optimiser."""

    def step(state: SVIState, _: None) -> tuple[SVIState, Float[Array, ""]]:
        return optimiser.svi.update(state, problem)

    return jax.lax.scan(step, state, None, length=optimiser.settings.block)
