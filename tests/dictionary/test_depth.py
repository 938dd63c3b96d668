"""Averaging over neighbouring slices: identities, noise, and the weight that the spectra give."""

import numpy as np
import pytest

from jaxmicro.app.enhance.images import depth_weight, example_of
from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume
from jaxmicro.dictionary.depth import averaged, best_weight
from jaxmicro.dictionary.forward import gaussian
from jaxmicro.dictionary.noise import white
from jaxmicro.errors import UsageError


def images(stack):
    return [Image(s.astype(np.float32), (30.0, 30.0), f"slice {z}") for z, s in enumerate(stack)]


def test_weight_0_leaves_the_slices_as_they_are(rng):
    slices = images(rng.standard_normal((3, 8, 9)))
    assert all(a is b for a, b in zip(averaged(slices, 0.0), slices, strict=True))


def test_each_slice_is_the_weighted_mean_with_its_neighbours(rng):
    stack = rng.standard_normal((4, 8, 9)).astype(np.float32)
    stack[1, 2, 3] = np.nan
    found = [s.values for s in averaged(images(stack), 0.5)]
    assert [s.name for s in averaged(images(stack), 0.5)] == [f"slice {z}" for z in range(4)]
    inner = (stack[2] + 0.5 * stack[1] + 0.5 * stack[3]) / 2
    inner[2, 3] = (stack[2] + 0.5 * stack[3])[2, 3] / 1.5  # what is not finite does not count
    np.testing.assert_allclose(found[2], inner, rtol=1e-6)
    np.testing.assert_allclose(found[3], (stack[3] + 0.5 * stack[2]) / 1.5, rtol=1e-6)
    assert np.isnan(found[1]).sum() == 1  # and stays so in its own slice
    (alone,) = averaged(images(stack[:1]), 0.5)
    np.testing.assert_array_equal(alone.values, stack[0])


def structure(rng, n_slices):
    """Smooth fields of sd 1, one a slice."""
    fields = [gaussian(rng.standard_normal((96, 96)), (3.0, 3.0)) for _ in range(n_slices)]
    return np.stack([f / f.std() for f in fields])


def test_neighbours_count_where_structure_goes_on_and_not_where_it_does_not(rng):
    noise = rng.standard_normal((5, 96, 96))
    same = np.repeat(structure(rng, 1), 5, axis=0)
    weight, errors = best_weight(list(same + noise), white(1.0))
    assert weight == 0.5
    assert errors[2] < 0.8 * errors[0]
    weight, errors = best_weight(list(structure(rng, 5) + noise), white(1.0))
    assert weight == 0.0
    assert errors[0] < errors[1] < errors[2]


def test_the_option_is_a_number_or_found_on_the_volume(rng):
    stack = np.repeat(structure(rng, 1), 4, axis=0) + 0.5 * rng.standard_normal((4, 96, 96))
    volume = Volume(stack.astype(np.float32), (30.0, 30.0))
    assert depth_weight("0.3", volume, True) == (0.3, "")
    assert depth_weight(None, volume, False) == (0.0, "")
    weight, note = depth_weight(None, volume, True)
    assert weight == 0.5
    assert "which count with 0.5" in note
    assert depth_weight("auto", volume.narrow((0, 2)), True) == (0.0, "")  # too few to tell
    for text in ("much", "-0.1", "1.5", "nan"):
        with pytest.raises(UsageError, match="give auto or a number from 0 to 1"):
            depth_weight(text, volume, True)
    # learned for the second slice, which has two neighbours as most slices do
    np.testing.assert_allclose(
        example_of(volume, 0.5).values, (stack[1] + 0.5 * (stack[0] + stack[2])) / 2, atol=1e-6
    )
    np.testing.assert_array_equal(example_of(volume).values, stack[0].astype(np.float32))
