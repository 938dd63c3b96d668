"""From K classes to foreground (what is measured) and background.

Classes come in order of increasing mean; a rule names the foreground by rank, by how components
overlap, or by what grows over the movie.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.errors import NumericalError, UsageError
from jaxmicro.mixture.family import GAUSSIAN, Family
from jaxmicro.mixture.gmrm import Params

RULES = ("auto", "brightest", "darkest", "ranks", "merge", "grows")
GROWING = ("auto", "grows")  # rules that ask which classes grow
DEFAULT_OVERLAP = 0.1
_RISE = 0.4  # a growing class starts below this share of its peak


class NothingGrows(UsageError):
    """Rule "grows" does not suit this movie."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which classes are foreground, and why, in words for the report."""

    foreground: tuple[int, ...]
    n_classes: int
    reason: str

    def is_foreground(self, labels: Int[np.ndarray | Array, "*batch"]) -> np.ndarray:
        """Bool array: the label is a foreground class."""
        return np.isin(np.asarray(labels), self.foreground)


def partition(
    params: Params,
    rule: str = "auto",
    ranks: tuple[int, ...] = (),
    overlap: float = DEFAULT_OVERLAP,
    family: Family = GAUSSIAN,
    shares: Float[np.ndarray, "few K"] | None = None,
) -> Partition:
    """Split the classes of a fitted movie.

    Args:
      params: batch axis (frames,); class distributions are pooled over the frames.
      rule: "brightest" or "darkest": that one class. "ranks": the given ranks, 0 the darkest,
        negative from the brightest. "merge": neighbouring components are merged while their
        Bhattacharyya coefficient exceeds `overlap` (Hennig 2010, Adv. Data Anal. Classif. 4:3);
        the brightest merged group is foreground. "grows": all classes whose share of the frame
        starts below .4 of its peak. "auto": "grows", or "merge" where nothing grows.
      family: of the classes, whose overlap "merge" looks at.
      shares: of each class over the whole movie, where `params` are of some of its frames.

    Raises:
      UsageError: unknown rule, rank outside the classes, everything or nothing foreground, or
        parameters of several replicates, whose answers must not depend on one another.
      NothingGrows: rule "grows" where no class does.
      NumericalError: classes are to be merged and no frame has finite parameters.
    """
    expect(params, Params, "partition: params")
    expect(family, Family, "partition: family")
    refuse_traced(params, "partition", "it decides on numbers; call it on the result")
    k = params.means.shape[-1]
    if params.means.ndim != 2:
        raise UsageError(
            f"class means of shape {params.means.shape} are of several replicates; partition each "
            "replicate on its own, with parameters of shape (frames, classes)"
        )
    if rule not in RULES:
        raise UsageError(f"foreground rule {rule!r} is not known; use one of {', '.join(RULES)}")
    if rule == "ranks":
        return Partition(_checked_ranks(ranks, k), k, f"classes {list(ranks)}, as asked for")
    if k == 1:
        raise UsageError("one class cannot be split into foreground and background; use 2 or more")
    if rule == "brightest":
        return Partition((k - 1,), k, "the brightest class")
    if rule == "darkest":
        return Partition((0,), k, "the darkest class")
    if rule in GROWING:
        growing = rising(np.asarray(params.weights) if shares is None else shares)
        if growing:
            over = "" if shares is None else " over the whole movie"
            why = f"the classes whose share of the frame grows from near 0{over}"
            return Partition(growing, k, why)
        if rule == "grows":
            raise NothingGrows(
                "foreground rule 'grows': no class starts near 0 and then grows; "
                "use 'brightest', 'darkest' or 'ranks'"
            )
    groups = merged_groups(params, overlap, family)
    if len(groups) == 1:
        return Partition((k - 1,), k, "the brightest class (all components overlap)")
    return Partition(groups[-1], k, "the brightest group of overlapping components")


def likeness(params: Params, foreground: tuple[int, ...], family: Family = GAUSSIAN) -> float:
    """Largest Bhattacharyya coefficient of a foreground and a background class, pooled; 1: alike.

    Raises:
      NumericalError: no frame has finite parameters.
    """
    _, means, sds, law = _pooled(params)
    background = [k for k in range(means.size) if k not in foreground]
    pairs = itertools.product(foreground, background)
    return max(family.overlap((means[i], sds[i]), (means[j], sds[j]), law) for i, j in pairs)


def merged_groups(
    params: Params, overlap: float, family: Family = GAUSSIAN
) -> list[tuple[int, ...]]:
    """Runs of neighbouring classes, merged while some pair overlaps by more than `overlap`.

    A merged group counts as one class of the family, with the mean and sd of its components.
    """
    weights, means, sds, law = _pooled(params)
    parts: list[tuple[tuple[int, ...], float, float, float]] = [
        ((i,), w, m, s**2) for i, (w, m, s) in enumerate(zip(weights, means, sds, strict=True))
    ]
    while len(parts) > 1:
        pairs = [
            family.overlap((a[2], a[3] ** 0.5), (b[2], b[3] ** 0.5), law)
            for a, b in itertools.pairwise(parts)
        ]
        i = int(np.argmax(pairs))
        if pairs[i] <= overlap:
            break
        (ca, wa, ma, va), (cb, wb, mb, vb) = parts[i], parts[i + 1]
        w = wa + wb
        share = wa / w if w > 0 else 0.5
        mean = share * ma + (1 - share) * mb
        var = share * (va + (ma - mean) ** 2) + (1 - share) * (vb + (mb - mean) ** 2)
        parts[i : i + 2] = [(ca + cb, w, mean, var)]
    return [p[0] for p in parts]


def _pooled(
    params: Params,
) -> tuple[
    Float[np.ndarray, " K"],
    Float[np.ndarray, " K"],
    Float[np.ndarray, " K"],
    Float[np.ndarray, " L"] | None,
]:
    """Class weights, means, sds and law pooled over the frames; medians ignore a bad frame."""
    k = params.means.shape[-1]
    three = (params.weights, params.means, params.sds)
    arrays = [np.asarray(a, float).reshape(-1, k) for a in three]
    fitted = np.all([np.isfinite(a).all(axis=1) for a in arrays], axis=0)
    if not fitted.any():
        raise NumericalError("no frame could be fitted, so there are no classes to partition")
    weights, means, sds = (a[fitted] for a in arrays)
    law = None
    if params.law is not None:
        law = np.median(np.asarray(params.law, float)[fitted], axis=0)
    return weights.mean(axis=0), np.median(means, axis=0), np.median(sds, axis=0), law


def rising(share: Float[np.ndarray, "frames K"]) -> tuple[int, ...]:
    """Classes whose share of the frame starts near 0 and then grows; none if all do."""
    share = share[np.isfinite(share).all(axis=1)]  # frames that could not be fitted say nothing
    if share.shape[0] < 3:
        return ()
    # Ends are means over a few frames, so that one noisy frame decides nothing.
    few = max(1, share.shape[0] // 10)
    start = share[:few].mean(axis=0)
    kernel = np.ones(few) / few
    peak = np.max([np.convolve(s, kernel, mode="valid") for s in share.T], axis=1)
    found = np.flatnonzero((start < _RISE * peak) & (peak > 1e-3))
    return tuple(int(i) for i in found) if found.size < share.shape[1] else ()


def _checked_ranks(ranks: tuple[int, ...], k: int) -> tuple[int, ...]:
    bad = [r for r in ranks if not -k <= r < k]
    if bad or not ranks:
        raise UsageError(
            f"foreground ranks {list(ranks)} are not allowed with {k} classes; "
            f"use ranks from 0 (darkest) to {k - 1} (brightest)"
        )
    chosen = tuple(sorted({r % k for r in ranks}))
    if len(chosen) == k:
        raise UsageError("foreground ranks name every class; leave at least one as background")
    return chosen
