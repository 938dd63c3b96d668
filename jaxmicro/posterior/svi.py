"""Stochastic variational inference: a normal guide fitted to the posterior, and draws from it."""

from __future__ import annotations

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from jaxtyping import Array, Float
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value
from numpyro.infer.svi import SVIState

from jaxmicro.posterior.coordinates import Coordinates
from jaxmicro.posterior.density import constrained, whitened
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sampler import Draws, Progress, Sampler
from jaxmicro.posterior.sites import BY_NAME

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
    """What of a `Sampler` the compiled step depends on."""

    guide: str
    steps: int
    learning_rate: float

    @property
    def block(self) -> int:
        return max(1, min(self.steps, _STEPS_PER_BLOCK))


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
    fit_key, draw_key = jax.random.split(key)
    svi, guide = _program(settings, fitted, at_mode)
    state, losses, complete = _fit(settings, fitted, at_mode, svi.init(fit_key), progress)
    shape = (sampler.chains, sampler.draws)
    params = svi.get_params(state)
    keys = jax.random.split(draw_key, shape[0] * shape[1])
    samples = jax.vmap(lambda k: guide.sample_posterior(k, params))(keys)
    sites = {n: np.asarray(a) for n, a in _derived(problem, samples).items()}
    drawn = {n: a.reshape(*shape, *a.shape[1:]) for n, a in sites.items()}
    return Draws(drawn, {}, complete, losses)


def _program(
    settings: _Settings, problem: Problem, at_mode: dict[str, Array]
) -> tuple[SVI, autoguide.AutoContinuous]:
    """NumPyro's optimiser of the evidence lower bound, and the guide, started at the mode."""
    target = functools.partial(whitened, problem)
    start = init_to_value(values=at_mode)
    guide = _GUIDES[settings.guide](target, init_loc_fn=start, init_scale=_START_SCALE)
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.steps, alpha=_LAST_RATE)
    return SVI(target, guide, optax.adam(rate), Trace_ELBO(num_particles=_PARTICLES)), guide


def _fit(
    settings: _Settings,
    problem: Problem,
    at_mode: dict[str, Array],
    state: SVIState,
    progress: Progress | None,
) -> tuple[SVIState, Float[np.ndarray, " steps"], bool]:
    """The optimiser's last state, the loss of every step, and whether it ran to the end."""
    losses: list[np.ndarray] = []
    n_blocks = -(-settings.steps // settings.block)
    complete = True
    try:
        for b in range(n_blocks):
            state, loss = _advance(settings, problem, at_mode, state)
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
    settings: _Settings, problem: Problem, at_mode: dict[str, Array], state: SVIState
) -> tuple[SVIState, Float[Array, " steps"]]:
    """One block of optimiser steps; compiled once for all problems of one size."""
    svi, _ = _program(settings, problem, at_mode)
    svi.init(state.rng_key)  # traced for the guide's structure only: its numbers are not used
    return jax.lax.scan(lambda s, _: svi.update(s), state, None, length=settings.block)


@eqx.filter_jit
def _derived(problem: Problem, samples: dict[str, Array]) -> dict[str, Array]:
    """All sites of the model at draws (draws, ...) of its parameters."""

    def one(values: dict[str, Array]) -> dict[str, Array]:
        run = numpyro.handlers.trace(numpyro.handlers.substitute(whitened, values))
        sites = run.get_trace(problem)
        return {name: sites[name]["value"] for name in sites if name in BY_NAME}

    return jax.lax.map(one, samples)
