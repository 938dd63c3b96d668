"""Does the fitted model describe the frames? Looked at after every fit, from what it left over.

A fit that converged may still be wrong: it may have missed a trend, taken one class for two, or
ended in another optimum. Each look below names what it sees, frame by frame, by size as well as by
significance, so that large movies are not flagged for what does no harm.

| name | what was seen |
| --- | --- |
| structure | greys within the classes vary over the frame |
| histogram | the greys do not follow the fitted mixture |
| proportions | the histogram alone gives another area than neighbours and histogram together |
| overlap | a foreground class overlaps another, or is much wider than the others |
| ambiguous | much of the area comes from pixels that may be either |
| exchange | foreground and background change places from one frame to the next |
| noise | one class alone predicts the greys as well |
| rivals | another fit of nearly the same score gives other areas |
| foreground | another class could as well be the object |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.growth.alternatives import rivals, second_choice
from jaxmicro.growth.analyse import Analysis
from jaxmicro.growth.choose import FRAMES, Choice
from jaxmicro.growth.residuals import left_over, likeness_to_last
from jaxmicro.mixture.ecm import grey_step
from jaxmicro.spacetime.correlation import NoiseCorrelation, noise_correlation

OK, NO_FIT = "ok", "no-fit"
STRUCTURE = 0.15  # sds of a class, rms over the frame
STRUCTURE_Z = 4.0  # sds of what noise does
HISTOGRAM = 0.025  # Kolmogorov distance above 2 of its standard errors
CHANGE = 0.1  # of an area
# Both shares see the same greys, so that they differ by less than the error of either.
CHANGE_Z = 2.5  # standard errors of a share
SMALL = 0.1  # of the largest area: smaller ones are compared in shares of this
OVERLAP = 0.88  # Bhattacharyya coefficient of equal normal classes 1 sd apart
WIDE = 3.0  # times the sd of the other classes; shot noise and blur make it 2.5
AMBIGUOUS = 0.12  # of the area; at most .1 in simulated movies whose areas were right
EXCHANGE = -0.5  # correlation over the frame of the foreground with that of the frame before
LARGER_TREND = "x + y + x:y + x**2 + y**2"
LARGEST_TREND = "bs(x, df=5) + bs(y, df=5)"


@dataclasses.dataclass(frozen=True)
class Check:
    """What speaks against a fit.

    Attributes:
      words: of each frame, "ok" or the names of what was seen, with blanks between them; "no-fit"
        where the frame could not be fitted.
      sentences: what was seen and what to try, for the user; also what is good to know where all
        is well.
      figures: (frames,) numbers that words rest on, by name.
    """

    words: np.ndarray
    sentences: tuple[str, ...]
    figures: dict[str, Float[np.ndarray, " frames"]]

    @property
    def ok(self) -> Bool[np.ndarray, " frames"]:
        """Frames in which nothing was seen."""
        return self.words == OK


@dataclasses.dataclass(frozen=True)
class Seen:
    """One thing that was seen in some frames."""

    name: str
    frames: Bool[np.ndarray, " frames"]
    sentence: str


def check(analysis: Analysis, choice: Choice | None = None) -> Check:
    """Look at the fit of a movie without replicates.

    Args:
      choice: how the model was chosen, where it was: rivals are those of the candidates.
    """
    fitted = np.isfinite(np.asarray(analysis.fitted.fit.params.means)).all(axis=-1)
    if not fitted.any():
        return Check(np.full(fitted.shape, NO_FIT), (), {})
    figures = _figures(analysis, choice, fitted)
    seen = [look(analysis, figures) for look in LOOKS]
    if choice is not None:
        seen += [_rivals(analysis, choice), _noise_alone(choice, fitted.size)]
    found = [s for s in seen if np.any(s.frames & fitted)]
    words = np.where(fitted, OK, NO_FIT).astype(object)
    for t in np.flatnonzero(fitted):
        words[t] = " ".join(s.name for s in found if s.frames[t]) or OK
    sentences = [f"check, {s.name} ({_frames(s.frames)}): {s.sentence}" for s in found]
    return Check(words.astype(str), tuple(sentences + _second(analysis)), figures)


def _figures(
    analysis: Analysis, choice: Choice | None, fitted: Bool[np.ndarray, " frames"]
) -> dict[str, Float[np.ndarray, " frames"]]:
    chance = np.asarray(analysis.fitted.responsibilities())
    noise = _noise(analysis, chance, fitted) if choice is None else choice.noise
    quantum = grey_step(np.asarray(analysis.fitted.pixels.values))
    rows = []
    for t in range(fitted.size):
        if not fitted[t]:
            rows.append((np.nan,) * len(NAMES))
            continue
        left = left_over(analysis.fitted, t, chance[t], noise.independent_share, quantum)
        inside = analysis.partition.foreground
        rows.append(
            (
                *left.structure(),
                *left.histogram(),
                *left.proportion(inside),
                *left.share_and_doubt(inside),
            )
        )
    return dict(zip(NAMES, np.array(rows, float).T, strict=True))


NAMES = (
    *("structure", "structure_z", "distance", "distance_se"),
    *("share_by_histogram", "share_se", "share", "ambiguous"),
)
Figures = dict[str, Float[np.ndarray, " frames"]]


def _noise(
    analysis: Analysis, chance: np.ndarray, fitted: Bool[np.ndarray, " frames"]
) -> NoiseCorrelation:
    found, known = analysis.fitted, np.flatnonzero(fitted)
    few = known[np.unique(np.linspace(0, known.size - 1, FRAMES).round().astype(int))]
    return noise_correlation(found.model, found.fit.params[few], chance[few], found.pixels[few])


def _structure(analysis: Analysis, figures: Figures) -> Seen:
    size = figures["structure"]
    trend = analysis.fitted.model.trend.formula
    larger = LARGEST_TREND if trend == LARGER_TREND else LARGER_TREND
    return Seen(
        "structure",
        (size > STRUCTURE) & (figures["structure_z"] > STRUCTURE_Z),
        f"greys within the classes vary over the frame by up to {np.nanmax(size):.2f} sds: a trend "
        f'was missed or a class is not uniform; try --trend "{larger}"',
    )


def _histogram(analysis: Analysis, figures: Figures) -> Seen:
    distance = figures["distance"]
    k = analysis.fitted.model.n_classes
    return Seen(
        "histogram",
        distance - 2 * figures["distance_se"] > HISTOGRAM,
        f"the greys do not follow the fitted classes (up to {100 * np.nanmax(distance):.1f} % of "
        f"the pixels lie elsewhere); try --classes {k + 1}, or --crop what is not specimen",
    )


def _proportions(analysis: Analysis, figures: Figures) -> Seen:
    own, other = figures["share"], figures["share_by_histogram"]
    base = np.maximum(own, SMALL * np.nanmax(own))
    change = (other - own) / np.where(base > 0, base, np.nan)
    sure = np.abs(other - own) > CHANGE_Z * figures["share_se"]
    worst = 100 * float(change[np.nanargmax(np.abs(change))]) if np.any(base > 0) else 0.0
    k = analysis.fitted.model.n_classes
    return Seen(
        "proportions",
        (np.abs(change) > CHANGE) & sure,
        f"the histogram alone would give areas up to {worst:+.0f} % away: look at the labels; try "
        f"--classes {k - 1 if k > 2 else k + 1} or --classes {k + 1}, or name the --trend",
    )


def _overlap(analysis: Analysis, figures: Figures) -> Seen:
    params, family = analysis.fitted.fit.params, analysis.fitted.model.family
    means, sds = (np.nanmedian(np.asarray(a, float), axis=0) for a in (params.means, params.sds))
    law = None if params.law is None else np.nanmedian(np.asarray(params.law, float), axis=0)
    inside = list(analysis.partition.foreground)
    outside = [k for k in range(means.size) if k not in inside]

    def overlap(a: int, b: int) -> float:
        return family.overlap((means[a], sds[a]), (means[b], sds[b]), law)

    worst, a, b = max((overlap(a, b), a, b) for a in inside for b in outside)
    wide = max(sds[inside]) / np.median(sds[outside])
    k, near = means.size, worst > OVERLAP
    text = (
        f"classes {a} and {b} overlap almost wholly, and only one of them is foreground; try "
        f"--classes {k - 1 if k > 2 else k + 1}"
        if near
        else f"a foreground class is {wide:.1f} times as wide as the others: it may collect noise "
        f"or blurred edges; look at the labels, try --classes {k + 1}"
    )
    return Seen("overlap", np.full(figures["share"].shape, near or wide > WIDE), text)


def _ambiguous(analysis: Analysis, figures: Figures) -> Seen:
    own = figures["share"]
    base = np.maximum(own, SMALL * np.nanmax(own))
    part = figures["ambiguous"] * own / np.where(base > 0, base, np.nan)
    return Seen(
        "ambiguous",
        part > AMBIGUOUS,
        f"up to {100 * np.nanmax(part, initial=0):.0f} % of the area comes from pixels that may be "
        "foreground or not; try --classes 2,3,4,5 and another --trend, "
        "visit more pixels, or name the foreground by ranks (--foreground 1,2)",
    )


def _foreground(analysis: Analysis, figures: Figures) -> Seen:
    second = second_choice(analysis)
    seen = second is not None and second.share < np.nanmean(figures["share"])
    text = "the brightest class was taken, but another stands apart as well and is smaller"
    return Seen("foreground", np.full(figures["share"].shape, seen), text)


def _exchange(analysis: Analysis, figures: Figures) -> Seen:
    alike = likeness_to_last(analysis.foreground, analysis.fitted.pixels)
    text = (
        "foreground and background change places from the frame before, as where the contrast is "
        "inverted; quantify the frames before and after on their own (--frames), each with its own "
        "--foreground"
    )
    return Seen("exchange", alike < EXCHANGE, text)


LOOKS: tuple[Callable[[Analysis, Figures], Seen], ...] = (
    _structure,
    _histogram,
    _proportions,
    _overlap,
    _ambiguous,
    _foreground,
    _exchange,
)


def _noise_alone(choice: Choice, n_frames: int) -> Seen:
    doubtful = choice.gain < choice.least_gain
    return Seen(
        "noise",
        np.full(n_frames, doubtful),
        f"one class alone predicts pixels that were left out as well as {choice.chosen.classes} do "
        f"(a gain of {choice.gain:.4f} nats per pixel; {choice.least_gain:.4f} are needed), so the "
        "areas may be those of noise, and their standard errors do not say so. Look whether "
        "labels.tif shows the object; if it does, visit more pixels, or name it with --classes and "
        "--foreground",
    )


def _rivals(analysis: Analysis, choice: Choice) -> Seen:
    others = [r for r in rivals(analysis, choice) if r.change > CHANGE]
    text = ""
    if others:
        worst = others[0]
        text = (
            f"{worst.name}, fits as well (within {max(worst.gap, 0):.4f} nats per pixel) and gives "
            f"areas up to {100 * worst.change:.0f} % away; look at the labels and pin the model "
            "with --classes and --trend"
        )
    return Seen("rivals", np.full(analysis.fitted.pixels.n_frames, bool(others)), text)


def _second(analysis: Analysis) -> list[str]:
    """The choice that brightness alone cannot make, for the user to know of."""
    second, taken = second_choice(analysis), analysis.partition
    if second is None:
        return []
    weights = np.asarray(analysis.fitted.fit.params.weights, float)
    own = float(np.nanmean(weights[:, list(taken.foreground)].sum(axis=1)))
    return [
        f"foreground: {_classes(taken.foreground)} ({taken.reason}), {100 * own:.2g} % of the "
        f"frames; {_classes(second.classes)} would be {100 * second.share:.2g} %: say --foreground "
        f"{second.option} if that is the object"
    ]


def _classes(numbers: Iterable[int]) -> str:
    each = list(map(str, numbers))
    return f"class{'es' if len(each) > 1 else ''} {', '.join(each)}"


def _frames(seen: Bool[np.ndarray, " frames"]) -> str:
    if seen.all():
        return "all frames"
    at = np.flatnonzero(seen)
    more = f" and {at.size - 8} more" if at.size > 8 else ""
    return f"frame{'s' if at.size > 1 else ''} {', '.join(map(str, at[:8]))}{more}"
