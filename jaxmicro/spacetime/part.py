"""Part of a model and of a frame, for fits that only try: see `jaxmicro.growth.choose`."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.spacetime.local_em import Coupling


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Places of pixels on a frame of `shape`, in the axes of their rows and columns.

    `area` is how many pixels of the frame the pieces cover, by which the density of the sampling is
    known.
    """

    rows: Int[Array, "*#batch n"]
    cols: Int[Array, "*#batch n"]
    shape: tuple[int, int]
    area: int


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Part of a model that is tried: its first `classes` classes and the `terms` of its trend.

    The other classes hold no pixels and the coefficients of the other terms stay 0. `steps` are
    the passes over the pixels that it is given. `layout` says where the pixels lie for the kernel,
    where pieces of a frame were moved together.

    `told` (1 or 0, the shape of the pixels' weights) are the pixels whose classes their neighbours
    are told of. With `held` the parameters stay those of the start, the coupling begins as `held`,
    and the likelihood is that of the other pixels: they are left out and predicted.
    """

    classes: int
    terms: tuple[bool, ...]
    steps: int
    layout: Layout | None = None
    told: Float[Array, "*#batch n"] | None = None
    held: Coupling | None = None

    def per_frame(self, pixels: Pixels) -> float:
        """Visited pixels of a frame, had the pieces covered all of it."""
        seen = float(np.mean(np.asarray(pixels.n_pixels)))
        return seen if self.layout is None else seen * math.prod(pixels.shape) / self.layout.area
