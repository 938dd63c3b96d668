"""Kernel sums over sampled pixels in space-time: bin onto cells, smooth the cells, read back.

The kernel is a Gaussian in space times an exponential in time. Sums of the sampled pixels' values
are taken on a grid of square cells about as wide as the Gaussian's sd, so the cost follows the
number of visited pixels and of cells, not the size of the kernel: the value of a pixel goes to the
cell it lies in, the cells are smoothed by separable taps, and the sum at a pixel is read between
cell centres by bilinear interpolation. With one pixel a cell (full frames) nothing is approximate.
What a pixel itself adds to its sum is known in closed form and is taken off: leave self out.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmicro.errors import UsageError

NEIGHBOURS = 9.0  # kernel-weighted sampled neighbours to aim at
REACH = 3.0  # taps end at this many sds
CELLS_PER_SD = 1.2  # so coarse that four taps a side are enough, so fine that steps do not show


@dataclasses.dataclass(frozen=True)
class Kernel:
    """exp(-d^2 / (2 width^2)) * exp(-|dt| / memory), 1 at the pixel itself.

    Attributes:
      width: sd in space, in pixels.
      memory: frames after which the weight has fallen to 1/e; 0 for the present frame only.
      causal: only the past and the present frame.

    Raises:
      UsageError: a width that is not positive, a negative memory.
    """

    width: float
    memory: float
    causal: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise UsageError(
                f"kernel width {self.width} is not allowed; use a number of pixels > 0"
            )
        if not (math.isfinite(self.memory) and self.memory >= 0):
            raise UsageError(f"kernel memory {self.memory} is not allowed; use 0 or more frames")

    @property
    def decay(self) -> float:
        """Weight of the next frame."""
        return math.exp(-1 / self.memory) if self.memory > 0 else 0.0


class Cells(eqx.Module):
    """A grid of square cells over a frame, with a margin of one cell on each side.

    `reach` is how many cells the taps of its kernel extend to each side.
    """

    side: int = eqx.field(static=True)
    frame: tuple[int, int] = eqx.field(static=True)
    reach: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(_count(n, self.side) + 2 for n in self.frame)  # type: ignore[return-value]

    @property
    def n(self) -> int:
        return math.prod(self.shape)


class Places(eqx.Module):
    """Where pixels lie among the cells: S is 1 where all frames were visited at the same places.

    `cell` is the flat index of the cell, `down` and `right` the weights of the neighbouring cells
    (negative towards lower indices) in bilinear interpolation.
    """

    cell: Int[Array, "S n"]
    down: Float[Array, "S n"]
    right: Float[Array, "S n"]


def cells_for(width: float, frame: tuple[int, int], single: bool = False) -> Cells:
    """Cells as wide as suits a Gaussian of this sd, or one pixel; symmetric about the centre."""
    side = 1 if single else max(1, round(width / CELLS_PER_SD))
    side = min(side, max(1, min(frame) // 4))
    if side % 2 == 0 and (frame[0] % 2 or frame[1] % 2):
        side -= 1  # no pixel may lie on the border of two cells
    most = max(_count(n, side) for n in frame)
    return Cells(side, frame, min(max(1, math.ceil(REACH * width / side)), most))


def places(
    cells: Cells, rows: Int[Array, "S n"], cols: Int[Array, "S n"], dtype: jnp.dtype
) -> Places:
    """Cell and interpolation weights of each pixel."""
    at_row, down = _place(rows, cells.frame[0], cells.side, dtype)
    at_col, right = _place(cols, cells.frame[1], cells.side, dtype)
    return Places(at_row * cells.shape[1] + at_col, down, right)


def bin_frame(
    cells: Cells, cell: Int[Array, " n"], values: Float[Array, "maps n"]
) -> Float[Array, "maps Y X"]:
    """Sums of the values of one frame's pixels over each cell."""
    flat = jnp.zeros((values.shape[0], cells.n), values.dtype)
    return flat.at[:, cell].add(values, mode="promise_in_bounds").reshape(-1, *cells.shape)


def over_time(
    maps: Float[Array, "T maps Y X"],
    decay: Float[Array, ""],
    causal: bool,
    past: Float[Array, "maps Y X"] | None = None,
) -> tuple[Float[Array, "T maps Y X"], Float[Array, "maps Y X"]]:
    """Exponentially weighted sums over frames, and the sum that a frame after the last starts from.

    `past` is the sum that the first frame starts from, as an earlier call returned it.
    """
    start = jnp.zeros_like(maps[0]) if past is None else past
    if maps.shape[0] == 1 and (causal or past is None):
        total = maps + decay * start[None]
        return total, total[0]

    def step(carry: Array, frame: Array) -> tuple[Array, Array]:
        carry = frame + decay * carry
        return carry, carry

    last, forward = jax.lax.scan(step, start, maps)
    if causal:
        return forward, last
    _, backward = jax.lax.scan(step, jnp.zeros_like(start), maps, reverse=True)
    return forward + backward - maps, last


def taps_of(width: Float[Array, ""] | float, cells: Cells, dtype: jnp.dtype) -> Float[Array, " R"]:
    """Half of the symmetric taps: weight at 0, 1, .. cells.

    Binning and interpolation add side^2 (1/12 + 1/6) to the kernel's variance; the taps are that
    much narrower, and higher, so that a pixel weighs the same in all.
    """
    step = jnp.arange(cells.reach + 1, dtype=dtype) * cells.side
    added = 0.25 * cells.side**2 if cells.side > 1 else 0.0
    variance = jnp.maximum(width**2 - added, 0.25 * width**2)
    return jnp.exp(-0.5 * step**2 / variance) * jnp.sqrt(width**2 / variance)


def smooth(maps: Float[Array, "maps Y X"], taps: Float[Array, " R"]) -> Float[Array, "maps Y X"]:
    """Separable smoothing of the cells of one frame; outside the grid there is nothing."""
    reach = taps.shape[0] - 1
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        size = maps.shape[axis]
        wide = jnp.pad(maps, pad)
        total = taps[0] * jax.lax.slice_in_dim(wide, reach, reach + size, axis=axis)
        for d in range(1, reach + 1):
            before = jax.lax.slice_in_dim(wide, reach - d, reach - d + size, axis=axis)
            after = jax.lax.slice_in_dim(wide, reach + d, reach + d + size, axis=axis)
            total = total + taps[d] * (before + after)
        maps = total
    return maps


def read(
    maps: Float[Array, "maps Y X"],
    cell: Int[Array, " n"],
    down: Float[Array, " n"],
    right: Float[Array, " n"],
    side: int,
) -> Float[Array, "maps n"]:
    """The smoothed maps at pixels, by bilinear interpolation between cell centres."""
    flat = maps.reshape(maps.shape[0], -1)
    if side == 1:
        return flat.at[:, cell].get(mode="promise_in_bounds")
    to_row = jnp.where(down < 0, -maps.shape[2], maps.shape[2])
    to_col = jnp.where(right < 0, -1, 1)
    fy, fx = jnp.abs(down), jnp.abs(right)

    def at(offset: Array) -> Array:
        return flat.at[:, cell + offset].get(mode="promise_in_bounds")

    here = at(jnp.zeros_like(cell)) * (1 - fx)[None] + at(to_col) * fx[None]
    there = at(to_row) * (1 - fx)[None] + at(to_row + to_col) * fx[None]
    return here * (1 - fy)[None] + there * fy[None]


def own_share(taps: Float[Array, " R"], where: Places) -> Float[Array, "S n"]:
    """What a pixel of value 1 adds to the sum read at itself (its present frame)."""

    def along(fraction: Array) -> Array:
        f = jnp.abs(fraction)
        return (1 - f) * taps[0] + f * taps[1]

    return along(where.down) * along(where.right)


def density_kernel(
    n_per_frame: float, frame: tuple[int, int], causal: bool, n_frames: int | None = None
) -> Kernel:
    """The kernel for this many visited pixels a frame: about nine neighbours, near in space first.

    The sd falls as density^-.35 (1 pixel at full frames, 5 at 1 %) and the memory makes up the
    number of neighbours; both were found on simulated movies by the held-out log-loss. Movies of
    fewer frames than the memory needs (`n_frames`) get a wider Gaussian instead.
    """
    density = min(1.0, max(n_per_frame / (frame[0] * frame[1]), 1e-6))
    width = density**-0.35
    frames = max(1.0, NEIGHBOURS / (2 * math.pi * density**0.3))  # frames' worth of weight
    if n_frames is not None and n_frames < frames:
        frames = float(n_frames)
        width = max(width, math.sqrt(NEIGHBOURS / (2 * math.pi * density * frames)))
    decay = 1 - 1 / frames if causal else (frames - 1) / (frames + 1)
    memory = -1 / math.log(decay) if decay > 1e-3 else 0.0
    return Kernel(width, memory, causal)


def _count(n: int, side: int) -> int:
    """Cells along an axis of n pixels; even surplus, so that the grid is centred."""
    count = -(-n // side)
    return count + 1 if (count * side - n) % 2 else count


def _place(at: Array, n: int, side: int, dtype: jnp.dtype) -> tuple[Array, Array]:
    shift = (_count(n, side) * side - n) // 2
    cell = (at + shift) // side
    if side == 1:
        return cell + 1, jnp.zeros(at.shape, dtype)
    off = (at + shift - cell * side).astype(dtype) + 0.5
    return cell + 1, off / side - 0.5
