"""What a fit leaves unexplained in the pixels of one frame: in space, and in the histogram.

Three figures. All use the responsibilities r_ik as they are, so that none depends on which pixels
are sure: the sum over classes of r_ik u_ik, with u_ik the residual in sds of the class, has mean 0
under the model wherever it is summed (it is the score of a shift of the greys).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.fitted import Fitted
from jaxmicro.mixture.family import Family

PIXELS = 20_000  # of a frame that are looked at
SIDE = 8  # blocks along each side of the frame
# What a model misses also looks like noise that reaches far: no more is believed than this.
LEAST_INDEPENDENT = 0.04  # independent pixels per pixel, as by a buffer of 2 pixels
BLOCK_STEPS = 30
FEW = 20  # pixels of a block; blocks with fewer are left out
EM_STEPS = 150


@dataclasses.dataclass(frozen=True)
class Left:
    """Visited pixels of one frame, at most `PIXELS`, and what the fit says of them.

    Attributes:
      block: number of the block that each pixel lies in.
      residual: in sds of each class.
      responsibilities: posterior class probabilities.
      density: of each class at the pixel, per grey level.
      probability: of a smaller grey value, in each class.
      inflation: factor on the variance of a mean, as the noise of nearby pixels is correlated.
      by_frame: whether the class proportions of the fit are those of the frame.
    """

    block: Int[np.ndarray, " n"]
    residual: Float[np.ndarray, "K n"]
    responsibilities: Float[np.ndarray, "K n"]
    density: Float[np.ndarray, "K n"]
    probability: Float[np.ndarray, "K n"]
    inflation: float
    by_frame: bool

    @property
    def n(self) -> int:
        return self.block.size

    def _of_blocks(self) -> Float[np.ndarray, "K n"]:
        """Responsibilities by the proportions of each block, by maximum likelihood."""
        chance, n_blocks = self.responsibilities, SIDE * SIDE
        count = np.maximum(np.bincount(self.block, minlength=n_blocks), 1)
        for _ in range(BLOCK_STEPS):
            sums = [np.bincount(self.block, weights=r, minlength=n_blocks) for r in chance]
            joint = (np.stack(sums) / count)[:, self.block] * self.density
            chance = joint / (joint.sum(axis=0) + np.finfo(float).tiny)
        return chance

    def structure(self) -> tuple[float, float]:
        """Rms over the blocks of the shift of the greys in sds, less what noise does; and its z.

        Shifts are about the frame's mean shift; z is in sds of the noise's chi-square. Proportions
        of the frame would leave a score wherever classes are not spread evenly, so those of each
        block take their place.
        """
        chance = self._of_blocks() if self.by_frame else self.responsibilities
        score = np.sum(chance * self.residual, axis=0)
        n_blocks = SIDE * SIDE
        count = np.bincount(self.block, minlength=n_blocks)
        total, information = (
            np.bincount(self.block, weights=a, minlength=n_blocks) for a in (score, score**2)
        )
        many = (count >= FEW) & (information > 0)
        if many.sum() < 4:
            return 0.0, 0.0
        total, information = total[many], information[many]
        shift = total / information - total.sum() / information.sum()
        variance = self.inflation / information
        share = information / information.sum()
        excess = float(np.sum(share * (shift**2 - variance)))
        free = many.sum() - 1
        chi = (np.sum(shift**2 / variance) - free) / np.sqrt(2 * free)
        return float(np.sqrt(max(excess, 0.0))), float(chi)

    def histogram(self) -> tuple[float, float]:
        """Kolmogorov distance of the greys from the fitted mixture, and its standard error.

        By the probability integral transform, with the mean responsibilities as proportions. The
        standard error is the sd of a Brownian bridge at its middle.
        """
        share = self.responsibilities.mean(axis=1)
        below = np.sort(share @ self.probability)
        expected = (np.arange(self.n) + 0.5) / self.n
        return float(np.max(np.abs(below - expected))), float(
            0.5 * np.sqrt(self.inflation / self.n)
        )

    def proportion(self, classes: tuple[int, ...]) -> tuple[float, float]:
        """Share of these classes by the histogram alone, neighbours left aside, with its error.

        Maximum likelihood with the class densities held; the error is that of its information.
        """
        share = self.responsibilities.mean(axis=1)
        tiny = np.finfo(float).tiny
        for _ in range(EM_STEPS):
            joint = share[:, None] * self.density
            share = np.mean(joint / (joint.sum(axis=0) + tiny), axis=1)
        relative = self.density / (share @ self.density + tiny)
        tangent = relative[:-1] - relative[-1]
        wanted = np.isin(np.arange(share.size), classes).astype(float)
        step = wanted[:-1] - wanted[-1]
        variance = step @ np.linalg.pinv(tangent @ tangent.T) @ step
        return float(share @ wanted), float(np.sqrt(self.inflation * max(variance, 0.0)))

    def share_and_doubt(self, classes: tuple[int, ...]) -> tuple[float, float]:
        """Share of these classes, and the part of it from pixels of probability .1 to .9."""
        chance = self.responsibilities[list(classes)].sum(axis=0)
        either = chance[(chance > 0.1) & (chance < 0.9)].sum()
        return float(chance.mean()), float(either / max(chance.sum(), 1e-12))


def left_over(
    fitted: Fitted,
    t: int,
    responsibilities: Float[np.ndarray, "K n"],
    independent_share: float,
    quantum: float,
) -> Left:
    """The pixels of frame `t` of a movie without replicates.

    Args:
      responsibilities: of the frame.
      independent_share: independent pixels per pixel of a full frame.
      quantum: grey-level step of the data; the greys are spread evenly over it.
    """
    frame, (height, width) = fitted.pixels.at(t), fitted.pixels.shape
    rng = np.random.default_rng(t)
    seen = np.flatnonzero(np.asarray(frame.weight) > 0)
    if seen.size > PIXELS:
        seen = rng.choice(seen, PIXELS, replace=False)
    rows, cols = np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]
    params = fitted.fit.params
    means, sds, gain, trend = (
        np.asarray(a[t], float) for a in (params.means, params.sds, params.gain, params.trend)
    )
    law = None if params.law is None else np.asarray(params.law[t], float)
    slope = fitted.model.trend.surface(trend, (height, width))[rows, cols]
    values = np.asarray(frame.values, float)[seen]
    residual = (values - means[:, None] - gain[:, None] * slope) / sds[:, None]
    spread = residual + quantum * rng.uniform(-0.5, 0.5, seen.size) / sds[:, None]
    family = fitted.model.family
    return Left(
        rows * SIDE // height * SIDE + cols * SIDE // width,
        residual,
        np.asarray(responsibilities, float)[:, seen],
        family.density(residual, 0.0, 1.0, law) / sds[:, None],
        _probability(family, spread, law),
        1 + seen.size / (height * width) * (1 / max(independent_share, LEAST_INDEPENDENT) - 1),
        fitted.local is None,
    )


def _probability(family: Family, u: np.ndarray, law: np.ndarray | None) -> np.ndarray:
    """Distribution function of the family, from its density."""
    grid = np.sinh(np.linspace(-8, 8, 4001))  # far into the tails, dense about the mean
    height = family.density(grid, 0.0, 1.0, law)
    below = np.append(0.0, np.cumsum(0.5 * (height[1:] + height[:-1]) * np.diff(grid)))
    return np.interp(u, grid, below / below[-1])


def likeness_to_last(
    foreground: Bool[np.ndarray, "T n"], pixels: Pixels
) -> Float[np.ndarray, " frames"]:
    """Correlation of the foreground's share in blocks of the frame with that one frame earlier.

    NaN in the first frame, and where all blocks of either frame have the same share.
    """
    shape = foreground.shape
    block = np.zeros(shape, int)
    for places, side in zip((pixels.rows, pixels.cols), pixels.shape, strict=True):
        at = np.broadcast_to(np.asarray(places), shape)
        block = block * SIDE + np.minimum(at * SIDE // side, SIDE - 1)
    weight = np.broadcast_to(np.asarray(pixels.weight, float), shape)
    out = np.full(shape[0], np.nan)
    before = None
    for t in range(shape[0]):
        seen, some = (
            np.bincount(block[t], w, SIDE**2) for w in (weight[t], weight[t] * foreground[t])
        )
        share = np.where(seen > 0, some / np.maximum(seen, 1), np.nan)
        if before is not None:
            both = np.isfinite(share) & np.isfinite(before)
            spread = [np.ptp(a[both]) if both.any() else 0.0 for a in (share, before)]
            if min(spread) > 0:
                out[t] = np.corrcoef(share[both], before[both])[0, 1]
        before = share
    return out
