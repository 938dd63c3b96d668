"""Bootstrap samples keep what they are to keep; the test finds a class and does not invent one."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.bootstrap import Half, World, bootstrap_test, draw, thinned
from jaxmicro.mixture.family import StudentT
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.correlation import NoiseCorrelation

MODEL = GMRM(3, "x")
NULL, MORE = Half(2, (True,)), Half(3, (True,))


def full_frame(values):
    side = int(values.size**0.5)
    rows, cols = np.divmod(np.arange(values.size), side)
    places = (jnp.asarray(a) for a in (rows, cols, np.ones(values.size)))
    n = jnp.full(1, float(values.size))
    return Pixels(jnp.asarray(values.reshape(1, -1)), *places, n, (side, side))


def params(law=None):
    rows = [0.5, 0.5, 0.0], [100.0, 160.0, 1e6], [5.0, 5.0, 5.0], [10.0], [1.0, 1.0, 1.0]
    return Params(*(jnp.asarray([v]) for v in rows), law)


def test_labels_trend_and_noise_are_those_of_the_world():
    pixels = full_frame(np.zeros(64 * 64))
    x = np.linspace(-1, 1, 64)[np.asarray(pixels.cols)]
    right = (np.asarray(pixels.cols) >= 32).astype(float)
    shares = np.stack([1 - right, right, 0 * right])[None]
    noise = NoiseCorrelation(np.zeros(1), 2.0**0.5)  # white noise filtered with sd 1
    world = World(params(), shares, noise, 0.0)
    drawn = np.asarray(draw(np.random.default_rng(0), MODEL, pixels, world, 3).values)
    assert drawn.shape == (1, 3, 4096)
    left = drawn - 100 - 60 * right - 10 * x
    np.testing.assert_allclose(left.std(axis=-1), 5, rtol=1e-6)  # each field has sd 1
    grid = left.reshape(3, 64, 64) / 5
    for lag, expected in ((1, np.exp(-1 / 4)), (2, np.exp(-1))):
        seen = np.mean(grid[:, :, lag:] * grid[:, :, :-lag])
        # about 4096 / 12.6 independent pixels in each of three fields: sd .03
        assert seen == pytest.approx(expected, abs=0.1)


def test_tails_and_grey_steps(rng):
    pixels = full_frame(np.zeros(10_000))
    model = GMRM(3, "x", family=StudentT())
    world = World(params(jnp.asarray([[3.0]])), None, None, 1.0)
    z = np.asarray(draw(rng, model, pixels, world, 1).values)[0, 0]
    np.testing.assert_array_equal(z, np.rint(z))
    x = np.linspace(-1, 1, 100)[np.asarray(pixels.cols)]
    label = np.abs(z - 10 * x - 160) < np.abs(z - 10 * x - 100)
    u = (z - 10 * x - np.where(label, 160, 100)) / 5
    # P(|t_3| > 4) = .028, of a normal variable 6e-5; binomial sd .0016
    assert np.mean(np.abs(u) > 4) == pytest.approx(0.028, abs=0.008)


def test_a_class_is_found_and_none_is_invented(rng):
    x = np.linspace(-1, 1, 40)[np.arange(1600) % 40]
    two = 100 + 60.0 * (rng.random(1600) < 0.5) + 10 * x + 5 * rng.standard_normal(1600)
    three = two + 25.0 * (rng.random(1600) < 0.3)
    out = []
    for values in (two, three):
        pixels = full_frame(values)
        world = World(params(), None, None, 0.0)
        out.append(bootstrap_test(MODEL, NULL, MORE, pixels, world, 19))
    assert out[0].p_value > 0.05
    assert out[1].p_value == 1 / 20
    assert out[1].statistic > out[1].reference.max()


def test_thinning_draws_visited_pixels_only(rng):
    pixels = full_frame(rng.standard_normal(900))
    some, pick = thinned(pixels, 600)
    assert some.values.shape == pick.shape == (1, 600)
    np.testing.assert_array_equal(some.values[0], np.asarray(pixels.values)[0][pick[0]])
    assert np.unique(pick).size == 600
