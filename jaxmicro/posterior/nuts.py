"""The No-U-Turn sampler (Hoffman and Gelman 2014, JMLR 15:1593) in isotropic coordinates.

Chains run in blocks of `DRAWS_PER_BLOCK` draws, so that progress is reported and an interruption
keeps what was drawn.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped
from numpyro.infer.hmc import HMCState, hmc

from jaxmicro.errors import UsageError
from jaxmicro.posterior.coordinates import Coordinates, constrain
from jaxmicro.posterior.density import potential
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sampler import DRAWS_PER_BLOCK, Draws, Progress, Sampler

_JITTER = 1.0  # posterior sds by which the starts of the chains are scattered about the mode
_FIRST_STEP_SIZE = 0.7  # in isotropic coordinates, where posterior sds are about 1

Block = dict[str, Shaped[np.ndarray, "chain draw ..."]]


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What of a `Sampler` a compiled program depends on; `warmup` draws are whole blocks."""

    warmup: int
    target_accept: float
    adapt_mass: bool


def draw(
    key: Array,
    problem: Problem,
    coordinates: Coordinates,
    sampler: Sampler,
    progress: Progress | None = None,
) -> Draws:
    """Draws, with energies, divergences, tree depths and step sizes as statistics.

    Raises:
      KeyboardInterrupt: interrupted before the warm-up was over.
      UsageError: chains that cannot be divided equally among the devices.
    """
    n_warmup = -(-sampler.warmup // DRAWS_PER_BLOCK)
    n_blocks = n_warmup + -(-sampler.draws // DRAWS_PER_BLOCK)
    settings = _Settings(
        n_warmup * DRAWS_PER_BLOCK, sampler.target_accept, adapt_mass=problem.movie
    )
    blocks, complete = _run(key, settings, problem, coordinates, sampler, n_blocks, progress)
    kept = blocks[n_warmup:]
    if not kept:
        raise KeyboardInterrupt("interrupted before the first draw was kept")
    out = {n: np.concatenate([b[n] for b in kept], axis=1)[:, : sampler.draws] for n in kept[0]}
    z = jnp.asarray(out.pop("z"), coordinates.mode.dtype)
    out["tree_depth"] = np.floor(np.log2(np.maximum(out["n_steps"], 1))).astype(int) + 1
    return Draws(constrain(problem, coordinates, z), out, complete)


def _run(
    key: Array,
    settings: _Settings,
    problem: Problem,
    coordinates: Coordinates,
    sampler: Sampler,
    n_blocks: int,
    progress: Progress | None,
) -> tuple[list[Block], bool]:
    """Blocks of all chains, where the sampler places them, and whether all were run."""
    keys = jax.random.split(key, sampler.chains)
    begin = functools.partial(_begin, settings, problem, coordinates)
    placement = _placement(sampler)
    if placement == "threads":
        one = functools.partial(_advance, settings, problem, coordinates)
        return _in_blocks(_OnThreads(one), [begin(k) for k in keys], n_blocks, progress)
    together = _advance_all
    if placement == "parallel":
        together = _advance_over_devices
        _check_divisible(sampler.chains)

    def advance(states: HMCState) -> tuple[HMCState, Block]:
        states, out = together(settings, problem, coordinates, states)
        return states, jax.tree.map(np.asarray, out)

    return _in_blocks(advance, jax.vmap(begin)(keys), n_blocks, progress)


def _placement(sampler: Sampler) -> str:
    if sampler.placement != "auto":
        return sampler.placement
    if jax.default_backend() == "cpu" and jax.device_count() == 1:
        return "threads"
    divides = jax.device_count() > 1 and sampler.chains % jax.device_count() == 0
    return "parallel" if divides else "vectorized"


def _check_divisible(n_chains: int) -> None:
    n_devices = jax.device_count()
    if n_chains % n_devices:
        raise UsageError(
            f"chains = {n_chains} cannot be divided equally among {n_devices} devices; use a "
            f"multiple of {n_devices}, or placement = 'vectorized'"
        )


def _in_blocks(
    advance: Callable[[Any], tuple[Any, Block]],
    states: Any,
    n_blocks: int,
    progress: Progress | None,
) -> tuple[list[Block], bool]:
    """Blocks of draws until the last one or an interruption."""
    blocks: list[Block] = []
    try:
        for b in range(n_blocks):
            states, block = advance(states)
            blocks.append(block)
            if progress is not None:
                progress(b + 1, n_blocks)
    except KeyboardInterrupt:
        return blocks, False
    return blocks, True


class _OnThreads:
    """One block of every chain, each chain on a thread of its own.

    A chain does not wait for another one's longer trees at every draw, as in a vectorised program.
    """

    def __init__(self, advance: Callable[[HMCState], tuple[HMCState, dict[str, Array]]]) -> None:
        self.advance = advance
        self.compiled = False

    def _one(self, state: HMCState) -> tuple[HMCState, dict[str, np.ndarray]]:
        state, out = jax.block_until_ready(self.advance(state))
        return state, jax.tree.map(np.asarray, out)

    def __call__(self, states: list[HMCState]) -> tuple[list[HMCState], Block]:
        # The first chain compiles the program alone: threads would each compile it.
        done = [] if self.compiled else [self._one(states[0])]
        with concurrent.futures.ThreadPoolExecutor(min(len(states), os.cpu_count() or 1)) as pool:
            done += pool.map(self._one, states[len(done) :])
        self.compiled = True
        states = [state for state, _ in done]
        outs = [out for _, out in done]
        return states, {n: np.stack([out[n] for out in outs]) for n in outs[0]}


# -- compiled programs -----------------------------------------------------------------------


def _kernel(
    settings: _Settings, problem: Problem, coordinates: Coordinates, z: Array, key: Array
) -> tuple[HMCState, Callable[[HMCState], HMCState]]:
    """NumPyro's NUTS: its state at `z`, and one transition."""

    def potential_of(problem: Problem, coordinates: Coordinates) -> Callable[[Array], Array]:
        def energy(z: Array) -> Array:
            # The sampler keeps JAX's default precision, the pixels keep their own.
            return potential(problem, coordinates.sites(problem, z)).astype(z.dtype)

        return energy

    begin, advance = hmc(potential_fn_gen=potential_of, algo="NUTS")
    state = begin(
        z,
        settings.warmup,
        step_size=_FIRST_STEP_SIZE,
        adapt_mass_matrix=settings.adapt_mass,
        target_accept_prob=settings.target_accept,
        model_args=(problem, coordinates),
        rng_key=key,
    )
    return state, lambda s: advance(s, (problem, coordinates), {})


@eqx.filter_jit
def _begin(settings: _Settings, problem: Problem, coordinates: Coordinates, key: Array) -> HMCState:
    """State of one chain, scattered about the mode."""
    jitter, own = jax.random.split(key)
    dtype = jnp.result_type(float)
    z = _JITTER * jax.random.normal(jitter, (coordinates.size(problem),), dtype)
    return _kernel(settings, problem, coordinates, z, own)[0]


def _block(
    settings: _Settings, problem: Problem, coordinates: Coordinates, state: HMCState
) -> tuple[HMCState, dict[str, Shaped[Array, "draw ..."]]]:
    # The kernel's start is traced for its settings only; its numbers are never computed.
    _, advance = _kernel(settings, problem, coordinates, state.z, state.rng_key)

    def step(state: HMCState, _: None) -> tuple[HMCState, dict[str, Array]]:
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

    return jax.lax.scan(step, state, None, length=DRAWS_PER_BLOCK)


@eqx.filter_jit
def _advance(
    settings: _Settings, problem: Problem, coordinates: Coordinates, state: HMCState
) -> tuple[HMCState, dict[str, Array]]:
    """One block of one chain."""
    return _block(settings, problem, coordinates, state)


@eqx.filter_jit
def _advance_all(
    settings: _Settings, problem: Problem, coordinates: Coordinates, states: HMCState
) -> tuple[HMCState, dict[str, Array]]:
    """One block of all chains, stacked on a leading axis, on one device."""
    return jax.vmap(lambda s: _block(settings, problem, coordinates, s))(states)


@eqx.filter_jit
def _advance_over_devices(
    settings: _Settings, problem: Problem, coordinates: Coordinates, states: HMCState
) -> tuple[HMCState, dict[str, Array]]:
    """One block of all chains, in equal parts on all devices, without communication."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("chain",))
    whole, part = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("chain")
    run = jax.shard_map(
        functools.partial(_advance_all, settings),
        mesh=mesh,
        in_specs=(whole, whole, part),
        out_specs=part,
        check_vma=False,
    )
    return run(problem, coordinates, states)
