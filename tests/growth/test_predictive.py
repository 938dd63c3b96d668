"""The score of pixels left out: its sum is that of the fit, its error that of tiles."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.predictive import global_score, left_out, local_score, score_of, worth
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.local import Local, fit_local
from jaxmicro.spacetime.part import Part
from jaxmicro.spacetime.tiling import N_TILES

SHAPE = (48, 48)


@pytest.fixture(scope="module")
def pixels():
    """Two frames, the right half brighter by 6 sds."""
    rng = np.random.default_rng(3)
    rows, cols = rng.integers(0, 48, (2, 2, 600))
    values = 50 + 30.0 * (cols >= 24) + 5 * rng.standard_normal((2, 600))
    weight = np.ones((2, 600))
    weight[:, -20:] = 0
    return Pixels(*(jnp.asarray(a) for a in (values, rows, cols, weight)),
                  jnp.full(2, 2304.0), SHAPE)  # fmt: skip


def params(n):
    def rep(row):
        return jnp.broadcast_to(jnp.asarray(row, float), (n, len(row)))

    return Params(rep([0.5, 0.5]), rep([50.0, 80.0]), rep([5.0, 5.0]), rep([]), rep([1.0, 1.0]))


def test_the_score_is_the_likelihood_of_what_was_left_out(pixels):
    model = GMRM(2, "", ("means", "sds"))
    part = Part(2, (), 20, None, jnp.ones_like(pixels.weight), None)
    fitted = fit_local(model, pixels, Local(), init=params(2), part=part, max_steps=20, quantum=0.0)
    folds = left_out(model, pixels, Local(), part, fitted, 0.0, 20)
    score = local_score(model, pixels, Local(), part, folds)
    total = sum(float(np.sum(np.asarray(f.fit.log_likelihood))) for f in folds)
    # the folds sum at responsibilities of the pass before: they stand to 1e-4 nats a pixel
    assert score.mean == pytest.approx(total / 1160, abs=1e-4)
    assert score.behind(score)[0] == 0
    # neighbours know the class: ln 2 a pixel over the frame's weights, less what the border costs
    plain = global_score(model, fitted.fit.params, pixels)
    assert 0.5 < score.mean - plain.mean < np.log(2)


def test_a_global_score_takes_the_weights_of_the_other_half(pixels):
    score = global_score(GMRM(2, "", ("means", "sds")), params(2), pixels)
    z, seen = np.asarray(pixels.values), np.asarray(pixels.weight) > 0
    density = [np.exp(-0.5 * ((z - m) / 5) ** 2) / (5 * np.sqrt(2 * np.pi)) for m in (50, 80)]
    mixed = np.log(0.5 * density[0] + 0.5 * density[1])[seen].mean()
    assert score.mean == pytest.approx(mixed, abs=5e-3)  # weights of 290 pixels: sd .03 squared / 2
    assert score.by_frame.shape == (2, 2)


def test_the_error_is_that_of_tiles(pixels):
    """Pixels of a tile that say the same count once."""
    tile_value = np.random.default_rng(0).standard_normal(N_TILES)
    from jaxmicro.spacetime.tiling import tiles_of

    density = tile_value[tiles_of(pixels)]
    score = score_of(density, pixels)
    alone = score_of(np.random.default_rng(1).standard_normal(density.shape), pixels)
    assert alone.se == pytest.approx(1 / np.sqrt(1160), rel=0.3)  # of 64 tiles: rel. sd 9 %
    assert score.se > 3 * alone.se  # 18 pixels a tile: sqrt(18) = 4.2 times


def test_more_must_be_worth_its_parameters():
    assert worth(-3.0, 10, 3, 1000.0) > worth(-3.0, 11, 3, 1000.0)
    assert worth(-3.0, 10, 3, 1000.0) > worth(-3.0, 10, 4, 1000.0)
    assert worth(0.0, 2, 0, 100.0) == pytest.approx(-2 * 0.5 * np.log(100) / 100)
