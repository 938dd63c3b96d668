"""Training images as the slice's instrument would have seen them."""

from __future__ import annotations

import math

import numpy as np

from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.stage import Stage, run_stage
from jaxmicro.errors import DataError

LOOK = 320  # fine pixels a side of the parts of training images that further passes learn from
LOOKS = 6  # such parts at least: with two from a single image further passes learnt them by heart
TURNS = (0, 3, 5, 6, 1, 2, 4, 7)

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated_pairs(
    images: list[np.ndarray],
    masks: list[np.ndarray | None],
    p: int,
    n_patches: int,
    forward: Forward,
    noise: Noise,
    rng: np.random.Generator,
) -> Pairs:
    """(clean, noisy, sharp) patches: what the slice's instrument would make of training images.

    The images are turned, mirrored and shifted by fractions of a coarse pixel: eight looks each.
    """
    n = forward.decimation
    columns: list[list[np.ndarray]] = [[], [], []]
    looks = [(i, turn) for i in range(len(images)) for turn in range(8)]
    for number, (i, turn) in enumerate(looks):
        fine, mask = _turned(images[i], turn), masks[i]
        bad = ~np.isfinite(fine)
        if mask is not None:
            bad |= ~_turned(mask, turn)
        shift = rng.integers(0, n, 2)
        fine, bad = fine[shift[0] :, shift[1] :], bad[shift[0] :, shift[1] :]
        height, width = (length // n for length in fine.shape)
        if min(height, width) < p + 2:
            raise DataError(
                f"training image {i}: {fine.shape} pixels on the result's grid are too few for "
                f"patches of {p * n}; give a larger image or a smaller --patch-size"
            )
        fine, bad = fine[: height * n, : width * n], bad[: height * n, : width * n]
        filled = np.where(bad, np.nanmean(np.where(bad, np.nan, fine)), fine).astype(np.float32)
        coarse = forward.mirrored(filled)
        noisy = coarse + noise.sample(rng, coarse.shape)
        places = _places(bad, n, p)
        share = n_patches * (number + 1) // len(looks) - n_patches * number // len(looks)
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


class Looks:
    """Training images as the slice's instrument would have seen them, stage after stage."""

    def __init__(self, images, masks, forward, noise, rng):
        self.pairs = []
        n = forward.decimation
        side = max(1, LOOK // n) * n
        turns = TURNS[: max(2, math.ceil(LOOKS / len(images)))]
        for image, mask in zip(images, masks, strict=True):
            for turn in turns:
                fine = _turned(image, turn)
                good = np.isfinite(fine)
                if mask is not None:
                    good &= _turned(mask, turn)
                height, width = (length // n * n for length in fine.shape)
                height, width = min(height, side), min(width, side)
                top = int(rng.integers(0, (fine.shape[0] - height) // n + 1)) * n
                left = int(rng.integers(0, (fine.shape[1] - width) // n + 1)) * n
                box = (slice(top, top + height), slice(left, left + width))
                fine, good = fine[box], good[box]
                if not good.any():
                    continue
                filled = np.where(good, fine, np.mean(fine[good])).astype(np.float32)
                coarse = forward.mirrored(filled)
                noisy = coarse + noise.sample(rng, coarse.shape)
                self.pairs.append([noisy, np.where(good, filled, np.nan).astype(np.float32)])

    def advance(self, stage: Stage) -> None:
        """Send every look through one more stage."""
        for pair in self.pairs:
            pair[0], _, _ = run_stage(stage, pair[0], np.ones(pair[0].shape, bool))

    def patches(self, p: int, n_patches: int, rng) -> tuple[np.ndarray, np.ndarray]:
        """(what the stages made, what is true) at random places."""
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
