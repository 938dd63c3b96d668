"""Learning a dictionary of one instrument for the slices of another.

*paper*: training images resampled to the slice's pixel size, one dictionary, which codes and
rebuilds. *coupled*: the training images are sent through a model of the slice's instrument (blur,
decimation, noise of the slice's own spectrum); one set of atoms codes the degraded patches, whitened
against the noise, and its twins, fitted to the sharp patches by least squares on the codes of the
*noisy* ones, rebuild them. So shrinkage and noise are accounted for in the twins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.learn import Learned, Learning, learn
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.patches import local_contrast, remove_mean, sample_patches
from jaxmicro.dictionary.stage import Stage, run_stage
from jaxmicro.errors import DataError, UsageError

VARIANTS = ("coupled", "paper")
PENALTIES = (1.2, 1.7, 2.3, 3.0)  # noise standard deviations; the best on simulated pairs is taken
LEARNING_PENALTY = 1.5  # noise standard deviations, for coding clean patches while learning
WHITE_FLOOR = 1e-2  # of the largest noise eigenvalue: directions without noise are not trusted more
SHRINK = 1e-4  # ridge of the twins' least squares, relative
REFINE_PENALTIES = (0.6, 1.0)  # in units of the error that earlier stages leave
REFINE_PATCHES = 60_000
REFINE_TOLERANCE = 1e-2  # the codes are dense there, and the twins are fitted to the same codes
LOOK = 160  # coarse pixels a side of the part of a training image that further passes learn from
HELD_OUT = 2048


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to learn; a model file's [dictionary] table."""

    variant: str = "coupled"
    patch_size: int = 8
    n_atoms: int = 256
    n_patches: int = 100_000
    upscale: int = 1
    refine: int = 0  # patch size of further passes on the result's grid; 0 for none
    refinements: int = 1  # how many
    penalty: float | None = None  # None: from the noise
    contrast_scaling: bool = False
    learning: Learning = dataclasses.field(default_factory=Learning)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(
                f"variant {self.variant!r} is not known; use one of {', '.join(VARIANTS)}"
            )
        if self.patch_size < 2 or self.upscale < 1 or self.n_patches < 1:
            raise UsageError(
                f"patch_size {self.patch_size}, upscale {self.upscale}, n_patches "
                f"{self.n_patches}: give 2 or more, 1 or more and 1 or more"
            )
        if self.variant == "paper" and (self.upscale != 1 or self.refine):
            raise UsageError(
                "the paper's recipe keeps the slice's pixels and has one pass; "
                "use variant 'coupled' for --upscale or a second pass"
            )
        if self.penalty is not None and not self.penalty > 0:
            raise UsageError(
                f"--penalty {self.penalty:g} is not allowed; give a number above 0, or auto"
            )


@dataclasses.dataclass(frozen=True)
class Taught:
    """Stages ready to run, the learning behind them, and what the choice of penalty saw.

    `choices` rows are (penalty in noise standard deviations, rms error on simulated pairs).
    """

    stages: tuple[Stage, ...]
    learned: Learned
    choices: tuple[tuple[float, float], ...] = ()


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def teach(
    images: list[Float[np.ndarray, "Y X"]],
    masks: list[np.ndarray | None],
    recipe: Recipe,
    noise: Noise,
    blur_px: float,
    *,
    seed: int,
    start: Learned | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Taught:
    """Learn from training images that are on the grid of the result and in its grey values.

    Args:
      images: on the result's pixel size; NaN where unusable.
      masks: True where usable; None for everywhere.
      noise: of the slices, at the slices' pixel size.
      blur_px: sd of the blur between the instruments, in pixels of the result.
      seed: of patches, noise and learning.
      start: a learning state to go on from (the paper's recipe, and coupled's coding atoms).

    Raises:
      DataError: training images too small, or fewer patches than atoms.
      UsageError: a recipe that cannot be.
    """
    if recipe.variant == "paper":
        return _teach_paper(images, masks, recipe, noise, seed, start, progress)
    rng = np.random.default_rng([seed, 1])
    forward = Forward(blur_px, recipe.upscale)
    clean, noisy, sharp = simulated_pairs(images, masks, recipe, forward, noise, rng)
    whitener = whitening(noise.covariance(recipe.patch_size))
    size, scale = recipe.patch_size, recipe.upscale
    m, out = size**2, (size * scale) ** 2
    blank = Stage(
        np.zeros((0, m), np.float32), whitener, np.zeros((0, out), np.float32),
        np.zeros((0, out), np.float32), size, scale, 1.0, 0.0,
        recipe.learning.nonnegative, recipe.learning.ridge,
    )  # fmt: skip
    stage, learned, choices = _fit_stage(
        blank, clean, noisy, sharp, recipe, PENALTIES, seed, start, progress
    )
    stages = [stage]
    if recipe.refine:
        looks = _Looks(images, masks, forward, noise, rng)
        looks.advance(stage)
        for number in range(recipe.refinements):
            stages.append(_refinement(looks, recipe, rng, seed + 1 + number))
            if number + 1 < recipe.refinements:
                looks.advance(stages[-1])
    return Taught(tuple(stages), learned, choices)


def whitening(covariance: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"]:
    """The symmetric inverse square root of a noise covariance."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, WHITE_FLOOR * values.max())
    return ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)


def simulated_pairs(
    images: list[np.ndarray],
    masks: list[np.ndarray | None],
    recipe: Recipe,
    forward: Forward,
    noise: Noise,
    rng: np.random.Generator,
) -> Pairs:
    """(clean, noisy, sharp) patches: what the slice's instrument would make of training images.

    The images are turned, mirrored and shifted by fractions of a coarse pixel: eight looks each.
    """
    n, p = forward.decimation, recipe.patch_size
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
        places = _places(bad, n, p, forward.sd)
        share = recipe.n_patches * (number + 1) // len(looks) - recipe.n_patches * number // len(
            looks
        )
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


def _places(bad: np.ndarray, n: int, p: int, sd: float) -> np.ndarray:
    """Flat indices of coarse patches whose sharp patch is usable throughout."""
    coarse = bad.reshape(bad.shape[0] // n, n, bad.shape[1] // n, n).any(axis=(1, 3))
    if not coarse.any():
        return np.arange((coarse.shape[0] - p + 1) * (coarse.shape[1] - p + 1))
    view = np.lib.stride_tricks.sliding_window_view(coarse, (p, p))
    places = np.flatnonzero(~view.any(axis=(2, 3)))
    if not len(places):
        raise DataError("a training image has no patch of usable pixels; use a smaller mask")
    return places


def _fit_stage(blank, clean, noisy, sharp, recipe, penalties, seed, start, progress, linear=False):
    """Coding atoms from clean patches; the penalty and the twins from noisy and sharp ones."""
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    white = remove_mean(clean)[0] @ blank.whitener
    spare = min(HELD_OUT, len(white) // 10)
    learned = learn(
        white[spare:],
        LEARNING_PENALTY,
        options,
        seed,
        held_out=white[:spare] if spare else None,
        start=start,
        progress=progress,
    )
    few = min(len(noisy), 20_000)
    test = max(1, few // 4)
    choices = []
    for penalty in penalties if recipe.penalty is None else (recipe.penalty,):
        stage = dataclasses.replace(blank, coding=learned.atoms, penalty=float(penalty))
        stage = fit_twins(stage, noisy[test:few], sharp[test:few], linear)
        centred, mean = remove_mean(noisy[:test])
        rebuilt = stage.rebuild(stage.encode(centred), centred) + mean
        choices.append((float(penalty), float(np.sqrt(np.mean((rebuilt - sharp[:test]) ** 2)))))
    best = min(choices, key=lambda pair: pair[1])[0]
    stage = dataclasses.replace(blank, coding=learned.atoms, penalty=best)
    return fit_twins(stage, noisy, sharp, linear), learned, tuple(choices)


def fit_twins(
    stage: Stage,
    noisy: Float[np.ndarray, "n m"],
    sharp: Float[np.ndarray, "n M"],
    linear: bool = False,
) -> Stage:
    """The twins that rebuild `sharp` best, in the mean square, from the codes of `noisy`.

    With `linear`, from the codes and the patch itself.
    """
    centred, mean = remove_mean(noisy)
    codes = stage.encode(centred)
    k = codes.n_atoms
    width = k + linear * centred.shape[1]
    gram, product = np.zeros((width, width)), np.zeros((width, sharp.shape[1]))
    for at in range(0, len(noisy), 8192):
        rows = slice(at, at + 8192)
        part = dataclasses.replace(codes, indices=codes.indices[rows], values=codes.values[rows])
        known = part.dense()
        if linear:
            known = np.concatenate([known, centred[rows] @ stage.whitener], axis=1)
        gram += known.T @ known
        product += known.T @ (sharp[rows] - mean[rows])
    if not gram.trace() > 0:
        raise DataError(
            "every training patch was coded with zero codes: the penalty is too large for the "
            "contrast of the training images; lower --penalty or check the intensity matching"
        )
    gram[np.diag_indices(width)] += SHRINK * gram.trace() / width
    found = np.linalg.solve(gram, product)
    return dataclasses.replace(
        stage,
        rebuilding=found[:k].astype(np.float32),
        linear=(stage.whitener[:, : width - k] @ found[k:]).astype(np.float32)[: width - k],
    )


class _Looks:
    """Training images as the slice's instrument would have seen them, stage after stage."""

    def __init__(self, images, masks, forward, noise, rng):
        self.pairs = []
        n = forward.decimation
        for image, mask in zip(images, masks, strict=True):
            for turn in (0, 3):
                fine = _turned(image, turn)
                good = np.isfinite(fine)
                if mask is not None:
                    good &= _turned(mask, turn)
                height, width = (length // n * n for length in fine.shape)
                height, width = min(height, LOOK * n), min(width, LOOK * n)
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


def _refinement(looks: _Looks, recipe: Recipe, rng, seed: int) -> Stage:
    """A further stage on the result's grid, from what the earlier ones make of training images."""
    p = recipe.refine
    first, sharp = looks.patches(p, min(recipe.n_patches, REFINE_PATCHES), rng)
    error = float(np.sqrt(np.mean((first - sharp) ** 2)))
    blank = Stage(
        np.zeros((0, p * p), np.float32),
        np.eye(p * p, dtype=np.float32) / max(error, 1e-6),
        np.zeros((0, p * p), np.float32), np.zeros((0, p * p), np.float32), p, 1, 1.0, 0.0,
        recipe.learning.nonnegative, recipe.learning.ridge, REFINE_TOLERANCE,
    )  # fmt: skip
    free = dataclasses.replace(recipe, penalty=None)
    return _fit_stage(
        blank, first, first, sharp, free, REFINE_PENALTIES, seed, None, None, linear=True
    )[0]


def _teach_paper(images, masks, recipe, noise, seed, start, progress):
    """One dictionary at the slice's pixel size, coding to the noise level or at a fixed penalty."""
    rng = np.random.default_rng([seed, 1])
    raw = sample_patches(images, masks, recipe.patch_size, recipe.n_patches, rng)
    patches = remove_mean(raw.astype(np.float32))[0]
    m = patches.shape[1]
    if recipe.contrast_scaling:
        patches = patches / local_contrast(patches, 0.1 * float(patches.std()) + 1e-12)
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    spare = min(HELD_OUT, len(patches) // 10)
    # the scale-free choice of Mairal et al., 1.2/sqrt(m) on unit-norm patches
    scale = float(np.sqrt(np.mean(np.sum(patches**2, axis=1))))
    if not scale > 0:
        raise DataError("the training patches have no contrast; give an image with structure")
    learned = learn(
        patches[spare:] / scale,
        1.2 / np.sqrt(m),
        options,
        seed,
        held_out=patches[:spare] / scale if spare else None,
        start=start,
        progress=progress,
    )
    bound = float(m * noise.sd**2)
    stage = Stage(
        learned.atoms,
        np.eye(m, dtype=np.float32),
        learned.atoms,
        np.zeros((0, m), np.float32),
        recipe.patch_size,
        1,
        recipe.penalty or 0.0,
        bound,
        options.nonnegative,
        options.ridge,
    )
    return Taught((stage,), learned)
