"""Trends and fits of every shape: what they return, by `eval_shape`, which compiles nothing."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend

seeds = st.integers(0, 2**32 - 1)
FRAMES = st.one_of(
    st.sampled_from([(1, 50), (50, 1), (700, 1100), (438, 438)]),
    st.tuples(st.integers(1, 700), st.integers(1, 1100)),
)
FORMULAS = st.sampled_from(["", "x", "y", "x + y", "x*y + x**2", "x + y + x:y + y**3"])
SPLINES = st.sampled_from(["bs(x, df=4)", "bs(y, df=5) + x", "bs(x, df=5):bs(y, df=4)"])


def one_line(err):
    assert "\n" not in str(err)


@settings(max_examples=60)
@given(FRAMES, st.one_of(FORMULAS, SPLINES), seeds)
def test_a_design_is_finite_and_agrees_with_its_surface(shape, formula, seed):
    trend = Trend(formula)
    try:
        by_row, by_col = trend.factors(shape)
    except UsageError:
        assert "bs(" in formula
        return
    assert by_row.shape == (trend.n_terms, shape[0])
    assert by_col.shape == (trend.n_terms, shape[1])
    assert np.isfinite(by_row).all()
    assert np.isfinite(by_col).all()
    if "bs(" not in formula:
        assert np.abs(by_row).max(initial=0) <= 1
        assert np.abs(by_col).max(initial=0) <= 1
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(0, shape[0], 5), rng.integers(0, shape[1], 5)
    coefficients = rng.standard_normal(trend.n_terms)
    surface = coefficients @ (by_row[:, rows] * by_col[:, cols])
    np.testing.assert_allclose(trend.surface(coefficients, shape)[rows, cols], surface, atol=1e-12)


@settings(max_examples=60)
@given(st.text(alphabet="xyb s():*+0123456789df=,-_", max_size=14))
def test_any_text_is_a_trend_or_is_refused(text):
    try:
        trend = Trend(text)
        names = trend.terms
    except UsageError as err:
        event("refused")
        one_line(err)
        return
    assert len(set(names)) == len(names) == trend.n_terms


def abstract(shape, n, batch, shared, dtype):
    where = (n,) if shared else (*batch, n)

    def like(dims, kind):
        return jax.ShapeDtypeStruct(dims, kind)

    return (
        like((*batch, n), dtype),
        like(where, jnp.int32),
        like(where, dtype),
        like((batch[0],), dtype),
    )


@settings(max_examples=8)  # tracing takes a second each
@given(
    FRAMES,
    st.floats(0, 1),
    st.one_of(
        st.tuples(st.sampled_from([1, 2, 60])),
        st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 4])),
    ),
    st.booleans(),
    st.sampled_from([1, 2, 4, 7]),
    FORMULAS,
    st.sampled_from([(), ("means",), ("means", "sds")]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([jnp.float32, jnp.float64]),
)
def test_a_fit_has_a_program_for_every_shape(
    shape, rate, batch, shared, k, formula, share, gain, warm, dtype
):
    n = max(1, round(rate * shape[0] * shape[1]))
    trend = Trend(formula)
    model = GMRM(k, trend, share, gain and trend.n_terms > 0)
    p = trend.n_terms
    values, places, weight, domain = abstract(shape, n, batch, shared, dtype)

    def run(z, where, w, n_domain, by_class, by_term):
        start = Params(by_class, by_class, by_class, by_term, by_class)
        pixels = Pixels(z, where, where, w, n_domain, shape)
        out = fit(model, pixels, init=start if warm else None, quantum=1.0, max_steps=7)
        return out, model.classify(out.params, pixels), model.responsibilities(out.params, pixels)

    start = [jax.ShapeDtypeStruct((*batch, size), dtype) for size in (k, p)]
    out, labels, resp = jax.eval_shape(run, values, places, weight, domain, *start)
    assert out.params.means.shape == out.params.weights.shape == (*batch, k)
    assert out.params.trend.shape == (*batch, p)
    assert out.params.means.dtype == out.log_likelihood.dtype == dtype
    assert out.result.shape == out.steps.shape == out.optimum_gap.shape == batch
    assert out.trace.shape == (*batch, 7)
    assert labels.shape == (*batch, n)
    assert resp.shape == (*batch, k, n)
