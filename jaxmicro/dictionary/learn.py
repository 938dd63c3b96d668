"""Online dictionary learning: code a minibatch, update the surrogate, update the atoms.

Mairal, Bach, Ponce and Sapiro 2009 (online dictionary learning for sparse coding). The surrogate
keeps A = sum a a' and B = sum a x', forgets with (1 - 1/t)^rho, and the atoms descend on it block
by block inside the unit ball. `updates = "adam"` moves the atoms by optax instead.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmicro.dictionary.encode import Codes, Solver, encode
from jaxmicro.errors import DataError, UsageError
from jaxmicro.settings import choice, setting

REPLACE_EVERY = 10  # minibatches between replacements of unused atoms
UNUSED_SHARE = 1e-4  # of minibatch patches that use an atom, below which it counts as unused
# three rounds of the working set: inexact coding ends at the same objective
CODING = Solver(max_steps=300)
PATIENCE = 3  # held-out checks without a decrease before an early stop
CHECKS = 8  # of the held-out objective in a run


@dataclasses.dataclass(frozen=True)
class LearningOptions:
    """Options of the learning; a model file's [learning] table."""

    n_atoms: int = 256
    passes: float = setting(1.0, "above 0 and at most 100", gt=0, le=100)
    batch: int = setting(1024, "patches, 1 to 65536", ge=1, le=65536)
    rho: float = setting(3.0, "forgetting, 0 to 50", ge=0, le=50)
    updates: str = choice("surrogate", ("surrogate", "adam"))
    learning_rate: float = setting(3e-3, "of adam, above 0 and at most 1", gt=0, le=1)
    nonnegative: bool = setting(False, "true (codes at or above 0) or false")
    ridge: float = setting(0.0, "elastic net, 0 to 10", ge=0, le=10)
    # while learning; finer codes end at the same objective
    tolerance: float = setting(1e-2, "relative gap of the codes, between 0 and 1", gt=0, lt=1)
    # smaller decreases of the held-out objective do not count
    early_stop: float = setting(
        1e-4, "relative decrease that counts, 0 up to but not 1", ge=0, lt=1
    )

    def __post_init__(self) -> None:
        if self.updates not in ("surrogate", "adam"):
            raise UsageError(f"updates {self.updates!r} is not known; use surrogate or adam")
        if self.n_atoms < 2 or self.batch < 1 or not self.passes > 0:
            raise UsageError(
                f"n_atoms {self.n_atoms}, batch {self.batch}, passes {self.passes:g}: "
                "give 2 or more atoms, 1 or more patches a batch and more than 0 passes"
            )


@dataclasses.dataclass(frozen=True)
class LearningState:
    """Atoms, the history of their learning and what is needed to resume it.

    `trace` rows are (minibatch, seconds, held-out objective per patch).
    """

    atoms: Float[np.ndarray, "k m"]
    trace: Float[np.ndarray, "t 3"]
    moments: Float[np.ndarray, "k k"]
    products: Float[np.ndarray, "k m"]
    minibatches: int
    usage: Float[np.ndarray, " k"]
    stopped_early: bool


@jax.jit
def update_atoms(
    atoms: Float[Array, "k m"],
    moments: Float[Array, "k k"],
    products: Float[Array, "k m"],
) -> Float[Array, "k m"]:
    """One pass of block coordinate descent on the surrogate, every atom in the unit ball.

    An atom that no patch has used yet stays as it is.
    """

    def one(j, atoms):
        own = moments[j, j]
        atom = atoms[j] + (products[j] - moments[j] @ atoms) / jnp.where(own > 0, own, 1.0)
        atom = atom / jnp.maximum(jnp.linalg.norm(atom), 1.0)
        return atoms.at[j].set(jnp.where(own > 0, atom, atoms[j]))

    return jax.lax.fori_loop(0, atoms.shape[0], one, atoms)


@jax.jit
def accumulate(
    moments: Float[Array, "k k"],
    products: Float[Array, "k m"],
    codes: Float[Array, "n k"],
    patches: Float[Array, "n m"],
    keep: Float[Array, ""],
) -> tuple[Float[Array, "k k"], Float[Array, "k m"]]:
    """The surrogate after one more minibatch, the past weighted by `keep`."""
    return keep * moments + codes.T @ codes, keep * products + codes.T @ patches


def reconstruction_loss(
    atoms: Float[Array, "k m"], codes: Float[Array, "n k"], patches: Float[Array, "n m"]
) -> Float[Array, ""]:
    """Mean squared error / 2 per patch for fixed codes: what the atom update minimises."""
    return 0.5 * jnp.mean(jnp.sum((patches - codes @ atoms) ** 2, axis=1))


@functools.partial(jax.jit, static_argnames=("rate",))
def _adam_step(atoms, state, codes, patches, rate):
    gradient = jax.grad(reconstruction_loss)(atoms, codes, patches)
    change, state = optax.adam(rate).update(gradient, state, atoms)
    atoms = optax.apply_updates(atoms, change)
    return atoms / jnp.maximum(jnp.linalg.norm(atoms, axis=1, keepdims=True), 1.0), state


def objectives(
    patches: Float[np.ndarray, "n m"],
    codes: Codes,
    atoms: Float[np.ndarray, "k m"],
    penalty: float | Float[np.ndarray, " n"],
    ridge: float = 0.0,
) -> Float[np.ndarray, " n"]:
    """P(a) of every patch, in float64."""
    residual = patches.astype(np.float64) - codes.rebuild(atoms).astype(np.float64)
    values = codes.values.astype(np.float64)
    fit = 0.5 * np.sum(residual**2, axis=1) + 0.5 * ridge * np.sum(values**2, axis=1)
    return fit + np.asarray(penalty, np.float64) * np.sum(np.abs(values), axis=1)


def learn(
    patches: Float[np.ndarray, "n m"],
    penalty: float,
    options: LearningOptions,
    seed: int,
    *,
    held_out: Float[np.ndarray, "h m"] | None = None,
    start: LearningState | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearningState:
    """Learn a dictionary from mean-free patches; the same seed gives the same dictionary.

    Args:
      patches: training patches, finite.
      penalty: lambda, above 0.
      held_out: patches the objective is followed on (8 checks a run), also for the early stop.
      start: a result to resume from.
      progress: called with (minibatches done, minibatches in all).

    Raises:
      DataError: fewer patches than atoms, or patches without any contrast.
    """
    k = options.n_atoms
    if len(patches) < k:
        raise DataError(
            f"{len(patches)} training patches are fewer than {k} atoms; "
            "give more training images or a smaller --atoms"
        )
    rng = np.random.default_rng(seed if start is None else [seed, start.minibatches])
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(patches.dtype))
    if start is None:
        state, done, trace = _first(patches, options, dtype, rng), 0, []
    else:
        state = _resumed(start, (k, patches.shape[1]), options, dtype)
        done, trace = start.minibatches, [tuple(row) for row in start.trace]
    validation = None if held_out is None else _Validation(held_out, penalty, options)
    batch = min(options.batch, len(patches))
    total = max(1, round(options.passes * len(patches) / batch))
    usage, recent = np.zeros(k), np.zeros(k)
    began, stopped = time.perf_counter(), False
    for step, part in enumerate(_minibatches(patches, batch, total, rng), 1):
        part = np.ascontiguousarray(part, dtype)
        codes = encode(
            part, np.asarray(state.atoms), penalty, options.tolerance, solver=CODING,
            ridge=options.ridge, nonnegative=options.nonnegative,
        )  # fmt: skip
        dense = codes.dense()
        counts = np.count_nonzero(dense, axis=0) / batch
        usage, recent = usage + counts, recent + counts
        state = _updated(state, jnp.asarray(dense), jnp.asarray(part), done + step, options)
        if step % REPLACE_EVERY == 0:
            unused = recent / REPLACE_EVERY < UNUSED_SHARE
            if unused.any() and step < total:
                state = _with_replaced(state, unused, part, codes)
            recent[:] = 0
        if validation is not None and (step % max(1, total // CHECKS) == 0 or step == total):
            seconds = time.perf_counter() - began
            trace.append((done + step, seconds, validation.check(np.asarray(state.atoms))))
            began += time.perf_counter() - began - seconds  # checks do not count as learning
            stopped = validation.failures >= PATIENCE
        if progress is not None:
            progress(step, total)
        if stopped:
            break
    return LearningState(
        np.asarray(state.atoms),
        np.asarray(trace, np.float64).reshape(-1, 3),
        np.asarray(state.moments),
        np.asarray(state.products),
        done + step,
        usage / step,
        stopped,
    )


class _State(NamedTuple):
    """The atoms, the sums A = sum a a' and B = sum a x' of the surrogate, and Adam's moments."""

    atoms: Float[Array, "k m"]
    moments: Float[Array, "k k"]
    products: Float[Array, "k m"]
    adam: optax.OptState


def _first(patches, options: LearningOptions, dtype, rng) -> _State:
    k, m = options.n_atoms, patches.shape[1]
    atoms = jnp.asarray(_first_atoms(patches, k, rng), dtype)
    adam = optax.adam(options.learning_rate).init(atoms)
    return _State(atoms, jnp.zeros((k, k), dtype), jnp.zeros((k, m), dtype), adam)


def _resumed(start: LearningState, shape, options: LearningOptions, dtype) -> _State:
    if start.atoms.shape != shape:
        raise UsageError(
            f"the dictionary to resume from has shape {start.atoms.shape}, here it must be "
            f"{shape}; use the same --atoms and --patch-size"
        )
    atoms, moments, products = (
        jnp.asarray(a, dtype) for a in (start.atoms, start.moments, start.products)
    )
    return _State(atoms, moments, products, optax.adam(options.learning_rate).init(atoms))


def _minibatches(patches, batch: int, count: int, rng) -> Iterator[np.ndarray]:
    """`count` minibatches, every patch once before any comes again."""
    order = np.empty(0, int)
    for _ in range(count):
        if len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(patches))])
        rows, order = order[:batch], order[batch:]
        yield patches[rows]


def _updated(state: _State, codes, patches, number: int, options: LearningOptions) -> _State:
    """The state after minibatch `number`, by the update that the options name."""
    if options.updates == "adam":
        atoms, adam = _adam_step(state.atoms, state.adam, codes, patches, options.learning_rate)
        return state._replace(atoms=atoms, adam=adam)
    keep = jnp.asarray((1.0 - 1.0 / number) ** options.rho, state.atoms.dtype)
    moments, products = accumulate(state.moments, state.products, codes, patches, keep)
    atoms = update_atoms(state.atoms, moments, products)
    return state._replace(atoms=atoms, moments=moments, products=products)


class _Validation:
    """The objective on patches that are not learned from, and how often it did not decrease."""

    def __init__(self, patches: np.ndarray, penalty: float, options: LearningOptions):
        self._patches, self._penalty, self._options = patches, penalty, options
        self._best = np.inf
        self.failures = 0

    def check(self, atoms: np.ndarray) -> float:
        """The objective per patch; `failures` counts checks in a row without a decrease."""
        options = self._options
        codes = encode(
            self._patches, atoms, self._penalty, 1e-3,
            ridge=options.ridge, nonnegative=options.nonnegative,
        )  # fmt: skip
        value = objectives(self._patches, codes, atoms, self._penalty, options.ridge).mean()
        falls = value < self._best * (1 - options.early_stop)
        self.failures = 0 if falls else self.failures + 1
        self._best = min(self._best, value)
        return float(value)


def _first_atoms(patches, k, rng) -> np.ndarray:
    """Random patches of more than median contrast, scaled to unit norm."""
    norm = np.linalg.norm(patches, axis=1)
    if not norm.max() > 0:
        raise DataError("the training patches have no contrast; give an image with structure")
    eligible = np.flatnonzero(norm >= np.median(norm[norm > 0]))
    chosen = rng.choice(eligible, k, replace=len(eligible) < k)
    atoms = patches[chosen] + 1e-3 * norm[chosen, None] * rng.standard_normal(
        (k, patches.shape[1])
    ) / np.sqrt(patches.shape[1])
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _with_replaced(state: _State, unused, patches, codes: Codes) -> _State:
    """Unused atoms become the patches with the largest coding error; their sums start at 0."""
    atoms, moments, products = (np.array(a) for a in state[:3])
    residual = patches - codes.rebuild(atoms)
    worst = np.argsort(-np.sum(residual**2, axis=1))[: int(unused.sum())]
    worst = worst[np.linalg.norm(patches[worst], axis=1) > 0]
    index = np.flatnonzero(unused)[: len(worst)]
    new = patches[worst]
    atoms[index] = new / np.linalg.norm(new, axis=1, keepdims=True)
    moments[index], moments[:, index], products[index] = 0, 0, 0
    return state._replace(
        atoms=jnp.asarray(atoms), moments=jnp.asarray(moments), products=jnp.asarray(products)
    )
