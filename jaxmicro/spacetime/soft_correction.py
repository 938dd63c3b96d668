"""Post-hoc correction of class probabilities by a soft vote whose settings the movie decides.

`correct_softly` fits radius, threshold and time scale to a part of the movie by predicting hidden
pixels from their neighbours (`learn_correction`), and applies the soft vote to all of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.learn import learn_correction
from jaxmicro.spacetime.mixed_part import mixed_part
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_vote import SoftVote, decide, neighbour_shares

NEIGHBOURS = 12.0  # sampled pixels in the ball that the fit of the radius starts from
LARGEST_START = 16.0  # pixels; the radius is never started above by itself
FIT_FRAMES = 12  # consecutive frames that settings are fitted to, at most
FIT_VOXELS = 2**19  # and pixels of the grid they lie on: 209 x 209 x 12
BLOCK_VOXELS = 2**24  # grid of the frames that are corrected at once, with those they look at


@dataclasses.dataclass(frozen=True)
class SoftSettings:
    """Where the fit of a soft correction starts.

    Attributes:
      radius: in pixels; None starts from a ball that holds about 12 sampled neighbours.
      threshold: share of agreement below which a pixel gives in.
      time_scale: pixels that one frame counts for.
      causal: only past and present frames count.
      metric: "l1" or "l2".
      steps: of the fit; 0 applies these numbers as they are.

    Raises:
      UsageError: a value out of range, named.
    """

    radius: float | None = None
    threshold: float = 0.3
    time_scale: float = 1.0
    causal: bool = True
    metric: str = "l2"
    steps: int = 60

    def __post_init__(self) -> None:
        radius = 1.0 if self.radius is None else self.radius
        if not 1 <= radius <= 64:
            raise UsageError(f"radius {radius} is not allowed; use 1 to 64 pixels")
        if self.steps < 0:
            raise UsageError(f"steps = {self.steps} is not allowed; use 0 or more")
        SoftVote.from_vote(self._ball(radius), self.threshold)

    def vote(self, pixels: Pixels) -> SoftVote:
        """The soft vote to start from; its kernel has room for twice the radius."""
        radius = self._usual_radius(pixels) if self.radius is None else self.radius
        reach = math.ceil(2 * radius)
        frames = min(math.ceil(reach / self.time_scale), FIT_FRAMES - 1, pixels.n_frames - 1)
        ball = self._ball(radius)
        return SoftVote.from_vote(
            ball, self.threshold, reach=reach, frames=frames, dtype=pixels.values.dtype
        )

    def _ball(self, radius: float) -> Neighbourhood:
        return Neighbourhood(radius, self.metric, self.causal, self.time_scale)

    def _usual_radius(self, pixels: Pixels) -> float:
        density = float(np.mean(np.asarray(pixels.n_pixels))) / math.prod(pixels.shape)
        last = pixels.n_frames - 1
        for radius in np.arange(1.5, LARGEST_START, 0.5):
            ball = self._ball(float(radius))
            now = ball.origin[0]
            if density * ball.footprint[max(0, now - last) : now + last + 1].sum() >= NEIGHBOURS:
                return float(radius)
        return LARGEST_START


class SoftCorrection(eqx.Module):
    """Corrected class probabilities, the numbers used, and how much they did.

    Attributes:
      probabilities: after correction; padding, and pixels whose own are not finite, as they were.
      labels: the most probable class.
      n_changed: sampled pixels whose most probable class changed, per frame.
      n_alone: sampled pixels without a neighbour within about the radius, per frame.
      radius: of the neighbourhood, in pixels.
      threshold: share of agreement below which a pixel gives in.
      time_scale: pixels that one frame counts for.
      sharpness: of the decisions; large is hard.
      edge: width in pixels over which the neighbourhood fades.
      loss: nats per pixel at the start of the fit and at its end; NaN where nothing was fitted.
      fitted: whether the fit lowered its loss; where it did not, the start's numbers are used.
    """

    probabilities: Float[Array, "t K n"]
    labels: Int[Array, "t n"]
    n_changed: Int[Array, " t"]
    n_alone: Int[Array, " t"]
    radius: float = eqx.field(static=True)
    threshold: float = eqx.field(static=True)
    time_scale: float = eqx.field(static=True)
    sharpness: float = eqx.field(static=True)
    edge: float = eqx.field(static=True)
    loss: tuple[float, float] = eqx.field(static=True)
    fitted: bool = eqx.field(static=True)

    def foreground(self, classes: Sequence[int]) -> Float[Array, "t n"]:
        """Probability that a pixel belongs to any of these classes."""
        return jnp.sum(self.probabilities[:, jnp.asarray(classes)], axis=1)


def correct_softly(
    model: GMRM,
    params: Params,
    responsibilities: Float[Array, "t K n"],
    pixels: Pixels,
    settings: SoftSettings = SoftSettings(),
) -> SoftCorrection:
    """Correct class probabilities by a soft vote of the sampled neighbours.

    Like the hard vote it takes thin parts away, most of all where few pixels were sampled: labels
    err less, areas may err more. Local proportions (`fit_local`) do better in both on simulated
    movies (experiments/soft_correction.py).

    Radius, threshold, time scale, sharpness and edge are fitted to a part of the movie in one
    piece, because thinned pixels would have fewer neighbours: at most 12 consecutive frames of a
    box, together at most 2^19 pixels of the grid, where the classes are most mixed. The rest of
    the movie is corrected with the same numbers, in blocks of frames with the frames they look at.
    A block needs about 30 bytes for each pixel of its frames, visited or not: .5 GB for the usual
    2^24, and more only where one frame and those it looks at hold more.

    Args:
      model, params: the fitted mixture; batch axes (frames,).
      responsibilities: class probabilities of the pixels before correction, of a plain fit. Those
        of a local fit have seen the neighbours already and count them twice.
      pixels: batch axes (frames,).
      settings: where the fit of the numbers starts.

    Returns:
      `SoftCorrection`. Frames whose parameters or probabilities are not finite neither vote nor
      change.

    Raises:
      UsageError: pixels with replicates; responsibilities of other pixels.
    """
    if pixels.values.ndim != 2:
        raise UsageError("a soft correction needs (frames,) of pixels; index the replicates first")
    t, n = pixels.values.shape
    if responsibilities.shape != (t, model.n_classes, n):
        raise UsageError(
            f"responsibilities of shape {responsibilities.shape} do not belong to {model.n_classes}"
            f" classes and pixels of shape {(t, n)}; give those of the same pixels"
        )
    probabilities, voters = _finite(responsibilities, pixels)
    numbers, loss = settings.vote(pixels), (math.nan, math.nan)
    if settings.steps and np.any(np.asarray(voters.weight)):
        numbers, loss = _fit(model, params, probabilities, voters, numbers, settings.steps)
    corrected, count = _in_blocks(numbers, probabilities, voters)
    visited = np.asarray(voters.weight) > 0
    corrected = np.where(visited[:, None], corrected, np.asarray(responsibilities))
    labels = corrected.argmax(axis=1).astype(np.int32)
    changed = labels != np.asarray(responsibilities).argmax(axis=1)
    return SoftCorrection(
        jnp.asarray(corrected),
        jnp.asarray(labels),
        jnp.asarray((changed & visited).sum(axis=1, dtype=np.int32)),
        jnp.asarray((visited & (count < 0.5)).sum(axis=1, dtype=np.int32)),
        float(numbers.radius),
        float(numbers.threshold),
        float(numbers.time_scale),
        float(numbers.sharpness),
        float(numbers.edge),
        loss,
        loss[1] < loss[0],
    )


def _finite(
    responsibilities: Float[Array, "t K n"], pixels: Pixels
) -> tuple[Float[Array, "t K n"], Pixels]:
    """Probabilities and pixels of which those that are not finite carry no weight."""
    good = jnp.all(jnp.isfinite(responsibilities), axis=1) & jnp.isfinite(pixels.values)
    rows, cols, weight = (
        jnp.broadcast_to(a, good.shape) for a in (pixels.rows, pixels.cols, pixels.weight)
    )
    values = jnp.where(good, pixels.values, 0)
    voters = Pixels(
        values,
        rows,
        cols,
        jnp.where(good, weight, 0),
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )
    return jnp.where(good[:, None], responsibilities, 0), voters


def _fit(
    model: GMRM,
    params: Params,
    probabilities: Float[Array, "t K n"],
    pixels: Pixels,
    start: SoftVote,
    steps: int,
) -> tuple[SoftVote, tuple[float, float]]:
    """The settings after the fit (the start's, where it did not help), and the loss around it."""
    frames, share, part = mixed_part(probabilities, pixels, FIT_FRAMES, FIT_VOXELS)
    leaves = [np.isfinite(np.asarray(a)).all(axis=-1) for a in jax.tree.leaves(params)]
    good = np.all(leaves, axis=0)
    # frames without weight get finite parameters: 0 * nan is nan
    stand_in = np.where(good, np.arange(len(good)), np.argmax(good))[frames]
    learned = learn_correction(
        start, part, share, model=model, params=params[stand_in], steps=steps
    )
    loss = float(learned.loss[0]), float(learned.loss[-1])
    return (learned.settings if loss[1] < loss[0] else start), loss


def _in_blocks(
    settings: SoftVote, probabilities: Float[Array, "t K n"], pixels: Pixels
) -> tuple[Float[np.ndarray, "t K n"], Float[np.ndarray, "t n"]]:
    """Corrected probabilities and number of neighbours, block of frames by block.

    All blocks are of the same size, with the frames they look at, so that one program does them.
    """
    before, total = settings.frames, pixels.n_frames
    after = 0 if settings.causal else before
    own = min(total, max(1, BLOCK_VOXELS // math.prod(pixels.shape) - before - after))
    size = min(total, before + own + after)
    corrected = np.empty(probabilities.shape, probabilities.dtype)
    counts = np.empty(pixels.values.shape, probabilities.dtype)
    for first in range(0, total, own):
        last = min(first + own, total)
        low = max(0, min(first - before, total - size))
        block = slice(low, low + size)
        out, count = _corrected(settings, probabilities[block], pixels[block])
        corrected[first:last] = out[first - low : last - low]
        counts[first:last] = count[first - low : last - low]
    return corrected, counts


@eqx.filter_jit
def _corrected(
    settings: SoftVote, probabilities: Float[Array, "t K n"], pixels: Pixels
) -> tuple[Float[Array, "t K n"], Float[Array, "t n"]]:
    sums, count = neighbour_shares(settings, probabilities, pixels)
    return decide(settings, probabilities, sums, count), count
