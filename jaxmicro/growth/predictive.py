"""How well a fitted model predicts pixels that were left out: a score for models of any size.

Half of the visited pixels, drawn at random, vote on the classes of the others, and the log density
of these others is the score; then the other way round (leave-group-out; Roberts et al. 2017,
Ecography 40:913). With a buffer in the settings of the local proportions, pixels that share the
noise of a pixel do not vote on it (spatially buffered leave-one-out; Le Rest et al. 2014, Glob.
Ecol. Biogeogr. 23:811). A model with one weight per class and frame is told those of the other
half.

The parameters of the classes are those of all pixels, so that a model must still be worth its
parameters: see `worth`.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.local import Local, LocalFit, fit_local
from jaxmicro.spacetime.neighbour_proportions import Votes, placed
from jaxmicro.spacetime.part import Part
from jaxmicro.spacetime.smooth import Kernel
from jaxmicro.spacetime.tiling import N_TILES, tiles_of

TOLERANCE = 1e-4  # nats per pixel: enough to rank candidates
# nats per pixel that a class may gain by small faults of the model, as blurred edges
WORTH = 0.0015


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean log density of pixels left out, nats per pixel.

    Attributes:
      mean: over all pixels that were looked at.
      se: its standard error, with tiles of the frame (all frames together) as independent.
      by_frame: (frames,) means and standard errors, (frames, 2).
      tiles: (frames, tiles) sums and numbers of pixels, (frames, tiles, 2).
    """

    mean: float
    se: float
    by_frame: Float[np.ndarray, "T 2"]
    tiles: Float[np.ndarray, "T G 2"]

    def behind(self, best: Score) -> tuple[float, float]:
        """How much worse than another model's, with the standard error of the difference."""
        gap = best.tiles - self.tiles
        gap[..., 1] = self.tiles[..., 1]
        return _mean_and_se(gap.sum(axis=0))


def halves(pixels: Pixels) -> Float[Array, "*#batch n"]:
    """1 for a random half of the pixels, 0 for the others."""
    weight = pixels.weight
    return jnp.asarray(np.random.default_rng(0).random(weight.shape) < 0.5, weight.dtype)


def left_out(
    model: GMRM,
    pixels: Pixels,
    local: Local,
    part: Part,
    fitted: LocalFit,
    quantum: float,
    max_steps: int,
) -> tuple[LocalFit, LocalFit]:
    """The fit with held parameters to one half of the pixels, judged by the other; and vice versa.

    Args:
      part: of the model, as in the fit; `told` and `held` are filled in.
    """
    half, folds = halves(pixels), []
    for told in (half, 1 - half):
        held = dataclasses.replace(part, told=told, held=fitted.coupling)
        folds.append(
            fit_local(
                model,
                pixels,
                local,
                init=fitted.fit.params,
                part=held,
                tolerance=TOLERANCE,
                max_steps=max_steps,
                quantum=quantum,
            )
        )
    return folds[0], folds[1]


def local_score(
    model: GMRM, pixels: Pixels, local: Local, part: Part, folds: tuple[LocalFit, LocalFit]
) -> Score:
    """The score of two fits by `left_out`."""
    half = halves(pixels)
    where = pixels
    if part.layout is not None:
        rows, cols, shape = part.layout.rows, part.layout.cols, part.layout.shape
        where = Pixels(
            pixels.values, rows, cols, pixels.weight, pixels.n_domain, shape, pixels.pattern
        )
    density = jnp.zeros(pixels.values.shape, pixels.values.dtype)
    design = model.design(pixels)
    for told, fold in zip((half, 1 - half), folds, strict=True):
        one = _density(model, placed(where), told, design, fold, fold.kernel, local)
        density = jnp.where(jnp.broadcast_to(told, density.shape) > 0, density, one)
    return score_of(np.asarray(density, np.float64), pixels)


@eqx.filter_jit
def _density(
    model: GMRM,
    places: Pixels,
    told: Float[Array, "*#batch n"],
    design: Float[Array, "P *#batch n"],
    fold: LocalFit,
    kernel: Kernel,
    local: Local,
) -> Float[Array, "T n"]:
    """Log density of each pixel given the classes of those told."""
    told = told if told.ndim == 2 else told[None]
    voting = eqx.tree_at(lambda p: p.weight, places, places.weight * told)
    votes = Votes.of(voting, kernel, local)
    weight = jnp.broadcast_to(voting.weight, places.values.shape)
    params, coupling = fold.fit.params, fold.coupling
    log_m = votes.log_m(fold.responsibilities[:, :-1] * weight[:, None], params.weights)
    known = votes.known
    power = 1 + (coupling.strength - 1) * known
    logit = power[:, None] * log_m + known[:, None] * coupling.field[:, :, None]
    if design.ndim == 2:
        design = design[:, None]
    joint = jnp.stack(model.log_joint(params, places.values, design), axis=1)
    tiny = jnp.finfo(joint.dtype).tiny
    joint = joint - jnp.log(jnp.maximum(params.weights, tiny))[:, :, None]
    return jax.nn.logsumexp(joint + jax.nn.log_softmax(logit, axis=1), axis=1)


def global_score(model: GMRM, params: Params, pixels: Pixels) -> Score:
    """The score of a model with one weight per class and frame: those of the other half."""
    shape = pixels.values.shape
    half = np.broadcast_to(np.asarray(halves(pixels)) > 0, shape)
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, shape)
    density = np.zeros(shape)
    for t in range(pixels.n_frames):
        one, own = pixels.at(t), params[t]
        joint = np.array(jnp.stack(model.log_joint(own, one.values, model.design(one))), float)
        joint -= np.log(np.maximum(np.asarray(own.weights, float), 1e-300))[:, None]
        density[t] = _given_other_half(joint, np.asarray(own.weights, float), half[t], seen[t])
    return score_of(density, pixels)


def _given_other_half(
    log_density: Float[np.ndarray, "K n"],
    weights: Float[np.ndarray, " K"],
    half: np.ndarray,
    seen: np.ndarray,
) -> Float[np.ndarray, " n"]:
    top = log_density.max(axis=0)
    relative = np.exp(log_density - top)
    resp = weights[:, None] * relative
    resp = resp / np.maximum(resp.sum(axis=0), 1e-300)
    out = np.zeros(top.size)
    for told in (half, ~half):
        voting = told & seen
        share = resp[:, voting].mean(axis=1) if voting.any() else weights
        out[~told] = (top + np.log(np.maximum(share @ relative, 1e-300)))[~told]
    return out


def score_of(density: Float[np.ndarray, "T n"], pixels: Pixels) -> Score:
    """Means and standard errors of the pixels' log densities."""
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, density.shape)
    tile = tiles_of(pixels)
    tiles = np.zeros((len(density), N_TILES, 2))
    for t in range(len(density)):
        at, value = tile[t][seen[t]], density[t][seen[t]]
        tiles[t, :, 0] = np.bincount(at, weights=value, minlength=N_TILES)
        tiles[t, :, 1] = np.bincount(at, minlength=N_TILES)
    by_frame = np.array([_mean_and_se(one) for one in tiles])
    return Score(*_mean_and_se(tiles.sum(axis=0)), by_frame, tiles)


def _mean_and_se(tiles: Float[np.ndarray, "G 2"]) -> tuple[float, float]:
    """Ratio of two sums over independent tiles, and its standard error (Cochran 1977, 6.4)."""
    total, count = tiles.sum(axis=0)
    filled = np.count_nonzero(tiles[:, 1])
    if not count:
        return math.nan, math.nan
    mean = total / count
    if filled < 2:
        return float(mean), math.nan
    square = float(np.sum((tiles[:, 0] - mean * tiles[:, 1]) ** 2))
    return float(mean), math.sqrt(square * filled / (filled - 1)) / float(count)


def worth(score: float, parameters: int, classes: int, n_independent: float) -> float:
    """A score less what parameters must be worth, by the number of independent pixels
    (Schwarz 1978), and each class beside, by what small faults of the model explain."""
    price = 0.5 * math.log(n_independent) / n_independent
    return score - price * parameters - WORTH * classes
