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
HELD_OUT = 2048


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to learn; a model file's [dictionary] table."""

    variant: str = "coupled"
    patch_size: int = 8
    n_atoms: int = 256
    n_patches: int = 100_000
    upscale: int = 1
    refine: int = 0  # patch size of a second pass on the output's grid; 0 for none
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
    stage, learned, choices = _fit_stage(
        clean, noisy, sharp, whitener, recipe, recipe.patch_size, recipe.upscale, seed, start,
        progress,
    )  # fmt: skip
    stages = (stage,)
    if recipe.refine:
        stages += (_refinement(stage, images, masks, recipe, forward, noise, rng, seed),)
    return Taught(stages, learned, choices)


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


def _fit_stage(clean, noisy, sharp, whitener, recipe, size, upscale, seed, start, progress):
    """Coding atoms from clean patches; the penalty and the twins from noisy and sharp ones."""
    options = dataclasses.replace(recipe.learning, n_atoms=recipe.n_atoms)
    white = remove_mean(clean)[0] @ whitener
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
    blank = Stage(
        learned.atoms, whitener, np.zeros((len(learned.atoms), sharp.shape[1]), np.float32), size,
        upscale, 1.0, 0.0, options.nonnegative, options.ridge,
    )  # fmt: skip
    few = min(len(noisy), 20_000)
    test = max(1, few // 4)
    choices = []
    candidates = PENALTIES if recipe.penalty is None else (recipe.penalty,)
    for penalty in candidates:
        stage = dataclasses.replace(blank, penalty=float(penalty))
        stage = fit_twins(stage, noisy[test:few], sharp[test:few])
        centred, mean = remove_mean(noisy[:test])
        rebuilt = stage.encode(centred).rebuild(stage.rebuilding) + mean
        choices.append((float(penalty), float(np.sqrt(np.mean((rebuilt - sharp[:test]) ** 2)))))
    best = min(choices, key=lambda pair: pair[1])[0]
    stage = fit_twins(dataclasses.replace(blank, penalty=best), noisy, sharp)
    return stage, learned, tuple(choices)


def fit_twins(
    stage: Stage, noisy: Float[np.ndarray, "n m"], sharp: Float[np.ndarray, "n M"]
) -> Stage:
    """The twins that rebuild `sharp` best, in the mean square, from the codes of `noisy`."""
    centred, mean = remove_mean(noisy)
    codes = stage.encode(centred)
    k = codes.n_atoms
    gram, product = np.zeros((k, k)), np.zeros((k, sharp.shape[1]))
    for at in range(0, len(noisy), 8192):
        rows = slice(at, at + 8192)
        part = dataclasses.replace(
            codes, indices=codes.indices[rows], values=codes.values[rows]
        ).dense()
        gram += part.T @ part
        product += part.T @ (sharp[rows] - mean[rows])
    if not gram.trace() > 0:
        raise DataError(
            "every training patch was coded with zero codes: the penalty is too large for the "
            "contrast of the training images; lower --penalty or check the intensity matching"
        )
    gram[np.diag_indices(k)] += SHRINK * gram.trace() / k
    return dataclasses.replace(stage, rebuilding=np.linalg.solve(gram, product).astype(np.float32))


def _refinement(stage, images, masks, recipe, forward, noise, rng, seed):
    """A second stage on the result's grid: from what the first one makes of training images."""
    p, n = recipe.refine, forward.decimation
    got, wanted = [], []
    looks = [(i, turn) for i in range(len(images)) for turn in (0, 3)]
    each = -(-min(recipe.n_patches, 60_000) // len(looks))
    for i, turn in looks:
        fine = _turned(images[i], turn)
        fine = fine[: fine.shape[0] // n * n, : fine.shape[1] // n * n]
        good = np.isfinite(fine)
        if masks[i] is not None:
            good &= _turned(masks[i], turn)[: fine.shape[0], : fine.shape[1]]
        filled = np.where(good, fine, np.mean(fine[good])).astype(np.float32)
        coarse = forward.mirrored(filled)
        coarse = coarse + noise.sample(rng, coarse.shape)
        first, _, _ = run_stage(stage, coarse, np.ones(coarse.shape, bool))
        pair = np.stack([first, np.where(good, filled, np.nan)]).astype(np.float32)
        places = np.flatnonzero(~np.isnan(pair[1]))
        rows, cols = np.divmod(rng.choice(places, 2 * each), fine.shape[1])
        inside = (rows <= fine.shape[0] - p) & (cols <= fine.shape[1] - p)
        rows, cols = rows[inside][:each], cols[inside][:each]
        view = np.lib.stride_tricks.sliding_window_view(pair, (p, p), axis=(1, 2))
        cut = view[:, rows, cols].reshape(2, -1, p * p)
        keep = np.isfinite(cut[1]).all(axis=1)
        got.append(cut[0][keep])
        wanted.append(cut[1][keep])
    first, sharp = np.concatenate(got), np.concatenate(wanted)
    error = float(np.sqrt(np.mean((first - sharp) ** 2)))
    whitener = np.eye(p * p, dtype=np.float32) / max(error, 1e-6)
    free = dataclasses.replace(recipe, penalty=None)
    refined, _, _ = _fit_stage(first, first, sharp, whitener, free, p, 1, seed + 1, None, None)
    return refined


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
        recipe.patch_size,
        1,
        recipe.penalty or 0.0,
        bound,
        options.nonnegative,
        options.ridge,
    )
    return Taught((stage,), learned)
