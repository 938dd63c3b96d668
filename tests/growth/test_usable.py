"""Which areas may be used, by how the fit of a frame ended."""

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.estimate import estimate
from jaxmicro.growth.usable import usable
from jaxmicro.mixture.ecm import Fit, Result
from jaxmicro.mixture.gmrm import Params

N = 1000


def _case(result, narrow_share, gap=1e-7):
    """One frame of 20 000 pixels, 1000 visited, 300 foreground; class 0 of 3 may be narrow."""
    count = round(narrow_share * N)
    classes = np.repeat([0, 1, 2], [count, N - 300 - count, 300])[None]
    zero = jnp.zeros((1, N))
    at = jnp.zeros((1, N), jnp.int32)
    pixels = Pixels(zero, at, at, zero + 1, jnp.asarray([20_000.0]), (100, 200))
    ones = jnp.ones((1, 3))
    fitted = Fit(
        Params(ones / 3, ones, ones, jnp.zeros((1, 0)), ones),
        jnp.zeros(1),
        jnp.zeros((1, 5)),
        jnp.ones(1, jnp.int32),
        jnp.asarray([int(result)]),
        jnp.asarray([gap]),
        jnp.asarray([[count > 0, False, False]]),
    )
    growth = estimate(classes == 2, pixels)
    return fitted, classes, pixels, growth


def test_only_fits_that_reached_the_optimum_count():
    expected = {
        Result.converged: True,
        Result.empty_class: True,
        Result.max_steps: False,
        Result.nonfinite: False,
        Result.too_few_pixels: False,
    }
    for result, good in expected.items():
        assert usable(*_case(result, 0.0)).tolist() == [good], result


def test_a_spike_counts_by_what_hangs_on_it():
    # s.e. of the share: sqrt(.3 x .7 / 1000 x .95) = .0141, so 14 of 1000 pixels are within it
    assert usable(*_case(Result.degenerate_class, 0.013)).tolist() == [True]
    assert usable(*_case(Result.degenerate_class, 0.016)).tolist() == [False]
    assert usable(*_case(Result.degenerate_class, 0.013, gap=np.inf)).tolist() == [False]


def test_areas_that_may_not_be_used_are_left_empty():
    growth = _case(Result.max_steps, 0.0)[3].only(np.array([False]))
    table = growth.to_pandas()
    assert np.isnan(table["area_px"][0])
    assert np.isnan(table["area_px_se"][0])
    assert table["usable"].tolist() == ["no"]
