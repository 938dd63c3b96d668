"""Areas of whole frames from their visited pixels, with the error of the sampling design."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmicro.data.sampling import Pixels


def design_effect(
    values: Float[np.ndarray, "frames n"], pixels: Pixels
) -> Float[np.ndarray, " frames"]:
    """Variance of a mean over the visited pixels against that of a simple random sample (Kish).

    1 where it is not known, and where every pixel was visited.
    """
    simple = dataclasses.replace(pixels, pattern="random")
    ours, theirs = (area_of(values, p)[1] ** 2 for p in (pixels, simple))
    known = np.isfinite(ours) & np.isfinite(theirs) & (theirs > 0) & (ours > 0)
    return np.divide(ours, theirs, out=np.ones_like(ours), where=known)


def area_of(
    foreground: np.ndarray, pixels: Pixels
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Area in pixels and its standard error, from labels or from probabilities of foreground."""
    weight = np.broadcast_to(np.asarray(pixels.weight, float), foreground.shape)
    n = weight.sum(axis=-1)
    domain = np.asarray(pixels.n_domain, float).reshape(-1, *([1] * (n.ndim - 1)))
    # a frame without a visit is not known
    total = np.sum(weight * foreground, axis=-1)
    share = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    variance = np.where(n > 0, _design_variance(foreground, pixels, weight, domain), np.nan)
    return share * domain, np.sqrt(variance) * domain


def _design_variance(
    values: np.ndarray, pixels: Pixels, weight: np.ndarray, domain: np.ndarray
) -> np.ndarray:
    """Variance of the mean of `values` over the visited pixels, by how they were chosen."""
    n = weight.sum(axis=-1)
    visits = np.maximum(n, 1)
    unseen = np.clip(1 - n / domain, 0, 1)
    floor = 0.5 / (n + 1)  # zero observed differences do not imply zero variance
    if pixels.pattern == "stratified":
        # One pixel a block: the spread within a block is not seen, that between neighbours is.
        steps = np.diff(values.astype(float), axis=-1) ** 2 * weight[..., 1:]
        between = steps.sum(axis=-1) / (2 * np.maximum(n - 1, 1))
        return unseen * np.maximum(between, floor) / visits
    total = np.sum(weight * values, axis=-1)
    if values.dtype == bool:
        share = (total + 0.5) / (n + 1)
        simple = unseen * share * (1 - share) / np.maximum(n - 1, 1)
    else:
        square = np.sum(weight * (values - (total / visits)[..., None]) ** 2, axis=-1)
        simple = unseen * np.maximum(square / np.maximum(n - 1, 1), floor) / visits
    if pixels.pattern == "lines":
        between = np.where(unseen > 0, unseen * _line_variance(values, pixels, weight), 0)
        return np.maximum(between, simple)
    return simple


def _line_variance(foreground: np.ndarray, pixels: Pixels, weight: np.ndarray) -> np.ndarray:
    """Variance of the foreground share from differences between neighbouring scan lines."""
    cols = np.broadcast_to(np.asarray(pixels.cols), foreground.shape)
    flat = [a.reshape(-1, a.shape[-1]) for a in (foreground, cols, weight)]
    out = np.empty(flat[0].shape[0])
    for i, (y, col, w) in enumerate(zip(*flat, strict=True)):
        seen = w > 0
        if not seen.any():
            out[i] = np.nan
            continue
        y, col = y[seen].astype(float), col[seen]
        line = np.concatenate([[0], np.cumsum(np.diff(col) <= 0)])  # columns rise along a line
        size, total = np.bincount(line), np.bincount(line, weights=y)
        residual = total - size * (total.sum() / size.sum())
        if size.size < 2:
            out[i] = np.nan  # one line tells nothing about the spread between lines
            continue
        steps = np.sum(np.diff(residual) ** 2) / (2 * (size.size - 1))
        out[i] = size.size * steps / size.sum() ** 2
    return out.reshape(foreground.shape[:-1])
