"""`fit` inside jax.jit, jax.vmap and jax.grad: the same numbers, and derivatives of the optimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.mixture.ecm import Result, fit, grey_step
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.grey import traced_grey_step

# As near to the optimum as float64 gets: finite differences see what is left of the way.
TIGHT = 1e-16
MODELS = {
    "frames on their own": GMRM(2, "x"),
    "shared": GMRM(2, "x + y", share=("means", "sds")),
    "means shared, with gains": GMRM(2, "x", share=("means",), gain=True),
}


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(7)
    label = rng.random((2, 16, 18)) < 0.35
    slope = 6 * np.linspace(-1, 1, 18)
    grey = np.where(label, 40.0, 0.0) + slope * (1 + label) + rng.normal(size=label.shape) * 9
    found = sample(3, Movie(100 + grey), 0.8)
    weight = 1 + 0.2 * rng.random(found.weight.shape)  # any weight is a derivative's place
    return eqx.tree_at(lambda p: p.weight, found, jnp.asarray(weight))


def loss_of(model, pixels):
    """A function of values and weights through every number that a fit reports."""
    draw = np.random.default_rng(0).normal
    at = fit(model, pixels).params
    scales = {"weights": 50, "means": 1, "sds": 1, "trend": 1, "gain": 30}
    by = {n: s * draw(size=getattr(at, n).shape) for n, s in scales.items()}

    def loss(values, weight):
        moved = eqx.tree_at(lambda p: (p.values, p.weight), pixels, (values, weight))
        found = fit(model, moved, tolerance=TIGHT)
        total = 0.01 * jnp.sum(found.log_likelihood)
        return total + sum(jnp.sum(by[n] * getattr(found.params, n)) for n in by)

    return loss


@pytest.mark.parametrize(
    "name", [*list(MODELS)[:2], pytest.param(list(MODELS)[2], marks=pytest.mark.slow)]
)
def test_gradients_are_those_of_finite_differences(pixels, name, rng):
    loss = loss_of(MODELS[name], pixels)
    at = pixels.values, pixels.weight
    assert np.all(np.asarray(fit(MODELS[name], pixels).result) == Result.converged)
    by_values, by_weight = jax.grad(loss, (0, 1))(*at)
    size = pixels.values.shape
    for direction in ((rng.normal(size=size), 0), (0, rng.normal(size=size))):
        step = 1e-3  # sds are 9: the error of central differences is about (step / sd)^2 = 1e-8
        ahead, behind = (
            loss(*(a + sign * step * d for a, d in zip(at, direction, strict=True)))
            for sign in (1, -1)
        )
        found = jnp.sum(by_values * direction[0]) + jnp.sum(by_weight * direction[1])
        np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-4)


@pytest.mark.slow
def test_forward_reverse_and_second_derivatives_agree(pixels, rng):
    loss = loss_of(MODELS["shared"], pixels)
    value = jax.jit(loss)
    grad = jax.jit(jax.grad(loss))
    way = jnp.asarray(rng.normal(size=pixels.values.shape))
    at = pixels.values, pixels.weight
    assert float(value(*at)) == pytest.approx(float(loss(*at)), rel=1e-12)
    _, forward = jax.jvp(lambda v: value(v, at[1]), at[:1], (way,))
    assert float(forward) == pytest.approx(float(jnp.sum(grad(*at) * way)), rel=1e-8)
    # the second derivative along the way, against differences of the gradient
    _, second = jax.jvp(lambda v: grad(v, at[1]), at[:1], (way,))
    step = 1e-3
    ahead, behind = (grad(at[0] + sign * step * way, at[1]) for sign in (1, -1))
    differences = (ahead - behind) / (2 * step)
    worst = jnp.max(jnp.abs(second - differences)) / jnp.max(jnp.abs(second))
    assert float(worst) < 1e-4


def test_a_compiled_fit_is_the_fit_and_padding_has_no_derivative(pixels):
    model = MODELS["shared"]
    weight = pixels.weight.at[:, -40:].set(0)
    values = pixels.values.at[:, -40:].set(jnp.nan)
    padded = eqx.tree_at(lambda p: (p.values, p.weight), pixels, (values, weight))
    plain, compiled = fit(model, padded), jax.jit(fit)(model, padded)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)

    def brightest(values):
        moved = eqx.tree_at(lambda p: p.values, padded, values)
        return fit(model, moved, tolerance=TIGHT).params.means[0, -1]

    slope = jax.grad(brightest)(values)
    np.testing.assert_array_equal(slope[:, -40:], 0)
    # Adding 1 to every grey value adds 1 to every class mean.
    assert float(jnp.sum(slope)) == pytest.approx(1, rel=1e-6)


def test_fits_side_by_side_are_the_fits_one_by_one(pixels, rng):
    model = MODELS["shared"]
    noise = rng.normal(size=(3, *pixels.values.shape))
    many = pixels.values[None] + jnp.asarray(noise)

    def means(values):
        return fit(model, eqx.tree_at(lambda p: p.values, pixels, values), tolerance=TIGHT).params

    together = jax.vmap(means)(many)
    alone = [means(values) for values in many]
    for a, *b in zip(jax.tree.leaves(together), *map(jax.tree.leaves, alone), strict=True):
        np.testing.assert_allclose(a, np.stack(b), rtol=1e-7)  # both within 1e-16 nats of the top


def test_a_start_has_no_derivative(pixels):
    model = MODELS["shared"]
    start = fit(model, pixels).params

    def mean(init):
        return fit(model, pixels, init=init).params.means[0, 0]

    slope = jax.grad(mean)(start)
    assert all(np.all(np.asarray(a) == 0) for a in jax.tree.leaves(slope))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(200) % 50,
        np.arange(200) % 20 * 0.25,
        np.random.default_rng(0).normal(size=400),
        np.full(30, 7.0),
        np.append(np.arange(300) % 8 * 3.0, [np.nan, np.inf, -np.inf]),
        np.full(10, np.nan),
        np.random.default_rng(1).integers(0, 250, 25_000),
    ],
)
def test_the_grey_step_is_the_same_when_traced(values, dtype):
    array = np.asarray(values, dtype)
    found = float(jax.jit(traced_grey_step)(jnp.asarray(array)))
    assert found == pytest.approx(grey_step(array), rel=1e-6)
