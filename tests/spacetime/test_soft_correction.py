"""The soft correction of a movie: what it gains, what it leaves alone, what it is fitted to."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pixels_at import pixels_at

from jaxmicro.data.phantom import Contrast, operando
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime import soft_correction
from jaxmicro.spacetime.learn import learn_correction
from jaxmicro.spacetime.mixed_part import mixed_part
from jaxmicro.spacetime.soft_correction import SoftSettings, correct_softly
from jaxmicro.spacetime.soft_vote import soft_vote

MODEL = GMRM(4, Trend("x + y + x:y"), ("means", "sds"))
AS_GIVEN = SoftSettings(radius=2.0, threshold=0.4, causal=False, steps=0)


@pytest.fixture(scope="module")
def case():
    """Pixels whose classes overlap (sds half as large again as the default's), and their truth."""
    scene = operando(2, shape=(6, 40, 40), contrast=Contrast(sds=(15.0, 16.0, 18.0, 20.0)))
    pixels = sample(jax.random.key(0), scene.movie, 0.4)
    at = np.arange(6)[:, None], np.asarray(pixels.rows), np.asarray(pixels.cols)
    known = {k: jnp.asarray(v, jnp.float32) for k, v in scene.truth.items()}
    even = jnp.ones((6, 4), jnp.float32)
    means, sds = even * known["means"][None], even * known["sds"][None]
    params = Params(known["weights"], means, sds, known["trend"], even)
    return pixels, scene.labels[at], params, MODEL.responsibilities(params, pixels)


def test_a_fit_to_a_part_of_the_movie_mends_labels_of_all_of_it(case, monkeypatch):
    pixels, truth, params, p = case
    monkeypatch.setattr(soft_correction, "FIT_FRAMES", 4)
    monkeypatch.setattr(soft_correction, "FIT_VOXELS", 4 * 24 * 24)
    out = correct_softly(MODEL, params, p, pixels, SoftSettings(causal=False, steps=20))
    assert out.fitted
    assert out.loss[1] < out.loss[0]
    before = np.mean(np.asarray(p).argmax(axis=1) != truth)
    after = np.mean(np.asarray(out.labels) != truth)
    assert after < 0.8 * before
    changed = np.asarray(out.labels) != np.asarray(p).argmax(axis=1)
    np.testing.assert_array_equal(out.n_changed, changed.sum(axis=1))
    for number in (out.radius, out.threshold, out.time_scale, out.sharpness, out.edge):
        assert isinstance(number, float)
        assert number > 0


def test_without_a_fit_it_is_the_soft_vote(case):
    pixels, _, params, p = case
    out = correct_softly(MODEL, params, p, pixels, AS_GIVEN)
    expected = soft_vote(AS_GIVEN.vote(pixels), p, pixels)
    np.testing.assert_allclose(out.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(out.labels, np.argmax(out.probabilities, axis=1))
    assert (out.radius, out.fitted) == (2.0, False)
    assert np.isnan(out.loss).all()
    both = out.foreground((1, 3))
    np.testing.assert_allclose(both, out.probabilities[:, 1] + out.probabilities[:, 3], atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_frames_give_what_the_whole_movie_gives(case, monkeypatch, causal):
    pixels, _, params, p = case
    settings = dataclasses.replace(AS_GIVEN, causal=causal, time_scale=4.0)
    whole = correct_softly(MODEL, params, p, pixels, settings)
    # a frame and the one it looks at on either side: three frames where only the past counts
    monkeypatch.setattr(soft_correction, "BLOCK_VOXELS", 3 * 40 * 40)
    parts = correct_softly(MODEL, params, p, pixels, settings)
    # blocks are transformed by FFTs of another length: rounding of sums of about 20 pixels
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=2e-4)
    np.testing.assert_array_equal(parts.n_alone, whole.n_alone)


def test_a_frame_that_could_not_be_fitted_neither_votes_nor_changes(case):
    pixels, _, params, p = case
    broken = p.at[2].set(jnp.nan)
    out = correct_softly(MODEL, params, broken, pixels, AS_GIVEN)
    assert np.isnan(np.asarray(out.probabilities[2])).all()
    assert int(out.n_changed[2]) == 0
    absent = eqx.tree_at(lambda q: q.weight, pixels, pixels.weight.at[2].set(0))
    others = np.array([0, 1, 3, 4, 5])
    expected = soft_vote(AS_GIVEN.vote(pixels), p, absent)
    np.testing.assert_allclose(out.probabilities[others], expected[others], atol=1e-6)
    nothing = correct_softly(MODEL, params, jnp.full_like(p, jnp.nan), pixels)
    assert not nothing.fitted
    assert int(nothing.n_changed.sum()) == 0


def test_a_frame_without_parameters_does_not_spoil_the_fit(case):
    pixels, _, params, p = case
    settings = dataclasses.replace(AS_GIVEN, steps=2)
    lost = jax.tree.map(lambda a: a.at[2].set(jnp.nan), params)
    out = correct_softly(MODEL, lost, p.at[2].set(jnp.nan), pixels, settings)
    assert np.isfinite(out.loss).all()


def test_a_lone_pixel_keeps_its_probabilities_and_is_counted():
    p = jnp.array([[[0.9, 0.2, 0.3], [0.1, 0.8, 0.7]]])
    rows, cols = jnp.array([[0, 0, 9]]), jnp.array([[0, 1, 9]])
    pixels = pixels_at(jnp.array([[10.0, 20.0, 20.0]]), rows, cols, jnp.ones((1, 3)), (10, 10))
    params = Params(*jnp.array([[[0.5, 0.5]], [[10.0, 20.0]], [[3.0, 3.0]]]),
                    jnp.zeros((1, 0)), jnp.ones((1, 2)))  # fmt: skip
    out = correct_softly(GMRM(2), params, p, pixels, AS_GIVEN)
    assert out.n_alone.tolist() == [1]
    np.testing.assert_allclose(out.probabilities[0, :, 2], p[0, :, 2], atol=1e-12)


def test_the_part_is_the_box_and_the_frames_with_mixed_classes():
    """One class in a frame of 12 x 12, but for a checkerboard in the lower right of frames 3, 4."""
    rows, cols = (np.broadcast_to(a.reshape(1, -1), (6, 144)) for a in np.indices((12, 12)))
    corner = (rows >= 8) & (cols >= 8) & np.isin(np.arange(6), (3, 4))[:, None]
    second = (corner & ((rows + cols) % 2 == 0)).astype(float)
    p = jnp.asarray(np.stack([1 - second, second], axis=1))
    pixels = pixels_at(rows + 0.0, rows, cols, np.ones(rows.shape), (12, 12))
    frames, share, part = mixed_part(p, pixels, 2, 2 * 16)
    assert (frames.start, frames.stop) == (3, 5)
    assert part.values.shape == (2, 16)
    assert np.asarray(part.weight).all()
    assert np.asarray(part.rows).min() == np.asarray(part.cols).min() == 8
    np.testing.assert_array_equal(part.values, part.rows)
    np.testing.assert_array_equal(share[:, 1], (part.rows + part.cols) % 2 == 0)


def test_where_a_part_lies_in_a_large_frame_does_not_matter(case):
    pixels, truth, _, p = case
    start = AS_GIVEN.vote(pixels)
    far = pixels_at(pixels.values, pixels.rows + 500, pixels.cols + 90, pixels.weight, (900, 300))
    labels = jnp.asarray(truth.astype(np.int32))
    here, there = (
        learn_correction(start, where, p, labels=labels, steps=2) for where in (pixels, far)
    )
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-5)


def test_the_start_is_as_wide_as_the_sampling_is_thin(case):
    scene = operando(0, shape=(5, 80, 80))
    radii = []
    for rate in (1.0, 0.3, 0.03):
        pixels = sample(0, scene.movie, rate)
        radius = float(SoftSettings().vote(pixels).radius)
        radii.append(radius)
    assert radii == sorted(radii)
    assert radii[0] < 3 < radii[2]
    assert SoftSettings(radius=3.0).vote(pixels).reach == 6


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"radius": 0.5}, "radius 0.5"),
        ({"radius": float("nan")}, "radius nan"),
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"time_scale": 0.0}, "time_scale 0.0"),
        ({"metric": "l3"}, "metric 'l3'"),
        ({"steps": -1}, "steps = -1"),
    ],
)
def test_impossible_settings_are_refused(change, text):
    with pytest.raises(UsageError, match=text):
        SoftSettings(**change)


def test_other_pixels_and_replicates_are_refused(case):
    pixels, _, params, p = case
    with pytest.raises(UsageError, match="do not belong"):
        correct_softly(MODEL, params, p[:, :3], pixels)
    twice = jax.tree.map(lambda a: a[:, None] if a.ndim == 2 else a, pixels)
    with pytest.raises(UsageError, match="replicates"):
        correct_softly(MODEL, params, p, twice)
