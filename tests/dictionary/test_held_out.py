"""Held-out noise ranks results as the truth would, and chooses passes by it."""

import dataclasses

import numpy as np
import pytest

from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import correlated_noise
from jaxmicro.dictionary import held_out
from jaxmicro.dictionary.enhance import Dictionary
from jaxmicro.dictionary.noise import estimate_noise, white
from jaxmicro.dictionary.stage import Stage

SIDE = 128


def shrinking(factor: float, *further: float) -> Dictionary:
    """Passes that keep each patch's mean and multiply the rest: results of a known error."""
    m = 16
    stages = tuple(
        Stage(
            np.eye(m, dtype=np.float32), np.eye(m, dtype=np.float32),
            # features: codes above and below zero, the patch, 1
            np.concatenate([np.zeros((2 * m, m)), f * np.eye(m), np.zeros((1, m))])[None].astype(
                np.float32
            ),
            np.zeros(1, np.float32), 4, 1, 1e-3, 0.0,
        )
        for f in (factor, *further)
    )  # fmt: skip
    return Dictionary(
        stages, "coupled", 30.0, 0.0, white(0.2), 0.28, (), np.zeros((0, 3)), np.ones(m) / m
    )


@pytest.fixture(scope="module")
def slice_():
    """Waves of 6 pixels, grey 0 to 1, with noise of .2."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    truth = 0.5 + 0.25 * np.sin(2 * np.pi * x / 6) + 0.25 * np.sin(2 * np.pi * y / 6)
    noise = 0.2 * rng.standard_normal((SIDE, SIDE))
    return Image((truth + noise).astype(np.float32), (30.0, 30.0), "waves"), truth


def test_the_two_parts_have_independent_noise_of_the_sizes_that_are_said(rng):
    """With the slice constant, all that is left is noise: of (1 + a^2) and (1 + 1/a^2)."""
    values = correlated_noise(rng, (SIDE, SIDE))
    noise = estimate_noise(values.astype(np.float32), seed=0)
    image = Image(values.astype(np.float32), (30.0, 30.0), "noise")
    parts = held_out.split(image, np.ones(values.shape, bool), noise, seed=1)
    a = held_out.SPLIT
    # 16 000 pixels, of which neighbours are correlated, and a noise estimate good to 5 %
    assert parts.seen.values.var() == pytest.approx(1 + a**2, rel=0.1)
    assert parts.unseen.var() == pytest.approx(1 + a**-2, rel=0.1)
    assert abs(np.corrcoef(parts.seen.values.ravel(), parts.unseen.ravel())[0, 1]) < 0.05


def test_errors_are_those_to_the_truth_up_to_noise(slice_):
    """Each factor's mean error is what the truth says, and their order is the truth's."""
    image, truth = slice_
    parts = held_out.split(image, np.ones(truth.shape, bool), white(0.2), seed=3)
    found, known = [], []
    inside = np.s_[held_out.BORDER : -held_out.BORDER]
    for factor in (0.0, 0.5, 1.0):
        errors = parts.errors(shrinking(factor), seed=0)
        assert errors.shape == (((SIDE - 2 * held_out.BORDER) // held_out.BLOCK) ** 2,)
        found.append(errors.mean())
        result = held_out.enhance(parts.seen, shrinking(factor), stride=2, seed=0).values
        known.append(np.mean((result - truth)[inside, inside] ** 2) / 0.2**2)
    # the error of the held-out part is that of 14 000 pixels of variance 3: .025, and shared
    np.testing.assert_allclose(found, known, atol=0.1)
    assert np.argsort(found).tolist() == np.argsort(known).tolist()


def test_fewest_passes_within_one_standard_error():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(49)
    one = shared + 1.0
    clearly = shared + 0.5 + 0.1 * rng.standard_normal(49)  # better by .5, known to .015
    hardly = clearly - 0.001 + 0.1 * rng.standard_normal(49)
    assert held_out.fewest([one, clearly, hardly]) == 1
    assert held_out.fewest([one]) == 0
    gain, error = held_out.better_by(clearly, one)
    assert gain == pytest.approx(0.5, abs=0.05)
    assert error == pytest.approx(0.1 / 7, rel=0.3)
    assert held_out.better_by(one[:1], one[:1]) == (0.0, np.inf)  # one block says nothing


def test_a_pass_that_does_harm_is_not_made(slice_):
    image, truth = slice_
    parts = held_out.split(image, np.ones(truth.shape, bool), white(0.2), seed=3)
    # a second pass that removes all waves; then one that changes nothing
    harm, errors = held_out.settled_passes(shrinking(0.7, 0.0), parts, seed=0)
    assert len(harm.stages) == 1
    assert errors[1].mean() > errors[0].mean()
    assert len(held_out.settled_passes(shrinking(0.7, 1.0), parts, seed=0)[0].stages) == 1


def test_unusable_pixels_take_no_part(slice_):
    image, _ = slice_
    mask = np.ones((SIDE, SIDE), bool)
    mask[:, :60] = False
    parts = held_out.split(image, mask, white(0.2), seed=3)
    spoilt = dataclasses.replace(parts, unseen=np.where(mask, parts.unseen, 1e6))
    whole = parts.errors(shrinking(0.5), seed=0)
    np.testing.assert_array_equal(spoilt.errors(shrinking(0.5), seed=0), whole)
    assert 0 < whole.size < 49
