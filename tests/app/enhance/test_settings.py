"""What the default command finds by itself: grid, passes, and whether the training images fit."""

import numpy as np
import pytest

from jaxmicro.app.enhance.choose import default_variant
from jaxmicro.app.enhance.training import EnhancePlan, learn, settled
from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import stem_txm
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.forward import Instruments

RECIPE = Recipe(patch_size=6, n_atoms=32, n_patches=1500, refine=6, refinements=1)
INSTRUMENTS = Instruments(60.0, 15.0)


def image(pixel_nm):
    return Image(np.zeros((4, 4), np.float32), (pixel_nm, pixel_nm), "image")


@pytest.mark.parametrize(
    ("train_nm", "slice_nm", "psf_nm", "upscale"),
    [
        (15.0, 30.0, 60.0, 2),
        (5.0, 30.0, 60.0, 2),  # 15 nm is a quarter of the blur: finer pixels hold nothing more
        (5.0, 30.0, None, 4),  # nothing is known of the blur: at most four
        (30.0, 30.0, 60.0, 1),
        (40.0, 30.0, 60.0, 1),  # never coarser than the slice
    ],
)
def test_the_grid_follows_pixel_sizes_and_resolution(train_nm, slice_nm, psf_nm, upscale):
    variant = default_variant((image(60.0), image(train_nm)), image(slice_nm), psf_nm)
    assert variant.dictionary.upscale == upscale
    assert variant.recipe().passes == 3
    assert variant.with_options(upscale=1).dictionary.upscale == 1
    assert variant.with_passes(1).recipe().passes == 1
    assert variant.with_passes(2).recipe().passes == 2


def test_training_images_of_the_material_stay_and_others_are_noticed():
    scene = stem_txm(6, shape=(128, 128), n_stem=1)
    first = scene.slices[0]
    plan = EnhancePlan(train=scene.stem, recipe=RECIPE, instruments=INSTRUMENTS)
    kept = settled(learn(plan.train, first, RECIPE, plan), first, plan)
    assert not kept.of_slice
    assert f"{len(kept.dictionary.stages)} of 2 passes" in kept.notes[-1]
    # stripes of 60 nm know nothing of cracks and grains
    rows, cols = np.mgrid[:256, :256]
    stripes = Image((np.sin(np.pi * cols / 2) + 0.0 * rows).astype(np.float32), (15.0, 15.0), "s")
    once = RECIPE.with_passes(1)
    other = EnhancePlan(train=(stripes,), recipe=once, instruments=INSTRUMENTS)
    found = settled(learn(other.train, first, once, other), first, other)
    assert found.of_slice
    assert "do not fit this slice" in found.notes[-1]
    assert len(found.dictionary.stages) == 1
