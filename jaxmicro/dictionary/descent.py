"""Coordinate descent and Newton steps on small sets of atoms, many patches side by side.

Arrays have the patch axis innermost, so that the loops vectorise over patches; each patch has a
Gram matrix of its own atoms. What is slow in XLA on a CPU stays out: sorts, reductions over inner
axes, slices of two rows in one fused loop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SMALL = 64  # sets up to this size end with a Newton step, which costs their size cubed
SWEEPS, TAIL, LONG = 10, 2, 25  # of descent: before the Newton step, after it, on larger sets
BLOCK = {8: 256, 16: 128, 24: 64, 32: 64}  # patches a block: their Gram matrices fill the cache
BLOCK_WIDE = 16  # and on larger sets
STAGE = 8  # unknowns eliminated before the linear system is cut smaller; even, as the sizes are
JITTER = 1e-5  # of squared atom norms, which are 1 at most


def _row(array, j):
    return jax.lax.dynamic_index_in_dim(array, j, keepdims=False)


def _column(array, j):
    return jax.lax.dynamic_index_in_dim(array, j, axis=1, keepdims=False)


def _moved(gram, slope, step):
    """The slope after codes have moved by `step`; a loop over rows, which vectorises."""
    return jax.lax.fori_loop(
        0, len(slope), lambda j, s: s - _row(step, j)[None] * _row(gram, j), slope
    )


def _descend(gram, correlation, codes, penalty, sweeps, nonnegative):
    """Coordinate descent on (s, n) arrays; gram is (s, s, n) of each patch's own atoms."""
    size = correlation.shape[0]
    own = jnp.stack([gram[j, j] for j in range(size)])
    inverse = jnp.where(own > 0, 1.0 / jnp.where(own > 0, own, 1.0), 0.0)

    def update(step, codes):
        j = step % size
        row, inv = _row(gram, j), _row(inverse, j)
        free = _row(codes, j) + (_row(correlation, j) - jnp.sum(row * codes, axis=0)) * inv
        threshold = penalty * inv
        new = (
            jnp.maximum(free - threshold, 0.0)
            if nonnegative
            else free - jnp.clip(free, -threshold, threshold)
        )
        return jax.lax.dynamic_update_index_in_dim(codes, new, j, axis=0)

    return jax.lax.fori_loop(0, sweeps * size, update, codes)


def _solve(system, right):
    """Solve the (s, s, n) systems: eliminate a few unknowns, recurse on the rest, put them back."""
    size = right.shape[0]
    stage = min(STAGE, size)
    unit = jnp.eye(size, dtype=right.dtype)

    def eliminate(pair, carry):
        # two at a time: half the traffic. Subtracting the unit columns too makes their own rows
        # the solved ones
        system, right = carry
        p = 2 * pair
        top, low = _row(system, p), _row(system, p + 1)
        a, b, c = _row(top, p), _row(top, p + 1), _row(low, p + 1)
        scale = 1.0 / (a * c - b * b)
        a, b, c = a * scale, b * scale, c * scale
        first, second = c[None] * top - b[None] * low, a[None] * low - b[None] * top
        x, y = _row(right, p), _row(right, p + 1)
        own, other = c * x - b * y, a * y - b * x
        left = _column(system, p) - _row(unit, p)[:, None]
        right_column = _column(system, p + 1) - _row(unit, p + 1)[:, None]
        system = system - left[:, None] * first[None] - right_column[:, None] * second[None]
        return system, right - left * own[None] - right_column * other[None]

    system, right = jax.lax.fori_loop(0, stage // 2, eliminate, (system, right))
    if stage == size:
        return right
    rest = _solve(system[stage:, stage:], right[stage:])
    head = right[:stage] - jnp.sum(system[:stage, stage:] * rest[None], axis=1)
    return jnp.concatenate([head, rest])


def _newton_step(gram, correlation, codes, penalty):
    """A Newton step on the atoms in use, cut where the first code changes sign.

    Coordinate descent finds the support quickly and the values slowly where atoms are alike; on
    the support the objective is a quadratic, and this solves it (feature-sign search, Lee et al.
    2007). The step only goes downhill, so descent afterwards keeps its guarantees.
    """
    size = correlation.shape[0]
    used = codes != 0
    slope = _moved(gram, correlation, codes)
    sign = jnp.sign(codes)
    both = used[:, None, :] & used[None, :, :]
    # unused atoms get a unit row; the jitter keeps equal atoms solvable in float32
    unit = jnp.eye(size, dtype=gram.dtype)[:, :, None]
    system = jnp.where(both, gram, 0.0) + unit * jnp.where(used, JITTER, 1.0)[None]
    step = _solve(system, jnp.where(used, slope - penalty[None] * sign, 0.0))
    step = jnp.where(used & jnp.isfinite(step), step, 0.0)
    crosses = used & ((codes + step) * sign < 0)
    limit = jnp.where(crosses, -codes / jnp.where(crosses, step, 1.0), 1.0)
    length = jnp.min(limit, axis=0)[None]
    return jnp.where(used & ~(crosses & (limit <= length)), codes + length * step, 0.0)


def descend(indices, slope, values, gram, penalty, nonnegative, repeats=1):
    """Descent in blocks of patches whose Gram matrices stay in the cache of one core."""
    n, size = indices.shape
    count = min(n, BLOCK.get(size, BLOCK_WIDE))
    # gathered patch by patch and then transposed, which takes a third of the time
    place = indices[:, :, None] * len(gram) + indices[:, None, :]
    own = gram.ravel().at[place].get(mode="promise_in_bounds")
    own = own.reshape(n // count, count, size, size).transpose(0, 2, 3, 1)

    def block(part):
        own, slope, codes, penalties = part
        slope, codes = slope.T, codes.T
        correlation = _moved(own, slope, -codes)
        if size > SMALL:
            return _descend(own, correlation, codes, penalties, LONG, nonnegative).T

        def improve(_, codes):
            codes = _descend(own, correlation, codes, penalties, SWEEPS, nonnegative)
            return _newton_step(own, correlation, codes, penalties)

        codes = jax.lax.fori_loop(0, repeats, improve, codes)
        return _descend(own, correlation, codes, penalties, TAIL, nonnegative).T

    parts = jax.tree.map(
        lambda a: a.reshape(n // count, count, *a.shape[1:]), (slope, values, penalty)
    )
    return jax.lax.map(block, (own, *parts)).reshape(n, size)
