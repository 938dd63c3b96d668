"""Sparse coding of any number of patches: bounded memory, one certificate per patch."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmicro.dictionary import chunks, lasso, working_set
from jaxmicro.errors import UsageError

SOLVERS = ("auto", "fista", "working_set")
STEPS_A_ROUND = 100  # of FISTA, for a round of the working set
MANY = 64  # atoms from which working sets beat dense steps
BLOCK = 128 * chunks.CHUNK  # patches whose working sets are in memory at once
DENSE = 16 * chunks.CHUNK  # and patches whose dense codes are


@dataclasses.dataclass(frozen=True)
class Solver:
    """How codes are computed; the optimum is the same.

    Attributes:
      name: "fista" (accelerators, dense codes, weights), "working_set" (CPU) or "auto".
      max_steps: of FISTA; the working set makes a hundredth as many rounds.

    Raises:
      UsageError: an unknown name.
    """

    name: str = "auto"
    max_steps: int = 2000

    def __post_init__(self) -> None:
        if self.name not in SOLVERS:
            raise UsageError(f"solver {self.name!r} is not known; use one of {', '.join(SOLVERS)}")

    @property
    def rounds(self) -> int:
        return max(1, self.max_steps // STEPS_A_ROUND)

    def sparse(self, n_atoms: int, weighted: bool) -> bool:
        """Whether to use working sets; UsageError where they were asked for and cannot be had."""
        if self.name == "auto":
            return jax.default_backend() == "cpu" and not weighted and n_atoms >= MANY
        if self.name == "fista":
            return False
        if weighted:
            raise UsageError("solver 'working_set' takes no weights; use 'fista' or 'auto'")
        if n_atoms < working_set.SIZES[0]:
            raise UsageError(
                f"solver 'working_set' needs {working_set.SIZES[0]} atoms or more, "
                f"here are {n_atoms}; use 'fista'"
            )
        return True


AUTO = Solver()


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes of n patches: at most s atoms each, padded with index 0 and value 0.

    `gap` is the duality gap relative to the objective, `result` one of `lasso.RESULTS`.
    """

    indices: Int[np.ndarray, "n s"]
    values: Float[np.ndarray, "n s"]
    gap: Float[np.ndarray, " n"]
    steps: Int[np.ndarray, " n"]
    result: Int[np.ndarray, " n"]
    n_atoms: int

    @property
    def nonzeros(self) -> Int[np.ndarray, " n"]:
        return np.count_nonzero(self.values, axis=1)

    def dense(self) -> Float[np.ndarray, "n k"]:
        """The codes as a dense array; k/s times larger."""
        out = np.zeros((len(self.values), self.n_atoms), self.values.dtype)
        np.add.at(out, (np.arange(len(out))[:, None], self.indices), self.values)
        return out

    def rebuild(self, atoms: Float[np.ndarray, "k p"]) -> Float[np.ndarray, "n p"]:
        """The patches these codes stand for: a D, with any dictionary of as many atoms."""
        out = np.empty((len(self.values), atoms.shape[1]), np.result_type(atoms, self.values))
        for at in range(0, len(out), DENSE):
            rows = slice(at, at + DENSE)
            dense = np.zeros((len(out[rows]), self.n_atoms), self.values.dtype)
            # padding adds 0 to atom 0, so plain assignment would be wrong there
            np.add.at(
                dense, (np.arange(len(dense))[:, None], self.indices[rows]), self.values[rows]
            )
            out[rows] = dense @ atoms
        return out


def encode(
    patches: Float[np.ndarray, "n m"],
    atoms: Float[np.ndarray, "k m"],
    penalty: float | Float[np.ndarray, " n"],
    tolerance: float = 1e-3,
    *,
    ridge: float = 0.0,
    nonnegative: bool = False,
    weights: Float[np.ndarray, "n m"] | None = None,
    solver: Solver = AUTO,
) -> Codes:
    """Solve the lasso of every patch until its relative duality gap is at or below `tolerance`.

    Args:
      patches: in the units of the slice, means removed; float32 or float64 as given.
      atoms: one atom a row.
      penalty: lambda, one for all or one per patch, above 0.
      tolerance: 1e-3 is enough for images; float32 certifies about 1e-5 and no less.
      ridge: weight of 1/2 |a|^2 (elastic net).
      nonnegative: codes at or above 0.
      weights: per-pixel weights of the squared error; 0 leaves a pixel out.
      solver: by which method, and how many steps at most.

    Raises:
      UsageError: sizes that do not fit, a penalty that is not above 0, a solver that cannot do it.
    """
    # without x64 the programs run in float32 whatever comes in
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(np.asarray(patches).dtype))
    patches = np.ascontiguousarray(patches, dtype)
    atoms = np.ascontiguousarray(atoms, dtype)
    penalties = np.broadcast_to(np.asarray(penalty, dtype), (len(patches),))
    _check(patches, atoms, penalties, tolerance, ridge, weights)
    sparse = solver.sparse(len(atoms), weights is not None)
    options = (float(tolerance), float(ridge), bool(nonnegative))

    def work(rows):
        weight = None if weights is None else np.asarray(weights[rows], dtype)
        part, weight, finite, usable = _cleaned(patches[rows], weight)
        if sparse:
            found = working_set.solve(part, atoms, penalties[rows], *options, solver.rounds)
        else:
            found = _fista(part, atoms, penalties[rows], weight, *options, solver.max_steps)
        result = np.where(found[2] <= tolerance, lasso.CONVERGED, lasso.MAX_STEPS)
        result[~usable] = lasso.EMPTY
        result[~finite] = lasso.NOT_FINITE
        return [*found, result.astype(np.int32)]

    # every thread takes whole blocks through all their rounds: none waits for the other
    shares = chunks.shares(len(patches), BLOCK)
    indices, values, gap, steps, result = _stacked(chunks.on_threads(work, shares))
    return Codes(indices, values, gap, steps, result, len(atoms))


def _cleaned(patches, weight):
    """Patches and weights that can be computed with, which were finite, and which count."""
    dtype = patches.dtype
    if weight is not None:
        patches = np.where(weight > 0, patches, 0.0).astype(dtype)
    finite = np.isfinite(patches).all(axis=1)
    usable = finite if weight is None else finite & (weight > 0).any(axis=1)
    if not usable.all():
        patches = np.where(usable[:, None], patches, 0.0).astype(dtype)
        weight = None if weight is None else np.where(usable[:, None], weight, 0.0)
    return patches, weight, finite, usable


def _stacked(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Columns of the parts, one below the other; a part's arrays are let go as they are copied."""
    n, columns = sum(len(part[2]) for part in parts), []
    width = max(part[0].shape[1] for part in parts)
    while parts[0]:
        first = parts[0][0]
        column = np.zeros((n, width) if first.ndim == 2 else n, first.dtype)
        at = 0
        for part in parts:
            piece = part.pop(0)
            if piece.ndim == 2:
                column[at : at + len(piece), : piece.shape[1]] = piece
            else:
                column[at : at + len(piece)] = piece
            at += len(piece)
        columns.append(column)
    return columns


def _fista(patches, atoms, penalties, weights, tolerance, ridge, nonnegative, max_steps):
    n, dtype = len(patches), patches.dtype
    device_atoms = jnp.asarray(atoms)
    scalars = (jnp.asarray(ridge, dtype), jnp.asarray(tolerance, dtype))

    def work(rows):
        part = patches[rows]
        size = chunks.rows_up_to(len(part))
        extra = ((0, size - len(part)), (0, 0))
        weight = np.ones_like(part) if weights is None else weights[rows]
        out = lasso.fista(
            np.pad(part, extra),
            device_atoms,
            np.pad(weight, extra),
            np.pad(penalties[rows], extra[0], constant_values=1.0),
            *scalars,
            nonnegative=nonnegative,
            max_steps=max_steps,
        )
        count = int(jnp.max(jnp.sum(out.values != 0, axis=1)))
        width = min(len(atoms), max(1, 1 << (count - 1).bit_length()) if count else 1)
        indices, values = lasso.to_sparse(out.values, width)
        return [np.asarray(a)[: len(part)] for a in (indices, values, out.gap, out.steps)]

    return _stacked([work(rows) for rows in chunks.split(np.arange(n)) or [np.arange(0)]])


def _check(patches, atoms, penalties, tolerance, ridge, weights) -> None:
    if patches.ndim != 2 or atoms.ndim != 2 or patches.shape[1] != atoms.shape[1]:
        raise UsageError(
            f"patches of shape {patches.shape} do not fit atoms of shape {atoms.shape}; "
            "both need the same number of pixels in their second axis"
        )
    if not np.all(penalties > 0):
        raise UsageError(f"penalty {float(np.min(penalties)):g} is not allowed; give one above 0")
    if not tolerance > 0:
        raise UsageError(f"tolerance {tolerance:g} is not allowed; give one above 0, e.g. 1e-3")
    if not ridge >= 0:
        raise UsageError(f"ridge {ridge:g} is not allowed; give 0 or more")
    if weights is not None and (weights.shape != patches.shape or not np.all(weights >= 0)):
        raise UsageError(
            f"weights of shape {weights.shape} must have the shape of the patches, "
            f"{patches.shape}, and be 0 or more"
        )
