"""Is a term of the trend real? A score test that holds for arranged labels and correlated noise.

The likelihood-ratio test of a trend takes class proportions as the same everywhere and pixels as
independent. In a real scene neither is true: where bright material lies at the bottom, a slope
explains it, and neighbouring pixels share their noise. Here the proportions at each pixel follow
its neighbours and may change with position,

    log pi_k = (1 + (b - 1) known) log m_k + a_k + c_k . f(x, y) + constant,

with m and `known` of `jaxmicro.spacetime.neighbour_proportions` and f all terms of the larger
trend: what a term could take up of the layout is left to c_k. The terms are tested by their score
at the fit without them, efficient against all other parameters (Neyman's C(alpha)), summed over
tiles of the frame. Tiles, not pixels, are taken as independent: with U_c the score of tile c, all
frames together,

    T = (sum_c U_c)' (sum_c U_c U_c')^-1 (sum_c U_c),

which is a chi-square in many tiles, whatever the correlation of the noise inside of them. The
p-value is that of random signs of the U_c, under which their sum of squares stays the same. That
sum is too small, as the fitted parameters follow the tiles: each U_c moves by the tile's own
information B_c on the terms and the parameters, which takes sum_c B_c I^-1 B_c' off it. T is
multiplied by the share that is left, and by that of the noise's correlation inside of tiles.

What it can find: the proportions may change with position, so that the score of the slope counts
only as far as they do not explain it, E f^2 n (I_s - I_sp I_pp^-1 I_ps) for a slope of 1 with I the
information of one pixel on slope and proportions. Where labels are scattered this is .72 of what a
mixture with constant proportions has, and .27 of what known labels would have (three classes 2.7
sds apart); where they are arranged the neighbours tell the labels, and it is nearly all of it.

Sources: Neyman (1959), in Probability and Statistics, 213 (C(alpha)). Boos (1992), Am. Stat.
46:327 (robust score tests). Varin, Reid and Firth (2011), Stat. Sinica 21:5 (composite
likelihood). Kline and Santos (2012), J. Econom. Methods 1:23 (signs of the scores of clusters).
MacKinnon and White (1985), J. Econom. 29:305 (what the fit takes from the sum of squares).
Dayton and Macready (1988), JASA 83:173 (class proportions that depend on covariates).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.correlation import NoiseCorrelation
from jaxmicro.spacetime.local import Local, LocalFit
from jaxmicro.spacetime.neighbour_proportions import Votes, placed
from jaxmicro.spacetime.smooth import Kernel
from jaxmicro.spacetime.tiling import N_TILES, SIDE, tiles_of
from jaxmicro.spacetime.trend_density import Fixed, Frame, Theta, each_score, sums_of

FLIPS = 4999  # random signs
STEPS = 12  # Newton steps of what is not tested
BLOCK = 16_384  # pixels worked on together
RIDGE = 0.5  # precision of c_k and of b - 1: proportions that are sure stay finite


@dataclasses.dataclass(frozen=True)
class ScoreTest:
    """The statistic, the number of terms tested, its p-value, and its values by random signs."""

    statistic: float
    n_terms: int
    p_value: float
    reference: Float[np.ndarray, " flips"]


def trend_score(
    model: GMRM,
    classes: int,
    null: tuple[bool, ...],
    tested: tuple[bool, ...],
    pixels: Pixels,
    fitted: LocalFit,
    local: Local,
    noise: NoiseCorrelation | None = None,
) -> ScoreTest:
    """Test terms of the model's trend beside those of the null hypothesis.

    The same coefficients in all frames are tested: a trend of changing sign is not found.

    Args:
      model: the largest one, of whose `classes` first classes and `null` terms the fit is.
      null, tested: which terms of the trend belong to the null hypothesis, and which are tested.
      pixels: batch axis (frames,).
      fitted: the fit of the null hypothesis, with the settings `local`.
      noise: its correlation; None for white noise.
    """
    log_m, known = _neighbours(placed(pixels), fitted, fitted.kernel, local)
    tile, total, taken = tiles_of(pixels), np.zeros((N_TILES, sum(tested))), 0.0
    for t in range(pixels.n_frames):
        around = log_m[t], known[t], tile[t]
        frame, fixed, theta = _frame(model, classes, pixels, fitted, t, around)
        scores, share = _efficient(model, frame, fixed, theta, (null, tested))
        total, taken = total + scores, taken + share / pixels.n_frames
    return by_signs(total, 1 - (1 - taken) * _apart(pixels, noise))


def _apart(pixels: Pixels, noise: NoiseCorrelation | None) -> float:
    """What independent tiles have of the variance of a sum: a little noise reaches across."""
    if noise is None or not noise.buffer:
        return 1.0
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, pixels.values.shape)
    places = [np.broadcast_to(np.asarray(a), seen.shape)[seen] for a in (pixels.rows, pixels.cols)]
    sides = [(np.ptp(at) + 1) / SIDE for at in places]
    return noise.within(sides, float(jnp.sum(pixels.n_pixels) / jnp.sum(pixels.n_domain)))


def by_signs(scores: Float[np.ndarray, "G p"], taken: float = 0.0, flips: int = FLIPS) -> ScoreTest:
    """The statistic of the clusters' scores and its p-value by random signs.

    Args:
      taken: share of the sum of squares that fitted parameters have taken.
    """
    p = scores.shape[1]
    inverse = np.linalg.pinv(scores.T @ scores, hermitian=True)
    sign = np.random.default_rng(0).choice([-1.0, 1.0], (flips, len(scores)))

    def statistic(sums: np.ndarray) -> np.ndarray:
        return np.einsum("bi,ij,bj->b", sums, inverse, sums)

    found = (1 - taken) * float(statistic(scores.sum(axis=0)[None])[0])
    reference = statistic(sign @ scores)
    more = np.count_nonzero(reference >= found * (1 - 1e-12))
    return ScoreTest(found, p, (1 + more) / (1 + flips), reference)


@eqx.filter_jit
def _neighbours(
    places: Pixels, fitted: LocalFit, kernel: Kernel, local: Local
) -> tuple[Float[Array, "T K n"], Float[Array, "T n"]]:
    weight = jnp.broadcast_to(places.weight, places.values.shape)
    votes = Votes.of(places, kernel, local)
    told = fitted.responsibilities[:, :-1] * weight[:, None]
    return votes.log_m(told, fitted.fit.params.weights), votes.known


def _frame(
    model: GMRM,
    classes: int,
    pixels: Pixels,
    fitted: LocalFit,
    t: int,
    around: tuple[Array, Array, np.ndarray],
) -> tuple[Frame, Fixed, Theta]:
    """A frame in blocks, and the parameters to begin with."""
    z, params = np.asarray(pixels.values[t], float), fitted.fit.params[t]
    one = pixels.at(t)
    weight = np.asarray(one.weight, float)
    centre = np.average(z, weights=weight)
    scale = max(np.sqrt(np.average((z - centre) ** 2, weights=weight)), 1e-12)
    design = np.asarray(model.design(one))
    n_blocks = -(-z.size // BLOCK)
    size = -(-z.size // n_blocks)

    def blocks(a: Any) -> Array:
        a = np.asarray(a)
        full = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, n_blocks * size - z.size)])
        cut = full.reshape(*a.shape[:-1], n_blocks, size)
        cast = cut if cut.dtype.kind == "i" else cut.astype(pixels.values.dtype)
        return jnp.asarray(np.moveaxis(cast, -2, 0))

    log_m, known, tile = around
    seen = np.where(weight > 0, (z - centre) / scale, 0)
    frame = Frame(*(blocks(a) for a in (seen, design, log_m, known, weight, tile)))
    present = np.arange(model.n_classes) < classes
    law = None
    if params.law is not None:
        law = model.family.scaled(params.law, centre, scale)
    dtype = pixels.values.dtype
    fixed = Fixed(jnp.asarray(present, dtype), params.gain, law)
    k, p = model.n_classes, model.trend.n_terms
    start: dict[str, Any] = {
        "field": fitted.coupling.field[t] if fitted.learned else np.zeros(k),
        "lean": np.zeros((k, p)),
        "strength": fitted.coupling.strength,
        "means": np.where(present, (np.asarray(params.means) - centre) / scale, 0),
        "log_sds": np.log(np.asarray(params.sds) / scale),
        "trend": np.asarray(params.trend) / scale,
    }
    return frame, fixed, {name: jnp.asarray(a, dtype) for name, a in start.items()}


def _efficient(
    model: GMRM,
    frame: Frame,
    fixed: Fixed,
    theta: Theta,
    which: tuple[tuple[bool, ...], tuple[bool, ...]],
) -> tuple[Float[np.ndarray, "G p"], float]:
    """Scores of the tested terms in each tile, efficient against all that is not tested, and what
    that has taken of their sum of squares."""
    flat, unflatten = jax.flatten_util.ravel_pytree(theta)
    free, tested = _free(theta, fixed, *which)
    prior = _prior(theta)
    start = np.array(flat, float)
    at = start * (free | ~tested)

    def looked_at(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        moved = unflatten(jnp.asarray(point, flat.dtype))
        value, scores, information = sums_of(model.family, moved, fixed, frame)
        pull = prior * (point - _centre(theta))
        own = float(value) - 0.5 * float(pull @ (point - _centre(theta)))
        return own, np.asarray(scores, float), np.asarray(information, float) + np.diag(prior)

    value, scores, information = looked_at(at)
    for _ in range(STEPS):
        pull = prior * (at - _centre(theta))
        slope = (scores.sum(axis=0) - pull)[free]
        step = np.zeros(at.size)
        step[free] = _solved(information[np.ix_(free, free)], slope)
        if 0.5 * float(slope @ step[free]) < 1e-3:
            break
        for size in (1.0, 0.5, 0.25, 0.1, 0.02):
            tried = looked_at(at + size * step)
            if tried[0] > value:
                at, (value, scores, information) = at + size * step, tried
                break
        else:
            break
    own, cross = information[np.ix_(free, free)], information[np.ix_(free, tested)]
    onto = _solved(own, cross)
    each = np.asarray(
        each_score(model.family, unflatten(jnp.asarray(at, flat.dtype)), fixed, frame)
    )
    each, tile = each.reshape(-1, at.size), np.asarray(frame.tile).ravel()
    efficient = each[:, tested] - each[:, free] @ onto
    return scores[:, tested] - scores[:, free] @ onto, _taken(efficient, each[:, free], tile, own)


def _taken(
    efficient: Float[np.ndarray, "n p"],
    others: Float[np.ndarray, "n f"],
    tile: Int[np.ndarray, " n"],
    information: Float[np.ndarray, "f f"],
) -> float:
    """The share of the tiles' sum of squares that the other parameters take, over the terms."""
    taken = np.zeros((efficient.shape[1],) * 2)
    for c in range(N_TILES):
        both = others[tile == c].T @ efficient[tile == c]
        taken += both.T @ _solved(information, both)
    every = efficient.T @ efficient
    share = np.trace(np.linalg.pinv(every, hermitian=True) @ taken) / len(every)
    return float(np.clip(share, 0.0, 0.9))


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right, with directions of negative curvature turned and flat ones left out."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-12))
    values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale[None])
    values = np.maximum(np.abs(values), 1e-4)
    inside = vectors.T @ (right.T * scale).T
    return ((vectors @ (inside.T / values).T).T * scale).T


def _free(
    theta: Theta, fixed: Fixed, null: tuple[bool, ...], tested: tuple[bool, ...]
) -> tuple[Bool[np.ndarray, " q"], Bool[np.ndarray, " q"]]:
    """Which coordinates are fitted, and which are tested.

    The field and the lean of the first class are 0, as only differences of logits count.
    """
    present = np.asarray(fixed.present) > 0
    more = present & (np.arange(present.size) > 0)
    used = np.array(null, bool) | np.array(tested, bool)
    free = {
        "field": more,
        "lean": more[:, None] & used[None],
        "strength": np.array(True),
        "means": present,
        "log_sds": present,
        "trend": np.array(null, bool),
    }
    of_test = {name: np.zeros(np.shape(a), bool) for name, a in theta.items()}
    of_test["trend"] = np.array(tested, bool)

    def flat(parts: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([np.ravel(parts[name]) for name in sorted(parts)])

    return flat(free), flat(of_test)


def _prior(theta: Theta) -> np.ndarray:
    """Precision of each coordinate about `_centre`."""
    sizes = {name: np.full(np.shape(a), RIDGE * (name in ("lean", "strength", "field")))
             for name, a in theta.items()}  # fmt: skip
    return np.concatenate([np.ravel(sizes[name]) for name in sorted(sizes)])


def _centre(theta: Theta) -> np.ndarray:
    """A strength of 1 and no lean: proportions as the neighbours have them."""
    return np.concatenate(
        [np.full(np.size(theta[name]), float(name == "strength")) for name in sorted(theta)]
    )
