"""One pass over a slice: code every patch with one set of atoms, rebuild it with another."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.dictionary.encode import Codes, encode
from jaxmicro.dictionary.error_bound import encode_to_error
from jaxmicro.dictionary.lasso import MAX_STEPS
from jaxmicro.dictionary.patches import Band, Grid, Overlap, remove_mean

LEAST_USABLE = 0.25  # share of a patch's pixels, below which it gets zero weight
ROWS = 8192  # patches whose features are in memory at once
FURTHER_STRIDE = 2  # at least, of passes after the first: a quarter of the time for 0.02 dB


def features(
    codes: Codes, centred: Float[np.ndarray, "n m"], rows: slice
) -> Float[np.ndarray, "r f"]:
    """What a patch is rebuilt from, f = 2 k + m + 1: codes above zero, below, the patch, and 1.

    Codes above and below zero are separate features: a dark crack in a grain is not the negative of
    a bright grain in a void.
    """
    per_patch = ("indices", "values", "gap", "steps", "result")
    dense = dataclasses.replace(codes, **{n: getattr(codes, n)[rows] for n in per_patch}).dense()
    one = np.ones((len(dense), 1), np.float32)
    known = [np.maximum(dense, 0), np.minimum(dense, 0), centred[rows], one]
    return np.concatenate(known, axis=1, dtype=np.float32)


def level_weights(
    mean: Float[np.ndarray, " n"], levels: Float[np.ndarray, " q"]
) -> Float[np.ndarray, "n q"]:
    """Weights of linear interpolation between grey levels; constant beyond the outermost."""
    unit = np.eye(len(levels))
    return np.stack([np.interp(mean, levels, row) for row in unit], axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Atoms that code, and the paired atoms that rebuild.

    Attributes:
      coding: (k, m) atoms that code, in the whitened space.
      whitener: (m, m) symmetric; patches are multiplied by it before coding.
      rebuilding: what the codes stand for in grey values of the finer grid, M = (size * upscale)^2:
        (k, M) atoms where `levels` is empty, else (q, 2 k + m + 1, M), at each grey level what
        codes above zero, codes below and the mean-free patch are multiplied by, and a constant.
      levels: (q,) increasing grey levels (patch means), between which the paired atoms are
        interpolated; or (0,).
      size: patch size in pixels of the input.
      upscale: pixels of the output per pixel of the input.
      penalty: lambda in the whitened space; 0 for coding to the error bound `bound`.
      bound: squared error of a whole patch that is all noise; used where penalty is 0.
      nonnegative, ridge, tolerance: as in `encode`.
    """

    coding: Float[np.ndarray, "k m"]
    whitener: Float[np.ndarray, "m m"]
    rebuilding: Float[np.ndarray, "*f M"]
    levels: Float[np.ndarray, " q"]
    size: int
    upscale: int
    penalty: float
    bound: float
    nonnegative: bool = False
    ridge: float = 0.0
    tolerance: float = 1e-3

    def encode(self, patches: Float[np.ndarray, "n m"]) -> Codes:
        """Codes of mean-free patches of usable pixels."""
        white = (patches @ self.whitener).astype(np.float32)
        if self.penalty > 0:
            return encode(
                white,
                self.coding,
                self.penalty,
                self.tolerance,
                ridge=self.ridge,
                nonnegative=self.nonnegative,
            )
        return encode_to_error(
            white, self.coding, self.bound, self.tolerance, nonnegative=self.nonnegative
        )[0]

    def rebuild(
        self,
        codes: Codes,
        centred: Float[np.ndarray, "n m"],
        mean: Float[np.ndarray, "n 1"],
    ) -> Float[np.ndarray, "n M"]:
        """Patches of the result from the codes, the mean-free patches and their means."""
        if not len(self.levels):
            return codes.rebuild(self.rebuilding) + mean
        out = np.empty((len(centred), self.rebuilding.shape[-1]), np.float32)
        for at in range(0, len(centred), ROWS):
            rows = slice(at, at + ROWS)
            known = features(codes, centred, rows)
            weight = level_weights(mean[rows, 0], self.levels)
            out[rows] = sum(
                weight[:, q, None] * (known @ paired) for q, paired in enumerate(self.rebuilding)
            )
        return out + mean

    @property
    def paired_atoms(self) -> Float[np.ndarray, "k M"]:
        """What each atom is rebuilt by where its code is above zero, at the middle grey level."""
        if not len(self.levels):
            return self.rebuilding
        return self.rebuilding[len(self.levels) // 2, : len(self.coding)]

    def encode_masked(
        self, patches: Float[np.ndarray, "n m"], usable: Bool[np.ndarray, "n m"]
    ) -> Codes:
        """Codes of patches of which only some pixels are usable.

        The correlation of the noise cannot be undone with pixels missing, so the error of each
        usable pixel counts by its variance alone.
        """
        back = np.linalg.inv(self.whitener)
        scale = float(np.sqrt(np.mean(np.diag(back @ back))))
        atoms = (self.coding @ back / scale).astype(np.float32)
        weights = usable.astype(np.float32)
        scaled = (patches / scale).astype(np.float32)
        if self.penalty > 0:
            return encode(
                scaled,
                atoms,
                self.penalty,
                self.tolerance,
                ridge=self.ridge,
                nonnegative=self.nonnegative,
                weights=weights,
            )
        bound = (self.bound * weights.mean(axis=1)).astype(np.float32)
        return encode_to_error(
            scaled, atoms, bound, self.tolerance, nonnegative=self.nonnegative, weights=weights
        )[0]


@dataclasses.dataclass(frozen=True)
class CodeStatistics:
    """Counts over the patches of a slice, and their largest relative duality gap.

    Attributes:
      patches, nonzeros: patches, and codes that are not 0.
      zero_patches: patches of which every code is 0.
      unfinished: patches that missed the tolerance.
    """

    patches: int = 0
    nonzeros: int = 0
    zero_patches: int = 0
    unfinished: int = 0
    worst_gap: float = 0.0

    @staticmethod
    def of(codes: Codes) -> CodeStatistics:
        counts = codes.nonzeros
        return CodeStatistics(
            len(counts),
            int(counts.sum()),
            int(np.sum(counts == 0)),
            int(np.sum(codes.result == MAX_STEPS)),
            float(codes.gap.max(initial=0.0)),
        )

    def __add__(self, other: CodeStatistics) -> CodeStatistics:
        return CodeStatistics(
            self.patches + other.patches,
            self.nonzeros + other.nonzeros,
            self.zero_patches + other.zero_patches,
            self.unfinished + other.unfinished,
            max(self.worst_gap, other.worst_gap),
        )


def hann_window(size: int) -> Float[np.ndarray, " m"]:
    """Weight of each pixel of a patch in the overlap: a Hann window, without its zeros."""
    taper = np.hanning(size + 2)[1:-1]
    return (taper[:, None] * taper[None, :]).ravel().astype(np.float32)


def run_stage(
    stage: Stage,
    image: Float[np.ndarray, "y x"],
    mask: Bool[np.ndarray, "y x"],
    *,
    stride: int = 1,
    plain_average: bool = False,
) -> tuple[Float[np.ndarray, "Y X"], Float[np.ndarray, "Y X"], CodeStatistics]:
    """Code and rebuild one slice, band by band.

    Pixels outside `mask` are not read: patches that hold some are coded by the rest.

    Returns:
      The result and the standard deviation of the overlapping estimates on the finer grid, NaN
      where no patch contributes; and what the codes were like.
    """
    n, grid = stage.upscale, Grid(image.shape, stage.size, stride)
    shape = tuple(length * n for length in image.shape)
    overlap, statistics = Overlap(shape), CodeStatistics()
    taper = hann_window(stage.size * n)
    if plain_average:
        taper = np.ones_like(taper)
    clean = np.where(mask, image, 0).astype(np.float32)
    everything = bool(mask.all())
    for band in grid.bands():
        patches = band.extract(clean)
        usable = None if everything else band.extract(mask)
        rebuilt, weight, found = _code_and_rebuild(stage, patches, usable)
        statistics += found
        fine = Band(tuple(s * n for s in band.starts), stage.size * n)
        overlap.add(fine, rebuilt, weight * taper[None, :])
    allowed = np.kron(mask, np.ones((n, n), bool))
    nothing = np.full(shape, np.nan, np.float32)
    result = np.where(allowed, overlap.mean(nothing), np.nan)
    return result, np.where(allowed, overlap.sd(), np.nan), statistics


def _code_and_rebuild(
    stage: Stage, patches: Float[np.ndarray, "n m"], usable: Bool[np.ndarray, "n m"] | None
) -> tuple[np.ndarray, np.ndarray, CodeStatistics]:
    """(rebuilt patches, weight of each, statistics); the weight is the share of usable pixels."""
    share = np.ones(len(patches)) if usable is None else usable.mean(axis=1)
    rebuilt = np.zeros((len(patches), stage.rebuilding.shape[-1]), np.float32)
    weight = np.zeros((len(patches), 1), np.float32)
    statistics = CodeStatistics()
    full = share == 1
    if full.any():
        centred, mean = remove_mean(patches[full])
        codes = stage.encode(centred)
        statistics += CodeStatistics.of(codes)
        rebuilt[full] = stage.rebuild(codes, centred, mean)
        weight[full] = 1
    part = ~full & (share >= LEAST_USABLE)
    if usable is not None and part.any():
        centred, mean = remove_mean(patches[part], usable[part].astype(np.float32))
        codes = stage.encode_masked(centred, usable[part])
        statistics += CodeStatistics.of(codes)
        rebuilt[part] = stage.rebuild(codes, centred, mean)
        weight[part] = share[part, None]
    return rebuilt, weight, statistics
