"""Working-set proximal coordinate descent: the lasso of many patches, fast on a CPU.

One round, for a batch of patches that are not finished: coordinate descent and a Newton step on a
small set of atoms for each patch (patch axis innermost, so that the loops vectorise over patches),
one dense check of the duality gap, and a new set made of the atoms in use and the worst violators.
Between rounds the host drops finished patches and sorts the others by the size of their next set.
Full sorts, arg-max and reductions over inner axes stay out of the loops: XLA does not vectorise
them on a CPU.
"""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.dictionary import chunks, descent
from jaxmicro.dictionary.lasso import gap_terms, relative

SIZES = (8, 16, 24, 32, 48, 64, 96, 128)  # of the sets; every patch grows through them at need
FREE = 8  # places for violators in a set, at least
CANDIDATES = 16  # violators found in each round; large sets take more than FREE
EARLY, REPEATS = 6, 5  # rounds with one descent and one Newton step; later ones repeat both


class Round(eqx.Module):
    """Patches after a round, with the set of the next one: atoms in use, then violators.

    Attributes:
      indices: atoms of the set; k stands for none.
      slope: d_j . residual - ridge a_j at the present codes.
      values: codes.
      gap: relative duality gap.
      used: how many codes are not 0.
    """

    indices: Int[Array, "n t"]
    slope: Float[Array, "n t"]
    values: Float[Array, "n t"]
    gap: Float[Array, " n"]
    used: Int[Array, " n"]


def _largest(score: Float[Array, "n k"], count: int, ordered: bool = True) -> Int[Array, "n count"]:
    """The best atom of each of `count` interleaved groups, best first; k where no score is > 0.

    Nearly the `count` best (a later round takes what shared a group) at a twentieth of the cost of
    `top_k`: a non-negative float orders as the integer of its bits, whose low ones can carry the
    index, so that one vectorised maximum gives both.
    """
    n, k = score.shape
    bits = max(1, (k - 1).bit_length())
    low = (1 << bits) - 1
    packed = jax.lax.bitcast_convert_type(score.astype(jnp.float32), jnp.int32)
    packed = (packed & ~low) | jnp.arange(k, dtype=jnp.int32)[None, :]
    packed = jnp.pad(packed, ((0, 0), (0, -k % count)))
    best = jnp.max(packed.reshape(n, -1, count), axis=1)
    if ordered:
        best = -jnp.sort(-best, axis=1)
    return jnp.where(best > low, best & low, k)


def _magnitude(correlation, nonnegative):
    return jnp.maximum(correlation, 0.0) if nonnegative else jnp.abs(correlation)


def _taken(array, indices):
    """array[i, indices[i]], and 0 for the index of no atom."""
    absent = indices == array.shape[1]
    taken = jnp.take_along_axis(array, jnp.where(absent, 0, indices), axis=1)
    return jnp.where(absent, 0.0, taken)


def _certificate(values, slope, energy, magnitude, penalty, ridge):
    """Relative gap of each patch, from |residual|^2 and what is at hand."""
    energy = energy + ridge * jnp.sum(values**2, axis=1)
    l1_norm = jnp.sum(jnp.abs(values), axis=1)
    inner = jnp.sum(values * slope, axis=1)
    gap, value = gap_terms(energy, jnp.max(magnitude, axis=1), penalty, l1_norm, inner)
    return relative(gap, value)


def gram_of(atoms: Float[Array, "k m"], ridge: Float[Array, ""]) -> Float[Array, "k1 k1"]:
    """D D' + ridge I, with a row and a column of zeros for the index of no atom."""
    gram = atoms @ atoms.T + ridge * jnp.eye(len(atoms), dtype=atoms.dtype)
    return jnp.pad(gram, ((0, 1), (0, 1)))


@functools.partial(jax.jit, static_argnames=("nonnegative",))
def start(
    patches: Float[Array, "n m"],
    atoms: Float[Array, "k m"],
    gram: Float[Array, "k1 k1"],
    penalty: Float[Array, " n"],
    ridge: Float[Array, ""],
    nonnegative: bool,
) -> Round:
    """The first round: the smallest set, of atoms that correlate well with each patch.

    `gram` is that of `gram_of`, here and in `advance`.
    """
    k = len(atoms)
    against = patches @ atoms.T
    indices = _largest(_magnitude(against, nonnegative), SIZES[0], ordered=False)
    slope = _taken(against, indices)
    values = descent.descend(indices, slope, jnp.zeros_like(slope), gram, penalty, nonnegative)

    # few atoms: their rows of the Gram matrix cost half of two products with the dictionary
    correlation = against - jnp.sum(values[:, :, None] * gram[indices, :k], axis=1)
    magnitude = _magnitude(correlation, nonnegative)
    past, slope = slope, _taken(correlation, indices)
    energy = jnp.sum(patches**2, axis=1) - jnp.sum(values * (past + slope + ridge * values), axis=1)
    energy = jnp.maximum(energy, 0.0)
    gap = _certificate(values, slope, energy, magnitude, penalty, ridge)
    rows = jnp.arange(len(patches), dtype=jnp.int32)[:, None]
    fresh = _largest(magnitude.at[rows, indices].set(0.0, mode="drop"), FREE, ordered=False)
    return Round(
        jnp.concatenate([indices, fresh], axis=1),
        jnp.concatenate([slope, _taken(correlation, fresh)], axis=1),
        jnp.concatenate([values, jnp.zeros(fresh.shape, values.dtype)], axis=1),
        gap,
        jnp.sum(values != 0, axis=1, dtype=jnp.int32),
    )


@functools.partial(jax.jit, static_argnames=("nonnegative",))
def advance(
    patches: Float[Array, "n m"],
    sets: tuple[Int[Array, "n s"], Float[Array, "n s"], Float[Array, "n s"]],
    atoms: Float[Array, "k m"],
    gram: Float[Array, "k1 k1"],
    penalty: Float[Array, " n"],
    ridge: Float[Array, ""],
    repeats: Int[Array, ""],
    nonnegative: bool,
) -> Round:
    """A later round, on the sets that the round before has left, cut to s atoms.

    `sets` holds indices, slope and values as `Round` does; `repeats` is how often descent and
    Newton step follow each other.
    """
    n = len(patches)
    k = atoms.shape[0]
    indices, slope, values = sets
    values = descent.descend(indices, slope, values, gram, penalty, nonnegative, repeats)

    rows = jnp.arange(n, dtype=jnp.int32)[:, None]
    dense = jnp.zeros((n, k), patches.dtype).at[rows, indices].add(values, mode="drop")
    residual = patches - dense @ atoms
    correlation = residual @ atoms.T - ridge * dense
    magnitude = _magnitude(correlation, nonnegative)
    slope = _taken(correlation, indices)
    gap = _certificate(values, slope, jnp.sum(residual**2, axis=1), magnitude, penalty, ridge)

    used = jnp.sum(values != 0, axis=1, dtype=jnp.int32)
    fresh = _largest(magnitude.at[rows, indices].set(0.0, mode="drop"), min(CANDIDATES, k))
    size, width = indices.shape[1], indices.shape[1] + fresh.shape[1]
    indices = jnp.concatenate([indices, fresh], axis=1)
    slope = jnp.concatenate([slope, _taken(correlation, fresh)], axis=1)
    values = jnp.concatenate([values, jnp.zeros(fresh.shape, values.dtype)], axis=1)
    # atoms in use move to the front, violators behind them, the rest is dropped
    wanted = (values != 0) | (jnp.arange(width) >= size)[None, :]
    place = jnp.where(wanted, jnp.cumsum(wanted, axis=1) - 1, width)
    source = (
        jnp.full_like(indices, width)
        .at[rows, place]
        .set(jnp.arange(width, dtype=jnp.int32)[None], mode="drop")
    )
    nothing = source == width
    kept = jnp.take_along_axis(indices, jnp.where(nothing, 0, source), axis=1)
    indices = jnp.where(nothing, k, kept)
    return Round(indices, _taken(slope, source), _taken(values, source), gap, used)


def _tasks(todo, size):
    """Chunks of patches whose sets have one size; too few for a chunk join the next larger size."""
    tasks = []
    for smaller, larger in zip(SIZES, (*SIZES[1:], 0), strict=True):
        group = todo[size[todo] == smaller]
        if len(group) <= chunks.FEW and larger > SIZES[1] and (size[todo] == larger).any():
            size[group] = larger
        else:
            tasks += chunks.split(group)
    return tasks


def solve(
    patches: Float[np.ndarray, "n m"],
    atoms: Float[np.ndarray, "k m"],
    penalty: Float[np.ndarray, " n"],
    tolerance: float,
    ridge: float,
    nonnegative: bool,
    rounds: int,
) -> tuple[
    Int[np.ndarray, "n s"],
    Float[np.ndarray, "n s"],
    Float[np.ndarray, " n"],
    Int[np.ndarray, " n"],
]:
    """(indices, values, relative gap, rounds made) of every patch; the host's side of the rounds.

    Patches end where their gap reaches the tolerance, or after `rounds` rounds.
    """
    n, k, dtype = len(patches), len(atoms), patches.dtype
    device_atoms = jnp.asarray(atoms)
    ridge_ = jnp.asarray(ridge, dtype)
    shared = (device_atoms, gram_of(device_atoms, ridge_))
    # as wide as the widest set yet: most patches need few atoms
    width = SIZES[2] + CANDIDATES
    sets = [
        np.full((n, width), k, np.int32),
        np.zeros((n, width), dtype),
        np.zeros((n, width), dtype),
    ]
    gap, used = np.zeros(n, dtype), np.zeros(n, np.int32)
    steps, size = np.zeros(n, np.int32), np.full(n, SIZES[0], np.int32)
    table = np.asarray([min([s for s in SIZES if s >= u + FREE] or SIZES[-1:]) for u in range(k)])

    def dispatch(which):
        extra = chunks.rows_up_to(len(which)) - len(which)
        padded = np.concatenate([which, np.repeat(which[-1:], extra)]) if extra else which
        scalars = (*shared, penalty[padded], ridge_)
        done = int(steps[which[0]])
        if done == 0:
            return start(patches[padded], *scalars, nonnegative)
        state = tuple(part[padded, : size[which[0]]] for part in sets)
        repeats = jnp.asarray(1 if done < EARLY else REPEATS, jnp.int32)
        return advance(patches[padded], state, *scalars, repeats, nonnegative)

    def collect(which, out):
        # neighbours, as all are in the first round, are copied as one piece
        whole = which[-1] - which[0] + 1 == len(which)
        rows = slice(which[0], which[-1] + 1) if whole else which
        news = (out.indices, out.slope, out.values)
        for part, new, nothing in zip(sets, news, (k, 0, 0), strict=True):
            got = min(new.shape[1], part.shape[1])
            part[rows, :got] = np.asarray(new)[: len(which), :got]
            # a set may grow by more than its candidates: no atoms of an older round there
            part[rows, got:] = nothing
        gap[rows] = np.asarray(out.gap)[: len(which)]
        used[rows] = np.asarray(out.used)[: len(which)]

    todo = np.arange(n)
    for _ in range(rounds):
        wider = min(int(size[todo].max(initial=0)) + CANDIDATES, SIZES[-1]) - sets[0].shape[1]
        if wider > 0:
            sets = [
                np.pad(part, ((0, 0), (0, wider)), constant_values=fill)
                for part, fill in zip(sets, (k, 0, 0), strict=True)
            ]
        for which in _tasks(todo, size):
            collect(which, dispatch(which))
        steps[todo] += 1
        todo = todo[~(gap[todo] <= tolerance)]
        size[todo] = table[np.minimum(used[todo], k - 1)]
        if not len(todo):
            break
    # a first round leaves its codes anywhere in its set, later ones in front
    width = max(SIZES[0], int(used.max(initial=0)))
    values = sets[2][:, :width].copy()
    # what is no atom, or not in use, is written as atom 0 with code 0
    return np.where(values != 0, sets[0][:, :width], 0), values, gap, steps
