"""The variational option: a normal guide fitted to the NumPyro model by SVI."""

from __future__ import annotations

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from jaxtyping import Array
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value

from jaxmicro.posterior.model import Data, Setting, constrained, whitened
from jaxmicro.posterior.sampler import Draws, Progress, Sampler
from jaxmicro.posterior.start import Flow, sites_of


def draw_from_guide(
    key: Array,
    setting: Setting,
    data: Data,
    flow: Flow,
    sampler: Sampler,
    progress: Progress | None,
) -> Draws:
    """A normal guide fitted to the NumPyro model, minibatched where `subsample` says so."""
    n = data.lane.values.shape[-1]
    if sampler.subsample is not None and sampler.subsample < n:
        setting = dataclasses.replace(setting, subsample=sampler.subsample)
    target = functools.partial(whitened, setting, data)
    zero = jnp.zeros(flow.size(setting, data), flow.mode.dtype)
    at_mode = constrained(setting, data, sites_of(setting, data, flow, zero))
    guides = {
        "multivariate": autoguide.AutoMultivariateNormal,
        "diagonal": autoguide.AutoDiagonalNormal,
        "lowrank": autoguide.AutoLowRankMultivariateNormal,
    }
    guide = guides[sampler.guide](
        target, init_loc_fn=init_to_value(values=at_mode), init_scale=0.03
    )
    schedule = optax.cosine_decay_schedule(sampler.learning_rate, sampler.steps, alpha=0.01)
    svi = SVI(target, guide, optax.adam(schedule), Trace_ELBO(num_particles=4))
    fit_key, draw_key = jax.random.split(key)
    state = svi.init(fit_key)
    size = max(1, min(sampler.steps, 250))

    @jax.jit
    def run(state):
        return jax.lax.scan(lambda s, _: svi.update(s), state, None, length=size)

    losses: list[np.ndarray] = []
    complete = True
    n_blocks = -(-sampler.steps // size)
    try:
        for b in range(n_blocks):
            state, loss = run(state)
            losses.append(np.asarray(loss))
            if progress is not None:
                progress(b + 1, n_blocks)
    except KeyboardInterrupt:
        if not losses:
            raise
        complete = False
    shape = (sampler.chains, sampler.draws)
    fitted = svi.get_params(state)
    keys = jax.random.split(draw_key, shape[0] * shape[1])
    samples = jax.vmap(lambda k: guide.sample_posterior(k, fitted))(keys)
    whole = dataclasses.replace(setting, subsample=None)
    sites = _derived(whole, data, samples)
    drawn = {n: np.asarray(a).reshape(*shape, *a.shape[1:]) for n, a in sites.items()}
    return Draws(drawn, {}, complete, np.concatenate(losses))


@eqx.filter_jit
def _derived(setting: Setting, data: Data, samples: dict[str, Array]) -> dict[str, Array]:
    """Means, sds and the walks at draws of the sampled sites."""

    def one(values: dict[str, Array]) -> dict[str, Array]:
        run = numpyro.handlers.trace(numpyro.handlers.substitute(whitened, values))
        sites = run.get_trace(setting, data)
        return {
            name: site["value"]
            for name, site in sites.items()
            if site["type"] in ("sample", "deterministic")
            and not site.get("is_observed", False)
            and not name.endswith(("_white", "_density", "log_likelihood"))
        }

    return jax.lax.map(one, samples)
