"""Information criteria of fits, from log-likelihoods summed in double precision.

AIC, Akaike (1974); BIC, Schwarz (1978); ICL, Biernacki, Celeux and Govaert (2000), in the form
BIC plus twice the entropy of the classification.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.family import Family
from jaxmicro.mixture.gmrm import GMRM, Params


@dataclasses.dataclass(frozen=True)
class Criteria:
    """How well a model describes the visited pixels of a movie; smaller criteria are better.

    `n_pixels` counts visited pixels only: they are the data that the model has seen. Where noise
    is correlated it may be the smaller number of them that are as good as independent.
    """

    log_likelihood: float
    n_parameters: int
    n_pixels: int | float
    aic: float
    bic: float
    icl: float


def criteria(model: GMRM, params: Params, pixels: Pixels) -> Criteria:
    """AIC, BIC and ICL of a fitted model, over all frames together.

    Args:
      model: the model; parameters that frames share are counted once.
      params: its parameters, batch axes (frames,).
      pixels: the pixels it was fitted to, batch axes (frames,).

    Raises:
      UsageError: pixels with replicates; take one replicate at a time.
    """
    expect(model, GMRM, "criteria: model")
    expect(params, Params, "criteria: params")
    expect(pixels, Pixels, "criteria: pixels")
    refuse_traced((params, pixels), "criteria", "call it on the result")
    if pixels.values.ndim != 2:
        raise UsageError(
            f"criteria need pixels with axes (frames, n), these have {pixels.values.ndim} axes; "
            "take one replicate at a time"
        )
    log_likelihood, entropy = log_likelihood_and_entropy(model, params, pixels)
    n = round(math.fsum(np.asarray(pixels.n_pixels, np.float64).tolist()))
    q = model.n_parameters(pixels.n_frames)
    return criteria_of(log_likelihood, entropy, q, n)


def criteria_of(
    log_likelihood: np.ndarray, entropy: np.ndarray, n_parameters: int, n: int | float
) -> Criteria:
    """The criteria from the sums of each frame, (frames,).

    Args:
      n: pixels that count as independent: fewer than were visited where they share noise.
    """
    total = math.fsum(np.asarray(log_likelihood).tolist())
    bic = -2 * total + n_parameters * math.log(n)
    return Criteria(
        log_likelihood=total,
        n_parameters=n_parameters,
        n_pixels=n,
        aic=-2 * total + 2 * n_parameters,
        bic=bic,
        icl=bic + 2 * math.fsum(np.asarray(entropy).tolist()),
    )


def log_likelihood_and_entropy(
    model: GMRM, params: Params, pixels: Pixels
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood and classification entropy of each frame, in nats, (frames,) float64.

    The parameters are taken as they are and everything after them is done in float64 on the
    host, frame by frame: float32 densities alone would be wrong by several nats in 4 million.
    """
    log_likelihood, entropy = np.zeros(pixels.n_frames), np.zeros(pixels.n_frames)
    for t in range(pixels.n_frames):
        frame = pixels.at(t)
        seen = np.asarray(frame.weight) > 0
        r, c = np.asarray(frame.rows)[seen], np.asarray(frame.cols)[seen]
        z, w = (np.asarray(a, np.float64)[seen] for a in (frame.values, frame.weight))
        joint = _log_joint(model.family, params, t, z, model.trend.values_at(r, c, pixels.shape))
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
