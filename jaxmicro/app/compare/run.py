"""Models fitted to the same visited pixels: criteria, scores, tests, and what ranks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jaxmicro.app.compare import tables
from jaxmicro.app.compare.grid import refuse_twins, same_fit
from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.judged import Judged, judge
from jaxmicro.growth.looks import looks
from jaxmicro.growth.pair_tests import PairTest, Tester, Wanted, pairs, refuse_not_nested
from jaxmicro.growth.plan import EVERY_PIXEL, Plan, Sampling
from jaxmicro.growth.variations import Tried, fit_all
from jaxmicro.mixture.ecm import grey_step

METHODS = ("recommended", "all", "none")


@dataclasses.dataclass(frozen=True)
class Tests:
    """Which tests of nested models to run.

    Attributes:
      methods: "recommended", "all" or "none".
      only: pairs of names (the smaller model first); empty for every nested pair.
      samples: of each bootstrap.

    Raises:
      UsageError: unknown methods, or fewer than 19 samples (no p-value would be below .05).
    """

    methods: str = "recommended"
    only: tuple[tuple[str, str], ...] = ()
    samples: int = 99

    def __post_init__(self) -> None:
        if self.methods not in METHODS:
            raise UsageError(
                f"--tests {self.methods!r} is not known; use one of {', '.join(METHODS)}"
            )
        if not 19 <= self.samples <= 100_000:
            raise UsageError(
                f"--bootstrap {self.samples} is not allowed; use 19 samples or more (with fewer no "
                "p-value is below .05), at most 100000"
            )
        if self.only and self.methods == "none":
            raise UsageError("--test and --tests none do not go together; leave one of them out")


@dataclasses.dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
      movie: its name.
      tried: each model's fit, in the order given.
      judged: scores, and the noise they were taken against.
      table: comparison.csv: all frames together, best first, then frame by frame.
      tests: of nested pairs.
      notes: for the user.
    """

    movie: str
    tried: Mapping[str, Tried]
    judged: Judged
    table: pd.DataFrame
    tests: tuple[PairTest, ...]
    notes: tuple[str, ...]

    @property
    def overall(self) -> pd.DataFrame:
        """The rows of all frames together, best first."""
        return self.table[self.table["frame"] == tables.ALL].reset_index(drop=True)

    @property
    def best(self) -> str | None:
        """The recommended model; None where none reached its optimum."""
        top = self.overall.iloc[0]
        return str(top["model"]) if top["ranked"] == "yes" else None


def compare(
    movie: Movie,
    variants: Mapping[str, Variant],
    sampling: Sampling = EVERY_PIXEL,
    *,
    tests: Tests = Tests("none"),
    stages: Stages | None = None,
) -> Compared:
    """Fit every model to the same pixels, score and rank them, and test nested pairs.

    Raises:
      UsageError, DataError: see `visit`; two names for one model; a test of models that are not
        nested; fewer visited pixels than a model has parameters.
    """
    stages = stages or Stages()
    refuse_twins(variants)
    plans = {name: variant.plan() for name, variant in variants.items()}
    chosen = _chosen(tests, plans)
    most = max(plan.model.n_classes for plan in plans.values())
    visited = visit(movie, sampling, n_classes=most, stage=stages.stage)
    pixels = visited.pixels
    _refuse_too_few(plans, pixels)
    quantum = grey_step(np.asarray(pixels.values))
    with stages.stage("fit", len(plans), "models") as advance:

        def told(text: str, done: int) -> None:
            advance.say(text)
            if done:
                advance(done)

        tried = fit_all(plans, pixels, quantum, told)
    with stages.stage("predict") as advance:
        judged = judge(tried, pixels, quantum, advance.say)
    found = _tested(tried, judged, chosen, tests, sampling.seed, stages)
    with stages.stage("check", len(plans), "models") as advance:
        seen = {}
        for name, one in tried.items():
            share = judged.bench.noise.independent_share
            seen[name] = looks(one.fitted(pixels), judged.bench.frames, share, quantum)
            advance()
    table = tables.table(tried, judged, pixels, seen)
    notes = (*visited.notes, *_notes(variants, tried, judged, table))
    return Compared(movie.name, tried, judged, table, tuple(found), notes)


def _chosen(tests: Tests, plans: Mapping[str, Plan]) -> list[tuple[str, str]]:
    """The pairs to test; those that are named are looked at before any work is done."""
    for pair in tests.only:
        for name in pair:
            if name not in plans:
                raise UsageError(
                    f"--test names {name!r}, which is not compared; use names of the table, such "
                    f"as {next(iter(plans))!r}"
                )
        refuse_not_nested(plans, *pair)
    return [] if tests.methods == "none" else list(tests.only) or pairs(plans)


def _refuse_too_few(plans: Mapping[str, Plan], pixels: Pixels) -> None:
    """Fits that have more parameters than data say nothing."""
    count = np.asarray(pixels.n_pixels)
    for name, plan in plans.items():
        together = bool(plan.model.share)
        n, frames = (count.sum(), len(count)) if together else (count.min(), 1)
        free = plan.model.n_parameters(frames)
        if n < free:
            where = "the frames have" if together else f"frame {int(count.argmin())} has"
            raise DataError(
                f"{where} {int(n)} visited pixels, fewer than the {free} parameters of model "
                f"{name!r}; visit more pixels (--rate) or leave the model out"
            )


def _tested(
    tried: Mapping[str, Tried],
    judged: Judged,
    chosen: Sequence[tuple[str, str]],
    tests: Tests,
    seed: int,
    stages: Stages,
) -> list[PairTest]:
    if not chosen:
        return []
    tester = Tester(tried, judged, Wanted(tests.methods == "all", tests.samples, seed))
    found: list[PairTest] = []
    with stages.stage("test", len(chosen), "pairs") as advance:
        for null, alternative in chosen:
            advance.say(f"{null} against {alternative}")
            found += tester.of_pair(null, alternative)
            advance()
    return found


def _notes(
    variants: Mapping[str, Variant],
    tried: Mapping[str, Tried],
    judged: Judged,
    table: pd.DataFrame,
) -> list[str]:
    total = table[table["frame"] == tables.ALL]
    first = total.iloc[0]
    out = [
        judged.bench.noise.sentence,
        f"n of the criteria: {first['n']:.0f} independent pixels, of {first['n_pixels']} visited",
    ]
    for one, other in same_fit(variants):
        out.append(
            f"{one} and {other} differ in what follows the fit only: their rows are the same"
        )
    out += [tables.sentence(name, one) for name, one in tried.items() if not one.converged]
    kinds = {t.local is None for t in tried.values()}
    if len(kinds) > 1:
        out.append(
            "AIC, BIC and ICL of models with proportions = 'local' are those of the "
            "pseudo-likelihood: compare them with one another only; scores compare all models"
        )
    return out
