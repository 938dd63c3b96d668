"""Parameters to start a fit from, several ways: the optimum that is found depends on the start.

A trend that is fitted with class weights that ignore position can take up the layout of the scene:
bright material at the bottom becomes a slope. So one start has no trend at all, one has a single
sd for all classes, and one has the trend of most of the pixels. All of them are mixtures of a
histogram, which costs next to nothing and compiles nothing; the fit decides between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params

BINS = 512
STEPS = 300
TIED_STEPS = 50  # with one sd for all classes: long enough to place the means
FEW = 20_000  # pixels of all frames that a histogram is made of
OUT_OF_REACH = 1e6  # mean of a class that is not in use, in sds of the data
RARE = 0.02  # weight of a class that is added to a fit
APART = 2.5  # sds between such a class and its neighbour
ROUNDS = 20  # of fitting a surface to the pixels near it
NEAR = 2.0  # robust sds


# The trend (P,) of a frame by its grey values (n,), design (P, n) and places (n, 2).
TrendOf = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Start:
    """Parameters of every frame, and in a word how they were found."""

    name: str
    params: Params


def starts(model: GMRM, pixels: Pixels, classes: int | None = None) -> tuple[Start, ...]:
    """Ways to start a fit of the movie; with a trend three, else two.

    Args:
      pixels: batch axis (frames,).
      classes: how many of the model's classes are in use; the others get weight 0 and a mean that
        no pixel comes near.
    """
    k = classes or model.n_classes
    values, design, _ = _thinned(model, pixels)
    none = np.zeros((len(values), model.trend.n_terms))
    out = [
        _start("no trend", model, values, none, (k, False)),
        _start("one sd", model, values, none, (k, True)),
    ]
    if model.trend.n_terms:
        trend = np.stack([surface(z, f) for z, f in zip(values, design, strict=True)])
        flat = [z - b @ f for z, b, f in zip(values, trend, design, strict=True)]
        out.append(_start("trend of most pixels", model, flat, trend, (k, False)))
    return tuple(
        dataclasses.replace(s, params=_in_dtype(s.params, pixels.values.dtype)) for s in out
    )


def start_with(name: str, model: GMRM, pixels: Pixels, classes: int, trend_of: TrendOf) -> Start:
    """A mixture of the grey values less a trend, of each frame by its values, design and places."""
    thinned = list(zip(*_thinned(model, pixels), strict=True))
    trend = np.stack([trend_of(*frame) for frame in thinned])
    flat = [z - b @ f for (z, f, _), b in zip(thinned, trend, strict=True)]
    found = _start(name, model, flat, trend, (classes, False))
    return dataclasses.replace(found, params=_in_dtype(found.params, pixels.values.dtype))


def with_one_more(params: Params, classes: int) -> tuple[Start, ...]:
    """Ways to start with one class more than a fit of `classes` classes has.

    A rare class hides in the tail of a common one, where an even spread of means does not find it:
    so one is added below the darkest class, one above the brightest, and the widest is split
    (greedy learning of mixtures, Verbeek, Vlassis and Krose 2003, Neural Comput. 15:469).
    """
    weights, means, sds = (np.array(a, float) for a in (params.weights, params.means, params.sds))
    if classes >= means.shape[1]:
        raise ValueError(f"no room for a class beyond {classes}")
    first, last = means[:, 0], means[:, classes - 1]
    wide = int(np.argmax(sds[0, :classes] * np.sqrt(weights[:, :classes].mean(axis=0))))
    ways = (
        ("a darker class added", first - APART * sds[:, 0], sds[:, 0], RARE, 0),
        (
            "a brighter class added",
            last + APART * sds[:, classes - 1],
            sds[:, classes - 1],
            RARE,
            0,
        ),
        ("the widest class split", means[:, wide] + sds[:, wide], sds[:, wide], 0.5, wide),
    )
    out = []
    for name, mean, sd, share, source in ways:
        w, m, s = weights.copy(), means.copy(), sds.copy()
        m[:, classes], s[:, classes] = mean, sd
        if share == RARE:
            w[:, :classes] *= 1 - RARE
            w[:, classes] = RARE
        else:
            m[:, source] -= sds[:, source]
            w[:, source] *= 1 - share
            w[:, classes] = w[:, source]
        dtype = params.means.dtype
        new = dataclasses.replace(
            params, weights=jnp.asarray(w, dtype), means=jnp.asarray(m, dtype)
        )
        out.append(Start(name, dataclasses.replace(new, sds=jnp.asarray(s, dtype))))
    return tuple(out)


def with_one_fewer(params: Params, classes: int) -> tuple[Start, ...]:
    """Ways to start with one class fewer: without the rarest, or with the two closest as one."""
    weights, means, sds = (np.array(a, float) for a in (params.weights, params.means, params.sds))
    rarest = int(np.argmin(weights[:, :classes].mean(axis=0)))
    gap = np.diff(means[0, :classes]) / (sds[0, 1:classes] + sds[0, : classes - 1])
    low = int(np.argmin(gap))
    share = weights[:, low : low + 2]
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
    mean = (share * means[:, low : low + 2]).sum(axis=1)
    off = (means[:, low : low + 2] - mean[:, None]) ** 2
    together = np.sqrt((share * (sds[:, low : low + 2] ** 2 + off)).sum(axis=1))
    merged = weights.copy(), means.copy(), sds.copy()
    merged[0][:, low] += weights[:, low + 1]
    merged[1][:, low], merged[2][:, low] = mean, together
    ways = (
        ("the rarest class left out", (weights, means, sds), rarest),
        ("the closest classes joined", merged, low + 1),
    )
    out = []
    for name, arrays, gone in ways:
        order = np.r_[np.delete(np.arange(classes), gone), np.arange(classes, means.shape[1]), gone]
        w, m, s = (a[:, order].copy() for a in arrays)
        w[:, -1] = 0
        w /= w.sum(axis=1, keepdims=True)
        m[:, -1] = m[:, :classes].mean() + OUT_OF_REACH * s[:, :-1].max()
        dtype = params.means.dtype
        new = {"weights": w, "means": m, "sds": s}
        cast = {name: jnp.asarray(a, dtype) for name, a in new.items()}
        out.append(Start(name, dataclasses.replace(params, **cast)))
    return tuple(out)


def histogram_mixture(
    values: Float[np.ndarray, " n"], k: int, tied: bool = False
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Weights, means (ascending) and sds of k Gaussians by EM on a histogram of the values.

    EM starts with the means spread over the range of 99 % of the values and one sd for all, which
    stays one if `tied`.
    """
    low, high = np.quantile(values, [0.005, 0.995])
    least = 1e-6 * max(1.0, abs(float(low)), abs(float(high)))  # constant values but for rounding
    if high - low < least:
        low, high = low - BINS * least, high + BINS * least
    counts, edges = np.histogram(np.clip(values, low, high), bins=BINS)
    middle, width = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    total = counts.sum()
    weights = np.full(k, 1 / k)
    means = low + (high - low) * (np.arange(k) + 0.5) / k
    sds = np.full(k, (high - low) / (2 * k))
    for step in range(STEPS):
        u = (middle[None] - means[:, None]) / sds[:, None]
        joint = np.log(np.maximum(weights, 1e-12) / sds)[:, None] - 0.5 * u**2
        joint = np.exp(joint - joint.max(axis=0, keepdims=True))
        share = joint / joint.sum(axis=0, keepdims=True) * counts[None]
        held = share.sum(axis=1) + 1e-9
        before, weights = means, held / total
        means = (share @ middle) / held
        square = (share * (middle[None] - means[:, None]) ** 2).sum(axis=1)
        if tied or step < TIED_STEPS:
            variance = np.full(k, square.sum() / total)
        else:
            variance = square / held
        sds = np.sqrt(variance + width**2 / 12)
        if step > TIED_STEPS and np.max(np.abs(means - before)) < 1e-3 * width:
            break
    order = np.argsort(means)
    return weights[order], means[order], sds[order]


def surface(values: Float[np.ndarray, " n"], design: Float[np.ndarray, "P n"]) -> np.ndarray:
    """Coefficients (P,) of the trend that runs through most of the pixels.

    Least squares on the pixels near the surface, again and again (a redescending M-estimator);
    near is within `NEAR` robust sds of the residuals at first, then of those of the near ones.
    """
    columns = np.concatenate([np.ones((1, values.size)), design])
    near = np.ones(values.size, bool)
    coefficients = np.zeros(len(columns))
    for _ in range(ROUNDS):
        coefficients = np.linalg.lstsq(columns[:, near].T, values[near], rcond=None)[0]
        residual = values - coefficients @ columns
        centre = np.median(residual[near])
        scale = 1.4826 * np.median(np.abs(residual[near] - centre))
        now = np.abs(residual - centre) <= NEAR * max(scale, 1e-6)
        if np.array_equal(now, near) or now.sum() < 2 * len(columns):
            break
        near = now
    return coefficients[1:]


def _thinned(model: GMRM, pixels: Pixels) -> tuple[list[np.ndarray], ...]:
    """Grey values (n,), design (P, n) and rows and columns (n, 2) of some visited pixels of each
    frame, float64."""
    values, design, places = [], [], []
    most = max(64, FEW // pixels.n_frames)
    for t in range(pixels.n_frames):
        frame = pixels.at(t)
        z = np.asarray(frame.values, float)
        seen = np.flatnonzero((np.asarray(frame.weight) > 0) & np.isfinite(z))
        some = np.random.default_rng(t).permutation(seen)[:most]
        rows, cols = np.asarray(frame.rows)[some], np.asarray(frame.cols)[some]
        values.append(z[some])
        design.append(model.trend.values_at(rows, cols, pixels.shape))
        places.append(np.stack([rows, cols], axis=1).astype(float))
    return values, design, places


def _start(
    name: str,
    model: GMRM,
    flat: list[np.ndarray],
    trend: Float[np.ndarray, "T P"],
    how: tuple[int, bool],
) -> Start:
    """The mixture of all frames' pooled values; `how` is classes in use, and one sd for all."""
    pooled = np.concatenate(flat)
    weights, means, sds = histogram_mixture(pooled, *how)
    spare = model.n_classes - len(means)
    far = pooled.mean() + OUT_OF_REACH * max(pooled.std(), 1e-6)
    every = np.ones((len(flat), model.n_classes))
    params = Params(
        jnp.asarray(every * np.append(weights, np.zeros(spare))),
        jnp.asarray(every * np.append(means, np.full(spare, far))),
        jnp.asarray(every * np.append(sds, np.full(spare, sds[0]))),
        jnp.asarray(trend),
        jnp.asarray(every),
    )
    return Start(name, params)


def _in_dtype(params: Params, dtype: jnp.dtype) -> Params:
    def cast(a: Array) -> Array:
        return a.astype(dtype)

    fields = (params.weights, params.means, params.sds, params.trend, params.gain)
    return Params(*(cast(a) for a in fields))
