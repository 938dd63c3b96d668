"""Scores of an answer on a scene of the zoo; an area of a frame in pixels, errors in %."""

import dataclasses

import numpy as np
from scoring.labels import overlap, visited

from jaxmicro.mixture.trend import Trend

CLOSE = 3.0  # % of the area, or this many standard errors: an area that is right
FAR = 10.0  # % of the area, and 3 standard errors: an area that is wrong
EIGHTY = 1.2816  # standard errors on both sides of an 80 % interval
SMALL = 0.1  # of the largest area: the errors of smaller ones are given in % of this


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a program says of a movie.

    `area`, `area_se`, `usable` and `check` are (t,); `foreground` (t, n) is of the visited
    `pixels`; `dense` (t, y, x) is a map of the whole frames; `trend` (t, P) goes with `formula`.
    """

    area: np.ndarray
    area_se: np.ndarray
    usable: np.ndarray
    check: np.ndarray
    pixels: object
    foreground: np.ndarray
    dense: np.ndarray
    formula: str
    trend: np.ndarray
    n_classes: int
    results: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def area_errors(area, scene):
    """(t,) errors in % of the true area, or of a tenth of the largest where that is more."""
    real = scene.foreground_mask.sum(axis=(1, 2))
    return 100 * (area - real) / np.maximum(real, SMALL * real.max())


def area_scores(answer, scene):
    """Numbers of a row: errors of the usable areas, and whether the scene is right."""
    real = scene.foreground_mask.sum(axis=(1, 2))
    good, error = answer.usable, np.abs(area_errors(answer.area, scene))
    distance = np.abs(answer.area - real)
    close = (error <= CLOSE) | (distance <= 3 * answer.area_se)
    far = (error > FAR) & (distance > 3 * answer.area_se)
    known = good & (answer.area_se > 0)
    inside = distance[known] <= EIGHTY * answer.area_se[known]
    return {
        "usable": int(good.sum()),
        "area_error": _median(error[good]),
        "area_error_worst": error[good].max() if good.any() else np.nan,
        "area_error_signed": _median(area_errors(answer.area, scene)[good]),
        "right": int(good.any() and close[good].all()),
        "wrong": int(far[good].any()),
        "checked": int((answer.check[good] != "ok").any()),
        "cover": inside.mean() if known.any() else np.nan,
        "area": _listed(answer.area),
        "area_se": _listed(answer.area_se),
        "area_true": _listed(real),
    }


def label_scores(answer, scene):
    real = visited(scene.foreground_mask, answer.pixels)
    return {
        "accuracy": np.mean(answer.foreground == real),
        "iou_visited": overlap(answer.foreground, real),
        "iou": overlap(answer.dense, scene.foreground_mask),
    }


def trend_scores(answer, scene):
    """How far the fitted trend is from the true one.

    `trend_z` is the largest error over its standard error among the frames and the terms of both
    formulas; a term that one lacks is 0 there. The standard error is that of weighted least
    squares by one who knows the labels and the sds, with correlated noise taken for what it is:
    none can be smaller. `trend_rms` is the rms over the frame of the error of the trend's surface,
    its mean taken out, in units of the scene's smallest step between foreground and other.
    """
    terms = tuple(dict.fromkeys((*scene.terms, *Trend(answer.formula).terms)))
    if not terms:
        return {"trend_z": np.nan, "trend_right": np.nan, "trend_rms": 0.0}
    both = Trend(" + ".join(terms))
    true = _aligned(scene.truth["trend"], scene.terms, both.terms)
    error = _aligned(answer.trend, Trend(answer.formula).terms, both.terms) - true
    z = np.abs(error) / np.stack(
        [_least_se(both, answer.pixels, scene, t) for t in range(len(true))]
    )
    shape = scene.movie.shape[1:]
    rms = max(np.std(both.surface(e, shape)) for e in error)
    z = z[np.isfinite(z).all(axis=1)]
    return {
        "trend_z": z.max() if z.size else np.nan,
        "trend_right": np.mean(z <= 3) if z.size else np.nan,
        "trend_rms": rms / _step(scene),
    }


def _aligned(coefficients, terms, wanted):
    out = np.zeros((len(coefficients), len(wanted)))
    for i, term in enumerate(terms):
        out[:, wanted.index(term)] = np.asarray(coefficients)[:, i]
    return out


def _least_se(trend, pixels, scene, t):
    frame = pixels.at(t)
    rows, cols = np.asarray(frame.rows), np.asarray(frame.cols)
    by_row, by_col = trend.factors(scene.movie.shape[1:])
    labels = scene.labels[t, rows, cols]
    present = labels[:, None] == np.unique(labels)[None]
    design = np.concatenate([(by_row[:, rows] * by_col[:, cols]).T, present], axis=1)
    design = design / scene.truth["sds"][t][labels][:, None]
    variance = np.diag(np.linalg.inv(design.T @ design))[: trend.n_terms]
    density, sigma = len(rows) / scene.labels[t].size, float(scene.truth["correlation_px"])
    return np.sqrt(variance * (1 + density * max(0.0, 4 * np.pi * sigma**2 - 1)))


def _step(scene):
    """Smallest difference in grey between a foreground class and another."""
    means = scene.truth["means"][0]
    inside = np.isin(np.arange(means.size), scene.foreground)
    return np.min(np.abs(means[inside][:, None] - means[~inside]))


def mask_scores(name, mask, scene):
    """Numbers of a row for a rival's (t, y, x) mask."""
    error = np.abs(area_errors(mask.sum(axis=(1, 2)), scene))
    return {
        f"{name}_iou": overlap(mask, scene.foreground_mask),
        f"{name}_area_error": np.median(error),
    }


def _median(values):
    return float(np.median(values)) if len(values) else np.nan


def _listed(values):
    return " ".join(f"{v:.6g}" for v in values)
