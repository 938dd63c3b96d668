"""Fits of every class family: planted parameters, the optimum by another road, invariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxmicro.data.phantom import Contrast, operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.mixture.criteria import log_likelihood_and_entropy
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.family import Gaussian, PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend

MEANS, WEIGHTS, SLOPES = np.array([40.0, 95, 150]), [0.3, 0.5, 0.2], np.array([5.0, -3])
SCALES = np.array([6.0, 7, 9])
T, N = 2, 1500
MOVIE = ("means", "sds")
LINE = PoissonGaussian()


@functools.cache
def planted(name: str) -> Pixels:
    """Two frames, three classes; tails of 4 degrees of freedom or the variance 20 + 0.6 mean."""
    rng = np.random.default_rng(6)
    label = rng.choice(3, (T, N), p=WEIGHTS)
    rows, cols = (jnp.asarray(a) for a in rng.integers(0, 64, (2, N)))
    unit, sds = rng.standard_normal((T, N)), np.sqrt(20 + 0.6 * MEANS)
    if name == "student-t":
        unit, sds = rng.standard_t(4, (T, N)), SCALES
    values = MEANS[label] + sds[label] * unit
    values = values + SLOPES @ np.asarray(Trend("x + y").design(rows, cols, (64, 64)))
    return Pixels(jnp.asarray(values), rows, cols, jnp.ones(N), jnp.full(T, 4096.0), (64, 64))


def model_of(family, share=MOVIE):
    return GMRM(3, Trend("x + y"), share, family=family)


@functools.cache
def fitted(family, share=MOVIE):
    return fit(model_of(family, share), planted(family.name), tolerance=1e-10, quantum=0.0)


SLOW = pytest.mark.slow
ROADS = [
    (StudentT(), MOVIE),
    (LINE, MOVIE),
    pytest.param(StudentT(), (), marks=SLOW),
    pytest.param(StudentT(4.0), MOVIE, marks=SLOW),
    pytest.param(LINE, (), marks=SLOW),
    pytest.param(LINE, ("means",), marks=SLOW),
    pytest.param(LINE, ("sds",), marks=SLOW),
    pytest.param(PoissonGaussian(grey_per_quantum=0.6), MOVIE, marks=SLOW),
    pytest.param(PoissonGaussian(20**0.5, None, 0.0), MOVIE, marks=SLOW),
    pytest.param(PoissonGaussian(20**0.5, 0.6, 0.0), MOVIE, marks=SLOW),
]


@pytest.mark.parametrize(("family", "share"), ROADS, ids=repr)
def test_planted_parameters_are_recovered_and_the_likelihood_never_falls(family, share):
    out = fitted(family, share)
    assert out.results == {"converged": T}
    trace = np.asarray(out.trace)
    trace = trace[:, ~np.isnan(trace).any(axis=0)]
    assert trace.shape[1] > 3
    assert np.all(np.diff(trace, axis=1) > -1e-12)
    p, law = out.params, np.asarray(out.params.law)
    # Fewest pixels: 300 of the brightest class in one frame. A t of 4 degrees of freedom loses
    # 2/7 of the normal's information on the mean (1.2 times the error); 4 standard errors.
    se = 4 * 1.2 * 9 / np.sqrt(300)
    np.testing.assert_allclose(p.means, np.broadcast_to(MEANS, (T, 3)), atol=se)
    sds = SCALES if family.heavy_tailed else np.sqrt(20 + 0.6 * MEANS)
    # relative error of a scale: 1 / sqrt(2 n), about 1.5 times that with the tails unknown
    np.testing.assert_allclose(p.sds, np.broadcast_to(sds, (T, 3)), rtol=4 * 1.5 / 600**0.5)
    if family.heavy_tailed:
        # sd of an estimated dof of 4 from 1500 pixels is about .5; overlap adds to it
        np.testing.assert_allclose(law[:, 0], 4.0, atol=2.0 if family.free else 1e-12)
    else:
        line = law[:, :1] + law[:, 1:2] * (np.asarray(p.means) - law[:, 2:])
        np.testing.assert_allclose(p.sds, np.sqrt(line), rtol=1e-9)
        # the variances at means 110 apart have errors of 4 and 10: a slope's is .1
        np.testing.assert_allclose(law[:, 1], 0.6, atol=0.4 if 1 in family.free else 1e-12)


def test_many_degrees_of_freedom_are_the_normal_family():
    pixels = planted("poisson-gaussian")
    normal = fit(model_of(Gaussian()), pixels, tolerance=1e-10, quantum=0.0)
    heavy = fit(model_of(StudentT(1e9)), pixels, tolerance=1e-10, quantum=0.0)
    # g differs by u^4 / (4 nu): 1e-9 a pixel
    np.testing.assert_allclose(heavy.log_likelihood, normal.log_likelihood, rtol=1e-8)
    np.testing.assert_allclose(heavy.params.means, normal.params.means, atol=1e-3)
    np.testing.assert_allclose(heavy.params.sds, normal.params.sds, rtol=1e-4)


@pytest.mark.parametrize("family", [StudentT(), LINE], ids=repr)
def test_no_other_maximiser_finds_more(family):
    """SciPy's BFGS on the same likelihood, from a point nearby, in its own coordinates."""
    pixels, out, model = planted(family.name), fitted(family), model_of(family)
    p = out.params
    start = [np.log(np.asarray(p.weights)).ravel(), np.asarray(p.means[0]), np.asarray(p.trend)]
    if family.heavy_tailed:
        own = [np.log(np.asarray(p.sds[0])), np.log(np.asarray(p.law[0]))]
    else:
        own = [np.asarray(p.law[0, :2])]
    x0 = np.concatenate([np.ravel(a) for a in (*start, *own)])

    def at(x):
        weights = np.exp(x[:6]).reshape(2, 3)
        means, trend = np.tile(x[6:9], (2, 1)), x[9:13].reshape(2, 2)
        if family.heavy_tailed:
            sds, law = np.tile(np.exp(x[13:16]), (2, 1)), np.tile(np.exp(x[16:]), (2, 1))
        else:
            law = np.tile([x[13], x[14], 0.0], (2, 1))
            sds = np.sqrt(np.maximum(law[:, :1] + law[:, 1:2] * means, 1e-6))
        arrays = (weights / weights.sum(1, keepdims=True), means, sds, trend, np.ones((2, 3)), law)
        return Params(*(jnp.asarray(a) for a in arrays))

    def loss(x):
        return -log_likelihood_and_entropy(model, at(x), pixels)[0].sum()

    assert loss(x0) == pytest.approx(-float(out.log_likelihood.sum()), rel=1e-10)
    nearby = x0 + 0.01 * np.random.default_rng(1).standard_normal(x0.size)
    best = optimize.minimize(loss, nearby, method="BFGS", options={"gtol": 1e-2})
    # gtol^2 / information leaves less than 1e-4 nats of several thousand
    assert loss(x0) <= best.fun + 1e-4
    assert best.fun <= loss(x0) + 0.05


@pytest.mark.parametrize("family", [StudentT(), LINE], ids=repr)
def test_shift_and_scale_of_the_grey_values_change_nothing_else(family):
    pixels, base = planted(family.name), fitted(family)
    moved = Pixels(pixels.values * 3 + 70, pixels.rows, pixels.cols, pixels.weight,
                   pixels.n_domain, pixels.shape)  # fmt: skip
    out = fit(model_of(family), moved, tolerance=1e-10, quantum=0.0)
    # 1e-10 nats a pixel leave parameters about 1e-5 sds apart
    np.testing.assert_allclose(out.params.means, base.params.means * 3 + 70, rtol=1e-4)
    np.testing.assert_allclose(out.params.sds, base.params.sds * 3, rtol=1e-4)
    np.testing.assert_allclose(out.params.trend, base.params.trend * 3, atol=1e-3)
    law, old = np.asarray(out.params.law[0]), np.asarray(base.params.law[0])
    if family.heavy_tailed:
        np.testing.assert_allclose(law, old, rtol=1e-3)
    else:  # q (m - o) + r: the slope with the scale, and the whole line at a mean of 70
        np.testing.assert_allclose(law[1], 3 * old[1], rtol=1e-3)
        np.testing.assert_allclose(law[0] + 70 * law[1], 9 * old[0], rtol=1e-2)


@SLOW
@pytest.mark.parametrize("family", [StudentT(), LINE], ids=repr)
def test_unused_classes_enter_neither_line_nor_tails(family):
    wide = fit(GMRM(4, Trend("x + y"), MOVIE, family=family), planted(family.name), classes=3,
               tolerance=1e-10, quantum=0.0)  # fmt: skip
    assert wide.results == {"converged": T}
    np.testing.assert_allclose(wide.log_likelihood, fitted(family).log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(wide.params.law, fitted(family).params.law, rtol=1e-3)


@SLOW
def test_a_detectors_line_keeps_classes_off_single_grey_levels():
    """8-bit frames at 1 %, 164 pixels each: a free sd shrinks onto a grey level, a line cannot."""
    means = (60.0, 100.0, 140.0, 180.0)
    sds = tuple(np.sqrt(10 + 0.5 * np.array(means)))
    scene = operando(2, shape=(6, 128, 128), scatter=True, contrast=Contrast(means, sds))
    pixels = sample(jax.random.key(0), scene.movie, 0.01, replicates=20)
    narrow = {}
    for family in (Gaussian(), LINE):
        out = fit(GMRM(4, family=family), pixels)
        narrow[family.name] = out.results.get("degenerate_class", 0)
    assert narrow["gaussian"] > 0
    assert narrow["poisson-gaussian"] == 0
