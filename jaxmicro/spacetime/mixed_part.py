"""The part of a movie that a correction is fitted to: one piece, where classes are most mixed.

A thinned movie has fewer neighbours a pixel, so the part keeps every pixel of a box of the frame
in consecutive frames. Among the boxes and frames the one whose class shares hold most entropy (per
pixel, times pixels) is taken: inside a single class every radius predicts equally well.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels


def mixed_part(
    probabilities: Float[Array, "t K n"], pixels: Pixels, most_frames: int, most_voxels: int
) -> tuple[slice, Float[Array, "f K m"], Pixels]:
    """Frames of the part, and its class probabilities and pixels; places stay those of the frame.

    Args:
      probabilities: of the classes at each pixel; 0 at padding.
      pixels: batch axes (frames,), with places of their own for every frame.
      most_frames, most_voxels: largest size of the part, in frames and in pixels of the grid.
    """
    count = min(most_frames, pixels.n_frames)
    shares = np.asarray(jnp.sum(probabilities, axis=2), np.float64)
    firsts = range(pixels.n_frames - count + 1)
    first = max(firsts, key=lambda t: _entropy(shares[t : t + count].sum(axis=0)))
    frames = slice(first, first + count)
    p, some = np.asarray(probabilities[frames]), pixels[frames]
    height, width = _sides(most_voxels // count, pixels.shape)
    inside = np.asarray(some.weight) > 0
    if (height, width) != pixels.shape:
        boxes = [
            _inside(some, top, left, height, width)
            for top in _starts(pixels.shape[0], height)
            for left in _starts(pixels.shape[1], width)
        ]
        inside = max(boxes, key=lambda box: _entropy(np.sum(p * box[:, None], axis=(0, 2))))
    return frames, *_only(p, some, inside)


def _sides(area: int, shape: tuple[int, int]) -> tuple[int, int]:
    """A box of about this area inside the frame, as square as the frame allows."""
    height = min(shape[0], max(1, math.isqrt(area)))
    width = min(shape[1], max(1, area // height))
    return min(shape[0], max(1, area // width)), width


def _starts(length: int, side: int) -> list[int]:
    """First rows of boxes that overlap by half and cover the frame."""
    last = length - side
    return sorted({min(at, last) for at in range(0, last + side, max(1, side // 2))})


def _inside(pixels: Pixels, top: int, left: int, height: int, width: int) -> np.ndarray:
    rows, cols = np.asarray(pixels.rows) - top, np.asarray(pixels.cols) - left
    box = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return box & (np.asarray(pixels.weight) > 0)


def _entropy(counts: np.ndarray) -> float:
    """Entropy of the shares times the total, in nats."""
    held = counts[counts > 0]
    return float(-np.sum(held * np.log(held / held.sum())))


def _only(
    p: np.ndarray, pixels: Pixels, inside: np.ndarray
) -> tuple[Float[Array, "f K m"], Pixels]:
    """The pixels inside, moved to the front of their frame and padded to the longest."""
    width = max(1, int(inside.sum(axis=1).max()))
    order = np.argsort(~inside, axis=1, kind="stable")[:, :width]

    def taken(a: Array) -> Array:
        return jnp.asarray(np.take_along_axis(np.asarray(a), order, axis=1))

    weight = jnp.asarray(np.take_along_axis(inside, order, axis=1), pixels.weight.dtype)
    part = Pixels(
        taken(pixels.values),
        taken(pixels.rows),
        taken(pixels.cols),
        weight,
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )
    return jnp.asarray(np.take_along_axis(p, order[:, None], axis=2)), part
