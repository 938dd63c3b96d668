"""Fits recover what was planted, from every share of the pixels, and say so when they cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import Contrast, operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.errors import UsageError
from jaxmicro.mixture import ecm
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import Result, fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend

FORMULA = "x + y + x:y"
SHARED = GMRM(4, Trend(FORMULA), ("means", "sds"))


@pytest.fixture(scope="module")
def scene():
    # Gaussian noise and scattered labels: the model is exactly true (rounding included in sds).
    return operando(11, shape=(4, 256, 256), contrast=Contrast(noise="gaussian"), scatter=True)


def flat_pixels(values, rng, weight=None):
    """(frames, n) values at random places of a 64 x 64 frame."""
    values = np.asarray(values)
    n = values.shape[1]
    rows, cols = rng.integers(0, 64, (2, n))
    return Pixels(
        jnp.asarray(values),
        jnp.asarray(rows),
        jnp.asarray(cols),
        jnp.ones(n) if weight is None else jnp.asarray(weight),
        jnp.full(values.shape[0], 4096.0),
        (64, 64),
    )


@pytest.fixture(scope="module")
def small():
    """Two frames of 900 pixels, three classes, slopes planted in x and y; float64."""
    rng = np.random.default_rng(3)
    label = rng.choice(3, (2, 900), p=[0.3, 0.5, 0.2])
    values = np.array([60.0, 100, 150])[label] + np.array([6.0, 7, 9])[label] * rng.standard_normal(
        (2, 900)
    )
    pixels = flat_pixels(values, rng)
    design = np.asarray(Trend("x + y").design(pixels.rows, pixels.cols, (64, 64)))
    return flat_pixels(values + np.array([5.0, -3]) @ design, np.random.default_rng(3)), rng


@pytest.mark.parametrize("rate", [1.0, 0.1, 0.01])
def test_planted_parameters_are_recovered(scene, rate):
    pixels = sample(jax.random.key(4), scene.movie, rate)
    out = fit(SHARED, pixels)
    assert out.results == {"converged": 4}
    p, truth = out.params, scene.truth
    n = np.asarray(pixels.n_pixels)[:, None]
    if rate >= 0.1:
        # 4 x 65 536 pixels: the rarest class's mean is known to about .2 grey, sd to 2 %
        np.testing.assert_allclose(p.means[0], truth["means"], atol=1.0)
        np.testing.assert_allclose(p.sds[0], truth["sds"], rtol=0.10)
    # A slope's standard error is sd / sqrt(n var f), at most 2 sd / sqrt(n) for x and y (var 1/3)
    # and 3.3 sd / sqrt(n) for x:y (var 1/9); overlap of the classes adds a tenth.
    se = 1.1 * 11.5 * np.array([3.0, 3.0, 9.0]) ** 0.5 / np.sqrt(n)
    assert np.all(np.abs(np.asarray(p.trend) - truth["trend"]) < 3 * se)


MODELS = [
    GMRM(3),
    GMRM(3, Trend("x + y")),
    GMRM(3, Trend("x + y"), ("means", "sds")),
    GMRM(3, Trend("x + y"), ("means",)),
    GMRM(3, Trend("x + y"), (), True),
    GMRM(3, Trend("bs(x, df=4) + y"), ("sds",)),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_likelihood_never_falls_and_the_gradient_ends_at_zero(small, model):
    pixels, _ = small
    out = fit(model, pixels, tolerance=1e-9)
    assert set(out.results) == {"converged"}
    trace = np.asarray(out.trace[0])
    trace = trace[np.isfinite(trace)]
    assert np.all(np.diff(trace) > -1e-12)
    design = model.design(pixels)

    def mean_log_likelihood(params):
        joint = model.log_joint(params, pixels.values, design[:, None])
        return jnp.mean(jax.nn.logsumexp(jnp.stack(joint), axis=0))

    slope = jax.grad(mean_log_likelihood)(out.params)
    p = out.params
    # gap 1e-9 = g^2 / 2I with I = weight / sd^2: |g| sd < 1e-4 whatever the parameter
    means = jnp.sum(slope.means, axis=0) if "means" in model.share else slope.means
    sds = jnp.sum(slope.sds, axis=0) if "sds" in model.share else slope.sds
    for gradient in (means * 9, sds * 9, slope.trend * 9):
        assert np.all(np.abs(gradient) < 2e-4)
    pull = p.weights * (slope.weights - jnp.sum(p.weights * slope.weights, axis=1, keepdims=True))
    assert np.all(np.abs(pull) < 2e-4)


def test_same_optimum_as_scikit_learn_started_at_the_truth(scene):
    flat = Movie(scene.movie.images[2:3])
    pixels = sample(jax.random.key(0), flat, 0.1)
    values = np.asarray(pixels.values[0], np.float64)[:, None]
    truth = scene.truth
    theirs = GaussianMixture(
        4, tol=1e-10, max_iter=5000, reg_covar=0, weights_init=truth["weights"][2],
        means_init=truth["means"][:, None], precisions_init=truth["sds"][:, None, None] ** -2.0,
    ).fit(values)  # fmt: skip
    out = fit(GMRM(4), pixels)
    # Both within their tolerances of one optimum, never below it by more than 1e-6.
    assert float(out.log_likelihood[0]) / values.size > theirs.score(values) - 1e-6
    np.testing.assert_allclose(out.params.means[0], np.sort(theirs.means_[:, 0]), atol=0.3)


def test_scale_offset_order_and_padding_change_nothing(small, rng):
    pixels, _ = small
    model = GMRM(3, Trend("x + y"))
    base = fit(model, pixels, tolerance=1e-10, quantum=0.0)
    changed = fit(
        model, jax.tree.map(lambda a: a, _with(pixels, pixels.values * 3 + 7)), tolerance=1e-10,
        quantum=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(changed.params.means, base.params.means * 3 + 7, rtol=1e-4)
    np.testing.assert_allclose(changed.params.trend, base.params.trend * 3, atol=2e-3)
    order = rng.permutation(900)
    mixed = Pixels(pixels.values[:, order], pixels.rows[order], pixels.cols[order],
                   pixels.weight, pixels.n_domain, pixels.shape)  # fmt: skip
    np.testing.assert_allclose(
        fit(model, mixed, tolerance=1e-10, quantum=0.0).params.means, base.params.means, rtol=1e-4
    )
    # padding of any value, NaN included, is not looked at
    pad = np.array([[np.nan, np.inf, 1e9, -5.0]] * 2)
    weight = np.concatenate([np.ones(900), np.zeros(4)])
    longer = Pixels(
        jnp.concatenate([pixels.values, jnp.asarray(pad)], axis=1),
        jnp.concatenate([pixels.rows, jnp.zeros(4, int)]),
        jnp.concatenate([pixels.cols, jnp.zeros(4, int)]),
        jnp.asarray(weight), pixels.n_domain, pixels.shape,
    )  # fmt: skip
    padded = fit(model, longer, tolerance=1e-10, quantum=0.0)
    np.testing.assert_allclose(padded.log_likelihood, base.log_likelihood, rtol=1e-9)
    flipped = Pixels(pixels.values, 63 - pixels.rows, pixels.cols, pixels.weight,
                     pixels.n_domain, pixels.shape)  # fmt: skip
    turned = fit(model, flipped, tolerance=1e-10, quantum=0.0)
    np.testing.assert_allclose(
        turned.params.trend, base.params.trend * np.array([[1.0, -1.0]]), atol=1e-3
    )


def _with(pixels, values):
    return Pixels(values, pixels.rows, pixels.cols, pixels.weight, pixels.n_domain, pixels.shape)


def test_a_lane_with_nan_leaves_the_others_alone(small):
    pixels, _ = small
    model = GMRM(3, Trend("x + y"))
    base = fit(model, pixels, tolerance=1e-9, quantum=0.0)
    broken = fit(
        model, _with(pixels, pixels.values.at[0, 5].set(jnp.nan)), tolerance=1e-9, quantum=0.0
    )
    assert Result(int(broken.result[0])) == Result.nonfinite
    assert np.all(np.isnan(broken.params.means[0]))
    np.testing.assert_allclose(broken.params.means[1], base.params.means[1], rtol=1e-12)


def test_every_other_result_has_a_natural_cause(small, rng):
    pixels, _ = small
    few = jax.tree.map(lambda a: a[..., :8] if a.shape[-1] == 900 else a, pixels)
    assert set(fit(GMRM(3, Trend("x + y")), few).results) == {"too_few_pixels"}
    constant = flat_pixels(np.full((1, 300), 9.0), rng)
    assert set(fit(GMRM(2), constant).results) <= {"degenerate_class", "empty_class"}
    two_levels = flat_pixels(rng.choice([3.0, 9.0], (1, 300)), rng)
    assert set(fit(GMRM(3), two_levels).results) <= {"degenerate_class", "empty_class"}
    saturated = np.minimum(rng.normal(240, 12, (1, 900)).round(), 255)
    saturated[:, :450] = 255
    assert set(fit(GMRM(2), flat_pixels(saturated, rng)).results) == {"degenerate_class"}
    assert set(fit(GMRM(3, Trend("x + y")), pixels, max_steps=3).results) == {"max_steps"}
    for result in Result:
        assert result.sentence.endswith(".")


def test_gains_are_recovered(rng):
    """Trend of class k multiplied by g_k; standard error of a gain is about sd/(|b| sqrt(n))."""
    n, gains = 6000, np.array([0.6, 1.0, 1.4])
    label = rng.choice(3, n)
    pixels = flat_pixels(np.zeros((1, n)), rng)
    x = np.asarray(Trend("x").design(pixels.rows, pixels.cols, (64, 64)))[0]
    values = np.array([50.0, 120, 200])[label] + gains[label] * 20 * x + 4 * rng.standard_normal(n)
    out = fit(GMRM(3, Trend("x"), (), True), _with(pixels, jnp.asarray(values[None])))
    assert out.results == {"converged": 1}
    se = 4 / (20 * np.sqrt(n / 3 / 3))
    np.testing.assert_allclose(out.params.gain[0], gains, atol=4 * se)
    np.testing.assert_allclose(out.params.trend[0], [20.0], atol=0.6)


def test_float32_reaches_the_optimum_of_float64(small):
    pixels, _ = small
    model = GMRM(3, Trend("x + y"))
    double = fit(model, pixels, tolerance=1e-12, quantum=0.0)
    single = fit(model, _with(pixels, pixels.values.astype(jnp.float32)), quantum=0.0)
    assert single.params.means.dtype == jnp.float32
    short = np.asarray(double.log_likelihood) - np.array(
        [criteria(model, single.params[t : t + 1], pixels[t : t + 1]).log_likelihood
         for t in range(2)]
    )  # fmt: skip
    # within the tolerance of 1e-6 nats a pixel, and within what the fit says of itself
    assert np.all(short / 900 < 1e-6)
    assert np.all(short / 900 <= np.asarray(single.optimum_gap))


def test_one_trace_for_a_second_movie_of_the_same_shape(small):
    pixels, _ = small
    model = GMRM(3, Trend("x + y"))
    jax.block_until_ready(fit(model, pixels, tolerance=1e-9, quantum=0.0))
    before = ecm._advance._cached._cache_size()
    jax.block_until_ready(fit(model, _with(pixels, pixels.values + 1), tolerance=1e-9, quantum=0.5))
    assert ecm._advance._cached._cache_size() == before


def test_a_warm_start_needs_few_steps_and_keeps_the_optimum(small):
    pixels, _ = small
    model = GMRM(3, Trend("x + y"))
    cold = fit(model, pixels, tolerance=1e-9, quantum=0.0)
    warm = fit(model, pixels, init=cold.params, tolerance=1e-9, quantum=0.0)
    assert int(np.max(warm.steps)) <= 3
    np.testing.assert_allclose(warm.log_likelihood, cold.log_likelihood, rtol=1e-9)
    one = jax.tree.map(lambda a: a[0], cold.params)
    assert isinstance(one, Params)
    again = fit(model, pixels, init=one, tolerance=1e-9, quantum=0.0)
    np.testing.assert_allclose(again.log_likelihood, cold.log_likelihood, rtol=1e-8)


def test_a_term_that_no_visited_pixel_sees_keeps_no_fit_from_its_optimum(rng):
    """The last spline function is 0 in the left third of the frame, where all pixels lie."""
    values = rng.normal(0, 6, (2, 900)) + np.array([60.0, 120])[rng.integers(0, 2, (2, 900))]
    rows, cols = rng.integers(0, 60, 900), rng.integers(0, 20, 900)
    ones = jnp.ones(900)
    pixels = Pixels(
        jnp.asarray(values), jnp.asarray(rows), jnp.asarray(cols), ones, 3600 * ones[:2], (60, 60)
    )
    out = fit(GMRM(2, Trend("bs(x, df=4)")), pixels, quantum=0.0)
    assert out.results == {"converged": 2}
    assert np.all(np.asarray(out.optimum_gap) < 1e-6)


def test_terms_that_cannot_be_told_apart_keep_no_fit_from_its_optimum(rng):
    """In a frame of one row y is -1 everywhere: it moves all means at once, in float32 as well."""
    values = rng.normal(0, 6, (2, 900)) + np.array([60.0, 120])[rng.integers(0, 2, (2, 900))]
    at, ones = jnp.arange(900), jnp.ones(900, jnp.float32)
    pixels = Pixels(jnp.asarray(values, jnp.float32), 0 * at, at, ones, 900 * ones[:2], (1, 900))
    out = fit(GMRM(2, Trend("x + y")), pixels, quantum=0.0)
    assert out.results == {"converged": 2}
    plain = fit(GMRM(2, Trend("x")), pixels, quantum=0.0)
    # both within 1e-6 nats a pixel of the same optimum
    np.testing.assert_allclose(out.log_likelihood, plain.log_likelihood, atol=2e-3)


@pytest.mark.parametrize("share", [(), ("means", "sds")])
def test_fewer_classes_in_a_larger_model_find_the_same_optimum(small, share):
    """The unused classes get no pixel, no say and no complaint."""
    pixels, _ = small
    wide = fit(GMRM(4, Trend("x + y"), share), pixels, classes=3, tolerance=1e-10)
    exact = fit(GMRM(3, Trend("x + y"), share), pixels, tolerance=1e-10)
    assert wide.results == exact.results == {"converged": 2}
    np.testing.assert_allclose(wide.log_likelihood, exact.log_likelihood, rtol=1e-9)
    # a likelihood within 1e-10 nats a pixel leaves means about sqrt(2e-10) sds apart
    for mine, other in zip(
        jax.tree.leaves(wide.params.first(3)), jax.tree.leaves(exact.params), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)
    assert not np.asarray(wide.spike).any()
    np.testing.assert_allclose(wide.params.weights[:, 3], 0, atol=1e-30)


def test_an_empty_class_among_those_asked_for_is_still_named(small):
    """Two grey levels cannot fill three classes, whatever the model has to spare."""
    rng = np.random.default_rng(8)
    two = flat_pixels(rng.choice([50.0, 200.0], (1, 400)), rng)
    wide = fit(GMRM(5, Trend("")), two, classes=3, quantum=1.0)
    exact = fit(GMRM(3, Trend("")), two, quantum=1.0)
    assert wide.results == exact.results
    assert "converged" not in wide.results


@pytest.mark.parametrize("classes", [0, 5])
def test_a_number_of_classes_that_the_model_does_not_have_is_refused(small, classes):
    with pytest.raises(UsageError, match=f"classes = {classes} is not allowed; use 1 to 4"):
        fit(GMRM(4), small[0], classes=classes)
