"""Patches of any shape: exact rebuilds, means put back, samples that are whole and distinct."""

import numpy as np
from drawn_images import PLANE, ROUNDING, SHAPES, dtypes, numbers, seeds
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jaxmicro.dictionary import patches as pt
from jaxmicro.errors import DataError, JaxmicroError


@settings(max_examples=100)
@given(SHAPES, st.integers(0, 9), st.integers(0, 10), dtypes, seeds)
def test_patches_cover_the_image_and_rebuild_it(shape, size, stride, dtype, seed):
    try:
        grid = pt.Grid(shape, size, stride)
    except JaxmicroError:
        assert size < 1 or not 1 <= stride <= size or min(shape) < size
        return
    image = numbers(seed, shape, dtype)
    overlap, adjoint, n = pt.Overlap(shape, dtype), 0.0, 0
    other = np.random.default_rng(seed + 1)
    onto = np.zeros(shape, dtype)
    for band in grid.bands():
        part = band.extract(image)
        n += len(part)
        overlap.add(band, part, other.uniform(0.5, 1, part.shape).astype(dtype))
        against = other.standard_normal(part.shape).astype(dtype)
        band.add(against, onto)
        adjoint += np.vdot(part, against)
    assert n == grid.n_patches == np.prod(grid.counts)
    assert part.shape[1] == grid.n_pixels
    assert (overlap.weight > 0).all()
    tolerance = ROUNDING[dtype]
    np.testing.assert_allclose(overlap.mean(np.zeros(shape, dtype)), image, atol=tolerance)
    # the sd is the root of a difference of squares: rounding by its root
    assert overlap.sd().max() < 10 * tolerance**0.5
    assert abs(adjoint - np.vdot(image, onto)) < 100 * n * tolerance


@settings(max_examples=50)
@given(st.integers(0, 7), st.integers(1, 6), dtypes, seeds)
def test_means_are_taken_off_and_put_back(n, pixels, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, pixels)).astype(dtype)
    weights = rng.choice([0.0, 0.5, 1.0], (n, pixels)).astype(dtype)
    values[rng.random(values.shape) < 0.2] = np.nan
    weights[~np.isfinite(values)] = 0
    centred, mean = pt.remove_mean(values, weights)
    assert centred.dtype == mean.dtype == dtype
    assert np.isfinite(centred).all()
    assert np.isfinite(mean).all()
    inside = weights > 0
    back = (centred + mean)[inside]
    np.testing.assert_allclose(back, values[inside], atol=ROUNDING[dtype])
    assert np.abs((centred * weights).sum(axis=1)).max(initial=0) < 10 * ROUNDING[dtype]
    scale = pt.local_contrast(centred, 0.1)
    assert (scale >= np.asarray(0.1, dtype)).all()


@settings(max_examples=60)
@given(
    PLANE, PLANE, st.integers(1, 6), st.integers(0, 40), st.sampled_from([0.0, 0.02, 0.9]), seeds
)
def test_sampled_patches_are_whole_distinct_and_usable(one, other, size, wanted, bad, seed):
    rng = np.random.default_rng(seed)
    # every pixel has a value of its own, so a patch tells where it was cut
    images = [np.arange(np.prod(one), dtype=float).reshape(one)]
    images.append(1e6 + np.arange(np.prod(other), dtype=float).reshape(other))
    for image in images:
        image[rng.random(image.shape) < bad] = np.nan
    try:
        found = pt.sample_patches(images, size, wanted, rng)
    except DataError:
        event("refused")
        assert min(*one, *other) < size or bad > 0
        return
    assert len(found) <= wanted
    assert np.isfinite(found).all()
    assert len(np.unique(found[:, 0])) == len(found)
    for patch in found:
        image = images[int(patch[0] >= 1e6)]
        row, col = np.argwhere(image == patch[0])[0]
        cut = np.s_[row : row + size, col : col + size]
        np.testing.assert_array_equal(patch.reshape(size, size), image[cut])
