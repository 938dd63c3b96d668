"""Regions of a frame: polygons as pixels, and whether a set of pixels is one connected region."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

LARGEST = 0.95  # of the pixels, in the largest connected part of what counts as one region


def inside(
    outlines: Iterable[Float[np.ndarray, "corners 2"]], shape: tuple[int, int]
) -> Bool[np.ndarray, "rows cols"]:
    """Pixels whose centre lies inside closed polygons, by the even-odd rule.

    Outlines that lie in one another cut holes; what leaves the frame is cut off.

    Args:
      outlines: corners (row, column) of each polygon; pixel (i, j) has its centre at (i, j).
      shape: (rows, columns) of the frame.
    """
    out = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    for outline in outlines:
        y, x = np.asarray(outline, float).T
        y1, x1 = np.roll(y, -1), np.roll(x, -1)
        first, last = np.ceil(y.min()), np.floor(y.max())
        for row in range(max(0, int(first)), min(shape[0] - 1, int(last)) + 1):
            # An edge owns its lower end only, so that a corner is crossed once.
            cut = (y <= row) != (y1 <= row)
            where = x[cut] + (row - y[cut]) / (y1 - y)[cut] * (x1 - x)[cut]
            out[row] ^= np.searchsorted(np.sort(where), columns, side="right") % 2 == 1
    return out


def one_region(visited: Bool[np.ndarray, "*frames rows cols"]) -> bool:
    """Whether visited pixels look like a region that somebody drew rather than a scan pattern.

    So it is where nearly all lie in one connected part whose pixels mostly have all four
    neighbours in it: in a scan that visits a share p of the pixels at random, only p^4 have.
    A frame that was visited everywhere is not a region.
    """
    from scipy import ndimage

    frame = visited if visited.ndim == 2 else visited[0]
    count, share = np.count_nonzero(frame), frame.mean()
    if count == 0 or share == 1:
        return False
    parts, _ = ndimage.label(frame)
    largest = np.bincount(parts[frame]).max()
    padded = np.pad(frame, 1)
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    surrounded = np.count_nonzero(frame & around) / count
    return bool(largest >= LARGEST * count and surrounded > (1 + share**4) / 2)
