"""A few frames of a movie, and tiles of large ones: what candidates for its model see."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmicro.data.sampling import Pixels
from jaxmicro.spacetime.part import Layout

FRAMES = 5  # that candidates are fitted to
PIXELS = 40_000  # of these frames together
TILE = 32  # side of the pieces that are taken of larger frames; half of it lies between them
PILED_UP = 0.02  # share of the pixels with one extreme value from which on it is said
DENSE = 0.5  # share of visited pixels from which on pieces may be half as wide: kernels are narrow


def few_frames(pixels: Pixels) -> tuple[np.ndarray, Pixels, Layout | None]:
    """Numbers of some frames, their pixels, thinned where there are many, and how these lie."""
    frames = np.unique(np.round(np.linspace(0, pixels.n_frames - 1, FRAMES)).astype(int))
    return frames, *tiles(pixels[frames] if pixels.n_frames > FRAMES else pixels)


def tiles(pixels: Pixels) -> tuple[Pixels, Layout | None]:
    """Frames with too many visited pixels cut to tiles spread evenly over the frame.

    Whole tiles, because neighbours must stay together. The layout moves them next to each other,
    with gaps that no kernel reaches across, so that a kernel does not run over what is left out.
    """
    most_seen = float(np.max(np.asarray(pixels.n_pixels)))
    keep = PIXELS / (pixels.n_frames * most_seen)
    if keep >= 1:
        return pixels, None
    dense = most_seen > DENSE * math.prod(pixels.shape)
    tile = TILE // 2 if dense else TILE
    height, width = (-(-side // tile) for side in pixels.shape)
    # The additive recurrence of the plastic number: however many are kept, they lie evenly.
    number = (np.arange(height)[:, None] * 0.5698403 + np.arange(width)[None, :] * 0.7548777) % 1
    kept = number <= max(keep, np.sort(number.ravel())[0])
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    weight = np.asarray(pixels.weight) * kept[rows // tile, cols // tile]
    most = int(np.max((weight > 0).sum(axis=-1)))
    order = np.argsort(weight <= 0, axis=-1, kind="stable")[..., :most]

    def cut(a: Array | np.ndarray) -> np.ndarray:
        return np.take_along_axis(np.asarray(a), order, axis=-1)

    values = np.asarray(pixels.values)
    values = values[:, order] if pixels.shared else cut(values)
    rows, cols, weight = cut(rows), cut(cols), cut(weight)
    few = Pixels(
        jnp.asarray(values),
        jnp.asarray(rows),
        jnp.asarray(cols),
        jnp.asarray(weight),
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )
    across = int(np.ceil(np.sqrt(kept.sum())))
    place = np.cumsum(kept).reshape(kept.shape) - 1
    at, pitch = place[rows // tile, cols // tile], tile + tile // 2
    new_rows = np.where(weight > 0, at // across * pitch + rows % tile, 0)
    new_cols = np.where(weight > 0, at % across * pitch + cols % tile, 0)
    down = -(-int(kept.sum()) // across)
    shape = (down * pitch, across * pitch)
    as_int = [jnp.asarray(a.astype(np.int32)) for a in (new_rows, new_cols)]
    covered = kept.repeat(tile, 0).repeat(tile, 1)[: pixels.shape[0], : pixels.shape[1]]
    return few, Layout(as_int[0], as_int[1], shape, int(covered.sum()))


def piled_up(pixels: Pixels) -> str:
    """How many pixels have the largest value, or the smallest, where these are many; else ""."""
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, pixels.values.shape)
    values = np.asarray(pixels.values)[seen]
    share, value = max((float(np.mean(values == v)), v) for v in (values.max(), values.min()))
    return f"; {share:.0%} of the pixels have the value {value:g}" if share > PILED_UP else ""
