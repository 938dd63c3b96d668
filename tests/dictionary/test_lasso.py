"""The lasso: prox, gap, both solvers against scikit-learn, precision, masks, other hardware."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import ElasticNet

from jaxmicro.dictionary import lasso, working_set
from jaxmicro.dictionary.encode import Codes, Solver, encode
from jaxmicro.dictionary.error_bound import encode_to_error
from jaxmicro.errors import UsageError

SOLVERS = ("fista", "working_set")


def problem(rng, n=96, k=48, m=36, dtype=np.float64):
    """Patches that are sparse in a coherent dictionary, plus noise."""
    atoms = rng.standard_normal((k, m)) + 0.8 * rng.standard_normal((1, m))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = rng.standard_normal((n, k)) * (rng.random((n, k)) < 0.1)
    patches = codes @ atoms + 0.05 * rng.standard_normal((n, m))
    return patches.astype(dtype), atoms.astype(dtype)


def objective(patches, codes, atoms, penalty, ridge=0.0, weights=1.0):
    fit = 0.5 * np.sum(weights * (patches - codes @ atoms) ** 2, axis=1)
    fit = fit + 0.5 * ridge * np.sum(codes**2, axis=1)
    return fit + penalty * np.abs(codes).sum(axis=1)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_prox_is_the_minimiser_by_brute_force(rng, nonnegative):
    grid = np.arange(-3, 3, 1e-3)
    candidates = grid[grid >= 0] if nonnegative else grid
    for value, level in zip(rng.uniform(-2, 2, 40), rng.uniform(0, 1, 40), strict=True):
        best = candidates[np.argmin(0.5 * (candidates - value) ** 2 + level * np.abs(candidates))]
        found = lasso.soft_threshold(jnp.asarray(value), jnp.asarray(level), nonnegative)
        assert abs(float(found) - best) <= 1e-3  # the grid's step


def test_gap_is_never_negative_bounds_the_error_and_vanishes(rng):
    patches, atoms = problem(rng, n=24)
    level, ridge = jnp.asarray(0.1), jnp.asarray(0.05)
    weights = jnp.asarray(rng.uniform(0.2, 1.0, patches.shape))
    exact = lasso.fista(
        patches, atoms, weights, jnp.full(24, 0.1), ridge, jnp.asarray(1e-13), max_steps=20_000
    )
    at = jax.vmap(lambda x, a, w: lasso.duality_gap(x, a, jnp.asarray(atoms), w, level, ridge))
    gap, best = at(jnp.asarray(patches), exact.values, weights)
    assert np.all(np.asarray(gap) <= 1e-12 * np.asarray(best))
    for scale in (0.0, 0.01, 0.3, 3.0):
        trial = exact.values + scale * rng.standard_normal(exact.values.shape)
        gap, value = at(jnp.asarray(patches), trial, weights)
        assert np.all(np.asarray(gap) >= 0)
        # the gap bounds the distance to the optimum (slack: rounding of the objective)
        assert np.all(np.asarray(value - best) <= np.asarray(gap) + 1e-12)


def test_smooth_gradient_against_finite_differences(rng):
    patches, atoms = problem(rng, n=1)
    weights = jnp.asarray(rng.uniform(0.2, 1, 36))
    zero, ridge = jnp.asarray(0.0), jnp.asarray(0.3)
    codes = jnp.asarray(rng.standard_normal(48))

    def smooth(a):
        return lasso.objective(jnp.asarray(patches[0]), a, jnp.asarray(atoms), weights, zero, ridge)

    gradient = jax.grad(smooth)(codes)
    own = -(atoms @ (weights * (patches[0] - codes @ atoms)) - ridge * codes)
    np.testing.assert_allclose(gradient, own, rtol=1e-10, atol=1e-12)
    step = 1e-6
    for j in range(0, 48, 7):
        bump = step * np.eye(48)[j]
        slope = (smooth(codes + bump) - smooth(codes - bump)) / (2 * step)
        # central differences of a quadratic are exact up to rounding, about 1e-16 / 1e-6
        assert abs(float(slope - gradient[j])) < 1e-7


@pytest.mark.parametrize("solver", SOLVERS)
def test_objective_equals_lasso_lars(rng, solver):
    patches, atoms = problem(rng)
    found = encode(patches, atoms, 0.1, 1e-7, solver=Solver(solver, 20_000))
    theirs = sparse_encode(patches, atoms, algorithm="lasso_lars", alpha=0.1)
    ours, reference = (objective(patches, c, atoms, 0.1) for c in (found.dense(), theirs))
    np.testing.assert_allclose(ours, reference, rtol=1e-5)
    assert np.all(found.result == lasso.CONVERGED)
    # the gap is an upper bound of the distance to the optimum
    assert np.all((ours - reference) / reference <= found.gap + 1e-9)


def test_real_patches_against_lasso_lars(rng, data_dir):
    from jaxmicro.data.read import read_image

    image = read_image(data_dir / "txm_nmc" / "tomo_00097.png").values.astype(float)
    image = image if image.ndim == 2 else image[..., 0]
    corners = rng.integers(0, 1400, (2048 + 64, 2))
    patches = np.stack([image[y : y + 6, x : x + 6].ravel() for y, x in corners]) / 40.0
    patches -= patches.mean(axis=1, keepdims=True)
    atoms = patches[-48:] / np.linalg.norm(patches[-48:], axis=1, keepdims=True)
    patches = patches[:96]
    penalty = 0.15
    found = encode(patches, atoms, penalty, 1e-7, solver=Solver("working_set", 20_000))
    theirs = sparse_encode(patches, atoms, algorithm="lasso_lars", alpha=penalty)
    ours, reference = (objective(patches, c, atoms, penalty) for c in (found.dense(), theirs))
    # from above only: on coherent atoms LARS itself may stop short of the optimum
    assert np.all(ours <= reference * (1 + 1e-5))


def test_working_sets_grow_to_dense_codes(rng):
    """Half of the pixels' number in use: sets of 8 have to grow through four sizes."""
    atoms = rng.standard_normal((64, 64))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    patches = rng.standard_normal((32, 64))
    penalty = 0.2
    found = encode(patches, atoms, penalty, 1e-7, solver=Solver("working_set", 4000))
    assert np.all(found.result == lasso.CONVERGED)
    assert found.nonzeros.mean() > 32
    dense = encode(patches, atoms, penalty, 1e-7, solver=Solver("fista", 20_000))
    ours, theirs = (objective(patches, c.dense(), atoms, penalty) for c in (found, dense))
    # both are within 1e-7 of the optimum
    np.testing.assert_allclose(ours, theirs, rtol=2e-7)


def test_no_working_set_holds_an_atom_twice_or_a_stale_slope(rng, monkeypatch):
    """Few patches of very different difficulty, so that small groups join larger sets."""
    seen = []

    def watched(patches, sets, atoms, *rest):
        seen.append((patches, *sets, atoms))
        return advance(patches, sets, atoms, *rest)

    advance = working_set.advance
    monkeypatch.setattr(working_set, "advance", watched)
    atoms = rng.standard_normal((128, 100))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    patches = rng.standard_normal((64, 100)) * np.geomspace(0.1, 3, 64)[:, None]
    encode(patches, atoms, 0.1, 1e-7, solver=Solver("working_set", 1000))
    grown = [indices.shape[1] for _, indices, *_ in seen]
    assert max(grown) >= 96
    for part, indices, slope, values, d in seen:
        for row in indices:
            real = row[row < 128]
            assert len(np.unique(real)) == len(real)
        dense = np.zeros((len(part), 129))
        np.add.at(dense, (np.arange(len(part))[:, None], indices), values)
        pull = (part - dense[:, :128] @ d) @ np.asarray(d).T
        expected = np.take_along_axis(np.pad(pull, ((0, 0), (0, 1))), indices, axis=1)
        # the same sums in another order, on numbers of up to 1e2
        np.testing.assert_allclose(slope, expected, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_elastic_net_and_nonnegative_against_scikit_learn(rng, solver):
    patches, atoms = problem(rng)
    penalty, ridge = 0.1, 0.2
    found = encode(
        patches, atoms, penalty, 1e-8, ridge=ridge, nonnegative=True, solver=Solver(solver, 20_000),
    ).dense()  # fmt: skip
    assert found.min() >= 0
    m, total = atoms.shape[1], penalty + ridge
    for i in range(5):
        model = ElasticNet(
            alpha=total / m, l1_ratio=penalty / total, fit_intercept=False, positive=True,
            tol=1e-10, max_iter=100_000,
        ).fit(atoms.T, patches[i])  # fmt: skip
        one, other = (
            objective(patches[i : i + 1], c[None], atoms, penalty, ridge)[0]
            for c in (found[i], model.coef_)
        )
        assert one <= other * (1 + 1e-6)


def test_solvers_agree_and_float32_certifies_1e_5(rng):
    patches, atoms = problem(rng)
    exact = encode(patches, atoms, 0.1, 1e-9, solver=Solver("fista", 20_000))
    best = objective(patches, exact.dense(), atoms, 0.1)
    for solver in SOLVERS:
        single = encode(patches.astype(np.float32), atoms, 0.1, 1e-5, solver=Solver(solver, 5000))
        assert single.values.dtype == np.float32
        value = objective(patches, single.dense().astype(float), atoms, 0.1)
        # the certified gap, plus what rounding the patches and codes to float32 costs
        assert np.all((value - best) / best <= 1e-5 + 2e-6)
        assert np.all(single.gap >= 0)


def test_result_of_a_patch_does_not_depend_on_its_neighbours(rng):
    patches, atoms = problem(rng)
    for solver in SOLVERS:
        together = encode(patches, atoms, 0.1, solver=Solver(solver)).dense()
        alone = encode(patches[5:9], atoms, 0.1, solver=Solver(solver)).dense()
        # equal but for the order of sums in matrix products of another shape
        np.testing.assert_allclose(alone, together[5:9], atol=1e-10)


def test_pixels_of_zero_weight_take_no_part(rng):
    patches, atoms = problem(rng)
    weights = (rng.random(patches.shape) < 0.7).astype(float)
    weights[0] = 0
    spoiled = np.where(weights > 0, patches, np.nan)
    found = encode(spoiled, atoms, 0.1, 1e-8, weights=weights, solver=Solver(max_steps=20_000))
    for i in (1, 2):
        keep = weights[i] > 0
        alone = encode(
            patches[i : i + 1, keep], atoms[:, keep], 0.1, 1e-8, solver=Solver("fista", 20_000)
        )
        one = objective(patches[i : i + 1], found.dense()[i : i + 1], atoms, 0.1, 0.0, weights[i])
        other = objective(patches[i : i + 1, keep], alone.dense(), atoms[:, keep], 0.1)
        np.testing.assert_allclose(one, other, rtol=1e-7)
    assert found.result[0] == lasso.EMPTY
    assert found.nonzeros[0] == 0


def test_a_patch_that_is_not_finite_is_named_and_harms_no_other(rng):
    patches, atoms = problem(rng)
    spoiled = patches.copy()
    spoiled[3, 2] = np.nan
    found = encode(spoiled, atoms, 0.1, solver=Solver("working_set"))
    assert found.result[3] == lasso.NOT_FINITE
    others = np.delete(np.arange(len(patches)), 3)
    assert np.all(found.result[others] == lasso.CONVERGED)
    assert found.result.max() in lasso.RESULTS


def test_penalty_above_every_correlation_gives_zero_codes(rng):
    patches, atoms = problem(rng)
    top = np.abs(patches @ atoms.T).max()
    for solver in SOLVERS:
        found = encode(patches, atoms, 1.01 * top, solver=Solver(solver))
        assert found.nonzeros.sum() == 0
        assert np.all(found.result == lasso.CONVERGED)


def test_error_bound_is_met_and_the_penalty_is_the_largest_that_meets_it(rng):
    patches, atoms = problem(rng)
    bound = np.full(len(patches), 36 * 0.05**2)
    codes, penalty = encode_to_error(patches, atoms, bound)
    error = np.sum((patches - codes.rebuild(atoms)) ** 2, axis=1)
    above = np.sum(patches**2, axis=1) > bound
    assert codes.nonzeros[~above].sum() == 0
    assert np.mean(error <= 1.05 * bound) > 0.95
    looser = encode(patches, atoms, 1.3 * penalty).rebuild(atoms)
    raised = np.sum((patches - looser) ** 2, axis=1)
    assert np.all(raised[above] > 0.98 * bound[above])


def test_codes_rebuild_equals_dense_product_despite_padding(rng):
    codes = Codes(
        np.array([[2, 0, 0], [1, 3, 0]], np.int32), np.array([[1.0, 0, 0], [2.0, -1.0, 0]]),
        np.zeros(2), np.zeros(2, np.int32), np.zeros(2, np.int32), 4,
    )  # fmt: skip
    atoms = rng.standard_normal((4, 9))
    np.testing.assert_allclose(codes.rebuild(atoms), codes.dense() @ atoms)
    np.testing.assert_array_equal(codes.dense(), [[0, 0, 1, 0], [0, 2, 0, -1]])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"penalty": -1.0}, "penalty -1"),
        ({"penalty": 0.0}, "penalty 0"),
        ({"tolerance": 0.0}, "tolerance 0"),
        ({"ridge": -0.1}, "ridge -0.1"),
        ({"solver": "lars"}, "'lars'"),
        ({"solver": "working_set", "weights": np.ones((4, 36))}, "takes no weights"),
        ({"weights": -np.ones((4, 36))}, "weights"),
    ],
)
def test_wrong_arguments_are_refused_by_name(rng, change, word):
    patches, atoms = problem(rng, n=4)
    given = {"penalty": 0.1} | change
    solver = given.pop("solver", "auto")
    with pytest.raises(UsageError, match=word):
        encode(patches, atoms, **given, solver=Solver(solver))


def test_programs_lower_for_cpu_cuda_and_tpu():
    f32 = jnp.float32
    patches, atoms = jax.ShapeDtypeStruct((64, 36), f32), jax.ShapeDtypeStruct((48, 36), f32)
    level, scalar = jax.ShapeDtypeStruct((64,), f32), jax.ShapeDtypeStruct((), f32)
    platforms = ("cpu", "cuda", "tpu")

    def plain(x, d, w, p, r, t):
        return lasso.fista(x, d, w, p, r, t, max_steps=100).values

    jax.export.export(jax.jit(plain), platforms=platforms)(
        patches, atoms, patches, level, scalar, scalar
    )

    def rounds(x, d, p, r):
        gram = working_set.gram_of(d, r)
        first = working_set.start(x, d, gram, p, r, False)
        state = first.indices[:, :16], first.slope[:, :16], first.values[:, :16]
        return working_set.advance(x, state, d, gram, p, r, jnp.int32(2), False).values

    jax.export.export(jax.jit(rounds), platforms=platforms)(patches, atoms, level, scalar)
