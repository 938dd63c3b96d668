"""The whole of an enhancement on a small phantom: gain, masks, files, evidence, refusals."""

import dataclasses

import numpy as np
import pytest

from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import stem_txm
from jaxmicro.dictionary import enhance as en
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.dictionary_file import load_dictionary, save_dictionary
from jaxmicro.dictionary.evidence import (
    agreement,
    half_data,
    residual_statistics,
    scrambled,
)
from jaxmicro.dictionary.forward import Instruments, gaussian
from jaxmicro.dictionary.noise import white
from jaxmicro.dictionary.resolution import psnr
from jaxmicro.errors import DataError, UsageError

BLUR = Instruments(psf_fwhm_nm=60.0, train_fwhm_nm=15.0)
RECIPE = Recipe(upscale=1, patch_size=6, n_atoms=32, n_patches=3000)


@pytest.fixture(scope="module")
def scene():
    return stem_txm(6, shape=(96, 96), n_stem=1, n_slices=2)


@pytest.fixture(scope="module")
def coupled(scene):
    return en.build_dictionary(list(scene.stem), scene.slices[0], RECIPE, instruments=BLUR, seed=0)[
        0
    ]


@pytest.fixture(scope="module")
def paper(scene):
    recipe = dataclasses.replace(RECIPE, variant="paper")
    return en.build_dictionary(list(scene.stem), scene.slices[0], recipe, seed=0)[0]


def truth_of(scene, number=0):
    """The truth on the slice's grid."""
    return scene.truth[number].values.reshape(96, 2, 96, 2).mean(axis=(1, 3))


def test_both_variants_gain_on_a_slice_they_did_not_see(scene, coupled, paper):
    truth = truth_of(scene, 1)
    raw = psnr(scene.slices[1].values, truth, 1.0)
    got = psnr(en.enhance(scene.slices[1], coupled, seed=0).values, truth, 1.0)
    literal = psnr(en.enhance(scene.slices[1], paper, seed=0).values, truth, 1.0)
    assert got > raw + 0.3
    # the paper's recipe leaves the blur and shrinks what is left
    assert got > literal + 0.3


@pytest.mark.slow
def test_upscaled_and_refined_result_has_the_finer_grid_and_gains(scene):
    recipe = dataclasses.replace(RECIPE, upscale=2, refine=8)
    dictionary, _, notes = en.build_dictionary(
        list(scene.stem), scene.slices[0], recipe, instruments=BLUR, seed=0
    )
    assert notes == ()
    got = en.enhance(scene.slices[0], dictionary, seed=0)
    truth = scene.truth[0].values
    assert got.values.shape == truth.shape
    assert dictionary.result_pixel_nm == 15.0
    cubic = np.kron(scene.slices[0].values, np.ones((2, 2)))
    assert psnr(got.values, truth, 1.0) > psnr(cubic, truth, 1.0) + 0.5
    first = dataclasses.replace(dictionary, stages=dictionary.stages[:1])
    once = en.enhance(scene.slices[0], first, seed=0).values
    assert psnr(got.values, truth, 1.0) > psnr(once, truth, 1.0)


def test_masked_pixels_have_no_influence_and_stay_empty(scene, coupled):
    image = scene.slices[0]
    mask = np.ones((96, 96), bool)
    mask[30:50, 40:70] = False
    spoiled = image.values.copy()
    spoiled[~mask] = 1e6
    one = en.enhance(image, coupled, mask=mask, seed=0)
    other = en.enhance(dataclasses.replace(image, values=spoiled), coupled, mask=mask, seed=0)
    holes = np.where(mask, image.values, np.nan)
    third = en.enhance(dataclasses.replace(image, values=holes), coupled, seed=0)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.values, third.values)
    assert np.isnan(one.values[~mask]).all()
    assert np.isfinite(one.values[mask]).all()
    # far from the hole the result is that of the whole slice
    whole = en.enhance(image, coupled, seed=0)
    np.testing.assert_allclose(one.values[70:], whole.values[70:], atol=0.05)


def test_training_pixels_that_are_not_finite_have_no_influence(scene):
    stem = scene.stem[0]
    mask = np.ones(stem.values.shape, bool)
    mask[50:90, 60:120] = False
    results = []
    for value in (np.nan, np.inf):
        spoiled = dataclasses.replace(stem, values=np.where(mask, stem.values, np.float32(value)))
        found = en.build_dictionary([spoiled], scene.slices[0], RECIPE, instruments=BLUR, seed=0)[0]
        results.append(found.stages[0])
    np.testing.assert_array_equal(results[0].coding, results[1].coding)
    np.testing.assert_array_equal(results[0].rebuilding, results[1].rebuilding)


def test_circular_field_is_recognised():
    y, x = np.mgrid[:60, :60]
    disc = np.hypot(y - 29.5, x - 29.5) < 28
    values = np.where(disc, 1.0 + 0.1 * np.sin(x + 2.0 * y), 0.0)
    np.testing.assert_array_equal(~en.constant_rim(values), disc)
    assert not en.constant_rim(1.0 + np.sin(x + y * 1.0)).any()


def test_grey_units_do_not_matter_and_inversion_is_undone(scene, coupled):
    image = scene.slices[0]
    counts = dataclasses.replace(image, values=(5000 + 200 * image.values).astype(np.float32))
    one, other = (en.enhance(i, coupled, seed=0) for i in (image, counts))
    # float32 greys of 5000 carry 2e-6 of rounding; thresholds of the codes pass it on
    np.testing.assert_allclose((other.values - 5000) / 200, one.values, atol=5e-3)
    negative = [dataclasses.replace(s, values=1 - s.values) for s in scene.stem]
    back = en.build_dictionary(
        negative, image, RECIPE, instruments=dataclasses.replace(BLUR, invert=True), seed=0
    )[0]
    assert psnr(en.enhance(image, back, seed=0).values, one.values, 1.0) > 30


def test_dictionary_survives_its_file_and_bad_files_are_refused(scene, coupled, tmp_path):
    path = tmp_path / "dictionary.npz"
    save_dictionary(path, coupled)
    back = load_dictionary(path)
    one, other = (en.enhance(scene.slices[0], d, seed=0).values for d in (coupled, back))
    np.testing.assert_array_equal(one, other)
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(DataError, match=r"junk\.npz"):
        load_dictionary(tmp_path / "junk.npz")
    arrays = dict(np.load(path))
    arrays["stage0_size"] = np.array(9)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(DataError, match="do not fit"):
        load_dictionary(tmp_path / "other.npz")
    del arrays["stage0_coding"]
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(DataError, match="incomplete"):
        load_dictionary(tmp_path / "less.npz")


def test_evidence_residual_halves_and_control(scene, coupled):
    image = scene.slices[0]
    got = en.enhance(image, coupled, seed=0)
    held = residual_statistics(got.residual, got.noise)
    # some noise is fitted, some structure missed: the residual stays near the noise
    assert 0.5 < held.sd_over_noise < 1.3
    assert held.neighbour_correlation < 0.7
    before, after = half_data(image, np.ones((96, 96), bool), coupled, got.noise, seed=1)
    assert 60 < after <= before * 1.1
    lost = scrambled(scene.stem[0], seed=2)
    spectrum = [np.abs(np.fft.rfft2(i.values - i.values.mean())) for i in (lost, scene.stem[0])]
    assert np.corrcoef(spectrum[0].ravel(), spectrum[1].ravel())[0, 1] > 0.99
    control = en.build_dictionary([lost], image, RECIPE, instruments=BLUR, seed=0)[0]
    correlation, difference = agreement(got, en.enhance(image, control, seed=0))
    assert 0.9 < correlation < 1
    assert difference > 0.05


def test_residual_statistics_of_pure_noise_and_of_structure(rng):
    noise = white(0.2)
    clean = residual_statistics(0.2 * rng.standard_normal((100, 100)), noise)
    assert clean.sd_over_noise == pytest.approx(1.0, abs=0.03)
    assert abs(clean.neighbour_correlation) < 0.03  # 20 000 pairs: standard error 0.007
    assert clean.share_above_3 == pytest.approx(0.0027, abs=0.002)
    left = residual_statistics(gaussian(rng.standard_normal((100, 100)), (2.0, 2.0)), noise)
    assert left.neighbour_correlation > 0.8


def test_bad_input_is_refused_by_name(scene, coupled):
    image, train = scene.slices[0], list(scene.stem)
    bare = dataclasses.replace(image, pixel_size_nm=None)
    with pytest.raises(UsageError, match="--apply-pixel-size"):
        en.enhance(bare, coupled, seed=0)
    with pytest.raises(UsageError, match="--train-pixel-size"):
        en.build_dictionary(
            [dataclasses.replace(train[0], pixel_size_nm=None)],
            image,
            RECIPE,
            instruments=BLUR,
            seed=0,
        )
    with pytest.raises(UsageError, match="not square"):
        en.enhance(dataclasses.replace(image, pixel_size_nm=(30.0, 20.0)), coupled, seed=0)
    with pytest.raises(UsageError, match="the dictionary is for 30 nm"):
        en.enhance(dataclasses.replace(image, pixel_size_nm=(20.0, 20.0)), coupled, seed=0)
    with pytest.raises(UsageError, match="--psf-fwhm"):
        Instruments(train_fwhm_nm=15.0)
    with pytest.raises(UsageError, match="sharper"):
        en.build_dictionary(train, image, RECIPE, instruments=Instruments(10.0, 15.0), seed=0)
    soft = [dataclasses.replace(t, values=gaussian(t.values, (3.0, 3.0))) for t in train]
    with pytest.raises(DataError, match="more blurred than the slices"):
        en.build_dictionary(soft, image, RECIPE, instruments=BLUR, seed=0)
    with pytest.raises(DataError, match="constant"):
        en.enhance(dataclasses.replace(image, values=np.full((96, 96), 2.0)), coupled, seed=0)
    with pytest.raises(DataError, match="smaller than a patch"):
        en.enhance(Image(image.values[:5], (30.0, 30.0)), coupled, seed=0)
    with pytest.raises(DataError, match="no usable pixel"):
        en.enhance(dataclasses.replace(image, values=np.full((96, 96), np.nan)), coupled, seed=0)
    many = dataclasses.replace(RECIPE, n_atoms=4000, levels=1)
    with pytest.raises(DataError, match="fewer than 4000 atoms"):
        en.build_dictionary(train, image, many, instruments=BLUR, seed=0)
    with pytest.raises(UsageError, match="--penalty -1"):
        dataclasses.replace(RECIPE, penalty=-1.0)
    with pytest.raises(UsageError, match="'best'"):
        dataclasses.replace(RECIPE, variant="best")


def test_penalty_that_zeroes_every_code_is_said_and_not_shown(scene, coupled, paper):
    huge = dataclasses.replace(paper.stages[0], penalty=1e3)
    with pytest.raises(DataError, match="every code is zero"):
        en.enhance(scene.slices[0], dataclasses.replace(paper, stages=(huge,)), seed=0)
    zeroing = dataclasses.replace(RECIPE, penalty=1e6)
    with pytest.raises(DataError, match="zero codes"):
        en.build_dictionary(list(scene.stem), scene.slices[0], zeroing, instruments=BLUR, seed=0)
