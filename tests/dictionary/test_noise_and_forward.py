"""Noise, forward model, matching and resolution against planted values and identities."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxmicro.data.phantom_stem_txm import correlated_noise, stem_txm
from jaxmicro.dictionary import resolution as res
from jaxmicro.dictionary.calibration import matched_contrast
from jaxmicro.dictionary.forward import FWHM_PER_SD, Forward, blur_between, fill, gaussian
from jaxmicro.dictionary.matching import SpectralBlur, grey_range, resample, spectral_blur
from jaxmicro.dictionary.noise import cutoff_of, estimate_noise, white
from jaxmicro.errors import DataError, UsageError


@pytest.mark.parametrize("decimation", [1, 2, 3])
def test_forward_is_a_gaussian_blur_then_a_mean_over_blocks(rng, decimation):
    fine = rng.standard_normal((12, 18))
    blocks = fine.reshape(12 // decimation, decimation, 18 // decimation, decimation)
    # without a blur the blocks alone, to rounding of a Fourier transform
    np.testing.assert_allclose(Forward(0.0, decimation).apply(fine), blocks.mean(axis=(1, 3)),
                               atol=1e-12)  # fmt: skip
    # a wave of 3 periods in 18 pixels is damped as exp(-2 (pi sd f)^2)
    wave = np.ones((12, 1)) * np.cos(2 * np.pi * 3 * np.arange(18) / 18)
    damped = np.exp(-2 * (np.pi * 1.4 * 3 / 18) ** 2) * wave
    np.testing.assert_allclose(Forward(1.4).apply(wave), damped, atol=1e-12)


def test_forward_keeps_the_mean_and_agrees_with_its_mirrored_form(rng):
    forward = Forward(1.0, 2)
    fine = rng.standard_normal((40, 40))
    assert forward.apply(fine).mean() == pytest.approx(fine.mean(), abs=1e-12)
    inside = (slice(5, -5), slice(5, -5))  # beyond the reach of the borders
    np.testing.assert_allclose(
        forward.mirrored(fine)[inside], forward.apply(fine)[inside], atol=1e-4
    )


@pytest.mark.parametrize("noise_sd", [0.05, 0.10])
def test_noise_is_found_under_structure(noise_sd):
    scene = stem_txm(1, noise_sd=noise_sd, shape=(256, 256), n_stem=1)
    found = estimate_noise(scene.slices[0].values, cutoff=cutoff_of(60 / FWHM_PER_SD / 30), seed=0)
    # 60 windows of 24 x 24 pixels: the sd is good to a few percent, structure adds a little
    assert found.sd == pytest.approx(noise_sd, rel=0.10)
    assert found.neighbour_correlation == pytest.approx(0.30, abs=0.08)


def test_white_noise_is_found_white(rng):
    image = (0.2 * rng.standard_normal((200, 200))).astype(np.float32)
    found = estimate_noise(image, seed=1)
    assert found.sd == pytest.approx(0.2, rel=0.05)
    assert abs(found.neighbour_correlation) < 0.05
    with pytest.raises(DataError, match="windows"):
        estimate_noise(image[:30, :30], seed=1)
    with pytest.raises(DataError, match="no noise"):
        estimate_noise(np.zeros((200, 200), np.float32), seed=1)


def test_noise_spectrum_covariance_and_samples_agree(rng):
    image = correlated_noise(rng, (256, 256)).astype(np.float32)
    found = estimate_noise(image, cutoff=0.1, seed=1)
    power = found.power((128, 128))
    assert power.mean() == pytest.approx(found.sd**2)
    covariance = found.covariance(5)
    np.testing.assert_allclose(np.diag(covariance), found.sd**2, rtol=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > 0
    sample = np.stack([found.sample(rng, (64, 64)) for _ in range(20)])
    lag = np.mean(sample[:, :, 1:] * sample[:, :, :-1])
    # 80 000 pixels: standard error of the lag-one covariance about 0.006
    assert lag == pytest.approx(covariance[0, 1], abs=0.03)


def test_blur_between_the_instruments_is_read_from_the_spectra():
    scene = stem_txm(2, shape=(256, 256), n_stem=1)
    noise = estimate_noise(scene.slices[0].values, cutoff=0.27, seed=0)
    slice_, stem = scene.slices[0].values, scene.stem[0].values
    found = spectral_blur(slice_, 30.0, stem, 15.0, noise).fwhm_nm
    # other sections, so spectra that are alike only on average: within 10 %
    assert found == pytest.approx(blur_between(60.0, 15.0), rel=0.10)
    with pytest.raises(DataError, match="psf-fwhm"):
        _ = spectral_blur(stem, 15.0, slice_, 30.0, white(1e-6)).fwhm_nm
    given = blur_between(60.0, 15.0)
    right = spectral_blur(slice_, 30.0, stem, 15.0, noise)
    right.refuse_blurred_training()
    assert right.doubt(given) == ""
    # the pixel size of the slice given twice and half as large: at the result's pixels the training
    # image then has other frequencies than the slice
    for factor in (2.0, 0.5):
        wrong = spectral_blur(slice_, 30.0 * factor, stem, 15.0, noise)
        assert "the spectra disagree" in wrong.doubt(given)
    soft = gaussian(stem, (100 / 2.3548 / 15, 100 / 2.3548 / 15))
    with pytest.raises(DataError, match="more blurred than the slices"):
        spectral_blur(slice_, 30.0, soft, 15.0, noise).refuse_blurred_training()


def test_a_doubt_needs_more_than_the_error_of_the_spectra():
    """No line beyond doubt: an interval that holds the blur given is no contradiction."""
    assert SpectralBlur(90.0**2, 3000.0, 1e-4).doubt(58.0) == ""  # 90 nm, at least 46
    assert SpectralBlur(90.0**2, 300.0, 1e-4).doubt(58.0) != ""  # at least 87
    assert SpectralBlur(0.0, 10.0, 1e-6).doubt(58.0) == ""  # nothing seen where it would show
    SpectralBlur(-(60.0**2), 1800.0, 1e-4).refuse_blurred_training()  # or not at all
    SpectralBlur(-(150.0**2), 1800.0, 5e-6).refuse_blurred_training()  # too few frequencies
    with pytest.raises(DataError, match="more blurred"):
        SpectralBlur(-(90.0**2), 300.0, 4e-5).refuse_blurred_training()


def test_resampling_keeps_place_and_suppresses_what_cannot_be_shown(rng):
    y, x = np.mgrid[:96, :96]
    wave = np.sin(2 * np.pi * (x + 0.5) / 32).astype(np.float32)
    half = resample(wave, (10.0, 10.0), (20.0, 20.0))
    assert half.shape == (48, 48)
    expected = np.sin(2 * np.pi * (np.arange(48) + 0.5) / 16)
    # the kernel weakens a wave of 16 pixels by a few percent
    np.testing.assert_allclose(half[10, 4:-4], expected[4:-4], atol=0.06)
    fine = ((-1.0) ** (x + y)).astype(np.float32)
    assert np.abs(resample(fine, (10.0, 10.0), (20.0, 20.0))[4:-4, 4:-4]).max() < 0.02
    same = resample(wave, (10.0, 10.0), (10.0, 10.0))
    np.testing.assert_array_equal(same, wave)


def test_sizes_and_ranges_that_cannot_be():
    with pytest.raises(UsageError, match="sharper"):
        blur_between(15.0, 60.0)
    with pytest.raises(DataError, match="constant"):
        grey_range(np.full((9, 9), 3.0))
    with pytest.raises(DataError, match="no usable pixel"):
        grey_range(np.full((9, 9), np.nan))


def test_filling_continues_smoothly_and_leaves_good_pixels(rng):
    y, _ = np.mgrid[:40, :40]
    image = y.astype(float)
    mask = np.ones((40, 40), bool)
    mask[15:22, 15:22] = False
    filled = fill(np.where(mask, image, np.nan), mask)
    np.testing.assert_array_equal(filled[mask], image[mask])
    # a ramp is continued to within two rows of its own slope
    assert np.abs(filled - image).max() < 2.5


def test_psnr_and_ssim_equal_scikit_image(rng):
    truth = gaussian(rng.random((64, 48)), (1.0, 1.0))
    image = truth + 0.05 * rng.standard_normal(truth.shape)
    assert res.psnr(image, truth, 1.0) == pytest.approx(
        peak_signal_noise_ratio(truth, image, data_range=1.0)
    )
    theirs = structural_similarity(
        truth, image, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert res.ssim(image, truth, 1.0) == pytest.approx(theirs, abs=1e-6)
    assert res.ssim(truth, truth, 1.0) == pytest.approx(1.0)


def test_ring_correlation_finds_a_planted_cutoff(rng):
    shape = (256, 256)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    common = np.fft.fft2(rng.standard_normal(shape)) * (frequency < 0.2)
    one, other = (
        np.fft.ifft2(common + np.fft.fft2(0.1 * rng.standard_normal(shape))).real for _ in range(2)
    )
    found = res.resolution(*res.ring_correlation(one, other), 10.0, 0.5)
    assert found == pytest.approx(10.0 / 0.2, rel=0.05)  # rings are 0.8 % of Nyquist wide


@pytest.mark.parametrize("sd", [2.0, 3.0])
def test_edge_width_of_blurred_discs(sd):
    y, x = np.mgrid[:200, :200]
    image = np.zeros((200, 200))
    for cy, cx in ((60, 60), (60, 140), (140, 60), (140, 140)):
        image += np.hypot(y - cy, x - cx) < 26
    found = res.edge_width(gaussian(image, (sd, sd)), 10.0)
    # 10 to 90 % of a Gaussian edge is 2.563 sd; curvature and half-pixel sampling cost 6 %
    assert found == pytest.approx(25.63 * sd, rel=0.06)
    assert np.isnan(res.edge_width(np.zeros((30, 30)), 10.0))


@pytest.mark.parametrize("gain", [0.6, 1.0, 1.6])
def test_training_images_get_the_slices_contrast_however_much_of_them_is_void(rng, gain):
    """Void in half of the training image, none in the slice: gain and offset are found all the
    same, where the ends of the grey range would be off by the void's share."""
    one, other = (gaussian(rng.standard_normal((160, 400)), (2.0, 2.0)) for _ in range(2))
    train = (0.7 + 0.1 * one / one.std()).astype(np.float32)
    train[:, :150] = 0.0
    noise = white(0.03)
    slice_ = 0.4 + gain * 0.1 * other[:, :160] / other.std() + noise.sample(rng, (160, 160))
    good = np.ones((160, 160), bool)
    (found,) = matched_contrast(slice_, good, [train], Forward(0.0), noise)
    # the most structured tenth is some 2000 pixels, alike over 6: 60 patches, twice; and 5 % of
    # what is not void is the step to the void
    assert np.std(found[:, 200:]) == pytest.approx(gain * 0.1, rel=0.25)
    # the step, from 0 to .7, draws the mean grey of what is structured down by a seventh of it
    assert np.mean(found[:, 200:]) == pytest.approx(0.4, abs=0.17)
    flat = noise.sample(rng, (160, 160))
    assert matched_contrast(flat, good, [train], Forward(0.0), noise)[0] is train
