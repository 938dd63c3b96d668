"""The vote against a plain loop, and on examples small enough to work out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pixels_at import pixels_at

from jaxmicro.data.phantom import operando
from jaxmicro.errors import UsageError
from jaxmicro.spacetime.correct import vote, vote_frames
from jaxmicro.spacetime.neighbourhood import Neighbourhood

SHAPE = (12, 14)
N = 40


def random_pixels(rng, n_frames, n_classes, shape=SHAPE, n=N, padding=5):
    """Distinct places in every frame; the last `padding` of them are padding at (0, 0)."""
    flat = np.stack([rng.choice(shape[0] * shape[1], n, replace=False) for _ in range(n_frames)])
    weight = np.ones((n_frames, n), np.float32)
    weight[:, n - padding :] = 0
    flat[weight == 0] = 0
    rows, cols = np.divmod(flat.astype(np.int32), np.int32(shape[1]))
    labels = rng.integers(0, n_classes, (n_frames, n)).astype(np.int32)
    return labels, rows, cols, weight


def by_hand(labels, rows, cols, weight, n, threshold, n_classes):
    """The definition, one pixel and one neighbour at a time."""
    new, changed, alone = labels.copy(), np.zeros(len(labels), int), np.zeros(len(labels), int)
    for t, i in np.ndindex(*labels.shape):
        if weight[t, i] == 0:
            continue
        votes = np.zeros(n_classes, int)
        for s, j in np.ndindex(*labels.shape):
            if weight[s, j] == 0 or (s, j) == (t, i) or (n.causal and s > t):
                continue
            d = np.array([s - t, rows[s, j] - rows[t, i], cols[s, j] - cols[t, i]])
            far = np.abs(d).sum() if n.metric == "l1" else np.sqrt((d**2).sum())
            votes[labels[s, j]] += far <= n.radius
        if votes.sum() == 0:
            alone[t] += 1
        elif votes[labels[t, i]] / votes.sum() < threshold and votes[labels[t, i]] < votes.max():
            new[t, i] = votes.argmax()
            changed[t] += 1
    return new, changed, alone


@pytest.mark.parametrize(
    ("n", "threshold", "n_classes"),
    [
        (Neighbourhood(3, "l1", causal=True), 0.4, 2),
        (Neighbourhood(4, "l2", causal=False), 0.31, 3),
    ],
    ids=str,
)
def test_vote_is_its_definition(n, threshold, n_classes, rng):
    given = random_pixels(rng, 4, n_classes)
    labels, changed, alone = by_hand(*given, n, threshold, n_classes)
    out = vote(jnp.asarray(given[0]), pixels_at(*given, SHAPE), n, threshold, n_classes)
    np.testing.assert_array_equal(out.labels, labels)
    np.testing.assert_array_equal(out.n_changed, changed)
    np.testing.assert_array_equal(out.n_alone, alone)
    assert changed.sum() > 5, "the example must exercise the vote"


def test_a_lone_wrong_pixel_is_outvoted_and_a_share_at_the_threshold_is_enough():
    """A cross of 5: the middle disagrees with its 4 neighbours; each arm has 1 of 1 against it."""
    rows = jnp.array([2, 1, 3, 2, 2])
    cols = jnp.array([2, 2, 2, 1, 3])
    labels = jnp.array([[True, False, False, False, False]])
    at = pixels_at(labels, rows, cols, jnp.ones(5), (5, 5)), Neighbourhood(1, "l1")
    out = vote(labels, *at, 0.05)
    # with one neighbour, which disagrees, every arm changes too: all decide at once
    np.testing.assert_array_equal(out.labels, [[False, True, True, True, True]])
    assert out.n_changed.tolist() == [5]

    two_agree = jnp.array([[True, True, True, False, False]])
    np.testing.assert_array_equal(vote(two_agree, *at, 0.5).labels[0, 0], True)
    one_agrees = jnp.array([[True, True, False, False, False]])
    np.testing.assert_array_equal(vote(one_agrees, *at, 0.25).labels[0, 0], True)
    np.testing.assert_array_equal(vote(one_agrees, *at, 0.26).labels[0, 0], False)


def test_threshold_0_changes_nothing_and_lone_pixels_stay(rng):
    labels, rows, cols, weight = random_pixels(rng, 3, 2)
    pixels = pixels_at(labels, rows, cols, weight, SHAPE)
    out = vote(jnp.asarray(labels), pixels, Neighbourhood(5, "l2"), 0.0)
    np.testing.assert_array_equal(out.labels, labels)
    assert out.n_changed.sum() == 0
    out = vote(jnp.asarray(labels), pixels, Neighbourhood(0, "l2"), 1.0)
    np.testing.assert_array_equal(out.labels, labels)
    np.testing.assert_array_equal(out.n_alone, weight.sum(axis=1))


def test_two_frames_the_past_votes_and_the_future_does_not():
    """One place, two frames, one pixel each: the later pixel sees the earlier, not vice versa."""
    labels = jnp.array([[0], [1]])
    place = jnp.array([1])
    at = pixels_at(labels, place, place, jnp.ones(1), (3, 3))
    causal = vote(labels, at, Neighbourhood(1, "l1", causal=True), 0.5)
    assert causal.labels.tolist() == [[0], [0]]
    assert causal.n_alone.tolist() == [1, 0]
    centred = vote(labels, at, Neighbourhood(1, "l1", causal=False), 0.5)
    assert centred.labels.tolist() == [[1], [0]]


def test_whole_frames_are_the_pixels_of_whole_frames(rng):
    t, shape = 3, (8, 9)
    labels = jnp.asarray(rng.integers(0, 3, (t, *shape)), jnp.uint8)
    rows, cols = (jnp.asarray(a.ravel()) for a in np.indices(shape, dtype=np.int32))
    n = Neighbourhood(2, "l2")
    whole = vote_frames(labels, n, 0.4, n_classes=3)
    flat = labels.reshape(t, -1)
    pixels = vote(flat, pixels_at(flat, rows, cols, jnp.ones(72), shape), n, 0.4, 3)
    np.testing.assert_array_equal(whole.labels.reshape(t, -1), pixels.labels)
    np.testing.assert_array_equal(whole.n_changed, pixels.n_changed)
    assert whole.labels.dtype == pixels.labels.dtype == jnp.uint8

    visited = jnp.asarray(rng.random((t, *shape)) < 0.5)
    some = vote_frames(labels, n, 0.4, visited, 3)
    weight = visited.reshape(t, -1).astype(jnp.float32)
    listed = vote(flat, pixels_at(flat, rows[None], cols[None], weight, shape), n, 0.4, 3)
    np.testing.assert_array_equal(some.labels.reshape(t, -1), listed.labels)
    np.testing.assert_array_equal(some.n_alone, listed.n_alone)
    np.testing.assert_array_equal(some.labels[~visited], labels[~visited])


@pytest.mark.parametrize("shared", [True, False])
def test_replicates_never_see_one_another(shared, rng):
    n = Neighbourhood(3, "l2")
    items = [random_pixels(rng, 4, 2) for _ in range(3)]
    if shared:
        place = [items[0][k][0] for k in (1, 2, 3)]
        items = [(item[0], *place) for item in items]
        places = [jnp.asarray(a) for a in place]
    else:
        places = [jnp.asarray(np.stack([item[k] for item in items], 1)) for k in (1, 2, 3)]
    labels = jnp.asarray(np.stack([item[0] for item in items], 1))
    together = vote(labels, pixels_at(labels, *places, SHAPE), n, 0.4)
    assert together.n_changed.shape == (4, 3)
    for b, item in enumerate(items):
        alone = vote(jnp.asarray(item[0]), pixels_at(*item, SHAPE), n, 0.4)
        np.testing.assert_array_equal(together.labels[:, b], alone.labels)
        np.testing.assert_array_equal(together.n_alone[:, b], alone.n_alone)


def test_vote_removes_salt_and_pepper_from_a_phantom(rng):
    """Labels with 8 % flipped: the vote must leave fewer than a third of those errors."""
    scene = operando(0, shape=(8, 96, 96), scene="islands")
    truth = scene.foreground_mask
    noisy = truth ^ (rng.random(truth.shape) < 0.08)
    out = vote_frames(jnp.asarray(noisy), Neighbourhood(2, "l2"), 0.4)
    assert np.mean(np.asarray(out.labels) != truth) < np.mean(noisy != truth) / 3


def test_lowers_for_every_platform():
    def program(labels, rows, cols, weight):
        pixels = pixels_at(labels, rows, cols, weight, SHAPE)
        out = vote(labels, pixels, Neighbourhood(7, "l2"), 0.2, 3)
        return out.labels, out.n_changed

    shape = (5, 2, N)
    args = [jax.ShapeDtypeStruct(shape, d) for d in (jnp.int32,) * 3 + (jnp.float32,)]
    exported = jax.export.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(*args)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"threshold": 1.5}, "1.5"),
        ({"n_classes": 1}, "1 classes"),
        ({"labels": jnp.zeros(3, jnp.int32)}, "frame axis"),
        ({"labels": jnp.zeros((1, 1, 1, 3), jnp.int32)}, "4 axes"),
        ({"labels": jnp.zeros((1, 3), bool), "n_classes": 3}, "bool"),
        ({"labels": jnp.zeros((2, 3), jnp.int32)}, r"\(2, 3\) do not belong to .* \(1, 3\)"),
    ],
)
def test_refuses_in_one_line(change, word):
    place = jnp.zeros(3, jnp.int32)
    labels = jnp.zeros((1, 3), jnp.int32)
    given = {
        "labels": labels,
        "pixels": pixels_at(labels, place, place, jnp.ones(3), (3, 3)),
        "neighbourhood": Neighbourhood(1),
        "threshold": 0.5,
    }
    with pytest.raises(UsageError, match=word):
        vote(**{**given, **change})
