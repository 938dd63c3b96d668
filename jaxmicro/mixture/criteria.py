"""Information criteria of fits, from log-likelihoods summed in double precision, and choice of K.

AIC, Akaike (1974); BIC, Schwarz (1978); ICL, Biernacki, Celeux and Govaert (2000), in the form
BIC plus twice the entropy of the classification.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import NumericalError, UsageError
from jaxmicro.mixture.ecm import Progress, Result, fit
from jaxmicro.mixture.family import GAUSSIAN, Family
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend

USABLE = (Result.converged, Result.max_steps)


@dataclasses.dataclass(frozen=True)
class Criteria:
    """How well a model describes the visited pixels of a movie; smaller criteria are better.

    `n_pixels` counts visited pixels only: they are the data that the model has seen.
    """

    log_likelihood: float
    n_parameters: int
    n_pixels: int
    aic: float
    bic: float
    icl: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One number of classes that was tried: its fit's result and, where usable, its criteria."""

    n_classes: int
    result: Result
    criteria: Criteria | None
    chosen: bool = False


def criteria(model: GMRM, params: Params, pixels: Pixels) -> Criteria:
    """AIC, BIC and ICL of a fitted model, over all frames together.

    Args:
      model: the model; parameters that frames share are counted once.
      params: its parameters, batch axes (frames,).
      pixels: the pixels it was fitted to, batch axes (frames,).

    Raises:
      UsageError: pixels with replicates; take one replicate at a time.
    """
    if pixels.values.ndim != 2:
        raise UsageError(
            f"criteria need pixels with axes (frames, n), these have {pixels.values.ndim} axes; "
            "take one replicate at a time"
        )
    log_likelihood, entropy = log_likelihood_and_entropy(model, params, pixels)
    n = round(math.fsum(np.asarray(pixels.n_pixels, np.float64).tolist()))
    q = model.n_parameters(pixels.n_frames)
    total = math.fsum(log_likelihood.tolist())
    bic = -2 * total + q * math.log(n)
    return Criteria(
        log_likelihood=total,
        n_parameters=q,
        n_pixels=n,
        aic=-2 * total + 2 * q,
        bic=bic,
        icl=bic + 2 * math.fsum(entropy.tolist()),
    )


def log_likelihood_and_entropy(
    model: GMRM, params: Params, pixels: Pixels
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood and classification entropy of each frame, in nats, (frames,) float64.

    The parameters are taken as they are and everything after them is done in float64 on the
    host, frame by frame: float32 densities alone would be wrong by several nats in 4 million.
    """
    by_row, by_col = model.trend.factors(pixels.shape)
    log_likelihood, entropy = np.zeros(pixels.n_frames), np.zeros(pixels.n_frames)
    for t in range(pixels.n_frames):
        frame = pixels.at(t)
        seen = np.asarray(frame.weight) > 0
        r, c = np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]
        z, w = (np.asarray(a, np.float64)[seen] for a in (frame.values, frame.weight))
        joint = _log_joint(model.family, params, t, z, by_row[:, r] * by_col[:, c])
        top = joint.max(axis=0)
        share = np.exp(joint - top)
        level = share.sum(axis=0)
        log_level = np.log(level)
        log_likelihood[t] = np.dot(w, top + log_level)
        # -sum r log r with log r = joint - top - log level; r = 0 contributes nothing
        surprise = np.where(share > 0, share * (top + log_level - joint), 0).sum(axis=0) / level
        entropy[t] = np.dot(w, surprise)
    return log_likelihood, entropy


def _log_joint(
    family: Family, params: Params, t: int, z: np.ndarray, design: np.ndarray
) -> np.ndarray:
    """log p_k + log density of z in class k at the pixels of frame t, (K, n) float64."""
    law = None if params.law is None else np.asarray(params.law[t], np.float64)
    weights, means, sds, trend, gain = (
        np.asarray(a[t], np.float64)
        for a in (params.weights, params.means, params.sds, params.trend, params.gain)
    )
    # In float32 the proportions miss 1 by a rounding: 1e-7 nats a pixel, .2 in 4 million.
    weights = weights / weights.sum()
    slope = trend @ design
    u = (z[None] - gain[:, None] * slope[None] - means[:, None]) / sds[:, None]
    tiny = np.finfo(np.float64).tiny
    constant = np.log(np.maximum(weights, tiny)) - np.log(sds) + family.constant(law, np)
    return constant[:, None] + family.kernel(u, law, np)


def choose_classes(
    pixels: Pixels,
    trend: Trend,
    *,
    candidates: Sequence[int] = (2, 3, 4, 5),
    share: tuple[str, ...] = ("means", "sds"),
    family: Family = GAUSSIAN,
    max_frames: int = 6,
    quantum: float | None = None,
    progress: Progress | None = None,
) -> tuple[GMRM, tuple[Candidate, ...]]:
    """The number of classes by BIC, on a few frames spread over the movie.

    Fits that end in an empty or degenerate class, without pixels enough or without finite
    numbers are listed but never chosen, and one that did not converge only where none did: its
    areas could not be used. `family` is the distribution of the classes. `progress` is told of
    each number that is tried.

    Returns:
      The model with the smallest BIC, and every candidate in the order tried.

    Raises:
      UsageError: pixels with replicates, or no candidates.
      NumericalError: no candidate gave a usable fit.
    """
    if not candidates:
        raise UsageError("choose_classes needs at least one number of classes to try")
    few = _spread(pixels, max_frames)
    # Compiling takes longer than fitting: the fits of all candidates share one program.
    most = GMRM(max(candidates), trend, share, family=family)

    def candidate(k: int) -> Candidate:
        model = GMRM(k, trend, share, family=family)
        say = None if progress is None else functools.partial(_prefixed, progress, k)
        out = fit(most, few, quantum=quantum, classes=k, progress=say)
        result = Result(int(np.max(np.asarray(out.result))))
        scores = criteria(model, out.params.first(k), few) if result in USABLE else None
        return Candidate(k, result, scores)

    tried = [candidate(k) for k in candidates]
    best = _best(tried)
    table = tuple(dataclasses.replace(c, chosen=c is best) for c in tried)
    return GMRM(best.n_classes, trend, share, family=family), table


def _best(tried: Sequence[Candidate]) -> Candidate:
    """The smallest BIC among fits that converged or, if none did, that have a BIC at all."""
    usable = [c for c in tried if c.criteria is not None]
    if not usable:
        ended = ", ".join(f"{c.n_classes} classes: {c.result.name}" for c in tried)
        raise NumericalError(
            f"no number of classes could be fitted ({ended}); visit more pixels, exclude "
            "saturated ones, or name the number of classes in a model"
        )
    converged = [c for c in usable if c.result == Result.converged]
    return min(converged or usable, key=lambda c: c.criteria.bic if c.criteria else math.inf)


def _prefixed(progress: Progress, n_classes: int, text: str) -> None:
    progress(f"{n_classes} classes: {text}")


def _spread(pixels: Pixels, max_frames: int) -> Pixels:
    """At most `max_frames` frames, evenly spread from the first to the last."""
    if pixels.n_frames <= max_frames:
        return pixels
    pick = np.unique(np.round(np.linspace(0, pixels.n_frames - 1, max_frames)).astype(int))
    return pixels[pick]
