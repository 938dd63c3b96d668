"""Every model file for `enhance` loads, learns from a small phantom and gains on a slice."""

import dataclasses
import pathlib

import numpy as np
import pytest

from jaxmicro.app.enhance.spec import EnhanceVariant
from jaxmicro.app.model_file import load_as
from jaxmicro.data.phantom_stem_txm import stem_txm
from jaxmicro.dictionary.enhance import build_dictionary, enhance
from jaxmicro.dictionary.forward import Instruments

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "models"
FILES = [p for p in sorted(FOLDER.glob("*.toml")) if "[dictionary]" in p.read_text("utf-8")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_variant_learns_and_runs_and_writes_itself_back(path, tmp_path):
    variant = load_as(path, EnhanceVariant)
    assert variant.description
    variant = variant.with_options(patch_size=6, atoms=32)
    recipe = variant.recipe()
    (tmp_path / "m.toml").write_text(variant.to_toml(), encoding="utf-8")
    assert load_as(tmp_path / "m.toml", EnhanceVariant).recipe() == recipe
    small = dataclasses.replace(recipe, n_patches=1500, refine=min(recipe.refine, 6))
    scene = stem_txm(6, shape=(96, 96), n_stem=1)
    blur = Instruments(psf_fwhm_nm=60.0, train_fwhm_nm=15.0)
    dictionary, learned, _ = build_dictionary(
        list(scene.stem), scene.slices[0], small, instruments=blur, seed=0
    )
    got = enhance(scene.slices[0], dictionary, stride=2, seed=0)
    assert np.isfinite(got.values).all()
    assert got.code_statistics[0].nonzeros > 0
    assert np.all(np.linalg.norm(learned.atoms, axis=1) <= 1 + 1e-5)
    if recipe.learning.nonnegative:
        codes = dictionary.stages[0].encode(np.random.default_rng(0).random((9, 36), np.float32))
        assert codes.values.min() >= 0
