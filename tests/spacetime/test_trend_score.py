"""The score test of trend terms: known answers, and what it must not be moved by."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.local import Local, fit_local
from jaxmicro.spacetime.part import Part
from jaxmicro.spacetime.tiling import N_TILES, tiles_of
from jaxmicro.spacetime.trend_score import by_signs, trend_score

MODEL = GMRM(3, "x + y")  # the third class is switched off


def seen(rng, slope, arranged):
    rows, cols = (jnp.asarray(a) for a in rng.integers(0, 64, (2, 1, 2000)))
    x = np.linspace(-1, 1, 64)[np.asarray(cols)]
    label = (np.asarray(cols) > 30) if arranged else rng.random((1, 2000)) < 0.5
    values = 100 + 25.0 * label + slope * x + 8 * rng.standard_normal((1, 2000))
    ones = jnp.ones((1, 2000))
    return Pixels(jnp.asarray(values), rows, cols, ones, jnp.full(1, 4096.0), (64, 64))


def fitted_to(pixels):
    start = Params(*(jnp.asarray([v]) for v in (
        [0.5, 0.5, 0.0], [100.0, 125.0, 1e6], [8.0, 8.0, 8.0], [0.0, 0.0], [1.0, 1.0, 1.0]
    )))  # fmt: skip
    part = Part(2, (False, True), 25)
    return fit_local(MODEL, pixels, Local(), init=start, part=part, max_steps=25, quantum=0.0)


def outcome(pixels):
    which = (False, True), (True, False)
    return trend_score(MODEL, 2, *which, pixels, fitted_to(pixels), Local())


def test_scattered_labels_need_no_neighbours(rng):
    """The strength falls to where neighbours say next to nothing, and is high in two regions."""
    assert float(fitted_to(seen(rng, 0.0, False)).coupling.strength) < 0.3
    assert float(fitted_to(seen(rng, 0.0, True)).coupling.strength) > 1.0


def test_a_slope_is_found_and_its_absence_is_not(rng):
    # the coefficient's se is 8 / sqrt(2000) / .58 = .31, with unknown labels about .4
    assert outcome(seen(rng, 3.0, False)).p_value < 0.001
    assert outcome(seen(rng, 0.0, False)).p_value > 0.05


def test_the_layout_alone_is_no_slope(rng):
    """Bright material at the right: the plain mixture takes it up as a slope."""
    found = outcome(seen(rng, 0.0, True))
    assert found.p_value > 0.05
    assert found.n_terms == 1


def test_by_signs_is_exact_for_few_tiles():
    """All 2^4 signs of 1, 2, 3, 4: as far out as they are only +10 and -10 lie, p = 2 / 16."""
    found = by_signs(np.array([[1.0], [2.0], [3.0], [4.0]]), flips=20_000)
    assert found.statistic == pytest.approx(100 / 30)
    assert found.p_value == pytest.approx(2 / 16, abs=0.01)  # 4 binomial sds of 20 000 signs


def test_what_was_fitted_counts():
    """Where parameters took half of the sum of squares, half of the statistic is left."""
    scores = np.array([[1.0], [2.0], [3.0], [4.0]])
    found, plain = by_signs(scores, 0.5), by_signs(scores)
    assert found.statistic == pytest.approx(0.5 * plain.statistic)
    np.testing.assert_array_equal(found.reference, plain.reference)


def test_by_signs_does_not_depend_on_the_scale_of_terms(rng):
    scores = rng.standard_normal((30, 2))
    turned = scores @ np.array([[3.0, 1.0], [0.0, 0.2]])
    assert by_signs(turned).p_value == by_signs(scores).p_value


def test_tiles_cover_what_was_visited(rng):
    pixels = seen(rng, 0.0, False)
    tile = tiles_of(pixels)
    assert tile.shape == (1, 2000)
    assert set(np.unique(tile)) == set(range(N_TILES))
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    np.testing.assert_array_equal(tile, rows // 8 * 8 + cols // 8)
