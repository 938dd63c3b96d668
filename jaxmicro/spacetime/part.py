"""Part of a model and of a frame, for fits that only try: see `jaxmicro.growth.choose`."""

from __future__ import annotations

import dataclasses

from jaxtyping import Array, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Places of pixels on a frame of `shape`, in the axes of their rows and columns."""

    rows: Int[Array, "*#batch n"]
    cols: Int[Array, "*#batch n"]
    shape: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Part of a model that is tried: its first `classes` classes and the `terms` of its trend.

    The other classes hold no pixels and the coefficients of the other terms stay 0. `steps` are
    the passes over the pixels that it is given. `layout` says where the pixels lie for the kernel,
    where pieces of a frame were moved together.
    """

    classes: int
    terms: tuple[bool, ...]
    steps: int
    layout: Layout | None = None
