"""Patches, codes and forward models of any shape: exact rebuilds, adjoints, certificates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from jaxmicro.dictionary import lasso, matching, resolution
from jaxmicro.dictionary import patches as pt
from jaxmicro.dictionary.encode import encode
from jaxmicro.dictionary.forward import Forward, fill, gaussian
from jaxmicro.dictionary.noise import estimate_noise, white
from jaxmicro.errors import DataError, JaxmicroError


def one_line(err):
    assert "\n" not in str(err)


seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
sides = st.integers(1, 30)
PLANE = st.tuples(sides, sides)
SHAPES = st.one_of(PLANE, st.tuples(*[st.integers(1, 9)] * 3))
ROUNDING = {np.float32: 1e-5, np.float64: 1e-12}  # of sums of some hundred terms of size 1


def numbers(seed, shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -- patches --------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(SHAPES, st.integers(0, 9), st.integers(0, 10), dtypes, seeds)
def test_patches_cover_the_image_and_rebuild_it(shape, size, stride, dtype, seed):
    try:
        grid = pt.Grid(shape, size, stride)
    except JaxmicroError:
        assert size < 1 or not 1 <= stride <= size or min(shape) < size
        return
    image = numbers(seed, shape, dtype)
    overlap, adjoint, n = pt.Overlap(shape, dtype), 0.0, 0
    other = np.random.default_rng(seed + 1)
    onto = np.zeros(shape, dtype)
    for band in grid.bands():
        part = band.extract(image)
        n += len(part)
        overlap.add(band, part, other.uniform(0.5, 1, part.shape).astype(dtype))
        against = other.standard_normal(part.shape).astype(dtype)
        band.add(against, onto)
        adjoint += np.vdot(part, against)
    assert n == grid.n_patches == np.prod(grid.counts)
    assert part.shape[1] == grid.n_pixels
    assert (overlap.weight > 0).all()
    tolerance = ROUNDING[dtype]
    np.testing.assert_allclose(overlap.mean(np.zeros(shape, dtype)), image, atol=tolerance)
    # the sd is the root of a difference of squares: rounding by its root
    assert overlap.sd().max() < 10 * tolerance**0.5
    assert abs(adjoint - np.vdot(image, onto)) < 100 * n * tolerance


@settings(max_examples=50)
@given(st.integers(0, 7), st.integers(1, 6), dtypes, seeds)
def test_means_are_taken_off_and_put_back(n, pixels, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, pixels)).astype(dtype)
    weights = rng.choice([0.0, 0.5, 1.0], (n, pixels)).astype(dtype)
    values[rng.random(values.shape) < 0.2] = np.nan
    weights[~np.isfinite(values)] = 0
    centred, mean = pt.remove_mean(values, weights)
    assert centred.dtype == mean.dtype == dtype
    assert np.isfinite(centred).all()
    assert np.isfinite(mean).all()
    inside = weights > 0
    back = (centred + mean)[inside]
    np.testing.assert_allclose(back, values[inside], atol=ROUNDING[dtype])
    assert np.abs((centred * weights).sum(axis=1)).max(initial=0) < 10 * ROUNDING[dtype]
    scale = pt.local_contrast(centred, 0.1)
    assert (scale >= np.asarray(0.1, dtype)).all()


@settings(max_examples=60)
@given(
    PLANE, PLANE, st.integers(1, 6), st.integers(0, 40), st.sampled_from([0.0, 0.02, 0.9]), seeds
)
def test_sampled_patches_are_whole_distinct_and_usable(one, other, size, wanted, bad, seed):
    rng = np.random.default_rng(seed)
    # every pixel has a value of its own, so a patch tells where it was cut
    images = [np.arange(np.prod(one), dtype=float).reshape(one)]
    images.append(1e6 + np.arange(np.prod(other), dtype=float).reshape(other))
    for image in images:
        image[rng.random(image.shape) < bad] = np.nan
    try:
        found = pt.sample_patches(images, size, wanted, rng)
    except DataError:
        event("refused")
        assert min(*one, *other) < size or bad > 0
        return
    assert len(found) <= wanted
    assert np.isfinite(found).all()
    assert len(np.unique(found[:, 0])) == len(found)
    for patch in found:
        image = images[int(patch[0] >= 1e6)]
        row, col = np.argwhere(image == patch[0])[0]
        cut = np.s_[row : row + size, col : col + size]
        np.testing.assert_array_equal(patch.reshape(size, size), image[cut])


# -- codes ----------------------------------------------------------------------------------------


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
    options = {"nonnegative": nonnegative, "weights": weights, "solver": solver}
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


# -- forward model, blurs, noise ------------------------------------------------------------------


@settings(max_examples=60)
@given(PLANE, st.integers(1, 5), st.floats(0, 6), dtypes, seeds)
def test_the_forward_model_and_its_adjoint(shape, decimation, sd, dtype, seed):
    forward = Forward(sd, decimation)
    fine = numbers(seed, tuple(n * decimation for n in shape), dtype)
    coarse = numbers(seed + 1, shape, dtype)
    there, back = forward.apply(fine), forward.adjoint(coarse)
    assert there.shape == shape
    assert back.shape == fine.shape
    assert there.dtype == back.dtype == dtype
    assert abs(np.vdot(there, coarse) - np.vdot(fine, back)) < 100 * fine.size * ROUNDING[dtype]
    flat = np.full(fine.shape, 3.0, dtype)
    np.testing.assert_allclose(forward.apply(flat), 3.0, rtol=ROUNDING[dtype])
    assert abs(there.mean() - fine.mean()) < 10 * ROUNDING[dtype]


@settings(max_examples=60)
@given(PLANE, st.integers(1, 5), st.floats(0, 6))
def test_mirrored_borders_leave_a_flat_image_flat(shape, decimation, sd):
    assume(min(shape) >= decimation)
    flat = np.full(shape, 3.0)
    out = Forward(sd, decimation).mirrored(flat)
    assert out.shape == tuple(n // decimation for n in shape)
    np.testing.assert_allclose(out, 3.0, rtol=1e-9)


@settings(max_examples=60)
@given(PLANE, st.floats(0, 20), st.floats(0, 20), seeds)
def test_a_blur_keeps_flat_images_and_the_range(shape, sd_y, sd_x, seed):
    np.testing.assert_allclose(gaussian(np.full(shape, 3.0), (sd_y, sd_x)), 3.0, rtol=1e-9)
    image = np.random.default_rng(seed).random(shape)
    out = gaussian(image, (sd_y, sd_x))
    assert out.shape == shape
    # below an sd of half a pixel the kernel cut off at the Nyquist frequency rings
    if min(sd_y, sd_x) > 1:
        assert out.min() >= image.min() - 1e-3
        assert out.max() <= image.max() + 1e-3


@settings(max_examples=60)
@given(PLANE, st.sampled_from([0.0, 0.1, 0.9, 1.0]), seeds)
def test_filling_changes_masked_pixels_only(shape, masked, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) >= masked
    assume(mask.any())
    image = np.where(mask, rng.random(shape), np.nan)
    out = fill(image, mask)
    np.testing.assert_array_equal(out[mask], image[mask])
    assert np.isfinite(out).all()


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 130), st.integers(1, 130)), st.sampled_from([0.0, 0.5]), seeds)
def test_noise_is_estimated_or_refused(shape, masked, seed):
    image = 2 * numbers(seed, shape)
    mask = np.ones(shape, bool)
    mask[:, : int(masked * shape[1])] = False
    try:
        noise = estimate_noise(image, mask, seed=seed)
    except DataError as err:
        event("refused")
        one_line(err)
        return
    assert np.isfinite(noise.sd)
    assert 1 < noise.sd < 4
    assert noise.correlation[0, 0] == pytest.approx(1)
    for size in (1, 4):
        assert np.linalg.eigvalsh(noise.covariance(size)).min() > 0


@settings(max_examples=8)  # each size is compiled
@given(
    st.sampled_from([(1, 1), (7, 30)]),
    st.sampled_from([15.0, 60.0]),
    st.sampled_from([20.0, 60.0, 100.0]),
    dtypes,
)
def test_resampling_gives_the_right_size_or_is_refused(shape, old, new, dtype):
    image = np.full(shape, 2.0, dtype)
    try:
        out = matching.resample(image, (old, old), (new, new))
    except DataError:
        assert min(shape) * old < new
        return
    assert out.dtype == dtype
    assert out.shape == tuple(int(n * old / new + 1e-6) for n in shape)
    np.testing.assert_allclose(out, 2.0, rtol=1e-4)


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), seeds)
def test_figures_of_an_image_against_itself(shape, seed):
    image = np.random.default_rng(seed).random(shape)
    assert resolution.psnr(image, image, 1.0) == np.inf
    if min(shape) > 10:
        assert resolution.ssim(image, image, 1.0) == pytest.approx(1)
    frequency, curve = resolution.ring_correlation(image, image)
    assert len(frequency) == len(curve)
    assert np.isfinite(curve).all()
    assert (curve <= 1 + 1e-9).all()
    width = resolution.edge_width(image, 10.0)
    assert np.isnan(width) or width > 0


@settings(max_examples=30)
@given(PLANE, st.sampled_from(["noise", "constant", "nan"]), seeds)
def test_a_grey_range_is_a_range(shape, what, seed):
    image = np.random.default_rng(seed).random(shape)
    image = {"noise": image, "constant": 0 * image, "nan": image * np.nan}[what]
    try:
        low, high = matching.grey_range(image)
    except DataError:
        assert what != "noise" or image.size == 1
        return
    assert high > low


def test_white_noise_has_the_covariance_of_white_noise():
    np.testing.assert_allclose(white(2.0).covariance(3), 4 * np.eye(9), atol=1e-12)
