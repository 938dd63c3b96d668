"""Coding to the noise level: the error-bounded form of the lasso."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxmicro.dictionary.encode import Codes, encode

ROUNDS = 9  # halvings of the bracket; it starts within a factor of about 100
FLOOR = 1e-2  # least penalty, of the largest correlation
SLACK = 0.02  # relative, of the error bound


def encode_to_error(
    patches: Float[np.ndarray, "n m"],
    atoms: Float[np.ndarray, "k m"],
    bound: float | Float[np.ndarray, " n"],
    tolerance: float = 1e-3,
    *,
    nonnegative: bool = False,
    weights: Float[np.ndarray, "n m"] | None = None,
) -> tuple[Codes, Float[np.ndarray, " n"]]:
    """The sparsest codes whose squared error is at or below `bound`, patch by patch.

    The error of the lasso's solution grows with the penalty, so the largest penalty that still
    meets the bound is found by bisection of its logarithm. Patches with less energy than the bound
    get zero codes; a patch that the dictionary cannot fit that well gets the smallest penalty,
    FLOOR times its largest correlation.

    Returns:
      The codes, and the penalty of each patch.
    """
    target = np.broadcast_to(np.asarray(bound, patches.dtype), (len(patches),))
    weight = np.ones_like(patches) if weights is None else weights
    top = np.abs((patches * weight) @ atoms.T).max(axis=1)
    top = np.maximum(top, np.finfo(patches.dtype).tiny)
    low, high = np.log(top * FLOOR), np.log(top)
    penalty = np.exp(high).astype(patches.dtype)
    empty = np.sum(weight * patches**2, axis=1) <= target
    todo = np.flatnonzero(~empty)
    for number in range(ROUNDS):
        if not len(todo):
            break
        middle = low[todo] if number == 0 else (low[todo] + high[todo]) / 2
        part = encode(
            patches[todo],
            atoms,
            np.exp(middle).astype(patches.dtype),
            1e-2,
            nonnegative=nonnegative,
            weights=None if weights is None else weights[todo],
        )
        residual = patches[todo] - part.rebuild(atoms)
        error = np.sum(weight[todo] * residual**2, axis=1)
        meets = error <= target[todo]
        penalty[todo] = np.exp(middle)
        # raise the penalty where the bound is met, lower it where it is not
        low[todo] = np.where(meets, middle, low[todo])
        high[todo] = np.where(meets, high[todo], middle)
        near = np.abs(error - target[todo]) <= SLACK * target[todo]
        todo = todo[~near & ((number > 0) | meets)]
    penalty[todo] = np.exp(low[todo])
    codes = encode(patches, atoms, penalty, tolerance, nonnegative=nonnegative, weights=weights)
    return codes, penalty
