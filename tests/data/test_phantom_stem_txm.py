"""The STEM/TXM phantom: repeats, carries its truth, and its noise and blur are what it says."""

import numpy as np
import pytest

from jaxmicro.data.phantom_particles import particles
from jaxmicro.data.phantom_stem_txm import FWHM_PER_SD, correlated_noise, stem_txm
from jaxmicro.errors import UsageError


@pytest.fixture(scope="module")
def scene():
    return stem_txm(4, shape=(96, 96), n_stem=1, n_slices=2)


def test_equal_seeds_give_equal_scenes_and_sections_differ(scene):
    again = stem_txm(4, shape=(96, 96), n_stem=1, n_slices=2)
    np.testing.assert_array_equal(scene.slices[1].values, again.slices[1].values)
    other = stem_txm(5, shape=(96, 96), n_stem=1, n_slices=2)
    assert not np.array_equal(scene.truth[0].values, other.truth[0].values)
    a, b = scene.truth[0].values.ravel(), scene.truth[1].values.ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.7  # layout differs, only the material is shared


def test_calibration_and_grey_range(scene):
    assert scene.stem[0].pixel_size_nm == (15.0, 15.0)
    assert scene.slices[0].pixel_size_nm == (30.0, 30.0)
    assert scene.truth[0].values.shape == (192, 192)
    assert scene.truth[0].values.min() >= 0
    assert scene.truth[0].values.max() <= 1


def test_slice_is_the_blurred_truth_plus_the_recorded_noise(scene):
    clean = scene.slices[0].values - scene.noise[0]
    sd = np.sqrt(60.0**2 - 15.0**2) / FWHM_PER_SD / 15.0
    wide = np.pad(scene.truth[0].values, 20, mode="reflect")
    frequency = np.fft.fftfreq(232)
    line = np.exp(-2 * (np.pi * sd * frequency) ** 2)
    blurred = np.fft.ifft2(np.fft.fft2(wide) * line[:, None] * line[None, :]).real[20:-20, 20:-20]
    expected = blurred.reshape(96, 2, 96, 2).mean(axis=(1, 3))
    # padding of another width changes the outermost pixels by less than this
    np.testing.assert_allclose(clean, expected, atol=2e-5)
    assert np.std(scene.noise[0]) == pytest.approx(0.05, rel=1e-3)


def test_noise_is_correlated_between_neighbours(rng):
    noise = correlated_noise(rng, (256, 256))
    near = np.mean(noise[1:] * noise[:-1])
    # a sample of 65 000 pixels puts the correlation within 0.01 of its 0.30
    assert 0.25 < near < 0.35


def test_bad_scenes_are_refused():
    with pytest.raises(UsageError, match="32 rows"):
        stem_txm(0, shape=(16, 64))
    with pytest.raises(UsageError, match="blur"):
        stem_txm(0, psf_fwhm_nm=10.0)


@pytest.fixture(scope="module")
def volume():
    return particles(4, size=48, n_stem=1, n_slices=4, stem_size=64)


def test_slices_of_a_volume_are_one_structure_and_their_noise_is_not(volume):
    again = particles(4, size=48, n_stem=1, n_slices=4, stem_size=64)
    np.testing.assert_array_equal(volume.slices[2].values, again.slices[2].values)
    assert volume.spacing_nm == 30.0
    truth = [t.values.ravel() for t in volume.truth]
    near, far = (np.corrcoef(truth[0], truth[z])[0, 1] for z in (1, 3))
    # at 30 nm most of a needle of 150 nm goes on, of carbon black of 25 to 60 nm some, at 90 little
    assert near > 0.4
    assert near > far + 0.1
    noise = [n.ravel() for n in volume.noise]
    # 2304 pixels, whose neighbours correlate by .3: a standard error of about .03
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.1
    assert np.std(noise[0]) == pytest.approx(0.05, rel=1e-3)


def test_a_volume_is_calibrated_blurred_along_the_depth_and_in_range(volume):
    assert volume.truth[0].values.shape == (96, 96)
    assert volume.slices[0].pixel_size_nm == (30.0, 30.0)
    assert volume.stem[0].pixel_size_nm == (15.0, 15.0)
    assert all(t.values.min() >= 0 and t.values.max() <= 1 for t in volume.truth)
    clean = [s.values - n for s, n in zip(volume.slices, volume.noise, strict=True)]
    # neighbours of a slice show in it: slices are more alike than the truth is
    same = [np.corrcoef(c[0].ravel(), c[1].ravel())[0, 1] for c in (clean, _coarse(volume.truth))]
    assert same[0] > same[1]


def _coarse(truth):
    """The truth on the slices' pixels, as blurred within a slice and not along the depth."""
    from scipy.ndimage import gaussian_filter

    sd = np.sqrt(60.0**2 - 15.0**2) / FWHM_PER_SD / 15.0
    return [gaussian_filter(t.values, sd)[::2, ::2] for t in truth]


def test_bad_volumes_are_refused():
    with pytest.raises(UsageError, match="32 pixels"):
        particles(0, size=16)
    with pytest.raises(UsageError, match="blur"):
        particles(0, psf_fwhm_nm=10.0)
