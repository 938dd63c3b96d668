"""One local fit for the movie, or one for each replicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import batched_map
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.local_state import Observed, Settings


def over_movies(
    function: Callable[[Any], Any],
    model: GMRM,
    pixels: Pixels,
    more: Any,
    settings: Settings,
) -> Any:
    """`function((observed, item of more))` of the movie, or of each replicate, replicate first."""
    values = pixels.values
    design = model.design(pixels)
    design = design * settings.terms.reshape(-1, *[1] * (design.ndim - 1))
    rows, cols = settings.places or (pixels.rows, pixels.cols)
    weight = pixels.weight.astype(values.dtype)
    fixed = (design[:, None], weight[None], rows[None], cols[None])
    own = (design, weight, rows, cols)

    def one(args):
        z, place, rest = args
        f, w, rows, cols = fixed if pixels.shared else place
        item = Pixels(z, rows, cols, w, pixels.n_domain, pixels.shape, pixels.pattern)
        return function((Observed(item, f), rest))

    if values.ndim == 2:
        return one((values, own, more))
    place = None
    if not pixels.shared:  # the replicate's axis first
        f, w, rows, cols = own
        place = (jnp.moveaxis(f, 2, 0), *(replicate_first(a) for a in (w, rows, cols)))
    return batched_map(one, (replicate_first(values), place, more), 1)


def replicate_first(a: Array) -> Array:
    """(frames, replicates, ...) to (replicates, frames, ...), and back."""
    return jnp.moveaxis(a, 1, 0)
