"""Working-set proximal coordinate descent: the lasso of many patches, fast on a CPU.

One round, for a batch of patches that are not finished: coordinate descent on a small set of atoms
for each patch (patch axis innermost, so that the loops vectorise over patches), one dense check of
the duality gap, and a new, larger set made of the atoms in use and the worst violators. The host
drops finished patches between rounds. Sorting and arg-max stay out of the inner loops.
"""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmicro.dictionary.lasso import gap_terms, relative

ADDED = 8  # violators added to the set in each round
KEPT = (8, 12, 16, 24, 40)  # atoms kept from the set before, round by round; the last repeats
SMALL = 24  # sets up to this size end with a Newton step, which costs their size cubed
SWEEPS, LONG = 10, 25  # of coordinate descent, on small and on larger sets
LANES = 64  # patches a block of the descent; batches are multiples of it
JITTER = 1e-5  # of squared atom norms, which are 1 at most


class Round(eqx.Module):
    """Patches between rounds: for each its set of atoms, and what descent on it needs."""

    indices: Int[Array, "n s"]
    pull: Float[Array, "n s"]  # d_j . x of the atoms in the set
    values: Float[Array, "n s"]


def _winners(score: Float[Array, "n k"], count: int) -> Int[Array, "n count"]:
    """The best atom of each of `count` interleaved groups of atoms.

    Nearly the `count` best (a later round takes what shared a group) at a twentieth of the cost of
    `top_k`: maxima and comparisons vectorise, sorting does not.
    """
    n, k = score.shape
    padded = jnp.pad(score, ((0, 0), (0, -k % count)), constant_values=-2.0)
    groups = padded.reshape(n, -1, count)
    best = jnp.max(groups, axis=1, keepdims=True)
    member = jnp.arange(groups.shape[1], dtype=jnp.int32)[None, :, None]
    first = jnp.min(jnp.where(groups == best, member, groups.shape[1]), axis=1)
    # a patch that is not finite equals nothing: keep its index in range
    first = jnp.minimum(first, groups.shape[1] - 1)
    index = first * count + jnp.arange(count, dtype=jnp.int32)[None, :]
    return jnp.minimum(index, k - 1)


@functools.partial(jax.jit, static_argnames=("nonnegative",))
def start(patches: Float[Array, "n m"], atoms: Float[Array, "k m"], nonnegative: bool) -> Round:
    """A first set of atoms that correlate well with each patch, all codes zero."""
    pull = patches @ atoms.T
    indices = _winners(pull if nonnegative else jnp.abs(pull), min(ADDED, atoms.shape[0]))
    chosen = jnp.take_along_axis(pull, indices, axis=1)
    return Round(indices, chosen, jnp.zeros_like(chosen))


def _descend(gram, pull, values, penalty, ridge, nonnegative):
    """Coordinate descent on (s, n) arrays; gram is (s, s, n) of each patch's own atoms."""
    size = pull.shape[0]

    def update(step, codes):
        j = step % size
        row = jax.lax.dynamic_index_in_dim(gram, j, keepdims=False)
        own = jax.lax.dynamic_index_in_dim(row, j, keepdims=False)
        old = jax.lax.dynamic_index_in_dim(codes, j, keepdims=False)
        rest = jax.lax.dynamic_index_in_dim(pull, j, keepdims=False)
        rest = rest - jnp.sum(row * codes, axis=0) + own * old
        if nonnegative:
            shrunk = jnp.maximum(rest - penalty, 0.0)
        else:
            shrunk = rest - jnp.clip(rest, -penalty, penalty)
        new = shrunk / jnp.maximum(own + ridge, 1e-12)
        return jax.lax.dynamic_update_index_in_dim(codes, new, j, axis=0)

    if size > SMALL:
        return jax.lax.fori_loop(0, LONG * size, update, values)
    codes = jax.lax.fori_loop(0, SWEEPS * size, update, values)
    codes = _polish(gram, pull, codes, penalty, ridge)
    return jax.lax.fori_loop(0, 2 * size, update, codes)


def _polish(gram, pull, codes, penalty, ridge):
    """A Newton step on the atoms in use, cut where the first code changes sign.

    Coordinate descent finds the support quickly and the values slowly where atoms are alike; on
    the support the objective is a quadratic, and this solves it (feature-sign search, Lee et al.
    2007). The step only goes downhill, so descent afterwards keeps its guarantees.
    """
    size = pull.shape[0]
    used = codes != 0
    sign = jnp.sign(codes)
    slope = pull - jnp.sum(gram * codes[None], axis=1) - ridge * codes - penalty[None] * sign
    both = used[:, None, :] & used[None, :, :]
    # unused atoms get a unit row; the jitter keeps twin atoms solvable in float32
    unit = jnp.eye(size, dtype=gram.dtype)[:, :, None]
    diagonal = jnp.where(used, ridge + JITTER, 1.0)
    system = jnp.where(both, gram, 0.0) + unit * diagonal[None]
    right = jnp.where(used, slope, 0.0)

    def eliminate(p, carry):
        system, right = carry
        row = jax.lax.dynamic_index_in_dim(system, p, keepdims=False)
        pivot = 1.0 / jax.lax.dynamic_index_in_dim(row, p, keepdims=False)
        row = row * pivot[None]
        own = jax.lax.dynamic_index_in_dim(right, p, keepdims=False) * pivot
        column = jax.lax.dynamic_index_in_dim(system, p, axis=1, keepdims=False)
        here = (jnp.arange(size) == p)[:, None]
        # Gauss-Jordan: the pivot's own row becomes `row`, all others lose their column p
        factor = jnp.where(here, 0.0, column)
        system = jnp.where(here[:, None], row[None], system - factor[:, None] * row[None])
        right = jnp.where(here, own[None], right - factor * own[None])
        return system, right

    _, step = jax.lax.fori_loop(0, size, eliminate, (system, right))
    step = jnp.where(used & jnp.isfinite(step), step, 0.0)
    crosses = used & ((codes + step) * sign < 0)
    reach = jnp.where(crosses, -codes / jnp.where(crosses, step, 1.0), 1.0)
    length = jnp.min(reach, axis=0)[None]
    moved = codes + length * step
    return jnp.where(used & ~(crosses & (reach <= length)), moved, 0.0)


def _descend_blocks(state, gram, penalty, ridge, nonnegative):
    """Descent in blocks of patches whose Gram matrices stay in the cache of one core."""
    n, size = state.indices.shape
    lanes = min(n, LANES)

    def block(part):
        index, pull, values, level = part
        index = index.T
        own = gram.ravel()[index[:, None, :] * gram.shape[0] + index[None, :, :]]
        return _descend(own, pull.T, values.T, level, ridge, nonnegative).T

    parts = (state.indices, state.pull, state.values, penalty)
    parts = jax.tree.map(lambda a: a.reshape(n // lanes, lanes, *a.shape[1:]), parts)
    return jax.lax.map(block, parts).reshape(n, size)


@functools.partial(jax.jit, static_argnames=("keep", "nonnegative"))
def advance(
    patches: Float[Array, "n m"],
    state: Round,
    atoms: Float[Array, "k m"],
    gram: Float[Array, "k k"],
    penalty: Float[Array, " n"],
    ridge: Float[Array, ""],
    keep: int,
    nonnegative: bool,
) -> tuple[Float[Array, "n s"], Float[Array, " n"], Round]:
    """One round: (codes on the present set, relative gap of each patch, the next set).

    The next set is the `keep` largest codes of the present one and `ADDED` violators.
    """
    n, size = state.indices.shape
    k = atoms.shape[0]
    values = _descend_blocks(state, gram, penalty, ridge, nonnegative)

    rows = jnp.arange(n, dtype=jnp.int32)[:, None]
    dense = jnp.zeros((n, k), patches.dtype).at[rows, state.indices].add(values)
    residual = patches - dense @ atoms
    pull = residual @ atoms.T - ridge * dense
    pushed = pull if nonnegative else jnp.abs(pull)
    energy = jnp.sum(residual**2, axis=1) + ridge * jnp.sum(values**2, axis=1)
    mass = jnp.sum(jnp.abs(values), axis=1)
    inner = jnp.sum(dense * pull, axis=1)
    gap, value = gap_terms(energy, jnp.max(pushed, axis=1), penalty, mass, inner)

    # what is in the set already is added again only where nothing else is left; a twin is
    # harmless, its codes add up
    fresh = _winners(pushed.at[rows, state.indices].set(-1.0), min(ADDED, k))
    # d_j . x = d_j . (residual + D a), and the second part needs the set's own Gram only
    cross = gram.ravel()[fresh[:, :, None] * k + state.indices[:, None, :]]
    wanted = jnp.take_along_axis(pull + ridge * dense, fresh, axis=1)
    wanted = wanted + jnp.sum(cross * values[:, None, :], axis=2)
    kept = Round(state.indices, state.pull, values)
    if keep < size:
        _, order = jax.lax.top_k(jnp.abs(values), keep)
        kept = jax.tree.map(lambda a: jnp.take_along_axis(a, order, axis=1), kept)
    following = Round(
        jnp.concatenate([kept.indices, fresh], axis=1),
        jnp.concatenate([kept.pull, wanted], axis=1),
        jnp.concatenate([kept.values, jnp.zeros_like(wanted)], axis=1),
    )
    return values, relative(gap, value), following
