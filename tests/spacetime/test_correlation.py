"""Correlation of noise, measured on residuals of planted fields."""

import jax.numpy as jnp
import numpy as np
import pytest
from pixels_at import pixels_at

from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.correlation import LAGS, NoiseCorrelation, noise_correlation

T, SIDE = 4, 64
MODEL = GMRM(2, Trend("x"), ("means", "sds"))
PARAMS = Params(
    jnp.full((T, 2), 0.5),
    jnp.tile(jnp.asarray([[100.0, 140.0]]), (T, 1)),
    jnp.tile(jnp.asarray([[5.0, 8.0]]), (T, 1)),
    jnp.full((T, 1), 6.0),
    jnp.ones((T, 2)),
)


def filtered(rng, sigma):
    """Fields (T, SIDE, SIDE) of unit variance whose correlation is exp(-d^2 / (4 sigma^2))."""
    k = np.fft.fftfreq(SIDE)
    square = k[:, None] ** 2 + k[None, :] ** 2
    spectrum = np.fft.fft2(rng.standard_normal((T, SIDE, SIDE)))
    field = np.fft.ifft2(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * square)).real
    return field / field.std()


def measured(noise, keep=None, extra=0.0):
    """The correlation of this noise in a frame of two halves with a slope along x."""
    label = np.broadcast_to(np.arange(SIDE)[:, None] >= SIDE // 2, noise.shape).astype(int)
    slope = 6 * np.linspace(-1, 1, SIDE)[None, None, :]
    grey = np.array([100.0, 140.0])[label] + slope + np.array([5.0, 8.0])[label] * (noise + extra)
    rows, cols = np.divmod(np.arange(SIDE * SIDE, dtype=np.int32), np.int32(SIDE))
    if keep is not None:
        rows, cols = rows[keep], cols[keep]
    at = np.arange(T)[:, None], rows[None], cols[None]
    every = np.ones((T, rows.size))
    pixels = pixels_at(
        grey[at], rows * every.astype(np.int32), cols * every.astype(np.int32), every, (SIDE, SIDE)
    )
    share = np.moveaxis(np.eye(2)[label[at]], -1, 1)
    return noise_correlation(MODEL, PARAMS, share, pixels)


def test_white_noise_is_not_correlated(rng):
    found = measured(rng.standard_normal((T, SIDE, SIDE)))
    # 2 x 16 384 pairs a lag, about: 4 standard errors are 0.022
    np.testing.assert_allclose(found.by_lag, 0, atol=0.023)
    assert found.buffer == 0
    assert found.independent_share == 1
    assert "independent from pixel to pixel" in found.sentence


def test_filtered_noise_has_the_correlation_of_its_filter(rng):
    sigma = 1.2
    found = measured(filtered(rng, sigma))
    lags = np.arange(1, LAGS + 1)
    # the squared correlation adds up to 2 pi sigma^2 = 9 pixels, so 3 standard errors of a
    # correlation are at most 3 sqrt(9 / 16384) = 0.07
    np.testing.assert_allclose(found.by_lag, np.exp(-(lags**2) / (4 * sigma**2)), atol=0.07)
    # exp(-d^2 / (2 v^2)) with v = sqrt(2) sigma = 1.7 is the same Gaussian; the widest of those
    # through the correlations is taken, and 0.07 at lag 3 (0.21) moves v by 11 %
    assert found.buffer == pytest.approx(2**0.5 * sigma, rel=0.12)
    assert found.buffer >= 0.98 * 2**0.5 * sigma
    # 4 pi sigma^2 pixels have the information of one
    assert found.independent_share == pytest.approx(1 / (4 * np.pi * sigma**2), rel=0.25)
    assert "correlated between neighbours" in found.sentence


def test_too_few_pairs_are_not_known():
    rng = np.random.default_rng(8)
    keep = rng.permutation(SIDE * SIDE)[:60]  # a handful of pairs at any lag
    found = measured(rng.standard_normal((T, SIDE, SIDE)), keep)
    assert np.isnan(found.by_lag).all()
    assert found.buffer == 0
    assert "too few neighbours" in found.sentence


def test_a_pair_across_classes_does_not_count(rng):
    """Residuals of +1 in one half and -1 in the other: within a class all pairs agree."""
    half = np.broadcast_to(np.arange(SIDE)[:, None] >= SIDE // 2, (T, SIDE, SIDE))
    found = measured(np.where(half, 1.0, -1.0))
    np.testing.assert_allclose(found.by_lag, 1, rtol=1e-9)


def test_a_smooth_leftover_is_structure_and_not_noise(rng):
    """A slow wave that the model has missed correlates all lags alike, and says no noise."""
    wave = 0.6 * np.sin(2 * np.pi * np.arange(SIDE) / SIDE)[None, None, :]
    found = measured(rng.standard_normal((T, SIDE, SIDE)), extra=wave)
    # variance 1 of white noise and 0.18 of the wave: a correlation of 0.15 that hardly falls off
    assert np.all(found.by_lag[:5] > 0.1)
    assert found.buffer == 0
    of_noise = measured(filtered(np.random.default_rng(3), 1.2), extra=wave)
    assert of_noise.buffer == pytest.approx(2**0.5 * 1.2, rel=0.15)


@pytest.mark.parametrize("buffer", [0.0, 0.2, 1.7])
def test_independent_pixels_are_never_more_than_pixels(buffer):
    assert 0 < NoiseCorrelation(np.full(LAGS, 0.5), buffer).independent_share <= 1


def test_few_pairs_show_a_strong_correlation_and_no_weak_one(rng):
    """About 80 pairs a lag: the correlation of .78 at lag 1 lies far above 3 / sqrt(80) = .34."""
    keep = np.sort(rng.permutation(SIDE * SIDE)[:200])  # in 4 frames, at the same places
    found = measured(filtered(rng, 1.0), keep)
    assert found.buffer == pytest.approx(2**0.5, rel=0.35)
    white = measured(rng.standard_normal((T, SIDE, SIDE)), keep)
    assert white.buffer == 0
    assert not white.surely_white
    assert measured(rng.standard_normal((T, SIDE, SIDE))).surely_white


def test_variance_of_sums_over_tiles_that_share_noise(rng):
    """Sums over 8 x 8 tiles of filtered noise, by their own definition."""
    sigma = 1.0
    noise = NoiseCorrelation(np.zeros(LAGS), 2**0.5 * sigma)
    fields = np.concatenate([filtered(rng, sigma) for _ in range(150)])
    tiles = fields.reshape(-1, 8, 8, 8, 8).sum(axis=(2, 4))
    # the frame is periodic, so sums over all of it are the sd of the mean: take a wide window
    wide = tiles[:, :4, :4].sum(axis=(1, 2))
    shares = [noise.within((side, side), 1.0) for side in (8.0, 32.0)]
    expected = 16 * np.mean(tiles**2) / np.mean(wide**2)
    # 600 windows: the relative error of a variance is sqrt(2 / 600) = .06
    assert shares[0] / shares[1] == pytest.approx(expected, rel=0.15)
    assert noise.within((8.0, 8.0), 0.0) == 1
    assert NoiseCorrelation(np.zeros(LAGS), 0.0).within((8.0, 8.0), 1.0) == 1
