"""Patches of images and volumes: a grid, extraction in bands, and the exact adjoint.

Host code on NumPy, so that a slice larger than the accelerator streams through in bands; only the
bands' patches are ever held. Works for any number of axes: (y, x) or (z, y, x).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxmicro.errors import DataError, UsageError

BAND_PIXELS = 2**23  # values of extracted patches held at once: 32 MB in float32


@dataclasses.dataclass(frozen=True)
class Grid:
    """Positions of patches of `size` pixels an axis, every `stride` pixels, covering `shape`.

    The last position of each axis is flush with the border, so that every pixel is covered.

    Raises:
      UsageError: a stride that is not between 1 and the patch size (pixels would be skipped).
      DataError: an image smaller than a patch.
    """

    shape: tuple[int, ...]
    size: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise UsageError(
                f"stride {self.stride} is not allowed; give 1 to the patch size, {self.size}"
            )
        if min(self.shape) < self.size:
            raise DataError(
                f"an image of {' x '.join(map(str, self.shape))} pixels is smaller than a patch "
                f"of {self.size} pixels; give a larger image or a smaller --patch-size"
            )

    @property
    def n_pixels(self) -> int:
        return self.size ** len(self.shape)

    @property
    def starts(self) -> tuple[np.ndarray, ...]:
        """First row, column, ... of the patches, one array an axis."""
        out = []
        for length in self.shape:
            last = length - self.size
            first = np.arange(0, last + 1, self.stride)
            out.append(first if first[-1] == last else np.append(first, last))
        return tuple(out)

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(len(s) for s in self.starts)

    @property
    def n_patches(self) -> int:
        return int(np.prod(self.counts))

    def bands(self) -> Iterator[Band]:
        """Runs of first-axis positions whose patches stay within the memory bound."""
        first, *rest = self.starts
        across = int(np.prod([len(s) for s in rest])) * self.n_pixels
        rows = max(1, BAND_PIXELS // max(across, 1))
        for at in range(0, len(first), rows):
            yield Band((first[at : at + rows], *rest), self.size)


@dataclasses.dataclass(frozen=True)
class Band:
    """The patches at the product of `starts`."""

    starts: tuple[np.ndarray, ...]
    size: int

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(len(s) for s in self.starts)

    def extract(self, image: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "n m"]:
        """All patches of the band, one a row, in the order of the image."""
        axes = (self.size,) * image.ndim
        windows = np.lib.stride_tricks.sliding_window_view(image, axes)
        return windows[np.ix_(*self.starts)].reshape(-1, self.size**image.ndim)

    def add(self, patches: Float[np.ndarray, "n m"], onto: Float[np.ndarray, "*shape"]) -> None:
        """The adjoint of `extract`: add every patch onto its place.

        One shifted add for each pixel of the patch; positions within an axis differ, so no target
        is hit twice in one add.
        """
        shaped = patches.reshape(*self.counts, *(self.size,) * onto.ndim)
        for offset in itertools.product(range(self.size), repeat=onto.ndim):
            target = np.ix_(*(s + o for s, o in zip(self.starts, offset, strict=True)))
            place: tuple[Any, ...] = (..., *offset)
            onto[target] += shaped[place]


class Overlap:
    """Weighted mean and standard deviation of overlapping patches at each pixel."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype | type = np.float32):
        self.total = np.zeros(shape, dtype)
        self.square = np.zeros(shape, dtype)
        self.weight = np.zeros(shape, dtype)

    def add(
        self,
        band: Band,
        patches: Float[np.ndarray, "n m"],
        weight: Float[np.ndarray, "n m"],
    ) -> None:
        """Add patches with the weight that each of their pixels has."""
        band.add(patches * weight, self.total)
        band.add(patches**2 * weight, self.square)
        band.add(weight, self.weight)

    def mean(self, otherwise: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The weighted mean, and `otherwise` where no patch contributes."""
        covered = self.weight > 0
        return np.where(covered, self.total / np.where(covered, self.weight, 1), otherwise)

    def sd(self) -> Float[np.ndarray, "*shape"]:
        """Weighted standard deviation of the estimates of each pixel; NaN where there is none."""
        covered = self.weight > 0
        weight = np.where(covered, self.weight, 1)
        variance = self.square / weight - (self.total / weight) ** 2
        return np.where(covered, np.sqrt(np.maximum(variance, 0)), np.nan)


def remove_mean(
    patches: Float[np.ndarray, "n m"], weights: Float[np.ndarray, "n m"] | None = None
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n 1"]]:
    """(patches less their means, the means); pixels of weight 0 do not count and become 0."""
    if weights is None:
        mean = patches.mean(axis=1, keepdims=True)
        return patches - mean, mean
    inside = np.where(weights > 0, patches, 0)
    share = weights.sum(axis=1, keepdims=True)
    mean = (inside * weights).sum(axis=1, keepdims=True) / np.where(share > 0, share, 1)
    mean = mean.astype(patches.dtype)
    return np.where(weights > 0, inside - mean, 0).astype(patches.dtype), mean


def local_contrast(patches: Float[np.ndarray, "n m"], floor: float) -> Float[np.ndarray, "n 1"]:
    """Root mean square of each mean-free patch, at least `floor`: the scale to divide by."""
    return np.maximum(np.sqrt(np.mean(patches**2, axis=1, keepdims=True)), floor)


def sample_patches(
    images: list[np.ndarray],
    size: int,
    n_patches: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n m"]:
    """Patches at random places of several images, only where every value is finite.

    Returns fewer than `n_patches` where the images hold fewer.

    Raises:
      DataError: no image holds a single usable patch.
    """
    found, owner = [], []
    for number, image in enumerate(images):
        Grid(image.shape, size)
        places = np.flatnonzero(~_any_bad(~np.isfinite(image), size))
        found.append(places)
        owner.append(np.full(len(places), number))
    places, owners = np.concatenate(found), np.concatenate(owner)
    if not len(places):
        raise DataError(
            f"no patch of {size} pixels lies wholly in usable pixels; "
            "give a smaller --patch-size or another training image"
        )
    chosen = np.sort(rng.choice(len(places), min(n_patches, len(places)), replace=False))
    out = np.empty((len(chosen), size ** images[0].ndim), images[0].dtype)
    for number, image in enumerate(images):
        rows = np.flatnonzero(owners[chosen] == number)
        windows = np.lib.stride_tricks.sliding_window_view(image, (size,) * image.ndim)
        corner = np.unravel_index(places[chosen[rows]], windows.shape[: image.ndim])
        out[rows] = windows[corner].reshape(len(rows), out.shape[1])  # rows may be none
    return out


def _any_bad(bad: np.ndarray, size: int) -> np.ndarray:
    """For every patch place, whether a bad pixel is inside; by sums along one axis at a time."""
    count = bad.astype(np.int64)
    for axis in range(bad.ndim):
        total = np.cumsum(count, axis=axis)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis=axis)
        length = bad.shape[axis]
        high = total.take(np.arange(size, length + 1), axis)
        count = high - total.take(np.arange(0, length - size + 1), axis)
    return count > 0
