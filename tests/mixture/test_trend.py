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


def test_polynomials_are_orthogonal_and_span_the_powers():
    trend = Trend("poly(y, 3) + poly(x, degree=2):y")
    assert trend.terms[0] == "poly(y, degree=3)[1]"
    assert trend.terms[3:] == ("poly(x, degree=2)[1]:y", "poly(x, degree=2)[2]:y")
    by_row, _ = trend.factors((4001, 3))
    gram = by_row[:3] @ by_row[:3].T / 2000  # the integral over -1 to 1, to the grid's step
    np.testing.assert_allclose(gram, np.diag([2 / 3, 2 / 5, 2 / 7]), atol=2e-3)
    y = np.linspace(-1, 1, 4001)
    np.testing.assert_allclose(by_row[1], (3 * y**2 - 1) / 2, atol=1e-12)


def test_arguments_that_a_basis_does_not_take_are_named():
    with pytest.raises(UsageError, match=r"poly\(x, df=2\) takes degree only"):
        Trend("poly(x, df=2)")
    with pytest.raises(UsageError, match=r"bs.* takes df and degree only"):
        Trend("bs(x, 5, 3, 1)")
    with pytest.raises(UsageError, match=r"poly\(x\) lacks degree"):
        Trend("poly(x)")


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
