"""Tiles of a frame: pieces that are taken as independent of one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jaxmicro.data.sampling import Pixels

SIDE = 8  # tiles along each side of what was visited
N_TILES = SIDE * SIDE


def tiles_of(pixels: Pixels) -> Int[np.ndarray, "T n"]:
    """The tile of each pixel; the same grid over what was visited in all frames.

    Args:
      pixels: batch axis (frames,).
    """
    shape = pixels.values.shape
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, shape)
    number = np.zeros(shape, int)
    for places in (pixels.rows, pixels.cols):
        at = np.broadcast_to(np.asarray(places), shape)
        low, high = at[seen].min(), at[seen].max() + 1
        number = number * SIDE + np.clip((at - low) * SIDE // max(high - low, 1), 0, SIDE - 1)
    return number
