"""Formulas become the columns they name, and nothing else is evaluated."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.errors import UsageError
from jaxmicro.mixture.trend import Trend


def test_columns_are_the_monomials_they_name():
    trend = Trend("x + x**2 + x:y + x**2:y")
    rows, cols = jnp.array([0, 3, 6]), jnp.array([0, 2, 4])
    y, x = np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 0.0, 1.0])
    assert trend.terms == ("x", "x**2", "x:y", "x**2:y")
    got = trend.design(rows, cols, (7, 5), np.dtype(float))
    np.testing.assert_allclose(got, [x, x**2, x * y, x**2 * y], atol=1e-15)


def test_star_expands_and_the_empty_formula_is_no_trend():
    assert set(Trend("x*y").terms) == {"x", "y", "x:y"}
    assert Trend("").n_terms == 0
    assert Trend("").design(jnp.zeros(4, int), jnp.zeros(4, int), (5, 5)).shape == (0, 4)


def test_splines_span_the_lines_and_the_parabolas():
    trend = Trend("bs(x, df=5)")
    assert trend.n_terms == 5
    _, by_col = trend.factors((3, 50))
    x = np.linspace(-1, 1, 50)
    basis = np.vstack([np.ones(50), by_col]).T
    for power in (1, 2, 3):
        left = np.linalg.lstsq(basis, x**power, rcond=None)[1]
        assert np.all(left < 1e-20)


def test_surface_is_the_design_times_the_coefficients():
    trend = Trend("x + y + x:y")
    rows, cols = np.indices((4, 6)).reshape(2, -1)
    design = trend.design(jnp.asarray(rows), jnp.asarray(cols), (4, 6), np.dtype(float))
    surface = trend.surface(np.array([2.0, -1.0, 0.5]), (4, 6))
    np.testing.assert_allclose(surface.ravel(), np.array([2.0, -1, 0.5]) @ design, atol=1e-14)


@pytest.mark.parametrize(
    "formula", ["z", "x + ", "__import__('os')", "np.log(x)", "x**0", "exp(x)", "1 + x)", "x - y"]
)
def test_anything_else_is_refused_by_name(formula):
    with pytest.raises(UsageError, match="trend"):
        Trend(formula)
