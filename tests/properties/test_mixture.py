"""Fits of drawn values: what a change of the values must change, and what it must not.

Values are drawn for a few fixed shapes, each of which is compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import Result, fit, grey_step
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend

seeds = st.integers(0, 2**32 - 1)


def one_line(err):
    assert "\n" not in str(err)


SHAPE, N = (20, 24), 160
MODELS = {
    "one": GMRM(1),
    "trend": GMRM(2, Trend("x + y")),
    "shared": GMRM(2, Trend("x"), ("means", "sds")),
}
KINDS = st.sampled_from(["apart", "overlapping", "skewed", "constant", "binary", "bad", "empty"])


def scene(seed, kind, dtype=np.float64, frames=2):
    """Values and places; classes with a slope, or one of the troubles that data have."""
    rng = np.random.default_rng(seed)
    rows, cols = (rng.integers(0, n, (frames, N)) for n in SHAPE)
    label = rng.random((frames, N)) < 0.4
    gap = {"apart": 60, "overlapping": 10, "skewed": 60}.get(kind, 60)
    z = 100 + gap * label + 8 * rng.standard_normal((frames, N)) + 5 * cols / SHAPE[1]
    weight = np.ones((frames, N))
    weight[:, 150:] = 0
    if kind == "skewed":
        z = np.exp(z / 40)
    if kind == "constant":
        z[:] = 7
    if kind == "binary":
        z = 255.0 * label
    if kind == "bad":
        z[0, 3] = rng.choice([np.nan, np.inf, -np.inf])
    if kind == "empty":
        weight[0] = 0
    return z.astype(dtype), rows, cols, weight.astype(dtype)


def pixels_of(z, rows, cols, weight):
    domain = jnp.full(z.shape[0], float(np.prod(SHAPE)), z.dtype)
    return Pixels(*(jnp.asarray(a) for a in (z, rows, cols, weight)), domain, SHAPE)


# Each pair is a compiled program; the whole file has about ten.
PROGRAM = st.sampled_from(
    [("one", np.float64), ("trend", np.float64), ("trend", np.float32), ("shared", np.float64)]
)
DOUBLE = st.sampled_from(["one", "trend", "shared"])


@functools.cache
def labeller(name):
    return jax.jit(MODELS[name].classify)


def run(name, parts, quantum=0.0):
    pixels = pixels_of(*parts)
    out = fit(MODELS[name], pixels, quantum=quantum, max_steps=200)
    labels = labeller(name)(out.params, pixels)
    return jax.tree.map(np.asarray, out), np.asarray(labels)


@settings(max_examples=60)
@given(PROGRAM, KINDS, st.sampled_from([0.0, 1.0]), seeds)
def test_every_fit_ends_with_a_result_and_parameters_that_mean_something(
    program, kind, quantum, seed
):
    name, dtype = program
    out, labels = run(name, scene(seed, kind, dtype), quantum)
    assert {Result(int(r)) for r in out.result}
    assert ((labels >= 0) & (labels < MODELS[name].n_classes)).all()
    p = out.params
    failed = np.isnan(p.means).any(axis=1)
    assert np.isin(out.result[failed], (Result.nonfinite, Result.too_few_pixels)).all()
    assert failed[out.result == Result.nonfinite].all()
    assert failed[0] or kind != "bad"
    assert not failed[1] or MODELS[name].share
    for a in (p.weights, p.means, p.sds, p.trend, out.log_likelihood):
        assert np.isfinite(a[~failed]).all()
    rounding = 20 * np.finfo(dtype).eps
    seen = ~failed & ((kind != "empty") | (np.arange(2) > 0))
    np.testing.assert_allclose(p.weights[seen].sum(axis=1), 1, atol=rounding)
    assert (p.sds[~failed] > 0).all()
    assert (np.diff(p.means[~failed], axis=1) >= -rounding * 1e3).all()
    if kind == "empty" and not MODELS[name].share:
        assert out.result[0] == Result.too_few_pixels
    if kind in ("constant", "binary"):
        assert not (out.result == Result.converged).any() or name == "one"


def test_a_frame_without_visits_in_a_shared_fit_is_no_converged_frame():
    out, _ = run("shared", scene(0, "empty"))
    assert out.result[0] != Result.converged or abs(out.params.weights[0].sum() - 1) < 1e-6


@given(PROGRAM, st.sampled_from(["apart", "overlapping"]), seeds)
def test_the_likelihood_never_falls(program, kind, seed):
    name, dtype = program
    out, _ = run(name, scene(seed, kind, dtype))
    for trace in out.trace:
        kept = trace[np.isfinite(trace)]
        assert (np.diff(kept) >= -50 * np.finfo(dtype).eps * np.abs(kept).max()).all()


@given(st.sampled_from(["one", "trend"]), KINDS, seeds)
def test_frames_that_share_nothing_may_change_places(name, kind, seed):
    parts = scene(seed, kind)
    there, labels = run(name, parts)
    back, turned = run(name, [a[::-1] for a in parts])
    np.testing.assert_array_equal(there.result, back.result[::-1])
    # frames lie side by side in vectors, whose sums differ in the last digit by where they lie
    if kind not in ("constant", "binary"):  # there rounding is all that the path has to go by
        np.testing.assert_array_equal(turned[::-1], labels)
        for a, b in zip(jax.tree.leaves(there.params), jax.tree.leaves(back.params), strict=True):
            np.testing.assert_allclose(a, b[::-1], rtol=1e-5, atol=1e-5)


@given(PROGRAM, KINDS, seeds)
def test_pixels_of_weight_zero_may_hold_anything(program, kind, seed):
    name, dtype = program
    z, *where, weight = scene(seed, kind, dtype)
    clean, labels = run(name, (z, *where, weight))
    junk = np.random.default_rng(seed).choice([np.nan, np.inf, -np.inf, 1e30], z.shape)
    spoiled, again = run(name, (np.where(weight > 0, z, junk).astype(dtype), *where, weight))
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(spoiled), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(labels[weight > 0], again[weight > 0])


@given(DOUBLE, st.sampled_from(["apart", "overlapping"]), st.integers(-12, 12), seeds)
def test_a_scale_of_two_scales_the_parameters_and_nothing_else(name, kind, power, seed):
    """Powers of two are exact in floating point: so must the fit be."""
    z, *rest = scene(seed, kind)
    factor = 2.0**power
    one, labels = run(name, (z, *rest))
    two, again = run(name, (z * factor, *rest))
    np.testing.assert_array_equal(labels, again)
    for field in ("means", "sds", "trend"):
        np.testing.assert_array_equal(
            getattr(one.params, field) * factor, getattr(two.params, field)
        )
    np.testing.assert_array_equal(one.params.weights, two.params.weights)
    np.testing.assert_array_equal(one.result, two.result)
    visited = rest[-1].sum(axis=1)
    shifted = one.log_likelihood - visited * np.log(factor)
    np.testing.assert_allclose(two.log_likelihood, shifted, rtol=1e-9)


@given(DOUBLE, st.floats(0.01, 100), st.floats(-1e3, 1e3), st.booleans(), seeds)
def test_shift_scale_and_sign_change_parameters_as_they_should(name, factor, shift, negative, seed):
    """Within the tolerance: rounding moves the path, so both ends lie within 1e-6 nats a pixel."""
    z, *rest = scene(seed, "apart")
    factor = -factor if negative else factor
    one, labels = run(name, (z, *rest))
    two, again = run(name, (z * factor + shift, *rest))
    turn = np.s_[:, ::-1] if negative else np.s_[:, :]
    # 1e-6 nats a pixel are 150 * 1e-6 nats: sqrt(2 * 1.5e-4) < .02 standard errors of a
    # parameter, and a standard error of a mean is 1 % of the distance between the classes
    close = {"rtol": 1e-3, "atol": 1e-3 * 60 * abs(factor)}
    np.testing.assert_allclose(two.params.means, (one.params.means * factor + shift)[turn], **close)
    np.testing.assert_allclose(two.params.sds, (one.params.sds * abs(factor))[turn], **close)
    np.testing.assert_allclose(two.params.trend, one.params.trend * factor, **close)
    np.testing.assert_allclose(two.params.weights, one.params.weights[turn], atol=1e-3)
    k = MODELS[name].n_classes
    expected = k - 1 - labels if negative else labels
    used = rest[-1] > 0
    assert (again != expected)[used].mean() <= 0.01  # pixels on the border between two classes


@settings(max_examples=10)
@given(seeds)
def test_replicates_are_fitted_one_by_one(seed):
    name = "trend"
    parts = scene(seed, "overlapping", frames=2)
    both = pixels_of(*(a.reshape(1, 2, N) for a in parts))
    both = Pixels(both.values, both.rows, both.cols, both.weight, jnp.ones(1) * 480, SHAPE)
    apart, _ = run(name, parts)
    out = fit(MODELS[name], both, quantum=0.0, max_steps=200)
    np.testing.assert_allclose(np.asarray(out.params.means)[0], apart.params.means, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(out.result)[0], apart.result)


@settings(max_examples=10)
@given(seeds)
def test_a_trend_along_an_axis_of_one_pixel_leaves_a_fit_that_describes_the_data(seed):
    """The column is constant there, so trend and means cannot be told apart; their sum can."""
    z, rows, cols, weight = (jnp.asarray(a) for a in scene(seed, "apart"))
    pixels = Pixels(z, 0 * rows, cols, weight, jnp.full(2, 24.0), (1, 24))
    out = fit(MODELS["trend"], pixels, quantum=0.0, max_steps=200)
    free = fit(GMRM(2, Trend("x")), pixels, quantum=0.0, max_steps=200)
    assert np.isfinite(np.asarray(out.params.means)).all()
    assert np.abs(np.asarray(out.params.trend)).max() < 1e3
    np.testing.assert_allclose(out.log_likelihood, free.log_likelihood, atol=150 * 1e-4)


@given(PROGRAM, st.sampled_from(["apart", "overlapping", "skewed"]), seeds)
def test_criteria_are_finite_and_order_as_defined(program, kind, seed):
    name, dtype = program
    parts = scene(seed, kind, dtype)
    pixels = pixels_of(*parts)
    model = MODELS[name]
    out = fit(model, pixels, quantum=0.0, max_steps=200)
    found = criteria(model, out.params, pixels)
    assert found.n_pixels == 300
    assert found.aic < found.bic <= found.icl + 1e-9
    # the fit's own sum, in its own precision, of some hundred nats
    total = float(np.sum(np.asarray(out.log_likelihood, np.float64)))
    assert abs(found.log_likelihood - total) < 1e4 * np.finfo(dtype).eps * abs(total) + 1e-6


@settings(max_examples=60)
@given(
    st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
    st.sampled_from([1, 2, 50, 70_000]),
    st.integers(0, 400),
    st.booleans(),
    seeds,
)
def test_a_grey_step_is_finite_and_never_negative(dtype, levels, size, bad, seed):
    values = np.random.default_rng(seed).integers(0, levels, size).astype(dtype)
    if bad and values.dtype.kind == "f":
        values[::3] = np.nan
    step = grey_step(values)
    assert 0 <= step < np.inf
