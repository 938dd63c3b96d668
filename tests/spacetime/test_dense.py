"""The dense map: the sample's own answer where visited, its neighbours' elsewhere."""

import jax
import numpy as np
import pytest

from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.dense import dense_maps, entropy_bits
from jaxmicro.spacetime.local import Local, fit_local

SHAPE = (5, 64, 64)


@pytest.fixture(scope="module")
def case():
    scene = operando(5, shape=SHAPE, scene="front")
    pixels = sample(jax.random.key(0), scene.movie, 0.25)
    fitted = fit_local(GMRM(4, Trend("x + y + x:y"), ("means", "sds")), pixels)
    maps = np.stack(
        list(
            dense_maps(
                fitted.responsibilities,
                pixels,
                fitted.fit.params.weights,
                Local(),
                fitted.coupling,
            )
        )
    )
    return scene, pixels, fitted, maps


def test_maps_are_probabilities_of_every_pixel(case):
    _, _, _, maps = case
    assert maps.shape == (5, 4, 64, 64)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum(axis=1), 1, atol=1e-5)


def test_visited_pixels_keep_their_posterior(case):
    _, pixels, fitted, maps = case
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    times = np.arange(5)[:, None]
    np.testing.assert_array_equal(
        np.moveaxis(maps[times, :, rows, cols], 2, 1), np.asarray(fitted.responsibilities)
    )


def test_unvisited_pixels_are_mostly_right_and_errors_lie_where_entropy_is_high(case):
    scene, pixels, _, maps = case
    unseen = np.ones(SHAPE, bool)
    unseen[np.arange(5)[:, None], np.asarray(pixels.rows), np.asarray(pixels.cols)] = False
    found, real = maps.argmax(axis=1), scene.labels
    assert np.mean(found[unseen] == real[unseen]) > 0.93  # edges move between frames
    entropy = entropy_bits(maps[:, 3])
    wrong = unseen & ((found == 3) != (real == 3))
    assert entropy[wrong].mean() > 5 * entropy[unseen & ~wrong].mean()
    assert entropy.min() >= 0
    assert entropy.max() <= 1


def test_where_nothing_is_near_the_frames_weights_stand(case):
    scene, _, fitted, _ = case
    valid = np.zeros(SHAPE[1:], bool)
    valid[:, :24] = True
    pixels = sample(jax.random.key(1), scene.movie.replace(valid=valid), 0.3)
    model = GMRM(4, Trend("x + y + x:y"), ("means", "sds"))
    half = fit_local(model, pixels, init=fitted.fit.params)
    maps = np.stack(list(dense_maps(half.responsibilities, pixels, half.fit.params.weights)))
    far = maps[:, :, :, -4:]
    weights = np.asarray(half.fit.params.weights)[:, :, None, None]
    # weights below the floor of 1e-6 are lifted to it
    np.testing.assert_allclose(far, np.broadcast_to(weights, far.shape), atol=1e-4)


def test_entropy_of_a_coin_is_one_bit():
    np.testing.assert_allclose(entropy_bits(np.array([0.0, 0.5, 1.0])), [0, 1, 0], atol=1e-9)


def test_replicates_are_refused(case):
    scene, _, fitted, _ = case
    pixels = sample(jax.random.key(1), scene.movie, 0.25, replicates=2)
    with pytest.raises(UsageError, match="replicates"):
        next(dense_maps(fitted.responsibilities, pixels, fitted.fit.params.weights))
