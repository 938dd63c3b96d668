"""A start whose trend is that of neighbours: what the layout of a scene cannot put into it.

Most neighbours in an arranged scene belong to one class, so that their difference holds the trend
and noise but no class. Least squares of such differences on those of the terms, with pixels of
different classes left out as outliers (Tukey's biweight), gives a trend that bright material at the
bottom does not move. Where labels are scattered it is worth little: it is one start of several.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.starts import Start, start_with

FROM, NEAREST, EACH = 6000, 32, 10  # pixels, neighbours to draw from, and how many are drawn
ROUNDS = 15
REACH = 4.0  # robust sds from which on a difference counts for nothing


def neighbour_start(model: GMRM, pixels: Pixels, classes: int) -> Start:
    """A mixture of the grey values less the trend between neighbours.

    Args:
      pixels: batch axis (frames,).
      classes: how many of the model's classes are in use.
    """
    return start_with("trend between neighbours", model, pixels, classes, between_neighbours)


def between_neighbours(
    values: Float[np.ndarray, " n"],
    design: Float[np.ndarray, "P n"],
    places: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, " P"]:
    """Coefficients of the trend that the differences of neighbours have."""
    rng = np.random.default_rng(0)
    some = rng.permutation(values.size)[:FROM]
    near = min(NEAREST, values.size - 1)
    _, other = KDTree(places).query(places[some], k=near + 1)
    picked = np.asarray(other)[:, 1 + rng.permutation(near)[:EACH]]
    a, b = np.repeat(some, picked.shape[1]), picked.ravel()
    rise, terms = values[a] - values[b], design[:, a] - design[:, b]
    ridge = 1e-9 * np.trace(terms @ terms.T) * np.eye(len(terms))
    found, weight = np.zeros(len(terms)), np.ones(rise.size)
    for _ in range(ROUNDS):
        found = np.linalg.solve((terms * weight) @ terms.T + ridge, (terms * weight) @ rise)
        off = np.abs(rise - found @ terms)
        scale = max(1.4826 * float(np.median(off)), 1e-6)
        weight = np.clip(1 - (off / (REACH * scale)) ** 2, 0, None) ** 2
    return found
