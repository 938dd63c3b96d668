"""Learning a dictionary of one instrument for the slices of another.

*paper*: training images resampled to the slice's pixel size, one dictionary, which codes and
rebuilds. *coupled*: the training images are sent through a model of the slice's instrument (blur,
decimation, noise of the slice's own spectrum). One set of atoms codes the degraded patches,
whitened against the noise. Atoms paired with them rebuild: they are fitted to the sharp patches by
least squares on the codes of the *noisy* ones, so shrinkage and noise are accounted for. Codes
above and below zero have paired atoms of their own, at each of a few grey levels of the patch: a
dark line is a crack inside a grain and means nothing in a void. Further passes do the same from
what the earlier ones made of training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from jaxmicro.dictionary.forward import Forward
from jaxmicro.dictionary.learn import LearningOptions, LearningState, learn
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.patches import local_contrast, remove_mean, sample_patches
from jaxmicro.dictionary.simulate import SimulatedImages, simulated_images, simulated_pairs
from jaxmicro.dictionary.stage import FURTHER_STRIDE, ROWS, Stage, features, level_weights
from jaxmicro.errors import DataError, UsageError
from jaxmicro.settings import choice, setting

VARIANTS = ("coupled", "paper")
PENALTIES = (1.2, 1.7, 2.3, 3.0)  # noise standard deviations; the best on simulated pairs is taken
LEARNING_PENALTY = 1.5  # noise standard deviations, for coding clean patches while learning
SCALE_FREE = 1.2  # over the root of the pixels, on unit-norm patches (Mairal et al. 2009)
WHITE_FLOOR = 1e-2  # of the largest eigenvalue: a floor for directions with hardly any noise
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # of the paired atoms' fit, relative; best on simulated pairs
REFINE_PENALTIES = (1.0, 1.6)  # in units of the error that earlier stages leave
REFINE_PATCHES = 60_000
REFINE_TOLERANCE = 1e-2  # the codes are dense there, and the paired atoms are fitted to them
HELD_OUT = 2048
MAX_PAIRED = 12_800  # atoms, of either sign at all grey levels: normal equations of 1.3 GB


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to learn; a model file's [dictionary] table."""

    variant: str = choice("coupled", VARIANTS)
    patch_size: int = setting(8, "pixels, 4 to 32", ge=4, le=32)
    n_atoms: int = setting(256, "a whole number, 16 to 4096", key="atoms", ge=16, le=4096)
    n_patches: int = setting(
        100_000, "training patches, 256 to 10000000", key="patches", ge=256, le=10_000_000
    )
    refine: int = setting(
        0, "patch size of further passes, 4 to 32, or 0 for none", ge=0, le=32
    )  # on the result's grid
    refinements: int = setting(1, "further passes, 1 to 4", ge=1, le=4)
    levels: int = setting(
        3, "grey levels with paired atoms of their own, 1 to 8", ge=1, le=8
    )  # coupled only
    contrast_scaling: bool = setting(False, "true (learn from patches of equal contrast) or false")
    penalty: float | None = setting(None, "a number above 0; left out it follows the noise", gt=0)
    upscale: int = setting(1, "result pixels per slice pixel, 1 to 8", ge=1, le=8)
    learning: LearningOptions = dataclasses.field(default_factory=LearningOptions)

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
        paired = 2 * self.n_atoms * self.levels
        if self.levels < 1 or (self.variant == "coupled" and paired > MAX_PAIRED):
            raise UsageError(
                f"levels {self.levels} with {self.n_atoms} atoms is not allowed; give 1 or more "
                f"levels, and 2 x levels x atoms at most {MAX_PAIRED}"
            )
        if self.penalty is not None and not self.penalty > 0:
            raise UsageError(
                f"--penalty {self.penalty:g} is not allowed; give a number above 0, or auto"
            )

    @property
    def passes(self) -> int:
        """Passes over a slice."""
        return 1 + self.refinements if self.refine else 1

    def with_passes(self, count: int) -> Recipe:
        """With `count` passes, at most as many as there are."""
        if count == 1:
            return dataclasses.replace(self, refine=0)
        return dataclasses.replace(self, refinements=count - 1)


@dataclasses.dataclass(frozen=True)
class LearnedStages:
    """Stages ready to run, the state of the learning, and how the penalty was chosen.

    `choices` rows are (penalty in noise standard deviations, rms error on simulated pairs).
    """

    stages: tuple[Stage, ...]
    state: LearningState
    choices: tuple[tuple[float, float], ...] = ()


def learn_stages(
    images: list[Float[np.ndarray, "Y X"]],
    recipe: Recipe,
    noise: Noise,
    blur_px: float,
    *,
    seed: int,
    start: LearningState | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearnedStages:
    """Learn from training images that are on the grid of the result and in its grey values.

    Args:
      images: on the result's pixel size; NaN where unusable.
      noise: of the slices, at the slices' pixel size.
      blur_px: sd of the blur between the instruments, in pixels of the result.
      seed: of patches, noise and learning.
      start: a learning state to go on from (the paper's recipe, and coupled's coding atoms).
      progress: as in `learn`.

    Raises:
      DataError: training images too small, or fewer patches than atoms.
      UsageError: a recipe that cannot be.
    """
    rng = np.random.default_rng([seed, 1])
    if recipe.variant == "paper":
        return _learn_paper(images, recipe, noise, rng, seed, start, progress)
    forward = Forward(blur_px, recipe.upscale)
    pairs = simulated_pairs(images, recipe.patch_size, recipe.n_patches, forward, noise, rng)
    clean, noisy, sharp = pairs
    whitener = whitening(noise.covariance(recipe.patch_size))
    blank = _blank(recipe, recipe.patch_size, recipe.upscale, whitener)
    state = _learn_atoms(clean, blank, recipe, seed, start, progress)
    blank = dataclasses.replace(blank, coding=state.atoms)
    penalties = PENALTIES if recipe.penalty is None else (recipe.penalty,)
    stage, choices = _fit_rebuilding(blank, noisy, sharp, recipe.levels, penalties)
    stages = [stage]
    if recipe.refine:
        simulated = simulated_images(images, forward, noise, rng)
        for number in range(recipe.refinements):
            simulated = simulated.through(stages[-1], FURTHER_STRIDE if number else 1)
            stages.append(_refinement(simulated, recipe, rng, seed + 1 + number))
    return LearnedStages(tuple(stages), state, choices)


def _blank(recipe: Recipe, size: int, upscale: int, whitener: Float[np.ndarray, "m m"]) -> Stage:
    """A stage whose atoms are still to be learned."""
    return Stage(
        np.zeros((0, size**2), np.float32), whitener,
        np.zeros((0, (size * upscale) ** 2), np.float32), np.zeros(0, np.float32),
        size, upscale, 1.0, 0.0, recipe.learning.nonnegative, recipe.learning.ridge,
    )  # fmt: skip


def whitening(covariance: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"]:
    """The symmetric inverse square root of a noise covariance."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, WHITE_FLOOR * values.max())
    return ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)


def _learn_atoms(clean, blank: Stage, recipe: Recipe, seed, start, progress) -> LearningState:
    """Coding atoms from clean patches."""
    white = remove_mean(clean)[0] @ blank.whitener
    penalty = LEARNING_PENALTY
    if recipe.contrast_scaling:
        white, penalty = white / local_contrast(white, 1.0), SCALE_FREE
    return _learn(white, penalty, recipe, seed, start, progress)


def _learn(patches, penalty, recipe: Recipe, seed, start, progress) -> LearningState:
    """`learn` with a tenth of the patches held out, at most HELD_OUT."""
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    spare = min(HELD_OUT, len(patches) // 10)
    return learn(
        patches[spare:],
        penalty,
        options,
        seed,
        held_out=patches[:spare] if spare else None,
        start=start,
        progress=progress,
    )


def _fit_rebuilding(blank: Stage, noisy, sharp, n_levels: int, penalties):
    """(stage, choices): penalty and ridge by the error on a part of the pairs, then paired atoms.

    `choices` has the least error at each penalty.
    """
    blank = dataclasses.replace(blank, levels=grey_levels(noisy.mean(axis=1), n_levels))
    few = min(len(noisy), 20_000)
    test = max(1, few // 4)
    tried = []
    for penalty in penalties:
        stage = dataclasses.replace(blank, penalty=float(penalty))
        sums = normal_equations(stage, noisy[test:few], sharp[test:few])
        centred, mean = remove_mean(noisy[:test])
        codes = stage.encode(centred)
        for ridge in RIDGES:
            fitted = fit_paired_atoms(stage, *sums, ridge)
            rebuilt = fitted.rebuild(codes, centred, mean)
            error = float(np.sqrt(np.mean((rebuilt - sharp[:test]) ** 2)))
            tried.append((error, float(penalty), ridge))
    _, best, ridge = min(tried)
    stage = dataclasses.replace(blank, penalty=best)
    sums = normal_equations(stage, noisy, sharp)
    lowest = {p: min(e for e, q, _ in tried if q == p) for _, p, _ in tried}
    return fit_paired_atoms(stage, *sums, ridge * (few - test) / len(noisy)), tuple(lowest.items())


def grey_levels(means: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, " q"]:
    """Evenly spaced quantiles of the patch means; fewer where they coincide."""
    shares = np.linspace(0.05, 0.95, count) if count > 1 else np.array([0.5])
    return np.unique(np.quantile(means, shares).astype(np.float32))


def normal_equations(
    stage: Stage, noisy: Float[np.ndarray, "n m"], sharp: Float[np.ndarray, "n M"]
) -> tuple[Float[np.ndarray, "f f"], Float[np.ndarray, "f M"]]:
    """Of the least-squares fit of sharp patches by the features of noisy ones, per grey level.

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
        weight = level_weights(mean[rows, 0], stage.levels)
        known = (weight[:, :, None] * known[:, None, :]).reshape(len(known), -1)
        gram = gram + (known.T @ known).astype(np.float64)
        product = product + (known.T @ (sharp[rows] - mean[rows])).astype(np.float64)
    return np.asarray(gram), np.asarray(product)


def fit_paired_atoms(
    stage: Stage, gram: Float[np.ndarray, "f f"], product: Float[np.ndarray, "f M"], ridge: float
) -> Stage:
    """The stage with the paired atoms of least mean square error, under a relative ridge."""
    # features that hardly occur must not be scaled up to the variance of the others
    scale = np.sqrt(np.diag(gram) + 1e-6 * gram.trace() / len(gram))
    normal = gram / scale[:, None] / scale[None, :]
    normal[np.diag_indices(len(gram))] += ridge
    found = np.linalg.solve(normal, product / scale[:, None]) / scale[:, None]
    found = found.reshape(len(stage.levels), -1, product.shape[1])
    k, m = stage.coding.shape
    # the whitened patch was the feature, the patch itself is what `rebuild` is given
    found[:, 2 * k : 2 * k + m] = stage.whitener @ found[:, 2 * k : 2 * k + m]
    return dataclasses.replace(stage, rebuilding=found.astype(np.float32))


def _refinement(simulated: SimulatedImages, recipe: Recipe, rng, seed: int) -> Stage:
    """A further stage on the result's grid, from what the earlier ones make of training images."""
    p = recipe.refine
    first, sharp = simulated.patches(p, min(recipe.n_patches, REFINE_PATCHES), rng)
    error = float(np.sqrt(np.mean((first - sharp) ** 2)))
    whitener = np.eye(p * p, dtype=np.float32) / max(error, 1e-6)
    blank = dataclasses.replace(_blank(recipe, p, 1, whitener), tolerance=REFINE_TOLERANCE)
    atoms = _learn_atoms(first, blank, recipe, seed, None, None).atoms
    blank = dataclasses.replace(blank, coding=atoms)
    return _fit_rebuilding(blank, first, sharp, recipe.levels, REFINE_PENALTIES)[0]


def _learn_paper(images, recipe: Recipe, noise: Noise, rng, seed, start, progress) -> LearnedStages:
    """One dictionary at the slice's pixel size, coding to the noise level or at a fixed penalty."""
    raw = sample_patches(images, recipe.patch_size, recipe.n_patches, rng)
    patches = remove_mean(raw.astype(np.float32))[0]
    m = patches.shape[1]
    if recipe.contrast_scaling:
        patches = patches / local_contrast(patches, max(noise.sd, float(np.finfo(np.float32).tiny)))
    scale = float(np.sqrt(np.mean(np.sum(patches**2, axis=1))))
    if not scale > 0:
        raise DataError("the training patches have no contrast; give an image with structure")
    state = _learn(patches / scale, SCALE_FREE / np.sqrt(m), recipe, seed, start, progress)
    stage = dataclasses.replace(
        _blank(recipe, recipe.patch_size, 1, np.eye(m, dtype=np.float32)),
        coding=state.atoms,
        rebuilding=state.atoms,
        penalty=recipe.penalty or 0.0,
        bound=float(m * noise.sd**2),
    )
    return LearnedStages((stage,), state)
