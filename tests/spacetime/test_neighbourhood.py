"""Neighbour sums against brute force, counted by hand, and against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.errors import UsageError
from jaxmicro.spacetime import neighbourhood as module
from jaxmicro.spacetime.neighbourhood import Neighbourhood, correlate, neighbour_sum

ALGORITHMS = ("fft", "rows", "conv")
CASES = [
    Neighbourhood(2, "l1", causal=True),
    Neighbourhood(2.5, "l2", causal=False),
    Neighbourhood(4, "l2", causal=True, time_scale=2.0),
]


def brute_force(grid, metric, radius, causal, time_scale=1.0):
    """Straight from the definition; no footprint, no array tricks."""
    t, y, x = grid.shape
    out = np.zeros(grid.shape)
    r = int(radius)
    f = int(radius / time_scale)
    for dt, dy, dx in itertools.product(range(-f, f + 1), range(-r, r + 1), range(-r, r + 1)):
        far = abs(dt) * time_scale
        if metric == "l1":
            inside = far + abs(dy) + abs(dx) <= radius
        else:
            inside = far**2 + dy**2 + dx**2 <= radius**2
        if not inside or (dt, dy, dx) == (0, 0, 0) or (causal and dt > 0):
            continue
        for i in range(max(0, -dt), min(t, t - dt)):
            if abs(dy) >= y or abs(dx) >= x:
                continue
            ys, xs = slice(max(0, -dy), min(y, y - dy)), slice(max(0, -dx), min(x, x - dx))
            yt, xt = slice(max(0, dy), min(y, y + dy)), slice(max(0, dx), min(x, x + dx))
            out[i, ys, xs] += grid[i + dt, yt, xt]
    return out


def run(neighbourhood, algorithm="auto"):
    return jax.jit(lambda g: neighbour_sum(g, neighbourhood, algorithm=algorithm))


@pytest.mark.parametrize(
    ("neighbourhood", "size"),
    [
        (Neighbourhood(0, "l1"), 0),
        (Neighbourhood(1, "l1", causal=False), 6),  # the six faces
        (Neighbourhood(1, "l1", causal=True), 5),  # the face in the future is gone
        (Neighbourhood(2, "l1", causal=False), 24),  # octahedral number 25 less the centre
        (Neighbourhood(3, "l1", causal=False), 62),  # octahedral number 63 less the centre
        (Neighbourhood(1.5, "l2", causal=False), 18),  # faces and edges, not corners
        (Neighbourhood(1.8, "l2", causal=False), 26),
        (Neighbourhood(2, "l2", causal=False), 32),  # sum of squares <= 4: 33 less the centre
        (Neighbourhood(2, "l2", causal=True), 22),  # disc of 13 less 1, disc of 9, and 1
        (Neighbourhood(2, "l2", causal=True, time_scale=2.0), 13),  # disc of 13 less 1, and 1
        (Neighbourhood(3, "l2", causal=False, time_scale=10.0), 28),  # a disc of 29 in space only
    ],
)
def test_footprints_counted_by_hand(neighbourhood, size):
    assert neighbourhood.size == size
    footprint, origin = neighbourhood.footprint, neighbourhood.origin
    assert not footprint[origin]
    assert footprint.shape[0] == origin[0] + 1 if neighbourhood.causal else 2 * origin[0] + 1
    np.testing.assert_array_equal(footprint, footprint[:, ::-1, :])
    np.testing.assert_array_equal(footprint, footprint.transpose(0, 2, 1))


@pytest.mark.parametrize("neighbourhood", CASES, ids=str)
@pytest.mark.parametrize("shape", [(5, 9, 8), (1, 9, 8)], ids=["movie", "one frame"])
def test_every_algorithm_is_brute_force(neighbourhood, shape, rng):
    n = neighbourhood
    grid = rng.random(shape) < 0.4
    expected = brute_force(grid, n.metric, n.radius, n.causal, n.time_scale)
    for algorithm in (*ALGORITHMS, "auto"):
        out = run(n, algorithm)(jnp.asarray(grid))
        assert out.dtype == jnp.int32
        np.testing.assert_array_equal(out, expected, err_msg=algorithm)
    real = rng.normal(size=shape)
    expected = brute_force(real, n.metric, n.radius, n.causal, n.time_scale)
    for algorithm in ALGORITHMS:
        # 64-bit sums of at most 80 terms of order 1
        out = run(n, algorithm)(jnp.asarray(real))
        np.testing.assert_allclose(out, expected, atol=1e-12, err_msg=algorithm)
        single = run(n, algorithm)(jnp.asarray(real, jnp.float32))
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, expected, atol=3e-5, err_msg=algorithm)


def test_radius_larger_than_the_movie(rng):
    grid = rng.random((3, 4, 6)) < 0.5
    everyone_else = grid.sum() - grid.astype(int)
    for algorithm in ALGORITHMS:
        out = run(Neighbourhood(30, "l2", causal=False), algorithm)(jnp.asarray(grid))
        np.testing.assert_array_equal(out, everyone_else, err_msg=algorithm)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("density", [0.01, 1.0])
def test_counts_are_exact_at_radius_20(metric, density, rng):
    """Against running sums in whole numbers, with up to 33 400 neighbours."""
    grid = jnp.asarray(rng.random((44, 90, 90)) <= density)
    n = Neighbourhood(20, metric, causal=False)
    expected = module._rows(np.asarray(grid, np.int32), n.footprint, n.origin)
    np.testing.assert_array_equal(run(n, "fft")(grid), expected)
    if density == 1.0:
        assert int(expected.max()) == n.size


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_whole_numbers_over_their_full_range(dtype, rng):
    info = np.iinfo(dtype)
    grid = rng.integers(info.min, info.max, (4, 20, 20), dtype=dtype, endpoint=True)
    n = Neighbourhood(4, "l2", causal=True)
    expected = brute_force(grid.astype(float), "l2", 4, True)  # below 2^53, hence exact
    expected = expected.astype(np.int64).astype(np.int32)  # wraps as int32 sums do
    for algorithm in ALGORITHMS:
        np.testing.assert_array_equal(run(n, algorithm)(jnp.asarray(grid)), expected)


@pytest.mark.parametrize("algorithm", ["fft", "auto"])
def test_tiles_join_without_a_seam(algorithm, rng, monkeypatch):
    grid = jnp.asarray(rng.random((2, 7, 30, 26)) < 0.3)
    n = Neighbourhood(3, "l2", causal=True)
    expected = np.stack([brute_force(np.asarray(g), "l2", 3, True) for g in grid])
    for voxels in (10**6, 3000, 500):
        monkeypatch.setattr(module, "TILE_VOXELS", voxels)
        np.testing.assert_array_equal(neighbour_sum(grid, n, algorithm=algorithm), expected)
        real = correlate(grid.astype(jnp.float32), jnp.asarray(n.footprint, jnp.float32), n.origin)
        np.testing.assert_allclose(real, expected, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_adjoint_is_the_time_reversed_neighbourhood(causal, rng):
    n = Neighbourhood(2.3, "l2", causal=causal)
    f, g = (jnp.asarray(rng.normal(size=(5, 8, 7))) for _ in range(2))
    forward = run(n, "auto")
    out, pull = jax.vjp(forward, f)
    (back,) = pull(g)
    np.testing.assert_allclose(jnp.sum(out * g), jnp.sum(f * back), rtol=1e-12)
    reversed_in_time = forward(g[::-1])[::-1]
    np.testing.assert_allclose(back, reversed_in_time, atol=1e-12)


def test_correlate_is_its_definition_and_differentiates_in_the_kernel(rng):
    grid = jnp.asarray(rng.normal(size=(4, 6, 5)))
    kernel = jnp.asarray(rng.normal(size=(3, 2, 4)))
    origin = (2, 0, 1)
    expected = np.zeros(grid.shape)
    for index in np.ndindex(*kernel.shape):
        shift = np.subtract(index, origin)
        for p in np.ndindex(*grid.shape):
            q = np.add(p, shift)
            if np.all(q >= 0) and np.all(q < grid.shape):
                expected[p] += kernel[index] * grid[tuple(q)]
    out, pull = jax.vjp(lambda g, k: correlate(g, k, origin), grid, kernel)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    cotangent = jnp.asarray(rng.normal(size=grid.shape))
    _, d_kernel = pull(cotangent)
    # linear in the kernel: one finite difference along a random direction is exact
    direction = jnp.asarray(rng.normal(size=kernel.shape))
    change = jnp.sum(cotangent * correlate(grid, direction, origin))
    np.testing.assert_allclose(jnp.sum(d_kernel * direction), change, rtol=1e-10)


def test_causal_never_looks_ahead(rng):
    grid = rng.random((6, 12, 12)) < 0.5
    other = grid.copy()
    other[4:] = ~other[4:]
    for algorithm in ALGORITHMS:
        f = run(Neighbourhood(4, "l1", causal=True), algorithm)
        a, b = f(jnp.asarray(grid)), f(jnp.asarray(other))
        np.testing.assert_array_equal(a[:4], b[:4])
        assert np.any(a[4:] != b[4:])


def test_turned_and_flipped_frames_give_turned_and_flipped_sums(rng):
    grid = jnp.asarray(rng.random((4, 11, 11)) < 0.4)
    f = run(Neighbourhood(3, "l2", causal=True))
    for move in (
        lambda a: a[:, ::-1],
        lambda a: a[:, :, ::-1],
        lambda a: a.transpose(0, 2, 1),
        lambda a: jnp.rot90(a, axes=(1, 2)),
    ):
        np.testing.assert_array_equal(f(move(grid)), move(f(grid)))


def test_vmap_is_a_loop(rng):
    grid = jnp.asarray(rng.random((3, 4, 9, 8)) < 0.4)
    for radius in (2, 7):  # running sums, FFT
        f = run(Neighbourhood(radius, "l2"))
        looped = jnp.stack([f(g) for g in grid])
        np.testing.assert_array_equal(jax.vmap(f)(grid), looped)
        np.testing.assert_array_equal(f(grid), looped)


@pytest.mark.parametrize("radius", [2, 12])
def test_lowers_for_every_platform(radius):
    f = run(Neighbourhood(radius, "l2"))
    slope = jax.jit(jax.grad(lambda g: jnp.sum(f(g) ** 2)))
    for program, dtype in ((f, bool), (f, jnp.float32), (slope, jnp.float32)):
        shape = jax.ShapeDtypeStruct((6, 32, 32), dtype)
        exported = jax.export.export(program, platforms=("cpu", "cuda", "tpu"))(shape)
        assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Neighbourhood(-1), "-1"),
        (lambda: Neighbourhood(3, "l3"), "l3"),
        (lambda: Neighbourhood(3, time_scale=0.0), "time_scale"),
        (lambda: neighbour_sum(jnp.ones((1, 3, 3)), Neighbourhood(1), algorithm="slow"), "slow"),
        (lambda: correlate(jnp.ones((1, 3, 3)), jnp.ones((1, 3, 3)), (0, 3, 0)), "(0, 3, 0)"),
    ],
)
def test_refuses_in_one_line(make, word):
    with pytest.raises((UsageError, TypeError)) as caught:
        make()
    assert word in str(caught.value)
