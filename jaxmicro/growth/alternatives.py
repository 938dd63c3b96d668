"""Other answers that a movie could have been given: other foregrounds, other optima."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmicro.errors import NumericalError, UsageError
from jaxmicro.growth.analyse import Analysis
from jaxmicro.growth.choose import Choice
from jaxmicro.growth.partition import merged_groups, partition, rising
from jaxmicro.growth.plan import ForegroundRule
from jaxmicro.growth.search import WORTH, Candidate
from jaxmicro.mixture.family import Family
from jaxmicro.mixture.gmrm import Params

CLOSE = 0.01  # nats per pixel within which another optimum of the same model counts
SMALL = 0.1  # of the largest area: smaller ones are compared in shares of this


@dataclasses.dataclass(frozen=True)
class Rival:
    """Another fit of nearly the same score, and the largest relative change of a frame's area."""

    name: str
    gap: float
    change: float


def rivals(analysis: Analysis, choice: Choice) -> list[Rival]:
    """Fits that were tried and all but chosen, the largest change of the area first.

    Other optima of the chosen model within `CLOSE`, and models of other sizes that would have been
    chosen, had a class or a trend been worth `WORTH` more or less.
    """
    chosen, rule = choice.chosen, analysis.plan.foreground
    family = choice.model.family
    # On some frames of a movie alone, a rule would not find what it finds on the whole.
    taken = None if analysis.shares is None else analysis.partition.foreground
    own = _share(chosen, chosen, family, rule, taken)
    found = []
    for c in choice.tried:
        gap = _gap(chosen, c)
        close = c is not chosen and gap <= _allowed(chosen, c)
        other = _share(c, chosen, family, rule, taken) if close else None
        if own is not None and other is not None:
            found.append(Rival(f"{c.name}, from {c.start}", gap, _change(own, other)))
    return sorted(found, key=lambda rival: -rival.change)


def _gap(chosen: Candidate, other: Candidate) -> float:
    """By how much the other is behind, after what classes and a trend must be worth."""
    sizes = (c.classes + bool(c.trend) for c in (other, chosen))
    more = next(sizes) - next(sizes)
    gap = chosen.behind(other)
    return gap + WORTH * more if gap == gap else np.inf


def _allowed(chosen: Candidate, other: Candidate) -> float:
    return CLOSE if chosen.name == other.name else WORTH


def _change(own: Float[np.ndarray, " few"], other: Float[np.ndarray, " few"]) -> float:
    return float(np.max(np.abs(other - own) / np.maximum(own, SMALL * own.max() + 1e-12)))


def _share(
    candidate: Candidate,
    chosen: Candidate,
    family: Family,
    rule: ForegroundRule,
    taken: tuple[int, ...] | None,
) -> Float[np.ndarray, " few"] | None:
    """Foreground share of the few frames; None where the rule finds nothing.

    `taken` are the foreground classes of the chosen candidate, where they are settled.
    """
    if candidate.fit is None or chosen.fit is None:
        return None
    params = candidate.fit.fit.params.first(candidate.classes)
    usual = chosen.fit.fit.params.first(chosen.classes)
    if taken is not None:
        classes = _nearest(params, usual, taken)
    elif rule.rule in ("ranks", "darkest", "brightest"):
        asked = partition(usual, rule.rule, rule.ranks).foreground
        classes = _nearest(params, usual, asked)
    else:
        try:
            classes = partition(params, rule.rule, rule.ranks, rule.overlap, family).foreground
        except (
            NumericalError,
            UsageError,
        ):  # this rule has no answer here, so there is nothing to compare
            return None
    return np.asarray(params.weights, float)[:, list(classes)].sum(axis=1)


def _nearest(params: Params, usual: Params, ranks: tuple[int, ...]) -> tuple[int, ...]:
    """Classes whose mean lies nearest to that of a class asked for by its rank.

    With a class more or less a rank would mean another class; the user looks at the greys.
    """
    means, known = (np.median(np.asarray(p.means, float), axis=0) for p in (params, usual))
    nearest = np.argmin(np.abs(means[:, None] - known), axis=1)
    return tuple(int(k) for k in np.flatnonzero(np.isin(nearest, ranks)))


@dataclasses.dataclass(frozen=True)
class Second:
    """The other group of classes that could be the foreground, and the option that says so."""

    classes: tuple[int, ...]
    share: float
    option: str


def second_choice(analysis: Analysis) -> Second | None:
    """What rule "auto" would have taken next: the darkest group, or the brightest.

    None under any other rule, and where the foreground was taken because it grows. Where all
    classes overlap the groups are the single classes.
    """
    rule = analysis.plan.foreground
    params, model = analysis.fitted.fit.params, analysis.fitted.model
    shares = np.asarray(params.weights) if analysis.shares is None else analysis.shares
    if rule.rule != "auto" or rising(shares):
        return None
    groups = merged_groups(params, rule.overlap, model.family)
    if len(groups) == 1:
        groups = [(k,) for k in range(model.n_classes)]
    taken = set(analysis.partition.foreground)
    ends = [g for g in (groups[0], groups[-1]) if not taken & set(g)]
    if not ends:
        return None
    share = np.nanmean(np.asarray(params.weights, float), axis=0)
    other = min(ends, key=lambda g: share[list(g)].sum())
    option = ",".join(map(str, other))
    if len(other) == 1:
        option = {0: "darkest", model.n_classes - 1: "brightest"}.get(other[0], option)
    return Second(other, float(share[list(other)].sum()), option)
