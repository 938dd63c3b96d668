"""One pass over a slice: code every patch with one set of atoms, rebuild it with another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.dictionary.encode import Codes, encode
from jaxmicro.dictionary.error_bound import encode_to_error
from jaxmicro.dictionary.lasso import EMPTY, MAX_STEPS
from jaxmicro.dictionary.patches import Band, Grid, Overlap, remove_mean

LEAST_USABLE = 0.25  # share of a patch's pixels below which it has no say
ROWS = 8192  # patches whose features are alive at once


def features(
    codes: Codes, centred: Float[np.ndarray, "n m"], rows: slice
) -> Float[np.ndarray, "r f"]:
    """What a patch is rebuilt from, f = 2 k + m + 1: codes above zero, below, the patch, and 1.

    The signs are kept apart because a dark crack in a grain and a bright grain in a crack are not
    each other's negative.
    """
    per_patch = ("indices", "values", "gap", "steps", "result")
    dense = dataclasses.replace(codes, **{n: getattr(codes, n)[rows] for n in per_patch}).dense()
    one = np.ones((len(dense), 1), np.float32)
    known = [np.maximum(dense, 0), np.minimum(dense, 0), centred[rows], one]
    return np.concatenate(known, axis=1, dtype=np.float32)


def level_shares(
    mean: Float[np.ndarray, " n"], levels: Float[np.ndarray, " q"]
) -> Float[np.ndarray, "n q"]:
    """Weights of linear interpolation between the levels; constant beyond the outermost."""
    unit = np.eye(len(levels))
    return np.stack([np.interp(mean, levels, row) for row in unit], axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Coding atoms and their twins.

    Attributes:
      coding: (k, m) atoms that code, in the whitened space.
      whitener: (m, m) symmetric; patches are multiplied by it before coding.
      rebuilding: what the codes stand for in grey values of the finer grid, M = (size * upscale)^2:
        (k, M) atoms where there are no levels, else (q, 2 k + m + 1, M), at each level the twins of
        codes above zero, of codes below, of the mean-free patch itself, and a constant.
      levels: (q,) increasing patch means, between which the twins are interpolated; or (0,).
      size: patch size in pixels of the input.
      upscale: pixels of the output per pixel of the input.
      penalty: lambda in the whitened space; 0 for coding to the error bound `bound`.
      bound: squared error of a whole patch at the noise level; used where penalty is 0.
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
            share = level_shares(mean[rows, 0], self.levels)
            out[rows] = sum(
                share[:, q, None] * (known @ twins) for q, twins in enumerate(self.rebuilding)
            )
        return out + mean

    @property
    def twins(self) -> Float[np.ndarray, "k M"]:
        """One twin of each atom: of codes above zero, at the middle level."""
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


@dataclasses.dataclass
class Tally:
    """What the codes of a slice were like, summed as they pass."""

    patches: int = 0
    nonzeros: int = 0
    zero_patches: int = 0
    unfinished: int = 0
    without_pixels: int = 0
    worst_gap: float = 0.0

    def add(self, codes: Codes) -> None:
        counts = codes.nonzeros
        self.patches += len(counts)
        self.nonzeros += int(counts.sum())
        self.zero_patches += int(np.sum(counts == 0))
        self.unfinished += int(np.sum(codes.result == MAX_STEPS))
        self.without_pixels += int(np.sum(codes.result == EMPTY))
        if len(codes.gap):
            self.worst_gap = max(self.worst_gap, float(codes.gap.max()))


def window(size: int) -> Float[np.ndarray, " m"]:
    """Weight of each pixel of a patch in the overlap: its middle knows more than its rim."""
    taper = np.hanning(size + 2)[1:-1]
    return (taper[:, None] * taper[None, :]).ravel().astype(np.float32)


def run_stage(
    stage: Stage,
    image: Float[np.ndarray, "y x"],
    mask: Bool[np.ndarray, "y x"],
    *,
    stride: int = 1,
    plain_average: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Float[np.ndarray, "Y X"], Float[np.ndarray, "Y X"], Tally]:
    """Code and rebuild one slice, band by band.

    Pixels outside `mask` are not read: patches that hold some are coded by the rest.

    Returns:
      The result and the spread of the overlapping estimates on the finer grid, NaN where no patch
      has a say; and what the codes were like.
    """
    n, grid = stage.upscale, Grid(image.shape, stage.size, stride)
    shape = tuple(length * n for length in image.shape)
    overlap, tally = Overlap(shape), Tally()
    taper = window(stage.size * n)
    if plain_average:
        taper = np.ones_like(taper)
    clean = np.where(mask, image, 0).astype(np.float32)
    everything = bool(mask.all())
    for band in grid.bands():
        patches = band.extract(clean)
        usable = None if everything else band.extract(mask)
        full = np.ones(len(patches), bool) if usable is None else usable.all(axis=1)
        out = np.zeros((len(patches), stage.rebuilding.shape[-1]), np.float32)
        weight = np.zeros((len(patches), 1), np.float32)
        if full.any():
            centred, mean = remove_mean(patches[full])
            codes = stage.encode(centred)
            tally.add(codes)
            out[full] = stage.rebuild(codes, centred, mean)
            weight[full] = 1
        if usable is not None:
            part = ~full & (usable.mean(axis=1) >= LEAST_USABLE)
            if part.any():
                centred, mean = remove_mean(patches[part], usable[part].astype(np.float32))
                codes = stage.encode_masked(centred, usable[part])
                tally.add(codes)
                out[part] = stage.rebuild(codes, centred, mean)
                weight[part] = usable[part].mean(axis=1, keepdims=True)
        fine = Band(tuple(s * n for s in band.starts), stage.size * n)
        overlap.add(fine, out, weight * taper[None, :])
        if progress is not None:
            progress(len(patches))
    allowed = np.kron(mask, np.ones((n, n), bool))
    nothing = np.full(shape, np.nan, np.float32)
    result = np.where(allowed, overlap.mean(nothing), np.nan)
    return result, np.where(allowed, overlap.spread(), np.nan), tally
