"""Learning a dictionary of one instrument for the slices of another.

*paper*: training images resampled to the slice's pixel size, one dictionary, which codes and
rebuilds. *coupled*: the training images are sent through a model of the slice's instrument (blur,
decimation, noise of the slice's own spectrum). One set of atoms codes the degraded patches,
whitened against the noise. Its twins rebuild: they are fitted to the sharp patches by least squares
on the codes of the *noisy* ones, so shrinkage and noise are accounted for. Codes above and below
zero have twins of their own, at each of a few grey levels of the patch: a dark line is a crack
inside a grain and means nothing in a void. Further passes do the same from what the earlier ones
made of training images.
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
from jaxmicro.dictionary.simulate import Looks, simulated_pairs
from jaxmicro.dictionary.stage import ROWS, Stage, features, level_shares
from jaxmicro.errors import DataError, UsageError

VARIANTS = ("coupled", "paper")
PENALTIES = (1.2, 1.7, 2.3, 3.0)  # noise standard deviations; the best on simulated pairs is taken
LEARNING_PENALTY = 1.5  # noise standard deviations, for coding clean patches while learning
SCALE_FREE = 1.2  # over the root of the pixels, on unit-norm patches (Mairal et al. 2009)
WHITE_FLOOR = 1e-2  # of the largest noise eigenvalue: directions without noise are not trusted more
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # of the twins' least squares, relative; best on simulated pairs
REFINE_PENALTIES = (1.0, 1.6)  # in units of the error that earlier stages leave
REFINE_PATCHES = 60_000
REFINE_TOLERANCE = 1e-2  # the codes are dense there, and the twins are fitted to the same codes
HELD_OUT = 2048
MAX_TWINS = 12_800  # of either sign at all levels: their normal equations take 1.3 GB


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
    levels: int = 3  # grey levels at which atoms have twins of their own (coupled)
    contrast_scaling: bool = False  # learn from patches of equal contrast
    penalty: float | None = None  # None: from the noise
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
        twins = 2 * self.n_atoms * self.levels
        if self.levels < 1 or (self.variant == "coupled" and twins > MAX_TWINS):
            raise UsageError(
                f"levels {self.levels} with {self.n_atoms} atoms is not allowed; give 1 or more "
                f"levels, and 2 x levels x atoms at most {MAX_TWINS}"
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
    clean, noisy, sharp = simulated_pairs(
        images, masks, recipe.patch_size, recipe.n_patches, forward, noise, rng
    )
    whitener = whitening(noise.covariance(recipe.patch_size))
    size, scale = recipe.patch_size, recipe.upscale
    m, out = size**2, (size * scale) ** 2
    blank = Stage(
        np.zeros((0, m), np.float32), whitener, np.zeros((0, out), np.float32),
        np.zeros(0, np.float32), size, scale, 1.0, 0.0,
        recipe.learning.nonnegative, recipe.learning.ridge,
    )  # fmt: skip
    stage, learned, choices = _fit_stage(
        blank, clean, noisy, sharp, recipe, PENALTIES, seed, start, progress
    )
    stages = [stage]
    if recipe.refine:
        looks = Looks(images, masks, forward, noise, rng)
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


def _fit_stage(blank, clean, noisy, sharp, recipe, penalties, seed, start, progress):
    """Coding atoms from clean patches; the penalty and the twins from noisy and sharp ones."""
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    white = remove_mean(clean)[0] @ blank.whitener
    penalty = LEARNING_PENALTY
    if recipe.contrast_scaling:
        white, penalty = white / local_contrast(white, 1.0), SCALE_FREE
    spare = min(HELD_OUT, len(white) // 10)
    learned = learn(
        white[spare:],
        penalty,
        options,
        seed,
        held_out=white[:spare] if spare else None,
        start=start,
        progress=progress,
    )
    levels = grey_levels(noisy.mean(axis=1), recipe.levels)
    blank = dataclasses.replace(blank, coding=learned.atoms, levels=levels)
    few = min(len(noisy), 20_000)
    test = max(1, few // 4)
    choices = []
    for penalty in penalties if recipe.penalty is None else (recipe.penalty,):
        stage = dataclasses.replace(blank, penalty=float(penalty))
        sums = twin_sums(stage, noisy[test:few], sharp[test:few])
        centred, mean = remove_mean(noisy[:test])
        codes = stage.encode(centred)
        for ridge in RIDGES:
            fitted = solve_twins(stage, *sums, ridge)
            rebuilt = fitted.rebuild(codes, centred, mean)
            error = float(np.sqrt(np.mean((rebuilt - sharp[:test]) ** 2)))
            choices.append((error, float(penalty), ridge))
    _, best, ridge = min(choices)
    stage = dataclasses.replace(blank, penalty=best)
    stage = solve_twins(stage, *twin_sums(stage, noisy, sharp), ridge * (few - test) / len(noisy))
    lowest = {p: min(e for e, q, _ in choices if q == p) for _, p, _ in choices}
    return stage, learned, tuple(lowest.items())


def grey_levels(means: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, " q"]:
    """Evenly spaced quantiles of the patch means; fewer where they coincide."""
    shares = np.linspace(0.05, 0.95, count) if count > 1 else np.array([0.5])
    return np.unique(np.quantile(means, shares).astype(np.float32))


def twin_sums(
    stage: Stage, noisy: Float[np.ndarray, "n m"], sharp: Float[np.ndarray, "n M"]
) -> tuple[Float[np.ndarray, "f f"], Float[np.ndarray, "f M"]]:
    """Normal equations of the sharp patches on the features of the noisy ones, per level.

    Raises:
      DataError: every code is zero.
    """
    centred, mean = remove_mean(noisy)
    codes = stage.encode(centred)
    if not np.any(codes.values):
        raise DataError(
            "every training patch was coded with zero codes: the penalty is too large for the "
            "contrast of the training images; lower --penalty or check the intensity matching"
        )
    white = centred @ stage.whitener
    gram, product = 0.0, 0.0
    for at in range(0, len(noisy), ROWS):
        rows = slice(at, at + ROWS)
        known = features(codes, white, rows)
        share = level_shares(mean[rows, 0], stage.levels)
        known = (share[:, :, None] * known[:, None, :]).reshape(len(known), -1)
        gram = gram + (known.T @ known).astype(np.float64)
        product = product + (known.T @ (sharp[rows] - mean[rows])).astype(np.float64)
    return np.asarray(gram), np.asarray(product)


def solve_twins(
    stage: Stage, gram: Float[np.ndarray, "f f"], product: Float[np.ndarray, "f M"], ridge: float
) -> Stage:
    """The stage with the twins that rebuild best, in the mean square, under a relative ridge."""
    # features that hardly occur must not be scaled up to count like the others
    scale = np.sqrt(np.diag(gram) + 1e-6 * gram.trace() / len(gram))
    normal = gram / scale[:, None] / scale[None, :]
    normal[np.diag_indices(len(gram))] += ridge
    found = np.linalg.solve(normal, product / scale[:, None]) / scale[:, None]
    found = found.reshape(len(stage.levels), -1, product.shape[1])
    k, m = stage.coding.shape
    # the whitened patch was the feature, the patch itself is what `rebuild` is given
    found[:, 2 * k : 2 * k + m] = stage.whitener @ found[:, 2 * k : 2 * k + m]
    return dataclasses.replace(stage, rebuilding=found.astype(np.float32))


def _refinement(looks: Looks, recipe: Recipe, rng, seed: int) -> Stage:
    """A further stage on the result's grid, from what the earlier ones make of training images."""
    p = recipe.refine
    first, sharp = looks.patches(p, min(recipe.n_patches, REFINE_PATCHES), rng)
    error = float(np.sqrt(np.mean((first - sharp) ** 2)))
    blank = Stage(
        np.zeros((0, p * p), np.float32),
        np.eye(p * p, dtype=np.float32) / max(error, 1e-6),
        np.zeros((0, p * p), np.float32), np.zeros(0, np.float32), p, 1, 1.0, 0.0,
        recipe.learning.nonnegative, recipe.learning.ridge, REFINE_TOLERANCE,
    )  # fmt: skip
    free = dataclasses.replace(recipe, penalty=None)
    return _fit_stage(blank, first, first, sharp, free, REFINE_PENALTIES, seed, None, None)[0]


def _teach_paper(images, masks, recipe, noise, seed, start, progress):
    """One dictionary at the slice's pixel size, coding to the noise level or at a fixed penalty."""
    rng = np.random.default_rng([seed, 1])
    raw = sample_patches(images, masks, recipe.patch_size, recipe.n_patches, rng)
    patches = remove_mean(raw.astype(np.float32))[0]
    m = patches.shape[1]
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    spare = min(HELD_OUT, len(patches) // 10)
    if recipe.contrast_scaling:
        patches = patches / local_contrast(patches, max(noise.sd, np.finfo(np.float32).tiny))
    scale = float(np.sqrt(np.mean(np.sum(patches**2, axis=1))))
    if not scale > 0:
        raise DataError("the training patches have no contrast; give an image with structure")
    learned = learn(
        patches[spare:] / scale,
        SCALE_FREE / np.sqrt(m),
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
        np.zeros(0, np.float32),
        recipe.patch_size,
        1,
        recipe.penalty or 0.0,
        bound,
        options.nonnegative,
        options.ridge,
    )
    return Taught((stage,), learned)
