"""The soft vote: gradients, the hard limit, adjoint, lowering."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from pixels_at import pixels_at

from jaxmicro.errors import UsageError
from jaxmicro.spacetime.correct import vote
from jaxmicro.spacetime.neighbourhood import Neighbourhood, correlate
from jaxmicro.spacetime.soft_vote import SoftVote, neighbour_shares, soft_vote

SHAPE = (11, 13)


def some_pixels(rng, n_frames=3, n=50, n_classes=3, padding=4):
    flat = np.stack([rng.choice(SHAPE[0] * SHAPE[1], n, replace=False) for _ in range(n_frames)])
    weight = np.ones((n_frames, n))
    weight[:, n - padding :] = 0
    flat[weight == 0] = 0
    rows, cols = np.divmod(flat.astype(np.int32), np.int32(SHAPE[1]))
    labels = rng.integers(0, n_classes, (n_frames, n)).astype(np.int32)
    return labels, pixels_at(weight, rows, cols, weight, SHAPE)


def one_hot(labels, n_classes):
    return jnp.moveaxis(jax.nn.one_hot(labels, n_classes, dtype=jnp.float64), -1, 1)


@pytest.mark.parametrize(
    ("ball", "threshold"),
    [
        (Neighbourhood(3, "l1", causal=True), 0.4),
        (Neighbourhood(3, "l2", causal=False), 0.3),
        (Neighbourhood(4, "l2", causal=True), 0.75),
        (Neighbourhood(0.5, "l2", causal=True), 0.5),
    ],
    ids=str,
)
def test_hard_limit_is_the_vote(ball, threshold, rng):
    labels, pixels = some_pixels(rng)
    settings = SoftVote.from_vote(
        ball, threshold, sharpness=1e9, edge=1e-5, reach=5, frames=3, dtype=jnp.float64
    )
    soft = soft_vote(settings, one_hot(labels, 3), pixels)
    hard = vote(jnp.asarray(labels), pixels, ball, threshold, 3)
    seen = np.asarray(pixels.weight) > 0
    np.testing.assert_allclose(np.max(soft, axis=1)[seen], 1, atol=1e-9)
    np.testing.assert_array_equal(np.argmax(soft, axis=1)[seen], np.asarray(hard.labels)[seen])
    assert np.sum(np.asarray(hard.n_changed)) > 0 or ball.radius < 1


def test_probabilities_stay_probabilities(rng):
    _, pixels = some_pixels(rng)
    p = jnp.asarray(rng.dirichlet([0.5] * 3, (3, 50)).transpose(0, 2, 1))
    settings = SoftVote.from_vote(Neighbourhood(3), 0.3, dtype=jnp.float64)
    out = np.asarray(soft_vote(settings, p, pixels))
    assert out.min() >= 0
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(("metric", "causal"), [("l2", True), ("l1", False)])
def test_gradients_of_every_setting_and_of_the_input(metric, causal, rng):
    _, pixels = some_pixels(rng, n=25, padding=2)
    p = jnp.asarray(rng.dirichlet([2.0] * 3, (3, 25)).transpose(0, 2, 1))
    out_weights = jnp.asarray(rng.random((3, 3, 25)))

    def score(numbers, probabilities):
        settings = SoftVote(*map(jnp.asarray, numbers), 4, 2, metric, causal)
        probabilities = jnp.asarray(probabilities)
        out = soft_vote(settings, probabilities, pixels)
        return jnp.sum(out * out_weights)

    numbers = [jnp.asarray(v) for v in (2.4, 1.3, 0.31, 7.0, 0.6)]
    # finite differences in float64; the only kink, min(threshold, largest share), is not met here
    check_grads(score, (numbers, p), order=1, modes=["rev"], atol=1e-6, rtol=1e-5)
    gradient = jax.grad(score)(numbers, p)
    assert all(abs(float(g)) > 1e-6 for g in gradient)


def pairs(settings, pixels):
    """What pixel j of frame s adds to the sum at pixel i of frame t, as (t, i, s, j)."""
    kernel, origin = np.asarray(settings.kernel()), settings.origin
    rows, cols, weight = (np.asarray(a) for a in (pixels.rows, pixels.cols, pixels.weight))
    out = np.zeros((*weight.shape, *weight.shape))
    for t, i, s, j in np.ndindex(out.shape):
        d = np.array([s - t, rows[s, j] - rows[t, i], cols[s, j] - cols[t, i]]) + origin
        if (d >= 0).all() and (d < kernel.shape).all():
            out[t, i, s, j] = kernel[tuple(d)] * weight[s, j]
    return out


@pytest.mark.parametrize(("metric", "causal"), [("l2", True), ("l1", False)])
def test_neighbour_sums_and_their_adjoint_pair_by_pair(metric, causal, rng):
    """<A x, y> = <x, A' y>, with A' y summed pair by pair: what j received from all it added to."""
    _, pixels = some_pixels(rng, n=24)
    ball = Neighbourhood(3, metric, causal, time_scale=1.4)
    settings = SoftVote.from_vote(ball, 0.3, dtype=jnp.float64)
    matrix = pairs(settings, pixels)

    def a(x):
        return neighbour_shares(settings, x, pixels)[0]

    x, y = rng.normal(size=(2, 3, 2, 24))
    adjoint = np.einsum("tisj,tki->skj", matrix, y)
    forward, back = jax.vjp(a, jnp.asarray(x))
    # FFT sums of about 20 terms of size 1, in float64
    np.testing.assert_allclose(forward, np.einsum("tisj,skj->tki", matrix, x), atol=1e-12)
    assert np.vdot(forward, y) == pytest.approx(np.vdot(x, adjoint), rel=1e-12)
    np.testing.assert_allclose(back(jnp.asarray(y))[0], adjoint, atol=1e-12)
    assert not adjoint[:, :, -4:].any(), "padding adds nothing, so nothing comes back to it"


def test_centred_kernel_is_its_own_adjoint_and_causal_is_its_mirror(rng):
    grid, other = (jnp.asarray(rng.normal(size=(4, 9, 8))) for _ in range(2))
    for causal in (False, True):
        settings = SoftVote.from_vote(Neighbourhood(2, causal=causal), 0.3, dtype=jnp.float64)
        kernel, origin = settings.kernel(), settings.origin
        mirror = kernel[::-1, ::-1, ::-1]
        back = tuple(n - 1 - o for n, o in zip(kernel.shape, origin, strict=True))
        left = jnp.vdot(correlate(grid, kernel, origin), other)
        right = jnp.vdot(grid, correlate(other, mirror, back))
        assert float(left) == pytest.approx(float(right), rel=1e-11)


def test_a_causal_vote_does_not_see_the_future(rng):
    _, pixels = some_pixels(rng)
    p = jnp.asarray(rng.dirichlet([1.0] * 3, (3, 50)).transpose(0, 2, 1))
    settings = SoftVote.from_vote(Neighbourhood(3, causal=True), 0.3, dtype=jnp.float64)
    out = soft_vote(settings, p, pixels)
    changed = soft_vote(settings, p.at[2].set(p[2, ::-1]), pixels)
    np.testing.assert_allclose(out[:2], changed[:2], atol=1e-12)


def test_flipping_the_frames_flips_the_result(rng):
    _, pixels = some_pixels(rng)
    p = jnp.asarray(rng.dirichlet([1.0] * 3, (3, 50)).transpose(0, 2, 1))
    settings = SoftVote.from_vote(Neighbourhood(3), 0.3, dtype=jnp.float64)
    out = soft_vote(settings, p, pixels)
    rows, cols, weight = pixels.rows, pixels.cols, pixels.weight
    moved = pixels_at(weight, SHAPE[0] - 1 - rows, cols, weight, SHAPE)
    flipped = soft_vote(settings, p, moved)
    np.testing.assert_allclose(out, flipped, atol=1e-12)
    turned = soft_vote(settings, p, pixels_at(weight, cols, rows, weight, SHAPE[::-1]))
    np.testing.assert_allclose(out, turned, atol=1e-12)


def test_a_pixel_alone_keeps_its_probabilities():
    rows, cols = jnp.array([[0, 9]], jnp.int32), jnp.array([[0, 12]], jnp.int32)
    p = jnp.array([[[0.9, 0.2], [0.1, 0.8]]])
    settings = SoftVote.from_vote(Neighbourhood(2), 0.9, edge=1e-5, dtype=jnp.float64)
    ones = jnp.ones((1, 2))
    out = soft_vote(settings, p, pixels_at(ones, rows, cols, ones, SHAPE))
    np.testing.assert_allclose(out, p, atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"threshold": 0.5, "sharpness": 0.0}, "sharpness 0.0"),
        ({"threshold": 0.5, "edge": -1.0}, "edge -1.0"),
    ],
)
def test_impossible_settings_are_refused(kwargs, text):
    with pytest.raises(UsageError, match=text):
        SoftVote.from_vote(Neighbourhood(2), **kwargs)


def test_lowers_for_cuda_and_tpu(rng):
    _, pixels = some_pixels(rng)
    p = jnp.asarray(rng.dirichlet([1.0] * 3, (3, 50)).transpose(0, 2, 1), jnp.float32)
    settings = SoftVote.from_vote(Neighbourhood(3), 0.3)

    def program(probabilities, rows, cols, weight):
        pixels = pixels_at(weight, rows, cols, weight, SHAPE)
        return soft_vote(settings, probabilities, pixels)

    args = (p, pixels.rows, pixels.cols, pixels.weight.astype(jnp.float32))
    lowered = jax.export.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(*args)
    assert set(lowered.platforms) == {"cpu", "cuda", "tpu"}
