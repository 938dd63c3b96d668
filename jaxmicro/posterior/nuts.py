"""Drawing from the posterior of one lane: NUTS, a variational guide, or the Laplace approximation.

NUTS (Hoffman and Gelman 2014, JMLR 15:1593) runs in the isotropic coordinates of
`posterior_start`, in blocks, so that progress shows and an interruption keeps what was drawn.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpyro.infer.hmc import hmc

from jaxmicro.errors import UsageError
from jaxmicro.posterior.model import Data, Setting, constrained, potential
from jaxmicro.posterior.sampler import (
    BLOCK,
    Draws,
    Progress,
    Sampler,
)
from jaxmicro.posterior.start import Flow, sites_of
from jaxmicro.posterior.svi import draw_from_guide

_JITTER = 1.0  # posterior sds by which the chains' starts are scattered


def draw(
    key: jax.Array,
    setting: Setting,
    data: Data,
    flow: Flow,
    sampler: Sampler,
    progress: Progress | None = None,
) -> Draws:
    """Draw from the posterior of one lane by the sampler's method."""
    if sampler.method == "nuts":
        return _nuts(key, setting, data, flow, sampler, progress)
    if sampler.method == "laplace":
        shape = (sampler.chains, sampler.draws, flow.size(setting, data))
        z = jax.random.normal(key, shape, flow.mode.dtype)
        return Draws(_constrain(setting, data, flow, z), _overlap(setting, data, flow, z), True)
    return draw_from_guide(key, setting, data, flow, sampler, progress)


# -- NUTS ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
    """What of a `Sampler` a compiled NUTS program depends on."""

    warmup: int
    target_accept: float
    adapt_mass: bool
    first_step: float


def _kernel(setting: Setting, options: Options, data: Data, flow: Flow, z: Array, key: Array):
    """NumPyro's NUTS on isotropic coordinates, and its state at `z`."""

    def generate(data: Data, flow: Flow):
        def energy(z: Array) -> Array:
            # The sampler keeps JAX's default precision, the pixels keep their own.
            return potential(setting, data, sites_of(setting, data, flow, z)).astype(z.dtype)

        return energy

    begin, advance = hmc(potential_fn_gen=generate, algo="NUTS")
    state = begin(
        z,
        options.warmup,
        step_size=options.first_step,
        adapt_mass_matrix=options.adapt_mass,
        target_accept_prob=options.target_accept,
        model_args=(data, flow),
        rng_key=key,
    )
    return state, lambda s: advance(s, (data, flow), {})


@eqx.filter_jit
def _begin(setting: Setting, options: Options, data: Data, flow: Flow, key: Array) -> Any:
    jitter, own = jax.random.split(key)
    dtype = jnp.result_type(float)
    z = _JITTER * jax.random.normal(jitter, (flow.size(setting, data),), dtype)
    return _kernel(setting, options, data, flow, z, own)[0]


@eqx.filter_jit
def _advance(setting: Setting, options: Options, data: Data, flow: Flow, state: Any) -> Any:
    """BLOCK transitions of one chain: the new state and what happened on the way."""
    return _block(setting, options, data, flow, state)


@eqx.filter_jit
def _advance_all(setting: Setting, options: Options, data: Data, flow: Flow, states: Any) -> Any:
    """The same for chains stacked on a leading axis of one device."""
    return jax.vmap(lambda s: _block(setting, options, data, flow, s))(states)


def _block(setting: Setting, options: Options, data: Data, flow: Flow, state: Any) -> Any:
    # The kernel's start is traced for its settings only; its numbers are never computed.
    _, advance = _kernel(setting, options, data, flow, state.z, state.rng_key)

    def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
        state = advance(state)
        return state, {
            "z": state.z,
            "lp": -state.potential_energy,
            "energy": state.energy,
            "diverging": state.diverging,
            "acceptance_rate": state.accept_prob,
            "n_steps": state.num_steps,
            "step_size": state.adapt_state.step_size,
        }

    return jax.lax.scan(step, state, None, length=BLOCK)


def _nuts(
    key: Array,
    setting: Setting,
    data: Data,
    flow: Flow,
    sampler: Sampler,
    progress: Progress | None,
) -> Draws:
    n_warm = -(-sampler.warmup // BLOCK)
    n_blocks = n_warm + -(-sampler.draws // BLOCK)
    options = Options(
        n_warm * BLOCK,
        sampler.target_accept,
        adapt_mass=setting.movie,
        first_step=0.7,
    )
    run = functools.partial(_advance, setting, options, data, flow)
    keys = jax.random.split(key, sampler.chains)
    begin = functools.partial(_begin, setting, options, data, flow)
    placement = _placed(sampler)
    if placement == "threads":
        blocks, complete = _on_threads(run, begin, keys, n_blocks, progress)
    else:
        states = jax.vmap(begin)(keys)
        run_all = functools.partial(_advance_all, setting, options)
        if placement == "parallel":
            run_all = _over_devices(run_all, sampler.chains)
        blocks, complete = _vectorised(run_all, data, flow, states, n_blocks, progress)
    kept = blocks[n_warm:]
    if not kept:
        raise KeyboardInterrupt("interrupted before the first draw was kept")
    out = {n: np.concatenate([b[n] for b in kept], axis=1)[:, : sampler.draws] for n in kept[0]}
    z = jnp.asarray(out.pop("z"), flow.mode.dtype)
    sites = _constrain(setting, data, flow, z)
    out["tree_depth"] = np.floor(np.log2(np.maximum(out["n_steps"], 1))).astype(int) + 1
    return Draws(sites, out, complete)


def _placed(sampler: Sampler) -> str:
    if sampler.placement != "auto":
        return sampler.placement
    if jax.default_backend() == "cpu" and jax.device_count() == 1:
        return "threads"
    divides = jax.device_count() > 1 and sampler.chains % jax.device_count() == 0
    return "parallel" if divides else "vectorized"


def _on_threads(run, begin, keys, n_blocks: int, progress: Progress | None):
    """Each chain in its own thread's turn: no chain waits for another one's longer trees."""
    states = [begin(k) for k in keys]
    blocks: list[dict[str, np.ndarray]] = []

    def one(state):
        return jax.block_until_ready(run(state))

    with concurrent.futures.ThreadPoolExecutor(min(len(states), os.cpu_count() or 1)) as pool:
        try:
            for b in range(n_blocks):
                if b == 0:  # one chain alone meets the compiler, so that it is met once
                    done = [one(states[0]), *pool.map(one, states[1:])]
                else:
                    done = list(pool.map(one, states))
                states = [state for state, _ in done]
                outs = [jax.tree.map(np.asarray, out) for _, out in done]
                blocks.append({n: np.stack([out[n] for out in outs]) for n in outs[0]})
                if progress is not None:
                    progress(b + 1, n_blocks)
        except KeyboardInterrupt:
            return blocks, False
    return blocks, True


def _vectorised(run, data: Data, flow: Flow, states, n_blocks: int, progress: Progress | None):
    """All chains in one program, on one device or spread over several."""
    blocks: list[dict[str, np.ndarray]] = []
    try:
        for b in range(n_blocks):
            states, out = run(data, flow, states)
            blocks.append(jax.tree.map(np.asarray, out))
            if progress is not None:
                progress(b + 1, n_blocks)
    except KeyboardInterrupt:
        return blocks, False
    return blocks, True


def _over_devices(run, n_chains: int):
    """Chains in equal parts over all devices; the parts never talk to one another."""
    devices = jax.devices()
    if n_chains % len(devices):
        raise UsageError(
            f"chains = {n_chains} cannot be spread over {len(devices)} devices; use a multiple of "
            f"{len(devices)}, or placement = 'vectorized'"
        )
    mesh = jax.sharding.Mesh(np.asarray(devices), ("chain",))
    whole, part = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("chain")
    return jax.jit(
        jax.shard_map(
            run, mesh=mesh, in_specs=(whole, whole, part), out_specs=part, check_vma=False
        )
    )


# -- normal approximations -------------------------------------------------------------------


@eqx.filter_jit
def _constrain_all(setting: Setting, data: Data, flow: Flow, z: Array) -> dict[str, Array]:
    return jax.lax.map(lambda a: constrained(setting, data, sites_of(setting, data, flow, a)), z)


def _constrain(setting: Setting, data: Data, flow: Flow, z: Array) -> dict[str, np.ndarray]:
    """Constrained sites of draws z (chain, draw, N)."""
    sites = _constrain_all(setting, data, flow, z.reshape(-1, z.shape[-1]))
    kept = {n: a for n, a in sites.items() if not n.endswith(("_white", "_density"))}
    return {n: np.asarray(a).reshape(*z.shape[:2], *a.shape[1:]) for n, a in kept.items()}


@eqx.filter_jit
def _log_ratio(setting: Setting, data: Data, flow: Flow, z: Array) -> Array:
    """Log of posterior over standard normal at isotropic coordinates, up to a constant."""

    def one(a: Array) -> Array:
        return 0.5 * jnp.sum(a**2) - potential(setting, data, sites_of(setting, data, flow, a))

    return jax.lax.map(one, z)


def _overlap(setting: Setting, data: Data, flow: Flow, z: Array) -> dict[str, np.ndarray]:
    """Log importance ratios of the draws: how far the approximation is from the posterior."""
    ratio = _log_ratio(setting, data, flow, z.reshape(-1, z.shape[-1]))
    return {"log_ratio": np.asarray(ratio).reshape(z.shape[:2])}
