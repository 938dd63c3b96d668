"""The external field of local proportions: areas of small convex islands."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.local import Local, fit_local

T, SIDE, STEP, SD = 2, 48, 30.0, 12.0
MODEL = GMRM(2, share=("means", "sds"))
Y, X = np.indices((SIDE, SIDE)) % 8
ISLANDS = (Y - 4) ** 2 + (X - 4) ** 2 <= 4  # 36 discs of 13 pixels


@pytest.fixture(scope="module")
def pixels():
    noise = np.random.default_rng(1).normal(0, SD, (T, SIDE, SIDE))
    return sample(None, Movie((100 + STEP * ISLANDS + noise).astype(np.float32)))


@pytest.fixture(scope="module")
def fits(pixels):
    """The fit with a field, and one at the given strength."""
    even, share = jnp.ones((T, 2)), ISLANDS.mean()
    start = Params(
        even * jnp.asarray([[1 - share, share]]),
        even * jnp.asarray([[100, 100 + STEP]]),
        SD * even,
        jnp.zeros((T, 0)),
        even,
    )
    return [
        fit_local(MODEL, pixels, local, init=start) for local in (Local(), Local(interaction=1.5))
    ]


def error(found):
    """Of the area by class probabilities, relative to the truth."""
    return float(np.sum(np.asarray(found.responsibilities)[:, 1])) / (T * ISLANDS.sum()) - 1


def test_with_a_field_small_islands_keep_their_area(fits):
    with_field, without = fits
    # most of an island's neighbours are background. The area of six other draws of the noise was
    # 0 to 3 % too large with the field, and 12 to 15 % too small without.
    assert error(without) < -0.1
    assert abs(error(with_field)) < 0.03


def test_the_field_favours_the_rare_class_and_is_0_where_the_strength_is_given(fits):
    with_field, without = fits
    field = np.asarray(with_field.coupling.field)
    assert np.all(field[..., 1] > 1)
    assert np.all(field[..., 0] < -1)
    assert with_field.learned
    np.testing.assert_array_equal(without.coupling.field, 0)
    assert float(without.interaction) == 1.5
    assert not without.learned
