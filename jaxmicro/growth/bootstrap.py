"""Likelihood-ratio tests by parametric bootstrap: of classes, and of trends.

Between numbers of classes 2 (log L_1 - log L_0) is no chi-square: under the null hypothesis a
weight is 0 or two classes coincide. Its distribution is found by drawing grey values from the
fitted null hypothesis and fitting both models again, all samples in one compiled call (McLachlan
1987, Appl. Stat. 36:318). Two ways to draw:

- `scattered`: labels from the frame's weights and white noise, as the mixture itself says;
- `arranged`: labels from the posterior of a fit with local proportions, so that the scene keeps
  its layout, and noise with the correlation that was measured. The samples then contain what makes
  the plain ratio too large: the layout that a trend takes up, and pixels that are not independent.

The ratio is that of the plain mixtures either way; only its reference distribution differs.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.phantom_growth import smooth_field
from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.ecm import fit_part
from jaxmicro.mixture.family import StudentT
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.correlation import NoiseCorrelation

SAMPLES = 99  # bootstrap samples: the least p-value is .01
PIXELS, FEWEST = 8192, 512  # of all frames that the ratio is taken of, and of each at least


@dataclasses.dataclass(frozen=True)
class Half:
    """One of the two hypotheses: so many classes, and which terms of the trend."""

    classes: int
    terms: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class World:
    """What bootstrap samples are drawn from: a fitted null hypothesis.

    Attributes:
      params: batch axis (frames,); as many classes and terms as the largest model.
      shares: class probabilities of each pixel; None for the frame's weights.
      noise: correlation of the noise; None for white noise.
      quantum: grey-level step; 0 for continuous greys.
    """

    params: Params
    shares: Float[np.ndarray, "T K n"] | None
    noise: NoiseCorrelation | None
    quantum: float


@dataclasses.dataclass(frozen=True)
class RatioTest:
    """2 (log L_1 - log L_0), its p-value, and what it was in the bootstrap samples."""

    statistic: float
    p_value: float
    reference: Float[np.ndarray, " samples"]


def bootstrap_test(
    model: GMRM,
    null: Half,
    alternative: Half,
    pixels: Pixels,
    world: World,
    samples: int = SAMPLES,
    seed: int = 0,
) -> RatioTest:
    """Test one number of classes or one trend against a larger one.

    Args:
      model: the largest one, of which both hypotheses are parts.
      pixels: batch axis (frames,); thin them first, see `thinned`.
      world: what to draw from, on the same pixels.
    """
    quantum = world.quantum
    found = float(ratios(model, null, alternative, pixels, quantum)[0])
    drawn = draw(np.random.default_rng(seed), model, pixels, world, samples)
    reference = ratios(model, null, alternative, drawn, quantum)
    good = np.isfinite(reference)
    more = np.count_nonzero(reference[good] >= found)
    return RatioTest(found, (1 + more) / (1 + good.sum()), reference)


def ratios(
    model: GMRM, null: Half, alternative: Half, pixels: Pixels, quantum: float
) -> Float[np.ndarray, " B"]:
    """2 (log L_1 - log L_0) of each replicate; NaN where a fit has no numbers."""
    both = []
    for half in (null, alternative):
        found = fit_part(model, pixels, half.classes, half.terms, quantum=quantum)
        value = np.asarray(found.log_likelihood, np.float64)
        both.append(np.atleast_1d(value.sum(axis=0)))
    return 2 * (both[1] - both[0])


def thinned(pixels: Pixels, most: int = PIXELS) -> tuple[Pixels, np.ndarray]:
    """At most so many visited pixels, of each frame as many, drawn at random, and which these are,
    (T, n)."""
    most = max(FEWEST, most // pixels.n_frames)
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)
    chance = np.random.default_rng(0).random(weight.shape)
    order = np.argsort(np.where(weight > 0, chance, 2.0), axis=-1, kind="stable")
    pick = order[:, : min(most, int((weight > 0).sum(axis=-1).max()))]

    def cut(a: Array | np.ndarray) -> Array:
        whole = np.broadcast_to(np.asarray(a), weight.shape)
        return jnp.asarray(np.take_along_axis(whole, pick, axis=-1))

    values, rows, cols = cut(pixels.values), cut(pixels.rows), cut(pixels.cols)
    some = Pixels(values, rows, cols, cut(weight), pixels.n_domain, pixels.shape, pixels.pattern)
    return some, pick


def draw(
    rng: np.random.Generator, model: GMRM, pixels: Pixels, world: World, samples: int
) -> Pixels:
    """Bootstrap samples of the pixels' grey values, batch axes (frames, samples)."""
    n_frames, n = pixels.values.shape
    values = np.empty((n_frames, samples, n), np.asarray(pixels.values).dtype)
    for t in range(n_frames):
        one = pixels.at(t)
        rows, cols = np.asarray(one.rows), np.asarray(one.cols)
        design = model.trend.values_at(rows, cols, pixels.shape)
        share = None if world.shares is None else world.shares[t]
        for b in range(samples):
            values[t, b] = _greys(rng, model, world, t, (share, design, rows, cols, pixels.shape))

    def repeated(a: Array) -> Array:
        if pixels.shared:
            return a
        return jnp.asarray(np.broadcast_to(np.asarray(a)[:, None], values.shape))

    places = [repeated(a) for a in (pixels.rows, pixels.cols, pixels.weight)]
    n_domain, shape, pattern = pixels.n_domain, pixels.shape, pixels.pattern
    return Pixels(jnp.asarray(values), places[0], places[1], places[2], n_domain, shape, pattern)


def _greys(
    rng: np.random.Generator, model: GMRM, world: World, t: int, places: tuple
) -> Float[np.ndarray, " n"]:
    """One sample of a frame's grey values."""
    share, design, rows, cols, shape = places
    weights, means, sds, trend, gain = (
        np.asarray(a[t], float)
        for a in (
            world.params.weights,
            world.params.means,
            world.params.sds,
            world.params.trend,
            world.params.gain,
        )
    )
    chance = np.tile(weights[:, None], rows.size) if share is None else share
    up = np.cumsum(chance, axis=0)
    label = (rng.random(rows.size)[None] * up[-1:] >= up).sum(axis=0)
    label = np.minimum(label, weights.size - 1)
    noise = _noise(rng, world.noise, shape, rows, cols)
    if isinstance(model.family, StudentT) and world.params.law is not None:
        dof = float(np.asarray(world.params.law[t])[0])
        noise = noise * np.sqrt(dof / rng.chisquare(dof, rows.size))
    greys = means[label] + gain[label] * (trend @ design) + sds[label] * noise
    return np.rint(greys / world.quantum) * world.quantum if world.quantum > 0 else greys


def _noise(
    rng: np.random.Generator,
    noise: NoiseCorrelation | None,
    shape: tuple[int, int],
    rows: np.ndarray,
    cols: np.ndarray,
) -> Float[np.ndarray, " n"]:
    """Noise of sd 1; white noise after a Gaussian filter of sd s has correlation
    exp(-d^2 / (4 s^2))."""
    if noise is None or not noise.buffer:
        return rng.standard_normal(rows.size)
    return smooth_field(rng, shape, noise.buffer / 2**0.5)[rows, cols]
