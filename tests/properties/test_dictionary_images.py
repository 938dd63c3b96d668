"""Forward model, blurs, noise and figures of images of any shape."""

import numpy as np
import pytest
from drawn_images import PLANE, ROUNDING, dtypes, numbers, seeds
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from jaxmicro.dictionary import matching, resolution
from jaxmicro.dictionary.forward import Forward, fill, gaussian
from jaxmicro.dictionary.noise import estimate_noise, white
from jaxmicro.errors import DataError


def one_line(err):
    assert "\n" not in str(err)


@settings(max_examples=60)
@given(PLANE, st.integers(1, 5), st.floats(0, 6), dtypes, seeds)
def test_the_forward_model_keeps_the_mean(shape, decimation, sd, dtype, seed):
    forward = Forward(sd, decimation)
    fine = numbers(seed, tuple(n * decimation for n in shape), dtype)
    there = forward.apply(fine)
    assert there.shape == shape
    assert there.dtype == dtype
    flat = np.full(fine.shape, 3.0, dtype)
    np.testing.assert_allclose(forward.apply(flat), 3.0, rtol=ROUNDING[dtype])
    assert abs(there.mean() - fine.mean()) < 10 * ROUNDING[dtype]


@settings(max_examples=60)
@given(PLANE, st.integers(1, 5), st.floats(0, 6))
def test_mirrored_borders_leave_a_flat_image_flat(shape, decimation, sd):
    assume(min(shape) >= decimation)
    flat = np.full(shape, 3.0)
    out = Forward(sd, decimation).mirrored(flat)
    assert out.shape == tuple(n // decimation for n in shape)
    np.testing.assert_allclose(out, 3.0, rtol=1e-9)


@settings(max_examples=60)
@given(PLANE, st.floats(0, 20), st.floats(0, 20), seeds)
def test_a_blur_keeps_flat_images_and_the_range(shape, sd_y, sd_x, seed):
    np.testing.assert_allclose(gaussian(np.full(shape, 3.0), (sd_y, sd_x)), 3.0, rtol=1e-9)
    image = np.random.default_rng(seed).random(shape)
    out = gaussian(image, (sd_y, sd_x))
    assert out.shape == shape
    # below an sd of half a pixel the kernel cut off at the Nyquist frequency rings
    if min(sd_y, sd_x) > 1:
        assert out.min() >= image.min() - 1e-3
        assert out.max() <= image.max() + 1e-3


@settings(max_examples=60)
@given(PLANE, st.sampled_from([0.0, 0.1, 0.9, 1.0]), seeds)
def test_filling_changes_masked_pixels_only(shape, masked, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) >= masked
    assume(mask.any())
    image = np.where(mask, rng.random(shape), np.nan)
    out = fill(image, mask)
    np.testing.assert_array_equal(out[mask], image[mask])
    assert np.isfinite(out).all()


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 130), st.integers(1, 130)), st.sampled_from([0.0, 0.5]), seeds)
def test_noise_is_estimated_or_refused(shape, masked, seed):
    image = 2 * numbers(seed, shape)
    mask = np.ones(shape, bool)
    mask[:, : int(masked * shape[1])] = False
    try:
        noise = estimate_noise(image, mask, seed=seed)
    except DataError as err:
        event("refused")
        one_line(err)
        return
    assert np.isfinite(noise.sd)
    assert 1 < noise.sd < 4
    assert noise.correlation[0, 0] == pytest.approx(1)
    for size in (1, 4):
        assert np.linalg.eigvalsh(noise.covariance(size)).min() > 0


@settings(max_examples=8)  # each size is compiled
@given(
    st.sampled_from([(1, 1), (7, 30)]),
    st.sampled_from([15.0, 60.0]),
    st.sampled_from([20.0, 60.0, 100.0]),
    dtypes,
)
def test_resampling_gives_the_right_size_or_is_refused(shape, old, new, dtype):
    image = np.full(shape, 2.0, dtype)
    try:
        out = matching.resample(image, (old, old), (new, new))
    except DataError:
        assert min(shape) * old < new
        return
    assert out.dtype == dtype
    assert out.shape == tuple(int(n * old / new + 1e-6) for n in shape)
    np.testing.assert_allclose(out, 2.0, rtol=1e-4)


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), seeds)
def test_figures_of_an_image_against_itself(shape, seed):
    image = np.random.default_rng(seed).random(shape)
    assert resolution.psnr(image, image, 1.0) == np.inf
    if min(shape) > 10:
        assert resolution.ssim(image, image, 1.0) == pytest.approx(1)
    frequency, curve = resolution.ring_correlation(image, image)
    assert len(frequency) == len(curve)
    assert np.isfinite(curve).all()
    assert (curve <= 1 + 1e-9).all()
    width = resolution.edge_width(image, 10.0)
    assert np.isnan(width) or width > 0


@settings(max_examples=30)
@given(PLANE, st.sampled_from(["noise", "constant", "nan"]), seeds)
def test_a_grey_range_is_a_range(shape, what, seed):
    image = np.random.default_rng(seed).random(shape)
    image = {"noise": image, "constant": 0 * image, "nan": image * np.nan}[what]
    try:
        low, high = matching.grey_range(image)
    except DataError:
        assert what != "noise" or image.size == 1
        return
    assert high > low


def test_white_noise_has_the_covariance_of_white_noise():
    np.testing.assert_allclose(white(2.0).covariance(3), 4 * np.eye(9), atol=1e-12)
