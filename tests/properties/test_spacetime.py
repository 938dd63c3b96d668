"""Neighbours, votes and local fits: exact counts, probabilities, orders that do not matter."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels_at import pixels_at

from jaxmicro.errors import JaxmicroError, UsageError
from jaxmicro.mixture.ecm import Result
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.correct import vote, vote_frames
from jaxmicro.spacetime.dense import dense_maps, entropy_bits
from jaxmicro.spacetime.local import Local, fit_local
from jaxmicro.spacetime.neighbourhood import Neighbourhood, correlate, neighbour_sum
from jaxmicro.spacetime.smooth import cells_for, density_kernel, places
from jaxmicro.spacetime.soft_vote import SoftVote, soft_vote

seeds = st.integers(0, 2**32 - 1)
FRAMES = st.one_of(
    st.sampled_from([(1, 50), (50, 1), (700, 1100), (438, 438), (1, 1)]),
    st.tuples(st.integers(1, 700), st.integers(1, 1100)),
)
BALLS = st.builds(
    dict,
    radius=st.sampled_from([0, 1, 1.5, 2.5, 4]),
    metric=st.sampled_from(["l1", "l2"]),
    causal=st.booleans(),
    time_scale=st.sampled_from([0.7, 1.0, 5.0]),
)


# -- neighbourhoods -------------------------------------------------------------------------------


def distance(ball, dt, dy, dx):
    far = abs(dt) * ball.time_scale
    return far + abs(dy) + abs(dx) if ball.metric == "l1" else np.hypot(np.hypot(far, dy), dx)


def counted(grid, ball):
    """From the definition, pixel by pixel."""
    out = np.zeros(grid.shape, int)
    for p, q in itertools.product(np.ndindex(grid.shape), repeat=2):
        d = np.subtract(q, p)
        if p != q and not (ball.causal and d[0] > 0):
            out[p] += grid[q] * (distance(ball, *d) <= ball.radius + 1e-9)
    return out


@settings(max_examples=12)
@given(
    BALLS,
    st.sampled_from([(1, 1, 1), (1, 1, 9), (3, 4, 5)]),
    st.sampled_from(["fft", "rows"]),
    seeds,
)
def test_counts_are_exact_on_small_boxes(ball, shape, algorithm, seed):
    ball = Neighbourhood(**ball)
    grid = np.random.default_rng(seed).random(shape) < 0.5
    found = neighbour_sum(jnp.asarray(grid), ball, algorithm=algorithm)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, counted(grid, ball))


@settings(max_examples=60)
@given(BALLS)
def test_a_footprint_is_the_ball_without_its_centre(ball):
    ball = Neighbourhood(**ball)
    assert not ball.footprint[ball.origin]
    for index in np.ndindex(ball.footprint.shape):
        d = np.subtract(index, ball.origin)
        inside = distance(ball, *d) <= ball.radius + 1e-9 and d.any()
        assert ball.footprint[index] == (inside and not (ball.causal and d[0] > 0))


@given(
    st.integers(1, 80),
    FRAMES,
    BALLS,
    st.sampled_from([jnp.bool_, jnp.uint8, jnp.int32, jnp.float32, jnp.float64]),
)
def test_a_sum_has_a_program_for_every_shape(frames, shape, ball, dtype):
    like = jax.ShapeDtypeStruct((frames, *shape), dtype)
    out = jax.eval_shape(lambda g: neighbour_sum(g, Neighbourhood(**ball)), like)
    assert out.shape == like.shape
    assert out.dtype == (dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.int32)


@settings(max_examples=8)
@given(seeds, st.sampled_from([jnp.float32, jnp.float64]))
def test_reversing_the_kernel_is_the_adjoint(seed, dtype):
    rng = np.random.default_rng(seed)
    one, two = (jnp.asarray(rng.standard_normal((3, 6, 7)), dtype) for _ in "ab")
    kernel = jnp.asarray(rng.standard_normal((2, 3, 3)), dtype)
    there = jnp.vdot(correlate(one, kernel, (1, 1, 1)), two)
    back = jnp.vdot(one, correlate(two, kernel[::-1, ::-1, ::-1], (0, 1, 1)))
    # 126 sums of 18 products of size 1
    assert abs(float(there - back)) < 1e4 * float(jnp.finfo(dtype).eps)


# -- votes ----------------------------------------------------------------------------------------

SHAPE, N = (9, 11), 40
BALL = Neighbourhood(2, "l2")


def sampled(seed, batch, share=0.8):
    """Labels 0..2 at distinct places of each frame, some of them padding."""
    rng = np.random.default_rng(seed)
    many = int(np.prod(batch))
    spots = np.stack([rng.permutation(SHAPE[0] * SHAPE[1])[:N] for _ in range(many)])
    rows, cols = np.divmod(spots.reshape(*batch, N), SHAPE[1])
    labels = rng.integers(0, 3, (*batch, N))
    weight = (rng.random((*batch, N)) < share).astype(np.float32)
    weight[0] = weight[0] * rng.integers(0, 2)  # an empty frame now and then
    return tuple(jnp.asarray(a) for a in (labels, rows, cols, weight))


def voted(parts, threshold):
    return vote(parts[0], pixels_at(*parts, SHAPE), BALL, jnp.asarray(threshold, jnp.float32), 3)


@given(seeds, st.sampled_from([0.0, 0.05, 0.4, 1.0]), st.sampled_from([(3,), (3, 2)]))
def test_a_vote_changes_visited_labels_only_and_none_at_threshold_zero(seed, threshold, batch):
    parts = sampled(seed, batch)
    labels, weight = np.asarray(parts[0]), np.asarray(parts[3])
    out = voted(parts, threshold)
    new = np.asarray(out.labels)
    assert new.dtype == labels.dtype
    assert ((new >= 0) & (new < 3)).all()
    changed = new != labels
    assert not changed[weight == 0].any()
    np.testing.assert_array_equal(out.n_changed, changed.sum(axis=-1))
    assert (np.asarray(out.n_alone) <= weight.sum(axis=-1)).all()
    if threshold == 0:
        assert not changed.any()


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.2, 1.0]))
def test_replicates_do_not_see_one_another(seed, threshold):
    parts = sampled(seed, (3, 2))
    both = np.asarray(voted(parts, threshold).labels)
    for b in range(2):
        alone = voted(tuple(a[:, b] for a in parts), threshold)
        np.testing.assert_array_equal(both[:, b], alone.labels)


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.2, 1.0]))
def test_the_order_of_pixels_and_what_padding_holds_do_not_matter(seed, threshold):
    labels, rows, cols, weight = sampled(seed, (3,))
    order = np.random.default_rng(seed).permutation(N)
    new = np.asarray(voted((labels, rows, cols, weight), threshold).labels)
    turned = voted(tuple(a[:, order] for a in (labels, rows, cols, weight)), threshold).labels
    np.testing.assert_array_equal(np.asarray(turned), new[:, order])
    seen = np.asarray(weight) > 0
    junk = jnp.where(seen, labels, 2 - labels)
    again = np.asarray(voted((junk, rows, cols, weight), threshold).labels)
    np.testing.assert_array_equal(again[seen], new[seen])


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.0, 0.3, 1.0]))
def test_whole_frames_vote_like_their_pixels(seed, threshold):
    labels, rows, cols, weight = (np.asarray(a) for a in sampled(seed, (3,)))
    grid, visited = np.zeros((3, *SHAPE), labels.dtype), np.zeros((3, *SHAPE), bool)
    t = np.arange(3)[:, None] * np.ones((1, N), int)
    seen = weight > 0
    at = t[seen], rows[seen], cols[seen]
    grid[at], visited[at] = labels[seen], True
    gamma = jnp.asarray(threshold, jnp.float32)
    whole = vote_frames(jnp.asarray(grid), BALL, gamma, jnp.asarray(visited), 3)
    few = voted(tuple(jnp.asarray(a) for a in (labels, rows, cols, weight)), threshold)
    np.testing.assert_array_equal(np.asarray(whole.labels)[at], np.asarray(few.labels)[seen])
    np.testing.assert_array_equal(whole.n_alone, few.n_alone)


@given(
    st.sampled_from([(1,), (60,), (1, 1), (2, 3)]),
    st.integers(1, 5000),
    FRAMES,
    BALLS,
    st.sampled_from([2, 5]),
    st.booleans(),
)
def test_a_vote_has_a_program_for_every_shape(batch, n, shape, ball, k, shared):
    def like(dims, dtype):
        return jax.ShapeDtypeStruct(dims, dtype)

    where = like((n,) if shared else (*batch, n), jnp.int32)
    out = jax.eval_shape(
        lambda z, at, w: vote(z, pixels_at(z, at, at, w, shape), Neighbourhood(**ball), 0.3, k),
        like((*batch, n), jnp.int32),
        where,
        like(where.shape, jnp.float32),
    )
    assert out.labels.shape == (*batch, n)
    assert out.n_changed.shape == out.n_alone.shape == batch


@settings(max_examples=10)
@given(seeds, st.sampled_from([0.0, 0.4, 1.0]))
def test_a_soft_vote_gives_probabilities(seed, threshold):
    pixels = pixels_at(*sampled(seed, (3,)), SHAPE)
    p = np.random.default_rng(seed).dirichlet(np.ones(3), (3, N)).swapaxes(1, 2)
    settings_ = SoftVote.from_vote(BALL, threshold, dtype=jnp.float64)
    out = np.asarray(soft_vote(settings_, jnp.asarray(p), pixels))
    assert (out >= 0).all()
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-9)


# -- cells, kernels and local fits ----------------------------------------------------------------


@settings(max_examples=150)
@given(FRAMES, st.floats(0.05, 400), st.integers(1, 10**6), st.booleans(), st.integers(1, 500))
def test_every_pixel_and_its_neighbouring_cells_lie_on_the_grid(shape, width, n, causal, frames):
    """Reads and writes there are promised to be in bounds."""
    kernel = density_kernel(float(n), shape, causal, frames)
    assert kernel.width > 0
    assert 0 <= kernel.decay < 1
    for sd in (width, kernel.width):
        cells = cells_for(sd, shape)
        corners = [np.array([0, m // 3, m // 2, m - 1]) for m in shape]
        rows, cols = (jnp.asarray(a.reshape(1, 16), jnp.int32) for a in np.meshgrid(*corners))
        where = places(cells, rows, cols, jnp.dtype(jnp.float64))
        row, col = np.divmod(np.asarray(where.cell), cells.shape[1])
        assert ((row >= 1) & (row <= cells.shape[0] - 2)).all()
        assert ((col >= 1) & (col <= cells.shape[1] - 2)).all()
        for part in (where.down, where.right):
            assert (np.abs(np.asarray(part)) <= 0.5).all()


LOCAL = {"causal": Local(causal=True), "centred": Local()}
MODEL = GMRM(2, share=("means", "sds"))


def scene(seed, dtype, frames=3):
    rng = np.random.default_rng(seed)
    spots = np.stack([rng.permutation(SHAPE[0] * SHAPE[1])[:80] for _ in range(frames)])
    rows, cols = np.divmod(spots, SHAPE[1])
    label = rows > 4
    values = (100 + 40 * label + 8 * rng.standard_normal(label.shape)).astype(dtype)
    weight = np.ones(label.shape, dtype)
    weight[:, 75:] = 0
    return values, rows, cols, weight


@functools.cache
def fitted(seed, kind, dtype, turned=False, spoiled=False):
    values, *rest = scene(seed, dtype)
    if spoiled:
        values = np.where(rest[-1] > 0, values, np.nan)
    if turned:
        values, *rest = (a[::-1].copy() for a in (values, *rest))
    out = fit_local(MODEL, pixels_at(values, *rest, SHAPE), LOCAL[kind], quantum=0.0)
    return jax.tree.map(np.asarray, (out.fit, out.responsibilities, out.neighbours))


PROGRAM = st.sampled_from([("centred", np.float64), ("causal", np.float32)])
few_seeds = st.integers(0, 50)


@settings(max_examples=10)
@given(PROGRAM, few_seeds)
def test_a_local_fit_gives_probabilities_and_a_result(program, seed):
    found, resp, neighbours = fitted(seed, *program)
    weight = scene(seed, program[1])[-1]
    assert all(Result(int(r)) in (Result.converged, Result.max_steps) for r in found.result)
    assert ((resp >= -1e-6) & (resp <= 1 + 1e-6)).all()
    np.testing.assert_allclose(resp.sum(axis=1), weight, atol=1e-5)
    assert (neighbours >= -1e-3).all()
    assert np.isfinite(found.log_likelihood).all()


@settings(max_examples=6)
@given(few_seeds)
def test_time_may_run_backwards_in_a_centred_fit(seed):
    found, resp, _ = fitted(seed, "centred", np.float64)
    back, turned, _ = fitted(seed, "centred", np.float64, turned=True)
    np.testing.assert_allclose(back.params.means[::-1], found.params.means, rtol=1e-6)
    np.testing.assert_allclose(turned[::-1], resp, atol=1e-5)


@settings(max_examples=6)
@given(PROGRAM, few_seeds)
def test_pixels_of_weight_zero_are_not_looked_at(program, seed):
    found, resp, _ = fitted(seed, *program)
    again, other, _ = fitted(seed, *program, spoiled=True)
    np.testing.assert_array_equal(found.params.means, again.params.means)
    np.testing.assert_array_equal(resp, other)


@settings(max_examples=4)
@given(few_seeds)
def test_maps_are_probabilities_everywhere(seed):
    found, resp, _ = fitted(seed, "centred", np.float64)
    pixels = pixels_at(*scene(seed, np.float64), SHAPE)
    weights = jnp.asarray(found.params.weights)
    for frame in dense_maps(jnp.asarray(resp), pixels, weights, LOCAL["centred"]):
        assert frame.shape == (2, *SHAPE)
        np.testing.assert_allclose(frame.sum(axis=0), 1, atol=1e-6)
        bits = entropy_bits(frame[1])
        assert ((bits >= 0) & (bits <= 1)).all()


@pytest.mark.parametrize("kind", [Neighbourhood, Local])
def test_settings_out_of_range_are_refused(kind):
    wrong = {Neighbourhood: {"radius": float("nan")}, Local: {"width": float("inf")}}
    with pytest.raises(UsageError):
        kind(**wrong[kind])


@settings(max_examples=60)
@given(
    st.floats(allow_nan=True),
    st.floats(allow_nan=True),
    st.floats(allow_nan=True),
    st.integers(0, 3),
)
def test_any_number_is_a_setting_or_is_refused(a, b, c, levels):
    for made in (
        lambda: Local(width=a, memory=b, pseudo_count=c, levels=levels).kernel(10.0, (9, 9), 3),
        lambda: Local(interaction=a),
        lambda: Neighbourhood(a, time_scale=b),
    ):
        try:
            made()
        except JaxmicroError as err:
            one_line(err)


def one_line(err):
    assert "\n" not in str(err)
