"""Training images as the slice's instrument would have seen them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.stage import Stage, run_stage
from jaxmicro.errors import DataError

FIELD = 320  # fine pixels a side of the fields of training images that further passes learn from
FIELDS = 6  # at least; with two fields from a single image further passes overfitted
ORIENTATIONS = (0, 3, 5, 6, 1, 2, 4, 7)  # quarter turns, those from 4 on mirrored

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated_pairs(
    images: list[np.ndarray],
    p: int,
    n_patches: int,
    forward: Forward,
    noise: Noise,
    rng: np.random.Generator,
) -> Pairs:
    """(clean, noisy, sharp) patches: what the slice's instrument would make of training images.

    Each image, NaN where unusable, is used in eight orientations, shifted by fractions of a coarse
    pixel.
    """
    n = forward.decimation
    columns: list[list[np.ndarray]] = [[], [], []]
    views = [(i, turn) for i in range(len(images)) for turn in range(8)]
    for number, (i, turn) in enumerate(views):
        fine = _shifted(_turned(images[i], turn), n, rng)
        height, width = (length // n for length in fine.shape)
        if min(height, width) < p + 2:
            raise DataError(
                f"training image {i}: {images[i].shape} pixels on the result's grid are too few "
                f"for patches of {p * n}; give a larger image or a smaller --patch-size"
            )
        bad = ~np.isfinite(fine)
        filled = np.where(bad, np.nanmean(fine), fine).astype(np.float32)
        coarse = forward.mirrored(filled)
        noisy = coarse + noise.sample(rng, coarse.shape)
        places = _places(bad, n, p)
        share = n_patches * (number + 1) // len(views) - n_patches * number // len(views)
        chosen = rng.choice(len(places), min(share, len(places)), replace=False)
        rows, cols = np.divmod(places[chosen], width - p + 1)
        view = np.lib.stride_tricks.sliding_window_view
        columns[0].append(view(coarse, (p, p))[rows, cols].reshape(-1, p * p))
        columns[1].append(view(noisy, (p, p))[rows, cols].reshape(-1, p * p))
        sharp = view(filled, (n * p, n * p))[rows * n, cols * n]
        columns[2].append(sharp.reshape(-1, (n * p) ** 2))
    clean, noisy, sharp = (np.concatenate(c).astype(np.float32) for c in columns)
    order = rng.permutation(len(clean))
    return clean[order], noisy[order], sharp[order]


def _shifted(image: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The image from a random one of its first n rows and columns, cut to multiples of n."""
    shift = rng.integers(0, n, 2)
    height, width = ((length - s) // n * n for length, s in zip(image.shape, shift, strict=True))
    return image[shift[0] : shift[0] + height, shift[1] : shift[1] + width]


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    out = np.rot90(image, turn % 4)
    return np.ascontiguousarray(out[::-1] if turn >= 4 else out)


def _places(bad: np.ndarray, n: int, p: int) -> np.ndarray:
    """Flat indices of coarse patches whose sharp patch is usable throughout."""
    coarse = bad.reshape(bad.shape[0] // n, n, bad.shape[1] // n, n).any(axis=(1, 3))
    if not coarse.any():
        return np.arange((coarse.shape[0] - p + 1) * (coarse.shape[1] - p + 1))
    view = np.lib.stride_tricks.sliding_window_view(coarse, (p, p))
    places = np.flatnonzero(~view.any(axis=(2, 3)))
    if not len(places):
        raise DataError("a training image has no patch of usable pixels; use a smaller mask")
    return places


@dataclasses.dataclass(frozen=True)
class SimulatedImages:
    """Fields of training images as the slice's instrument would have seen them.

    `pairs` holds (what the passes so far have made of it, the sharp field), NaN where unusable.
    """

    pairs: tuple[tuple[np.ndarray, np.ndarray], ...]

    def through(self, stage: Stage, stride: int) -> SimulatedImages:
        """The fields after one more pass, as `enhance` makes it."""
        done = (
            (run_stage(stage, a, np.ones(a.shape, bool), stride=stride)[0], b)
            for a, b in self.pairs
        )
        return SimulatedImages(tuple(done))

    def patches(self, p: int, n_patches: int, rng) -> tuple[np.ndarray, np.ndarray]:
        """(what the passes have made, what is sharp) at random places, one patch a row."""
        each = -(-n_patches // len(self.pairs))
        columns: list[list[np.ndarray]] = [[], []]
        for pair in self.pairs:
            stack = np.stack(pair)
            height, width = (length - p + 1 for length in stack.shape[1:])
            rows, cols = rng.integers(0, height, each), rng.integers(0, width, each)
            view = np.lib.stride_tricks.sliding_window_view(stack, (p, p), axis=(1, 2))
            cut = view[:, rows, cols].reshape(2, -1, p * p)
            keep = np.isfinite(cut).all(axis=(0, 2))
            for column, part in zip(columns, cut, strict=True):
                column.append(part[keep])
        order = rng.permutation(sum(len(c) for c in columns[0]))
        first, sharp = (np.concatenate(c)[order] for c in columns)
        return first, sharp


def simulated_images(
    images: list[np.ndarray],
    forward: Forward,
    noise: Noise,
    rng: np.random.Generator,
) -> SimulatedImages:
    """Fields of training images in several orientations, blurred, decimated and with noise."""
    pairs = []
    orientations = ORIENTATIONS[: max(2, math.ceil(FIELDS / len(images)))]
    for image in images:
        for turn in orientations:
            fine = _turned(image, turn)
            fine = fine[_random_field(fine.shape, forward.decimation, rng)]
            good = np.isfinite(fine)
            if not good.any():
                continue
            filled = np.where(good, fine, np.mean(fine[good])).astype(np.float32)
            coarse = forward.mirrored(filled)
            noisy = coarse + noise.sample(rng, coarse.shape)
            pairs.append((noisy, np.where(good, filled, np.nan).astype(np.float32)))
    return SimulatedImages(tuple(pairs))


def _random_field(shape: tuple[int, ...], n: int, rng) -> tuple[slice, ...]:
    """A box of at most FIELD pixels a side; its sides and corner are multiples of n."""
    sides = [min(length // n * n, max(1, FIELD // n) * n) for length in shape]
    corner = [
        int(rng.integers(0, (length - side) // n + 1)) * n
        for length, side in zip(shape, sides, strict=True)
    ]
    return tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))
