"""Labels inferred from grey values do not lean on what was believed before."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.growth.inferred import LEAST, infer
from jaxmicro.mixture.family import GAUSSIAN, StudentT
from jaxmicro.mixture.gmrm import GMRM, Params

N = 40_000
MEANS, SDS = np.array([100.0, 118.0, 150.0]), np.array([10.0, 14.0, 7.0])


def _both(numbers):
    return jnp.tile(jnp.asarray(numbers)[None], (2, 1))


def _fitted(family, classes, slope):
    """Two frames of pixels of known classes on a trend along x, with the true parameters."""
    rng = np.random.default_rng(3)
    noise = rng.standard_t(5, (2, N)) if family is not GAUSSIAN else rng.normal(0, 1, (2, N))
    cols = np.tile(np.arange(200), N // 200)
    trend = slope * (2 * cols / 199 - 1)
    z = MEANS[classes] + trend + SDS[classes] * noise
    pixels = sample(None, Movie(z.reshape(2, N // 200, 200)))  # row by row
    law = _both([5.0]) if family is not GAUSSIAN else None
    params = Params(
        _both([1 / 3] * 3), _both(MEANS), _both(SDS), _both([slope]), _both([1.0] * 3), law
    )
    model = GMRM(3, "x", share=("means", "sds"), family=family)
    return model, params, pixels


@pytest.mark.parametrize("family", [GAUSSIAN, StudentT()], ids=["gaussian", "student-t"])
@pytest.mark.parametrize("believed", [(0.6, 0.3, 0.1), (0.05, 0.05, 0.9), (0.98, 0.019, 0.001)])
def test_the_mean_is_1_in_the_foreground_and_0_elsewhere_whatever_is_believed(family, believed):
    """The rest of two classes has the believed mixture of them, the foreground any share."""
    rng = np.random.default_rng(1)
    rest = np.array(believed[:2]) / sum(believed[:2])
    inside = rng.random((2, N)) < 0.3
    classes = np.where(inside, 2, rng.choice(2, (2, N), p=rest))
    prior = np.tile(np.array(believed)[None, :, None], (2, 1, N))
    found = infer(*_fitted(family, classes, 4.0), prior, (2,))
    for side, mean in ((inside, 1.0), (~inside, 0.0)):
        labels = found.labels[side]
        error = labels.std() / np.sqrt(labels.size)
        # the prior is put on a grid of half a logit either way, the other classes' mixture with it
        assert labels.mean() == pytest.approx(mean, abs=4 * error + 0.02)


def test_its_spread_is_what_the_grey_values_leave_open():
    """Of the true prior: variance M (1 - M) (1 / told - 1) beside the label."""
    rng = np.random.default_rng(2)
    believed = 1 / (1 + np.exp(-np.array([-1.0, 0.0])))  # on the grid of the working prior
    believed = np.array([*(0.5 * (1 - believed[:1])), *(0.5 * (1 - believed[:1])), believed[0]])
    classes = rng.choice(3, (2, N), p=believed)
    prior = np.tile(believed[None, :, None], (2, 1, N))
    found = infer(*_fitted(GAUSSIAN, classes, 0.0), prior, (2,))
    inside = classes == 2
    share = found.prior[0, 2, 0]
    expected = share * (1 - share) * (1 / found.told[0, 0] - 1)
    # 80 000 squares, of which few are large
    assert np.mean((found.labels - inside) ** 2) == pytest.approx(expected, rel=0.1)


def test_where_grey_values_tell_nothing_the_label_stays_near_the_prior():
    model, same, pixels = _fitted(GAUSSIAN, np.zeros((2, N), int), 0.0)
    flat = Params(same.weights, 0 * same.means + 100, 0 * same.sds + 10, same.trend, same.gain)
    found = infer(model, flat, pixels, np.full((2, 3, N), 1 / 3), (2,))
    np.testing.assert_allclose(found.labels, 1 / 3, atol=1e-6)


def test_proportions_at_the_ends_are_kept_from_certainty():
    prior = np.zeros((2, 3, N))
    prior[:, 0] = 1.0
    found = infer(*_fitted(GAUSSIAN, np.zeros((2, N), int), 0.0), prior, (2,))
    assert found.prior[:, 2].min() > LEAST / 2
    assert np.isfinite(found.labels).all()
