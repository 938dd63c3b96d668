"""Terms of one's own in a trend: planted coefficients are found, and mistakes are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import ForegroundRule, Plan
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend

SHAPE = (40, 48)
Y, X = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 48), indexing="ij")
FLAT = np.random.default_rng(5).normal(size=SHAPE).cumsum(axis=0).cumsum(axis=1) / 40


def bowl(x, y):
    """Vignetting: what falls off with the distance from the optical axis."""
    return np.sqrt(x**2 + y**2)


class Ring:
    """An object with numbers of its own."""

    def __init__(self, radius):
        self.radius = radius

    def __call__(self, x, y):
        return jnp.exp(-20 * (jnp.hypot(x, y) - self.radius) ** 2)


TREND = Trend("x + flat + bowl:y + ring", own={"flat": FLAT, "bowl": bowl, "ring": Ring(0.6)})
PLANTED = np.array([5.0, -4.0, 6.0, 7.0])


def planted():
    columns = [X, FLAT, np.asarray(Ring(0.6)(X, Y)), bowl(X, Y) * Y]
    return np.array(columns), np.einsum("j,jyx->yx", PLANTED, np.array(columns))


def test_columns_are_the_tables_and_functions_at_the_pixels():
    columns, surface = planted()
    assert TREND.terms == ("x", "flat", "ring", "bowl:y")  # sorted by degree
    rows, cols = np.indices(SHAPE).reshape(2, -1)[:, ::7]
    expected = columns[:, rows, cols]
    np.testing.assert_allclose(TREND.values_at(rows, cols, SHAPE), expected, rtol=1e-12)
    found = TREND.design(jnp.asarray(rows), jnp.asarray(cols), SHAPE, np.dtype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(TREND.surface(PLANTED, SHAPE), surface, rtol=1e-12, atol=1e-12)


def test_planted_coefficients_are_found_by_fit_and_analyse():
    rng = np.random.default_rng(1)
    label = rng.random((2, *SHAPE)) < 0.3
    grey = 50 + 30.0 * label + planted()[1] + 3 * rng.normal(size=label.shape)
    model = GMRM(2, TREND, share=("means", "sds"))
    pixels = sample(0, Movie(grey), 0.8)
    found = fit(model, pixels)
    # se of a coefficient: 3 / sqrt(n) / sd of its column, at most .2 here
    np.testing.assert_allclose(found.params.trend, np.tile(PLANTED, (2, 1)), atol=0.6)
    design = np.asarray(model.design(pixels))
    spread = np.linalg.inv(np.cov(design.reshape(4, -1))).diagonal()
    se = 3 * np.sqrt(spread / pixels.values.shape[1])
    assert np.all(np.abs(np.asarray(found.params.trend) - PLANTED) < 5 * se)
    plan = Plan(model, foreground=ForegroundRule("brightest"))
    growth = analyse(pixels, plan).growth
    truth = label.sum(axis=(1, 2))
    assert np.all(np.abs(growth.area_px - truth) < 4 * growth.area_px_se + 2)
    # A model without them describes the pixels worse.
    without = GMRM(2, Trend("x"), share=("means", "sds"))
    poorer = criteria(without, fit(without, pixels).params, pixels)
    assert criteria(model, found.params, pixels).bic < poorer.bic - 1000


def test_the_same_table_is_the_same_trend_and_compiles_once():
    same = Trend("x + flat", own={"flat": FLAT.copy()})
    assert same == Trend("x + flat", own={"flat": FLAT.tolist()})
    assert hash(same) == hash(Trend("x + flat", own={"flat": FLAT}))
    assert same != Trend("x + flat", own={"flat": FLAT + 1e-9})
    assert Trend("bowl", own={"bowl": bowl}) == Trend("bowl", own={"bowl": bowl})
    assert Trend("bowl", own={"bowl": bowl}) != Trend("bowl", own={"bowl": lambda x, y: bowl(x, y)})
    traced = []

    def work(model, values):
        traced.append(model)
        return values

    compiled = jax.jit(work)
    for _ in range(2):
        compiled(GMRM(2, Trend("flat", own={"flat": FLAT.copy()})), jnp.zeros(3))
    assert len(traced) == 1


def on_frames(formula, **own):
    return lambda: Trend(formula, own=own).values_at(np.arange(3), np.arange(3), SHAPE)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (on_frames("flat", flat=FLAT.T), r"flat has shape \(48, 40\), but frames are \(40, 48\)"),
        (on_frames("f", f=lambda x, y: x[0]), r"f returned shape \(48,\), but frames are"),
        (on_frames("f", f=lambda x, y: np.log(x**2 * 0)), "not finite numbers"),
        (on_frames("x + f", f=lambda x, y: 0 * x + 3), "f is constant over the frame"),
        (
            on_frames("x + y + f", f=lambda x, y: 2 * x - y + 1),
            r"f is a sum of the others \(x, y\)",
        ),
        (on_frames("flat + g", flat=FLAT, g=-FLAT), r"g is a sum of the others \(flat\)"),
        (lambda: Trend("x", own={"flat": FLAT}), "does not use flat.*for example 'x \\+ flat'"),
        (lambda: Trend("x + flat"), "cannot read 'flat'.*own={name"),
        (lambda: Trend("x", own={"x": FLAT}), "'x' has a meaning"),
        (lambda: Trend("f", own={"f g": FLAT}), "'f g' is no name"),
        (lambda: Trend("f", own={"f": FLAT[0]}), r"f has shape \(48,\); give a table"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_mistakes_in_own_terms_are_named(use, says):
    with pytest.raises(UsageError, match=says) as found:
        use()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("written", "terms"),
    [
        ("1 + x", ("x",)),
        ("0 + x + y", ("x", "y")),
        ("x + y - 1", ("x", "y")),
        ("x + 0", ("x",)),
        ("~ x + I(x**2)", ("x", "x**2")),
        ("x + I(x^2) + I(x * y)", ("x", "x**2", "x:y")),
        ("poly(x, 2)", ("poly(x, degree=2)[1]", "poly(x, degree=2)[2]")),
        ("x*y", ("x", "y", "x:y")),
        ("0", ()),
    ],
)
def test_formulas_as_r_writes_them(written, terms):
    assert Trend(written).terms == terms


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("x + x^2", "a power is written x**2"),
        ("x - y", "terms cannot be taken away"),
        ("2*x", "coefficients are fitted"),
        ("1", "for no trend write 0"),
        ("x + log(y)", "a function or a picture of your own"),
        ("x + z", "own={name"),
        ("I(x + y)", "write x"),
    ],
)
def test_what_r_would_understand_and_we_do_not_is_told(written, hint):
    with pytest.raises(UsageError, match="cannot read") as found:
        Trend(written)
    assert hint in str(found.value)
