"""Sparse codes of any patches: known answers, a certificate each, a program for every shape."""

import jax
import jax.numpy as jnp
import numpy as np
from drawn_images import ROUNDING, dtypes, numbers, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmicro.dictionary import lasso
from jaxmicro.dictionary.encode import Solver, encode


def orthonormal(seed, k, m, dtype):
    return np.linalg.qr(numbers(seed, (m, m)))[0][:k].astype(dtype)


@given(st.sampled_from([1, 3]), st.booleans(), dtypes, st.floats(0.01, 2.0), seeds)
def test_codes_of_orthonormal_atoms_are_thresholded_products(n, nonnegative, dtype, penalty, seed):
    """For D D' = 1 the lasso is solved by soft-thresholding D x, whatever the patch."""
    atoms = orthonormal(seed, 9, 9, dtype)
    patches = numbers(seed + 1, (n, 9), dtype)
    codes = encode(patches, atoms, penalty, 1e-5, nonnegative=nonnegative)
    assert (codes.result == lasso.CONVERGED).all()
    products = patches @ atoms.T
    exact = np.sign(products) * np.maximum(np.abs(products) - penalty, 0)
    exact = np.maximum(products - penalty, 0) if nonnegative else exact
    # a relative gap of 1e-5 bounds the distance by sqrt(2 gap P), with P below |x|^2 / 2
    bound = np.sqrt(1e-5) * np.linalg.norm(patches, axis=1).max() + ROUNDING[dtype]
    assert np.linalg.norm(codes.dense() - exact, axis=1).max() <= bound
    np.testing.assert_allclose(codes.rebuild(atoms), codes.dense() @ atoms, atol=ROUNDING[dtype])
    assert (codes.nonzeros <= 9).all()


@settings(max_examples=25)
@given(st.floats(1e-6, 1e-3), seeds)
def test_unit_atoms_give_the_patches_back(penalty, seed):
    """As the penalty falls to 0, an identity-like dictionary rebuilds what it was given."""
    patches, atoms = numbers(seed, (5, 9)), np.eye(9)[::-1]
    codes = encode(patches, atoms, penalty, 1e-9)
    # the exact codes are off by the penalty; a gap of 1e-9 of P < |x|^2 / 2 adds its root
    bound = penalty + np.sqrt(1e-9) * np.linalg.norm(patches, axis=1).max()
    np.testing.assert_allclose(codes.rebuild(atoms), patches, atol=bound)


@settings(max_examples=25)
@given(
    # few programs: each is compiled
    st.sampled_from(
        [
            ("auto", 9, False, np.float64),
            ("fista", 9, True, np.float32),
            ("auto", 70, False, np.float64),
        ]
    ),
    st.sampled_from([0, 1, 5]),
    st.booleans(),
    st.sampled_from(["plain", "zero", "nan", "inf", "huge", "equal atoms", "zero atom"]),
    seeds,
)
def test_every_patch_gets_a_result_of_its_own(program, n, weighted, what, seed):
    solver, k, nonnegative, dtype = program
    patches, atoms = numbers(seed, (n, 9), dtype), numbers(seed + 1, (k, 9), dtype)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    spoil = {"zero": 0.0, "nan": np.nan, "inf": np.inf, "huge": 1e18}.get(what)
    if spoil is not None:
        patches[:1, :3] = spoil
    if what == "equal atoms":
        atoms[5:] = atoms[: k - 5]
    if what == "zero atom":
        atoms[3] = 0
    weights = None
    if weighted:
        weights = np.random.default_rng(seed).choice([0.0, 1.0], patches.shape).astype(dtype)
        weights[-1:] = 0
    options = {"nonnegative": nonnegative, "weights": weights, "solver": Solver(solver)}
    codes = encode(patches, atoms, 0.2, **options)
    assert len(codes.values) == len(codes.result) == n
    assert np.isfinite(codes.values).all()
    assert ((codes.indices >= 0) & (codes.indices < k)).all()
    assert set(np.unique(codes.result)) <= set(lasso.RESULTS)
    done = codes.result == lasso.CONVERGED
    assert (codes.gap[done] <= 1e-3).all()
    assert (codes.gap >= 0).all()
    if nonnegative:
        assert (codes.values >= 0).all()
    if n and what in ("nan", "inf") and not weighted:
        assert codes.result[0] == lasso.NOT_FINITE
    # the others do not notice
    if n > 1:
        rest = None if weights is None else weights[1:]
        alone = encode(patches[1:], atoms, 0.2, **(options | {"weights": rest}))
        np.testing.assert_allclose(alone.dense(), codes.dense()[1:], atol=1e-5)


@given(
    st.sampled_from([1, 2, 512]),
    st.sampled_from([1, 5, 256]),
    st.sampled_from([1, 64]),
    st.booleans(),
    dtypes,
)
def test_the_solver_has_a_program_for_every_shape(n, k, m, nonnegative, dtype):
    def like(*shape):
        return jax.ShapeDtypeStruct(shape, dtype)

    out = jax.eval_shape(
        lambda *a: lasso.fista(*a, nonnegative=nonnegative),
        like(n, m), like(k, m), like(n, m), like(n), like(), like(),
    )  # fmt: skip
    assert out.values.shape == (n, k)
    assert out.values.dtype == dtype
    assert out.gap.shape == out.steps.shape == (n,)


@settings(max_examples=30)
@given(seeds, st.floats(0, 3), st.booleans())
def test_soft_threshold_is_the_proximal_operator(seed, level, nonnegative):
    value = numbers(seed, 50)
    found = np.asarray(lasso.soft_threshold(jnp.asarray(value), level, nonnegative))

    def cost(a):
        return 0.5 * (a - value) ** 2 + level * np.abs(a)

    for step in (-1e-3, 1e-3):
        other = np.maximum(found + step, 0) if nonnegative else found + step
        assert (cost(found) <= cost(other) + 1e-12).all()
