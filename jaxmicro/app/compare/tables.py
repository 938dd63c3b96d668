"""comparison.csv and tests.csv: their columns, and what ranks the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.judged import Judged
from jaxmicro.growth.pair_tests import PairTest
from jaxmicro.growth.predictive import Score
from jaxmicro.growth.variations import Tried
from jaxmicro.mixture.criteria import criteria_of
from jaxmicro.mixture.ecm import Result

ALL = "all"  # in the column `frame`: all frames together


def table(
    tried: Mapping[str, Tried],
    judged: Judged,
    pixels: Pixels,
    looks: Mapping[str, Mapping[int, str]],
) -> pd.DataFrame:
    """One row a model for all frames together, best first, then one a model and frame.

    Args:
      looks: what speaks against each model, by frame; see `jaxmicro.growth.looks`.
    """
    order = ranked(tried, judged)
    total = [_overall(n, tried[n], judged, pixels, looks[n]) for n in order]
    parts = [_weighted(pd.DataFrame(_behind(total, tried, judged, order)))]
    if pixels.n_frames > 1:
        for t in range(pixels.n_frames):
            rows = [_of_frame(n, tried[n], judged, pixels, t, looks[n]) for n in order]
            parts.append(_weighted(pd.DataFrame(rows)))
    return pd.concat(parts, ignore_index=True)


def ranked(tried: Mapping[str, Tried], judged: Judged) -> list[str]:
    """Names of the models, best first; those that did not reach their optimum come after."""

    def key(name: str) -> tuple[bool, float]:
        score = judged.scores.get(name)
        worth = math.nan if score is None else judged.bench.worth(tried[name], score)
        return not tried[name].converged, math.inf if math.isnan(worth) else -worth

    return sorted(tried, key=key)


def _overall(
    name: str, one: Tried, judged: Judged, pixels: Pixels, looks: Mapping[int, str]
) -> dict[str, object]:
    frames = range(pixels.n_frames)
    words = sorted({w for text in looks.values() for w in text.split() if w != "ok"})
    check = " ".join([*_status(one), *words]) or "ok"
    score = judged.scores.get(name)
    mean_se = (math.nan, math.nan) if score is None else (score.mean, score.se)
    return _row(name, one, judged, pixels, frames) | {
        "frame": ALL,
        "score": mean_se[0],
        "score_se": mean_se[1],
        "result": _results(np.asarray(one.fit.result)),
        "check": check,
    }


def _of_frame(
    name: str, one: Tried, judged: Judged, pixels: Pixels, t: int, looks: Mapping[int, str]
) -> dict[str, object]:
    score, at = judged.scores.get(name), np.flatnonzero(judged.bench.frames == t)
    mean_se = score.by_frame[at[0]] if score is not None and at.size else (math.nan, math.nan)
    return _row(name, one, judged, pixels, [t]) | {
        "frame": t,
        "score": mean_se[0],
        "score_se": mean_se[1],
        "result": Result(int(np.asarray(one.fit.result)[t])).name,
        "check": looks.get(t, ""),
    }


def _row(
    name: str, one: Tried, judged: Judged, pixels: Pixels, frames: Sequence[int]
) -> dict[str, object]:
    """The columns that depend on which frames are meant; the order is that of the file."""
    some, model = list(frames), one.plan.model
    visited, area = (np.asarray(a, float)[some] for a in (pixels.n_pixels, pixels.n_domain))
    noise = judged.bench.noise
    n = sum(noise.n_independent(v, a) for v, a in zip(visited, area, strict=True))
    free = n_free(one, len(some))
    found = criteria_of(one.log_likelihood[some], one.entropy[some], free, n)
    gap, steps = (np.asarray(a)[some].max() for a in (one.fit.optimum_gap, one.fit.steps))
    return {
        "frame": "",
        "model": name,
        "classes": model.n_classes,
        "trend": model.trend.formula or "none",
        "family": model.family.name,
        "free_parameters": free,
        "n": round(n, 1),
        "log_likelihood": found.log_likelihood,
        "aic": found.aic,
        "bic": found.bic,
        "icl": found.icl,
        "score": math.nan,
        "score_se": math.nan,
        "delta": math.nan,
        "weight": math.nan,
        "result": "",
        "optimum_gap": float(gap) if math.isfinite(gap) else math.nan,
        "check": "",
        "seconds": round(one.seconds * len(some) / pixels.n_frames, 3),
        "n_pixels": int(visited.sum()),
        "steps": int(steps),
        "proportions": "local" if one.local is not None else "global",
        "shared": " ".join(model.share) or "none",
        "score_behind": math.nan,
        "score_behind_se": math.nan,
        "ranked": "yes" if one.converged else "no",
    }


def n_free(one: Tried, n_frames: int) -> int:
    """Free parameters on so many frames; a fitted coupling counts 1, its field K - 1 a frame."""
    k = one.half.classes
    coupling = 1 + n_frames * (k - 1) if one.local is not None and one.local.learned else 0
    return int(one.plan.model.n_parameters(n_frames)) + coupling


def _behind(
    rows: list[dict[str, object]],
    tried: Mapping[str, Tried],
    judged: Judged,
    order: Sequence[str],
) -> list[dict[str, object]]:
    """How far each score is behind that of the first row, with the error of the difference."""
    best: Score | None = judged.scores.get(order[0])
    for row, name in zip(rows, order, strict=True):
        own = judged.scores.get(name)
        if best is not None and own is not None:
            row["score_behind"], row["score_behind_se"] = own.behind(best)
    return rows


def _weighted(rows: pd.DataFrame) -> pd.DataFrame:
    """With the difference in BIC from the least one, and the weights exp(-delta / 2).

    Only models that reached their optimum, and of one kind of likelihood, share the weights.
    """
    good = (rows["ranked"] == "yes") & np.isfinite(rows["bic"])
    delta = pd.Series(math.nan, index=rows.index)
    weight = delta.copy()
    for _, kind in rows.groupby("proportions"):
        some = kind.index[good[kind.index]]
        if len(some):
            delta[kind.index] = kind["bic"] - rows["bic"][some].min()
            share = np.exp(-0.5 * delta[some])
            weight[some] = share / share.sum()
    return rows.assign(delta=delta, weight=weight)


def _status(one: Tried) -> list[str]:
    """What keeps a model from being ranked."""
    words = [] if one.missed == 0 else ["missed"]
    ended = np.unique(np.asarray(one.fit.result))
    return words + [Result(int(c)).name.replace("_", "-") for c in ended if c != Result.converged]


def sentence(name: str, one: Tried) -> str:
    """Why a model is not ranked, and what to do."""
    if one.missed:
        return (
            f"{name} is not ranked: a model that is a part of it fits better by {one.missed:.1f} "
            "nats, so that its fit missed the optimum"
        )
    worst = Result(int(np.max(np.asarray(one.fit.result))))
    bad = int(np.sum(np.asarray(one.fit.result) != Result.converged))
    where = f" in {bad} of {len(one.log_likelihood)} frames" if len(one.log_likelihood) > 1 else ""
    return f"{name} is not ranked: {worst.name}{where}. {worst.sentence}"


def _results(codes: np.ndarray) -> str:
    found, counts = np.unique(codes, return_counts=True)
    return " ".join(f"{n} {Result(int(c)).name}" for c, n in zip(found, counts, strict=True))


def tests_table(tests: Sequence[PairTest]) -> pd.DataFrame:
    """tests.csv."""
    rows = [
        {
            "null": t.null,
            "alternative": t.alternative,
            "method": t.method,
            "statistic": t.statistic,
            "p_value": t.p_value,
            "recommended": "yes" if t.recommended else "no",
        }
        for t in tests
    ]
    columns = ["null", "alternative", "method", "statistic", "p_value", "recommended"]
    return pd.DataFrame(rows, columns=columns)
