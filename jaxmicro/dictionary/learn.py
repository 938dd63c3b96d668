"""Online dictionary learning: code a minibatch, update the surrogate, update the atoms.

Mairal, Bach, Ponce and Sapiro 2009 (online dictionary learning for sparse coding). The surrogate
keeps A = sum a a' and B = sum a x', forgets with (1 - 1/t)^rho, and the atoms descend on it block
by block inside the unit ball. `updates = "adam"` moves the atoms by optax instead.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import pathlib
import time
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmicro.dictionary.encode import Codes, encode
from jaxmicro.errors import DataError, UsageError

STATE_FORMAT = "jaxmicro-learning-1"
REPLACE_EVERY = 10  # minibatches between looks for dead atoms
DEAD_SHARE = 1e-4  # of minibatch patches that use an atom, below which it counts as dead
CODING_STEPS = 300  # three rounds of the working set: inexact coding costs nothing in the end
PATIENCE = 3  # held-out checks without gain before an early stop


@dataclasses.dataclass(frozen=True)
class Learning:
    """Options of the learning; a model file's [learning] table."""

    n_atoms: int = 256
    passes: float = 1.0
    batch: int = 1024
    rho: float = 3.0
    tolerance: float = 1e-2  # inexact coding costs nothing in the end
    updates: str = "surrogate"
    learning_rate: float = 3e-3  # of Adam
    nonnegative: bool = False
    ridge: float = 0.0
    early_stop: float = 1e-4  # relative gain of the held-out objective that still counts

    def __post_init__(self) -> None:
        if self.updates not in ("surrogate", "adam"):
            raise UsageError(f"updates {self.updates!r} is not known; use surrogate or adam")
        if self.n_atoms < 2 or self.batch < 1 or not self.passes > 0:
            raise UsageError(
                f"n_atoms {self.n_atoms}, batch {self.batch}, passes {self.passes:g}: "
                "give 2 or more atoms, 1 or more patches a batch and more than 0 passes"
            )


@dataclasses.dataclass(frozen=True)
class Learned:
    """A learned dictionary with its history and what is needed to go on learning.

    `trace` rows are (minibatch, seconds, held-out objective per patch).
    """

    atoms: Float[np.ndarray, "k m"]
    trace: Float[np.ndarray, "t 3"]
    moments: Float[np.ndarray, "k k"]
    products: Float[np.ndarray, "k m"]
    minibatches: int
    usage: Float[np.ndarray, " k"]
    stopped_early: bool


@functools.partial(jax.jit, static_argnames=("nonnegative",))
def update_atoms(
    atoms: Float[Array, "k m"],
    moments: Float[Array, "k k"],
    products: Float[Array, "k m"],
    nonnegative: bool = False,
) -> Float[Array, "k m"]:
    """One pass of block coordinate descent on the surrogate, every atom in the unit ball.

    An atom that no patch has used yet stays as it is.
    """

    def one(j, atoms):
        own = moments[j, j]
        atom = atoms[j] + (products[j] - moments[j] @ atoms) / jnp.where(own > 0, own, 1.0)
        if nonnegative:
            atom = jnp.maximum(atom, 0.0)
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
    options: Learning,
    seed: int,
    *,
    held_out: Float[np.ndarray, "h m"] | None = None,
    start: Learned | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
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
        atoms = jnp.asarray(_first_atoms(patches, k, options.nonnegative, rng), dtype)
        moments, products = jnp.zeros((k, k), dtype), jnp.zeros((k, patches.shape[1]), dtype)
        done, trace = 0, []
    else:
        if start.atoms.shape != (k, patches.shape[1]):
            raise UsageError(
                f"the dictionary to resume from has shape {start.atoms.shape}, here it must be "
                f"{(k, patches.shape[1])}; use the same --atoms and --patch-size"
            )
        atoms, moments, products = (
            jnp.asarray(a, dtype) for a in (start.atoms, start.moments, start.products)
        )
        done, trace = start.minibatches, [tuple(row) for row in start.trace]
    adam_state = optax.adam(options.learning_rate).init(atoms)
    usage = np.zeros(k)
    recent = np.zeros(k)
    batch = min(options.batch, len(patches))
    total = max(1, round(options.passes * len(patches) / batch))
    check_every = max(1, total // 8)
    best, waited, stopped = np.inf, 0, False
    order = np.empty(0, int)
    began = time.perf_counter()
    coding: dict[str, Any] = {"ridge": options.ridge, "nonnegative": options.nonnegative}

    for step in range(1, total + 1):
        if len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(patches))])
        rows, order = order[:batch], order[batch:]
        part = np.ascontiguousarray(patches[rows], dtype)
        codes = encode(
            part, np.asarray(atoms), penalty, options.tolerance, max_steps=CODING_STEPS, **coding
        )
        dense = codes.dense()
        counts = np.count_nonzero(dense, axis=0) / batch
        usage, recent = usage + counts, recent + counts
        number = done + step
        if options.updates == "adam":
            atoms, adam_state = _adam_step(
                atoms, adam_state, jnp.asarray(dense), jnp.asarray(part), options.learning_rate
            )
        else:
            keep = jnp.asarray((1.0 - 1.0 / number) ** options.rho, dtype)
            moments, products = accumulate(
                moments, products, jnp.asarray(dense), jnp.asarray(part), keep
            )
            atoms = update_atoms(atoms, moments, products)
        if step % REPLACE_EVERY == 0:
            dead = recent / REPLACE_EVERY < DEAD_SHARE
            if dead.any() and step < total:
                atoms, moments, products = _replace(
                    atoms, moments, products, dead, part, codes, options.nonnegative
                )
            recent[:] = 0
        if held_out is not None and (step % check_every == 0 or step == total):
            seconds = time.perf_counter() - began
            host = np.asarray(atoms)
            held = encode(held_out.astype(dtype), host, penalty, 1e-3, **coding)
            value = objectives(held_out, held, host, penalty, options.ridge).mean()
            trace.append((number, seconds, value))
            waited = 0 if value < best * (1 - options.early_stop) else waited + 1
            best = min(best, value)
            began += time.perf_counter() - began - seconds  # checks do not count as learning
            if waited >= PATIENCE:
                stopped = True
        if progress is not None:
            progress(step, total)
        if stopped:
            break
    return Learned(
        np.asarray(atoms),
        np.asarray(trace, np.float64).reshape(-1, 3),
        np.asarray(moments),
        np.asarray(products),
        done + step,
        usage / step,
        stopped,
    )


def _first_atoms(patches, k, nonnegative, rng) -> np.ndarray:
    """Random patches of more than median contrast, scaled to unit norm."""
    norm = np.linalg.norm(patches, axis=1)
    if not norm.max() > 0:
        raise DataError("the training patches have no contrast; give an image with structure")
    lively = np.flatnonzero(norm >= np.median(norm[norm > 0]))
    chosen = rng.choice(lively, k, replace=len(lively) < k)
    atoms = patches[chosen] + 1e-3 * norm[chosen, None] * rng.standard_normal(
        (k, patches.shape[1])
    ) / np.sqrt(patches.shape[1])
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _replace(atoms, moments, products, dead, patches, codes, nonnegative):
    """Dead atoms become the patches that the dictionary codes worst; their past is wiped."""
    residual = patches - codes.rebuild(np.asarray(atoms))
    worst = np.argsort(-np.sum(residual**2, axis=1))[: int(dead.sum())]
    worst = worst[np.linalg.norm(patches[worst], axis=1) > 0]
    index = np.flatnonzero(dead)[: len(worst)]
    new = patches[worst]
    atoms = np.array(atoms)
    atoms[index] = new / np.linalg.norm(new, axis=1, keepdims=True)
    moments, products = np.array(moments), np.array(products)
    moments[index], moments[:, index], products[index] = 0, 0, 0
    return jnp.asarray(atoms), jnp.asarray(moments), jnp.asarray(products)


def save_learning(path: str | pathlib.Path, learned: Learned) -> None:
    """Write a learning state, from which `learn(start=...)` goes on."""
    fields = {f.name: getattr(learned, f.name) for f in dataclasses.fields(learned)}
    with open(path, "wb") as file:
        np.savez(file, format=np.array(STATE_FORMAT), **fields)


def load_learning(path: str | pathlib.Path) -> Learned:
    """Read a learning state; nothing in the file is executed.

    Raises:
      DataError: the file is not one of ours.
    """
    arrays = read_arrays(path, STATE_FORMAT)
    try:
        fields: dict[str, Any] = {f.name: arrays[f.name] for f in dataclasses.fields(Learned)}
    except KeyError as err:
        raise DataError(f"{path}: the learning state lacks {err}; learn it anew") from err
    fields["minibatches"] = int(fields["minibatches"])
    fields["stopped_early"] = bool(fields["stopped_early"])
    return Learned(**fields)


def read_arrays(path: str | pathlib.Path, kind: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz file of a given kind, read without unpickling.

    Raises:
      DataError: the file is missing, not an .npz, holds objects or is of another kind.
    """
    try:
        content = pathlib.Path(path).read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(content)):
            # numpy would take it for a pickle and say how to load it unsafely
            raise ValueError("it is no .npz archive")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as err:
        raise DataError(f"{path}: not a dictionary of this program ({err})") from err
    if "format" not in arrays or str(arrays["format"]) != kind:
        raise DataError(f"{path}: not a file of kind {kind}; give one that jaxmicro wrote")
    return arrays
