"""Neighbour sums in space-time: cost a voxel against SciPy and XLA's own convolution.

Command:   python experiments/benchmark_neighbourhood.py   (--quick: a smaller movie)
Run time:  about 60 s on 2 cores; --quick 10 s

Ours runs on a whole movie of 60 x 512 x 512 with 1 % of the pixels visited. The rivals would
need minutes to hours at that size, so they run once on (2 r + 4) x 64 x 64 (16 x 16 at radius
20) and are quoted per voxel. A grid that small is not a fair copy of a movie (most of the ball
lies outside it, XLA picks another path), so the ratios say the order of magnitude and no more.
`exact` compares with running sums in whole numbers. Compilation is told apart.

Expected:  2 cores, JAX 0.10.2, ns a voxel over two runs on a machine with other work on it:

    radius  ours      scipy             lax.conv
    3       8 to 14   55 to 203         2 900 to 5 600
    5       9 to 18   250 to 520        7 600 to 15 000
    10      23 to 27  3 800 to 8 000    34 000 to 68 000
    20      27 to 32  160 000 to 560 000  4 400 to 250 000

Compilation .1 to .3 s; every count exact.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxmicro.spacetime.neighbourhood import Neighbourhood, neighbour_sum


def timed(function, *args, repeats: int = 3) -> tuple[float, float, np.ndarray]:
    """Best seconds a call, seconds of the first call beyond that (compilation), the answer."""
    start = time.perf_counter()
    out = jax.block_until_ready(function(*args))
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return min(times), max(0.0, first - min(times)), np.asarray(out)


def whole_number_sums(grid: np.ndarray, footprint: np.ndarray, origin) -> np.ndarray:
    """The reference: 64-bit running sums along x, one pair per row of the ball."""
    shape = grid.shape
    widths = [(o, n - 1 - o) for o, n in zip(origin, footprint.shape, strict=True)]
    running = np.cumsum(np.pad(grid.astype(np.int32), widths), axis=2)
    running = np.pad(running, ((0, 0), (0, 0), (1, 0)))
    out = np.zeros(shape, np.int32)
    for dt, dy in np.argwhere(footprint.any(axis=2)):
        row = running[dt : dt + shape[0], dy : dy + shape[1]]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], footprint[dt, dy].astype(int), [0]])))
        for a, b in edges.reshape(-1, 2):
            out += row[..., b : b + shape[2]]
            out -= row[..., a : a + shape[2]]
    return out


def scipy_sum(neighbourhood):
    from scipy import ndimage

    weights = neighbourhood.footprint.astype(np.int32)
    return lambda g: ndimage.convolve(
        np.asarray(g, np.int32), weights[::-1, ::-1, ::-1], mode="constant"
    )


def lax_sum(neighbourhood):
    kernel = jnp.asarray(neighbourhood.footprint, jnp.float32)[None, None]
    pads = [(o, n - 1 - o) for o, n in zip(neighbourhood.origin, kernel.shape[2:], strict=True)]

    @jax.jit
    def run(g):
        image = g.astype(jnp.float32)[None, None]
        return jax.lax.conv_general_dilated(image, kernel, (1, 1, 1), pads)[0, 0]

    return run


def rival_cost(build, neighbourhood, rng) -> float:
    """ns a voxel, one call on a movie a little longer than the ball."""
    side = 64 if neighbourhood.radius <= 10 else 16
    shape = (2 * int(neighbourhood.radius) + 4, side, side)
    grid = jnp.asarray(rng.random(shape) < 0.01)
    run = build(neighbourhood)
    if hasattr(run, "lower"):
        run = run.lower(grid).compile()
    start = time.perf_counter()
    jax.block_until_ready(run(grid))
    return (time.perf_counter() - start) / grid.size * 1e9


RIVALS = {"scipy": scipy_sum, "lax.conv": lax_sum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller movie, fewer radii")
    options = parser.parse_args()
    shape = (24, 128, 128) if options.quick else (60, 512, 512)
    radii = (3, 10) if options.quick else (3, 5, 10, 20)
    rng = np.random.default_rng(1)
    grid = jnp.asarray(rng.random(shape) < 0.01)
    print(f"{jax.devices()[0].device_kind}, movie {shape}, ns a voxel; ratio = rival / ours")
    print("metric  radius  neighbours  ours  compile s  exact  scipy (ratio)  lax.conv (ratio)")
    for metric in ("l1", "l2"):
        for radius in radii:
            neighbourhood = Neighbourhood(radius, metric, causal=False)
            ours = jax.jit(lambda g, n=neighbourhood: neighbour_sum(g, n))
            seconds, compilation, out = timed(ours, grid)
            part = np.s_[: 2 * radius + 4, :96, :96]  # the reference is slow: check a corner
            inner = np.s_[: radius + 4, : 96 - radius, : 96 - radius]
            expected = whole_number_sums(
                np.asarray(grid[part]), neighbourhood.footprint, neighbourhood.origin
            )
            exact = np.array_equal(out[inner], expected[inner])
            cost = seconds / grid.size * 1e9
            cells = []
            for name in RIVALS:
                rival = rival_cost(RIVALS[name], neighbourhood, rng)
                cells.append(f"{rival:.0f} ({rival / cost:.0f}x)")
            print(
                f"{metric:6}  {radius:6d}  {neighbourhood.size:10d}  {cost:4.0f}  "
                f"{compilation:9.1f}  {exact!s:5}  {cells[0]:>13}  {cells[1]:>16}",
                flush=True,
            )


if __name__ == "__main__":
    main()
