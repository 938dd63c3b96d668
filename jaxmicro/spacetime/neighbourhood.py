"""Neighbourhoods in space-time, and sums over them at every pixel of a movie.

A neighbourhood is an L1 or L2 ball in (t, y, x) without its centre. A sum over it is a 3-D
correlation of the movie with the ball's 0/1 footprint, with zeros outside the frame, so that
only pixels that exist are counted. The algorithms give the same sums:

- `fft`: overlap-save tiles of a real FFT; its cost hardly depends on the radius, and it is
  differentiable in the grid and in the kernel at the same cost.
- `rows`: differences of running sums along x, one pair per row of the ball; whole numbers stay
  whole numbers. The cost grows as radius squared.
- `conv`: the accelerator's own convolution, for small radii.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.settings import choice, setting

Triple = tuple[int, int, int]

TILE_VOXELS = 2**25  # an FFT works on at most about this many voxels at once: 128 MB in float32
# Largest sum that an FFT in float32 may be asked to give to the nearest whole number. Its error
# relative to the largest sum was measured at up to 7e-7 (11 roundings): .17 here, below 1/2.
EXACT_BELOW = 2**18
ROWS_UP_TO = 5  # radius; measured on CPU: 11 ns a voxel against 29, at 7 it is 32 against 25
CONV_UP_TO = {"cuda": 2, "tpu": 3}  # radius; set by counts of operations, not by measurement


@dataclasses.dataclass(frozen=True)
class Neighbourhood:
    """All (dt, dy, dx) but (0, 0, 0) with |dx| + |dy| + s|dt| <= r, or with squares for L2.

    Attributes:
      radius: r in pixels; 0 is a neighbourhood without neighbours.
      metric: "l1" (|dx| + |dy| + |dt| <= r) or "l2" (dx^2 + dy^2 + dt^2 <= r^2).
      causal: only dt <= 0: the past, and the rest of the present frame.
      time_scale: s, the distance in pixels from one frame to the next; large values give a
        neighbourhood in space only.

    Raises:
      UsageError: a negative radius, an unknown metric, a time scale that is not positive.
    """

    radius: float | int
    metric: str = choice("l2", ("l1", "l2"))
    causal: bool = setting(True, "true (past and present frames only) or false")
    time_scale: float | int = setting(
        1.0, "pixels from one frame to the next, 0.1 to 1000", ge=0.1, le=1000
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise UsageError(f"radius {self.radius} is not a distance; give 0 or more pixels")
        if self.metric not in ("l1", "l2"):
            raise UsageError(f"metric {self.metric!r} is not known; use 'l1' or 'l2'")
        if not (math.isfinite(self.time_scale) and self.time_scale > 0):
            raise UsageError(
                f"time_scale {self.time_scale} is not a distance; give a positive number of pixels"
            )

    @property
    def footprint(self) -> np.ndarray:
        """(dt, dy, dx) bool; index `origin` is the pixel itself, which is False."""
        reach, frames = int(self.radius), int(self.radius / self.time_scale)
        dt = np.arange(-frames, 1 if self.causal else frames + 1)[:, None, None] * self.time_scale
        dy, dx = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        if self.metric == "l1":
            ball = np.abs(dt) + np.abs(dy) + np.abs(dx) <= self.radius
        else:
            ball = dt**2 + dy**2 + dx**2 <= self.radius**2
        ball[self.origin] = False
        return ball

    @property
    def origin(self) -> Triple:
        """Index of (0, 0, 0) in `footprint`."""
        reach = int(self.radius)
        return int(self.radius / self.time_scale), reach, reach

    @property
    def size(self) -> int:
        """How many neighbours a pixel far from every edge has."""
        return int(self.footprint.sum())


def neighbour_sum(
    grid: Shaped[Array, "*batch t y x"],
    neighbourhood: Neighbourhood,
    *,
    algorithm: str = "auto",
) -> Shaped[Array, "*batch t y x"]:
    """At each pixel the sum of `grid` over its neighbours that lie inside the movie.

    Bool and integer grids give exact counts (int32, or the grid's own wider type; sums wrap as
    integers do). Float grids give their own type and are differentiable. Counting is cheapest
    for bool: an n-bit integer grid costs an FFT per few bits.

    Args:
      grid: numbers or bools; batch axes are independent movies.
      neighbourhood: whose sum; static.
      algorithm: "auto" chooses by radius and platform, or "fft", "rows", "conv".

    Raises:
      UsageError: an unknown algorithm, or so large a ball that counts could not be exact.
    """
    kernel, origin = _cropped(neighbourhood.footprint, neighbourhood.origin, grid.shape[-3:])
    if algorithm == "auto":
        return _by_platform(grid, kernel, origin, neighbourhood.radius)
    return _sum(grid, kernel, origin, algorithm)


def correlate(
    grid: Float[Array, "*batch t y x"],
    kernel: Float[Array, "dt dy dx"],
    origin: Sequence[int] | None = None,
) -> Float[Array, "*batch t y x"]:
    """out[p] = sum over d of kernel[d] * grid[p + d - origin], zeros outside, by FFT.

    `origin` is the index of the pixel itself in the kernel, the middle by default; a kernel that
    looks at the past only has its origin at the last dt. Differentiable in `grid` and `kernel`.

    Raises:
      UsageError: an origin outside the kernel.
    """
    origin = tuple((n - 1) // 2 for n in kernel.shape) if origin is None else tuple(origin)
    if len(origin) != 3 or not all(0 <= o < n for o, n in zip(origin, kernel.shape, strict=True)):
        raise UsageError(f"origin {origin} does not lie in a kernel of shape {kernel.shape}")
    crop, inside = _crop(kernel.shape, origin, grid.shape[-3:])
    return _fft(grid, kernel[crop], inside)


def sum_at_pixels(
    values: Shaped[Array, "t n"],
    pixels: Pixels,
    total: Callable[[Array], Array],
) -> Shaped[Array, "t n"]:
    """Neighbour sums from sampled pixels to sampled pixels: scatter, `total`, gather.

    `total` maps a (t, y, x) grid to sums on the grid: `neighbour_sum` or `correlate` with their
    settings bound. `values` belong to `pixels` without replicates. Padding adds nothing. Bool
    values stay exact counts.
    """
    n_frames = values.shape[0]
    rows, cols, weight = (
        jnp.broadcast_to(a, values.shape) for a in (pixels.rows, pixels.cols, pixels.weight)
    )
    times = jnp.broadcast_to(jnp.arange(n_frames)[:, None], values.shape)
    rows_in = jnp.where(weight > 0, rows, pixels.shape[0])  # outside the frame: dropped
    place = jnp.zeros((n_frames, *pixels.shape), values.dtype).at[times, rows_in, cols]
    counting = values.dtype == jnp.bool_
    grid = place.max(values, mode="drop") if counting else place.add(values, mode="drop")
    return total(grid)[times, rows, cols]


# -- choosing -----------------------------------------------------------------------------------


def _by_platform(grid, kernel, origin, radius):
    def using(algorithm):
        return lambda g: _sum(g, kernel, origin, algorithm)

    whole = not jnp.issubdtype(grid.dtype, jnp.floating)
    branches = {"cpu": using("rows" if whole and radius <= ROWS_UP_TO else "fft")}
    for platform, largest in CONV_UP_TO.items():
        branches[platform] = using("conv" if radius <= largest else "fft")
    return jax.lax.platform_dependent(grid, **branches, default=using("fft"))


def _sum(grid, kernel: np.ndarray, origin: Triple, algorithm: str):
    if algorithm == "rows":
        dtype = grid.dtype
        if not jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
            dtype = jnp.int32
        return _rows(grid.astype(dtype), kernel, origin)
    if algorithm not in ("fft", "conv"):
        raise UsageError(
            f"algorithm {algorithm!r} is not known; use 'auto', 'fft', 'rows' or 'conv'"
        )
    method = _fft if algorithm == "fft" else _conv
    if jnp.issubdtype(grid.dtype, jnp.floating):
        return method(grid, _fixed(kernel, grid.dtype), origin)
    return _exactly(grid, lambda g: method(g, _fixed(kernel, g.dtype), origin), int(kernel.sum()))


def _exactly(grid, method, n_neighbours: int):
    """Whole-number sums through float32, a few bits of the grid at a time."""
    if n_neighbours >= EXACT_BELOW:
        raise UsageError(
            f"a neighbourhood of {n_neighbours} pixels is too large for exact counts; "
            f"choose a radius with fewer than {EXACT_BELOW}"
        )
    if grid.dtype == bool:
        return jnp.rint(method(grid.astype(jnp.float32))).astype(jnp.int32)
    bits = 8 * grid.dtype.itemsize
    step = min(bits, int(math.log2(EXACT_BELOW / max(n_neighbours, 1) + 1)))
    dtype = grid.dtype if grid.dtype.itemsize >= 4 else jnp.int32
    wide = grid.astype(dtype)
    total = jnp.zeros(grid.shape, dtype)
    for shift in range(0, bits, step):
        digit = wide >> shift
        if shift + step < bits:  # the topmost digit keeps the sign
            digit = digit & (2**step - 1)
        total += jnp.rint(method(digit.astype(jnp.float32))).astype(dtype) << shift
    return total


def _crop(shape: Sequence[int], origin: Sequence[int], frame: Sequence[int]):
    """The part of a kernel that can reach from one pixel of the movie to another."""
    starts = [max(0, o - (n - 1)) for o, n in zip(origin, frame, strict=True)]
    stops = [min(k, o + n) for k, o, n in zip(shape, origin, frame, strict=True)]
    crop = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    return crop, tuple(o - a for o, a in zip(origin, starts, strict=True))


def _cropped(kernel: np.ndarray, origin: Triple, frame: Sequence[int]):
    crop, origin = _crop(kernel.shape, origin, frame)
    return kernel[crop], origin


def _fixed(kernel: np.ndarray, dtype):
    """The footprint as an array that the compiler may not fold into large constants."""
    return jax.lax.optimization_barrier(jnp.asarray(kernel.astype(dtype)))


# -- FFT ----------------------------------------------------------------------------------------


def _fft(grid, kernel, origin: Triple):
    dtype = jnp.result_type(grid.dtype, jnp.float32)
    frame, reach = grid.shape[-3:], kernel.shape
    batch = grid.reshape((-1, *frame)).astype(dtype)
    tile = _tiles(frame, reach)
    axes = range(3)
    whole = [tile[a] >= frame[a] for a in axes]
    # Where an axis is not cut, wrapping round into a margin of zeros is all the room it needs.
    sides = [max(origin[a], reach[a] - 1 - origin[a]) if whole[a] else reach[a] - 1 for a in axes]
    block = tuple(_fast_length(tile[a] + sides[a]) for a in axes)
    offset = [0 if whole[a] else origin[a] for a in axes]
    count = [-(-frame[a] // tile[a]) for a in axes]

    at = jnp.pad(kernel.astype(dtype), [(0, block[a] - reach[a]) for a in axes])
    spectrum = jnp.conj(jnp.fft.rfftn(jnp.roll(at, [-o for o in origin], axis=(0, 1, 2))))

    def correlated(piece):
        product = jnp.fft.rfftn(piece, axes=(-3, -2, -1)) * spectrum
        full = jnp.fft.irfftn(product, s=block, axes=(-3, -2, -1))
        return full[tuple(slice(offset[a], offset[a] + tile[a]) for a in axes)]

    margins = [
        (offset[a], (count[a] - 1) * tile[a] + block[a] - offset[a] - frame[a]) for a in axes
    ]
    padded = jnp.pad(batch, [(0, 0), *margins])
    if math.prod(count) == 1 and len(batch) == 1:
        return correlated(padded[0]).reshape(grid.shape).astype(grid.dtype)

    corners = np.stack(np.meshgrid(*(np.arange(c) for c in (len(batch), *count)), indexing="ij"))
    corners = corners.reshape(4, -1).T * np.array([1, *tile])

    def one(corner):
        piece = jax.lax.dynamic_slice(padded, list(corner), (1, *block))
        return correlated(piece[0])

    at_once = max(1, TILE_VOXELS // math.prod(block))
    pieces = jax.lax.map(one, jnp.asarray(corners, jnp.int32), batch_size=at_once)
    pieces = pieces.reshape(len(batch), *count, *tile).transpose(0, 1, 4, 2, 5, 3, 6)
    joined = pieces.reshape(len(batch), *(count[a] * tile[a] for a in axes))
    return joined[:, : frame[0], : frame[1], : frame[2]].reshape(grid.shape).astype(grid.dtype)


def _tiles(frame: Sequence[int], reach: Sequence[int]) -> Triple:
    """Tile sizes: halve the axis with the least overlap until a tile fits in TILE_VOXELS."""
    tile = list(frame)

    def block():
        return math.prod(n + k - 1 for n, k in zip(tile, reach, strict=True))

    while block() > TILE_VOXELS:
        gains = [n / (k + 1) for n, k in zip(tile, reach, strict=True)]
        axis = gains.index(max(gains))
        if tile[axis] < 2:
            break
        tile[axis] = -(-tile[axis] // 2)
    return tile[0], tile[1], tile[2]


def _fast_length(n: int) -> int:
    """The least number >= n with no prime factor above 7: FFTs of such lengths are fast."""
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


# -- running sums and the accelerator's convolution ----------------------------------------------


def _rows(grid, kernel: np.ndarray, origin: Triple):
    """Each row of the ball is a run of pixels (one or two): a difference of two running sums."""
    (nt, ny, nx), (ot, oy, ox) = kernel.shape, origin
    t, y, x = grid.shape[-3:]
    widths = [(0, 0)] * (grid.ndim - 3) + [(ot, nt - 1 - ot), (oy, ny - 1 - oy), (ox, nx - 1 - ox)]
    running = jnp.cumsum(jnp.pad(grid, widths), axis=-1, dtype=grid.dtype)
    running = jnp.pad(running, [(0, 0)] * (grid.ndim - 1) + [(1, 0)])

    total = jnp.zeros(grid.shape, grid.dtype)
    for dt, dy in np.argwhere(kernel.any(axis=-1)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], kernel[dt, dy].astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            rows = running[..., dt : dt + t, dy : dy + y, :]
            total += rows[..., stop : stop + x] - rows[..., start : start + x]
    return total


def _conv(grid, kernel, origin: Triple):
    dtype = jnp.result_type(grid.dtype, jnp.float32)
    pads = [(o, n - 1 - o) for o, n in zip(origin, kernel.shape, strict=True)]
    batch = grid.reshape((-1, 1, *grid.shape[-3:])).astype(dtype)
    out = jax.lax.conv_general_dilated(
        batch,
        kernel[None, None].astype(dtype),
        window_strides=(1, 1, 1),
        padding=pads,
        dimension_numbers=("NCDHW", "OIDHW", "NCDHW"),
        precision=jax.lax.Precision.HIGHEST,  # reduced precision would not count exactly
    )
    return out.reshape(grid.shape).astype(grid.dtype)
