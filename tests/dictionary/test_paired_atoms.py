"""Paired atoms, which differ with the code's sign and with the grey level of the patch."""

import dataclasses

import numpy as np
import pytest

from jaxmicro.dictionary.coupled import (
    MAX_PAIRED,
    Recipe,
    fit_paired_atoms,
    grey_levels,
    learn_stages,
    normal_equations,
)
from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.noise import white
from jaxmicro.dictionary.patches import remove_mean
from jaxmicro.dictionary.simulate import FIELDS, simulated_images
from jaxmicro.dictionary.stage import Stage, features, level_weights
from jaxmicro.errors import DataError, UsageError

K, M, OUT = 12, 9, 16


@pytest.fixture
def planted(rng):
    """A stage of size 3 with three grey levels and random paired atoms, and patches to code."""
    coding = rng.standard_normal((K, M)).astype(np.float32)
    coding /= np.linalg.norm(coding, axis=1, keepdims=True)
    root = rng.standard_normal((M, M)).astype(np.float32)
    whitener = (np.eye(M) + 0.05 * (root + root.T)).astype(np.float32)
    paired = rng.standard_normal((3, 2 * K + M + 1, OUT)).astype(np.float32)
    levels = np.array([0.1, 0.5, 0.9], np.float32)
    stage = Stage(coding, whitener, paired, levels, 3, 1, 0.3, 0.0)
    patches = rng.standard_normal((3000, M)) + rng.uniform(-0.2, 1.2, (3000, 1))
    return stage, patches.astype(np.float32)


def test_level_weights_interpolate_and_stay_constant_outside():
    levels = np.array([0.0, 1.0, 3.0], np.float32)
    weights = level_weights(np.array([-5.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0], np.float32), levels)
    expected = [[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1],
                [0, 0, 1]]  # fmt: skip
    np.testing.assert_array_equal(weights, expected)


def test_features_keep_the_signs_apart_and_add_up_to_the_codes(planted):
    stage, patches = planted
    centred, _ = remove_mean(patches)
    codes = stage.encode(centred)
    known = features(codes, centred, slice(0, 500))
    above, below = known[:, :K], known[:, K : 2 * K]
    assert above.min() >= 0 >= below.max()
    assert above.max() > 0 > below.min()
    np.testing.assert_array_equal(above + below, codes.dense()[:500])
    np.testing.assert_array_equal(known[:, 2 * K : -1], centred[:500])
    np.testing.assert_array_equal(known[:, -1], 1)


def test_rebuild_is_the_formula_also_past_one_chunk_of_rows(planted, monkeypatch):
    stage, patches = planted
    centred, mean = remove_mean(patches[:300])
    codes = stage.encode(centred)
    got = stage.rebuild(codes, centred, mean)
    weight = level_weights(mean[:, 0], stage.levels)
    known = features(codes, centred, slice(0, 300))
    expected = np.einsum("nq,nf,qfm->nm", *(a.astype(float) for a in (weight, known)),
                         stage.rebuilding.astype(float)) + mean  # fmt: skip
    # float32 sums of 34 products of size up to about 10
    np.testing.assert_allclose(got, expected, atol=1e-4)
    monkeypatch.setattr("jaxmicro.dictionary.stage.ROWS", 64)
    np.testing.assert_allclose(stage.rebuild(codes, centred, mean), got, atol=1e-4)


def test_planted_paired_atoms_are_found_again(planted):
    stage, patches = planted
    centred, mean = remove_mean(patches)
    sharp = stage.rebuild(stage.encode(centred), centred, mean)
    blank = dataclasses.replace(stage, rebuilding=np.zeros((0, OUT), np.float32))
    found = fit_paired_atoms(blank, *normal_equations(blank, patches, sharp), 1e-9)
    # the patch's mean is removed, so of its linear part only what acts on mean-free patches shows
    free = np.eye(M) - 1 / M
    for name, rows, left in (
        ("signs", slice(0, 2 * K), np.eye(2 * K)), ("patch", slice(2 * K, 2 * K + M), free),
        ("constant", slice(-1, None), np.eye(1)),
    ):  # fmt: skip
        for one, other in zip(found.rebuilding, stage.rebuilding, strict=True):
            np.testing.assert_allclose(
                left @ one[rows], left @ other[rows], atol=0.05, err_msg=name
            )
    # and what they make of patches that were not fitted is the same
    fresh, fresh_mean = remove_mean(patches[::-1][:200] + 0.05)
    codes = stage.encode(fresh)
    np.testing.assert_allclose(
        found.rebuild(codes, fresh, fresh_mean), stage.rebuild(codes, fresh, fresh_mean), atol=2e-3
    )


def test_grey_levels_tell_apart_what_one_grey_level_cannot(planted):
    stage, patches = planted
    centred, mean = remove_mean(patches)
    # a line of the same contrast is sharp in bright patches and absent in dark ones
    sharp = np.zeros((1, OUT), np.float32) + mean + (mean > 0.5) * centred[:, :1]
    errors = []
    for levels in (np.array([0.5]), np.array([0.1, 0.5, 0.9])):
        blank = dataclasses.replace(stage, levels=levels.astype(np.float32))
        sums = normal_equations(blank, patches[:2000], sharp[:2000])
        found = fit_paired_atoms(blank, *sums, 1e-6)
        rebuilt = found.rebuild(stage.encode(centred[2000:]), centred[2000:], mean[2000:])
        errors.append(float(np.sqrt(np.mean((rebuilt - sharp[2000:]) ** 2))))
    assert errors[1] < 0.5 * errors[0]


def test_grey_levels_are_quantiles_and_coincide_where_all_is_one_grey(rng):
    means = rng.uniform(0, 1, 20_000)
    # standard error of these quantiles: 0.0035
    np.testing.assert_allclose(grey_levels(means, 3), [0.05, 0.5, 0.95], atol=0.015)
    np.testing.assert_allclose(grey_levels(means, 1), [0.5], atol=0.015)
    assert len(grey_levels(np.full(10, 0.3), 3)) == 1


def test_paired_atoms_without_codes_or_with_too_many_columns_are_refused(planted):
    stage, patches = planted
    empty = dataclasses.replace(stage, penalty=1e6)
    with pytest.raises(DataError, match="zero codes"):
        normal_equations(empty, patches, np.zeros((len(patches), OUT), np.float32))
    with pytest.raises(UsageError, match=f"at most {MAX_PAIRED}"):
        Recipe(n_atoms=4096, levels=3)
    with pytest.raises(UsageError, match="levels 0"):
        Recipe(levels=0)
    Recipe(n_atoms=4096, levels=1)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_further_passes_see_enough_parts_of_few_images(rng, count):
    images = [rng.random((40, 52)).astype(np.float32) for _ in range(count)]
    simulated = simulated_images(images, Forward(1.0, 2), white(0.05), rng)
    assert len(simulated.pairs) == max(FIELDS, 2 * count)
    shapes = {(noisy.shape, sharp.shape) for noisy, sharp in simulated.pairs}
    assert shapes == {((20, 26), (40, 52)), ((26, 20), (52, 40))}


@pytest.mark.parametrize("variant", ["paper", "coupled"])
def test_contrast_scaling_learns_faint_structure(rng, variant):
    """Faint stripes beside a texture 30 times stronger get atoms where the contrast is scaled."""
    y, x = np.mgrid[:96, :96]
    strong = np.sin(2 * np.pi * x / 6.0) + np.sin(2 * np.pi * y / 4.0) + np.sin(0.7 * (x + y))
    faint = 0.05 * np.sin(2 * np.pi * (x - y) / 5.0)
    image = np.where(x < 48, strong, faint) + 1e-3 * rng.standard_normal(x.shape)
    rows = [faint[i : i + 6, j : j + 6].ravel() for i in range(0, 60, 5) for j in range(66, 90, 3)]
    patches = remove_mean(np.asarray(rows, np.float32))[0]
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    match = []
    for scaling in (False, True):
        recipe = Recipe(
            variant, patch_size=6, n_atoms=16, n_patches=4000, levels=1, contrast_scaling=scaling
        )
        atoms = learn_stages([image], recipe, white(0.005), 0.3, seed=0).stages[0].coding
        atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
        match.append(np.abs(patches @ atoms.T).max(axis=1).mean())
    # over three seeds: .16 to .36 without, .90 to 1.00 with
    assert match[0] < 0.5
    assert match[1] > 0.85
