"""The lasso of a patch, its duality gap, and a batched proximal-gradient solver.

For one patch x (m,) and a dictionary with atoms d_j in its rows, D (k, m), the codes minimise

    P(a) = 1/2 sum_i w_i (x_i - (a D)_i)^2 + ridge/2 |a|^2 + penalty |a|_1,    a >= 0 on request.

FISTA (Beck and Teboulle 2009, doi 10.1137/080716542) with the adaptive restart of O'Donoghue and
Candes (2015, doi 10.1007/s10208-013-9150-3). Maths is written for one patch and batched by `vmap`
in one place, so a finished patch is frozen and does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHECK_EVERY = 10  # steps between gap checks; a check costs as much as a step

CONVERGED, MAX_STEPS, NOT_FINITE, EMPTY = range(4)
RESULTS = {
    CONVERGED: "the relative duality gap is at or below the tolerance",
    MAX_STEPS: "the step limit came first; raise max_steps or the tolerance",
    NOT_FINITE: "the patch holds a value that is not finite; mask it",
    EMPTY: "no usable pixel in the patch, or too few to code it; its codes are zero",
}


class Dense(eqx.Module):
    """Codes of a batch as a dense array, with one certificate per patch."""

    values: Float[Array, "*n k"]
    gap: Float[Array, "*n"]
    steps: Int[Array, "*n"]


def soft_threshold(
    value: Float[Array, "*shape"],
    threshold: Float[Array, "*threshold"] | float,
    nonnegative: bool = False,
) -> Float[Array, "*shape"]:
    """The proximal operator of threshold * |.|_1, or of the same on a >= 0."""
    if nonnegative:
        return jnp.maximum(value - threshold, 0.0)
    return jnp.sign(value) * jnp.maximum(jnp.abs(value) - threshold, 0.0)


def objective(
    patch: Float[Array, " m"],
    codes: Float[Array, " k"],
    atoms: Float[Array, "k m"],
    weights: Float[Array, " m"],
    penalty: Float[Array, ""],
    ridge: Float[Array, ""],
) -> Float[Array, ""]:
    """P(a) for one patch."""
    residual = patch - codes @ atoms
    fit = 0.5 * jnp.sum(weights * residual**2) + 0.5 * ridge * jnp.sum(codes**2)
    return fit + penalty * jnp.sum(jnp.abs(codes))


def gap_terms(
    energy: Float[Array, "*shape"],
    largest: Float[Array, "*shape"],
    penalty: Float[Array, "*shape"],
    l1_norm: Float[Array, "*shape"],
    inner: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Duality gap and objective from the sums that every solver has at hand.

    With rho = (sqrt(w)(x - aD), -sqrt(ridge) a) and g = gradient of the smooth part, negated, the
    point s rho, s = min(1, penalty / max g), is feasible in the dual, and

        P(a) - dual(s rho) = 1/2 (1 - s)^2 |rho|^2 + sum_j (penalty |a_j| - s a_j g_j),

    in which no term is negative: the gap keeps its relative accuracy in float32.

    Args:
      energy: |rho|^2.
      largest: max_j |g_j|, or max_j g_j for non-negative codes.
      penalty: as in P.
      l1_norm: |a|_1.
      inner: sum_j a_j g_j.
    """
    scale = jnp.minimum(1.0, penalty / jnp.maximum(largest, jnp.finfo(energy.dtype).tiny))
    # rounding alone can make the last bracket negative by an ulp
    gap = 0.5 * (1.0 - scale) ** 2 * energy + jnp.maximum(penalty * l1_norm - scale * inner, 0.0)
    return gap, 0.5 * energy + penalty * l1_norm


def relative(gap: Float[Array, "*shape"], value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """gap / P, and 0 where P is 0."""
    return jnp.where(value > 0, gap / jnp.where(value > 0, value, 1.0), 0.0)


def duality_gap(
    patch: Float[Array, " m"],
    codes: Float[Array, " k"],
    atoms: Float[Array, "k m"],
    weights: Float[Array, " m"],
    penalty: Float[Array, ""],
    ridge: Float[Array, ""],
    nonnegative: bool = False,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(gap, objective) of one patch; the gap is an upper bound of P(a) - min P, never negative."""
    residual = patch - codes @ atoms
    correlation = atoms @ (weights * residual) - ridge * codes
    energy = jnp.sum(weights * residual**2) + ridge * jnp.sum(codes**2)
    largest = jnp.max(correlation) if nonnegative else jnp.max(jnp.abs(correlation))
    return gap_terms(
        energy, largest, penalty, jnp.sum(jnp.abs(codes)), jnp.sum(codes * correlation)
    )


@functools.partial(jax.jit, static_argnames=("nonnegative", "max_steps"))
def fista(
    patches: Float[Array, "n m"],
    atoms: Float[Array, "k m"],
    weights: Float[Array, "n m"],
    penalty: Float[Array, " n"],
    ridge: Float[Array, ""],
    tolerance: Float[Array, ""],
    nonnegative: bool = False,
    max_steps: int = 2000,
) -> Dense:
    """Solve the lasso of every patch to a relative gap at or below `tolerance`.

    The plain batched solver: two matrix products a step, for accelerators and dense codes. Give
    weights of 0 to pixels that take no part; `patches` must be finite there too.
    """
    dtype = patches.dtype
    # |D|^2 bounds the curvature; weights only scale it
    curvature = jnp.linalg.eigvalsh(atoms.T @ atoms)[-1]

    def one(patch, weight, penalty):
        step = 1.0 / jnp.maximum(curvature * jnp.max(weight) + ridge, jnp.finfo(dtype).tiny)

        def move(_, state):
            codes, ahead, momentum = state
            correlation = atoms @ (weight * (patch - ahead @ atoms)) - ridge * ahead
            new = soft_threshold(ahead + step * correlation, step * penalty, nonnegative)
            # restart where momentum points uphill
            uphill = jnp.sum((ahead - new) * (new - codes)) > 0
            momentum = jnp.where(uphill, 1.0, momentum)
            following = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2))
            ahead = new + ((momentum - 1.0) / following) * (new - codes)
            return new, ahead, following

        def keep_on(carry):
            _, gap, steps = carry
            return (gap > tolerance) & (steps < max_steps)

        def advance(carry):
            state, _, steps = carry
            state = jax.lax.fori_loop(0, CHECK_EVERY, move, state)
            gap, value = duality_gap(patch, state[0], atoms, weight, penalty, ridge, nonnegative)
            return state, relative(gap, value), steps + CHECK_EVERY

        zero = jnp.zeros(atoms.shape[0], dtype)
        gap, value = duality_gap(patch, zero, atoms, weight, penalty, ridge, nonnegative)
        start = ((zero, zero, jnp.ones((), dtype)), relative(gap, value), jnp.zeros((), jnp.int32))
        (codes, _, _), gap, steps = jax.lax.while_loop(keep_on, advance, start)
        return Dense(codes, gap, steps)

    return jax.vmap(one)(patches, weights, penalty)


@functools.partial(jax.jit, static_argnames=("width",))
def to_sparse(
    values: Float[Array, "n k"], width: int
) -> tuple[Int[Array, "n width"], Float[Array, "n width"]]:
    """The `width` largest codes of every patch as (indices, values)."""
    _, indices = jax.lax.top_k(jnp.abs(values), width)
    return indices.astype(jnp.int32), jnp.take_along_axis(values, indices, axis=1)
