"""Patches: the adjoint identity in 2-D and 3-D, coverage, masks, exact rebuilds."""

import numpy as np
import pytest

from jaxmicro.dictionary import patches as pt
from jaxmicro.errors import DataError, UsageError

CASES = [((17, 23), 5, 1), ((17, 23), 5, 3), ((9, 8, 11), 4, 1), ((9, 8, 11), 4, 3)]


@pytest.mark.parametrize(("shape", "size", "stride"), CASES)
def test_add_is_the_exact_adjoint_of_extract(rng, shape, size, stride):
    image = rng.standard_normal(shape)
    for band in pt.Grid(shape, size, stride).bands():
        extracted = band.extract(image)
        other = rng.standard_normal(extracted.shape)
        onto = np.zeros(shape)
        band.add(other, onto)
        # equal but for rounding of the sums, about 1e-16 times their some thousand terms
        assert abs(np.vdot(extracted, other) - np.vdot(image, onto)) < 1e-10


@pytest.mark.parametrize(("shape", "size", "stride"), CASES)
def test_untouched_patches_rebuild_the_image_exactly(rng, shape, size, stride, monkeypatch):
    monkeypatch.setattr(pt, "BAND_PIXELS", 4000)  # several bands
    image = rng.standard_normal(shape)
    overlap = pt.Overlap(shape, np.float64)
    grid = pt.Grid(shape, size, stride)
    seen = 0
    for band in grid.bands():
        part = band.extract(image)
        seen += len(part)
        overlap.add(band, part, rng.uniform(0.1, 1, (1, part.shape[1])) * np.ones_like(part))
    assert seen == grid.n_patches
    np.testing.assert_allclose(overlap.mean(np.zeros(shape)), image, atol=1e-12)
    # estimates that all agree have sd 0 (the difference of squares rounds to 1e-8)
    assert np.nanmax(overlap.sd()) < 1e-6


def test_bands_hold_a_bounded_number_of_values():
    grid = pt.Grid((4000, 4000), 8, 1)
    band = next(iter(grid.bands()))
    assert np.prod(band.counts) * 64 <= pt.BAND_PIXELS


def test_spread_is_the_standard_deviation_of_the_estimates():
    overlap = pt.Overlap((1, 3), np.float64)
    band = pt.Band((np.array([0]), np.array([0, 1])), 1)
    grid = pt.Band((np.array([0]), np.array([1, 2])), 1)
    overlap.add(band, np.array([[1.0], [2.0]]), np.ones((2, 1)))
    overlap.add(grid, np.array([[4.0], [5.0]]), np.ones((2, 1)))
    np.testing.assert_allclose(overlap.mean(np.zeros((1, 3))), [[1, 3, 5]])
    np.testing.assert_allclose(overlap.sd(), [[0, 1, 0]], atol=1e-12)


def test_mean_is_removed_over_usable_pixels_only(rng):
    values = rng.standard_normal((6, 9))
    weights = (rng.random((6, 9)) < 0.6).astype(float)
    weights[2] = 0
    spoiled = np.where(weights > 0, values, np.nan)
    centred, mean = pt.remove_mean(spoiled, weights)
    for i in (0, 1):
        assert mean[i, 0] == pytest.approx(values[i, weights[i] > 0].mean())
    assert mean[2, 0] == 0
    assert np.all(centred[weights == 0] == 0)


def test_sampled_patches_avoid_unusable_pixels(rng):
    image = np.arange(400.0).reshape(20, 20)
    image[5, 5] = np.nan
    image[:, 14:] = np.nan
    found = pt.sample_patches([image], 4, 10_000, rng)
    view = np.lib.stride_tricks.sliding_window_view(image, (4, 4))
    possible = np.isfinite(view).all(axis=(2, 3)).sum()
    assert len(found) == possible  # every usable patch, once
    assert np.isfinite(found).all()
    assert len(np.unique(found[:, 0])) == possible


def test_an_image_that_gives_no_patch_leaves_the_others_be(rng):
    images = [np.full((9, 9), value) for value in (0.0, np.nan, 2.0)]
    found = pt.sample_patches(images, 4, 72, rng)  # all there are: 36 of two images
    np.testing.assert_array_equal(np.sort(found[:, 0]), np.repeat([0.0, 2.0], 36))
    assert len(pt.sample_patches(images, 4, 1, rng)) == 1  # fewer patches than images


def test_bad_sizes_are_refused():
    with pytest.raises(DataError, match="5 x 9 pixels is smaller than a patch of 8"):
        pt.Grid((5, 9), 8)
    with pytest.raises(UsageError, match="stride 9"):
        pt.Grid((20, 20), 8, 9)
    with pytest.raises(DataError, match="no patch of 4 pixels"):
        pt.sample_patches([np.full((9, 9), np.nan)], 4, 5, np.random.default_rng(0))


def test_local_contrast_has_a_floor(rng):
    values = np.stack([np.zeros(9), np.full(9, 2.0) * np.sign(rng.standard_normal(9))])
    np.testing.assert_allclose(pt.local_contrast(values, 0.5), [[0.5], [2.0]])
