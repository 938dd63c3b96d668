"""A study from its request to its tables: prepare the plans, measure every block, sum up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.choose import Asked, choose
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.app.study.engine import in_process
from jaxmicro.app.study.spec import PlanAsked
from jaxmicro.app.study.store import Store, Task
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.choose import best_start
from jaxmicro.growth.study import QUANTITIES, RateStudy, Summary
from jaxmicro.mixture.ecm import Result
from jaxmicro.mixture.gmrm import Params

MANY = 0.05  # share of fits without a usable area from which on it is said


@dataclasses.dataclass(frozen=True)
class PlanStudy:
    """What was found of one plan.

    Attributes:
      name: of the plan.
      variant: as run.
      reference: (T,) area of all visited pixels, in pixels.
      rates: a study of each rate, as asked for.
      notes: sentences for the user.
    """

    name: str
    variant: Variant
    reference: Float[np.ndarray, " T"]
    rates: tuple[RateStudy, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything a study found; areas are in pixels, `factor` makes them areas in `unit`.

    `truth` is the true area of every frame, where it is known; `unit` is um3, um2 or px.
    """

    movie: Movie
    plans: tuple[PlanStudy, ...]
    truth: Float[np.ndarray, " T"] | None
    unit: str
    factor: float
    notes: tuple[str, ...]

    def summary(self, plan: PlanStudy, rate: RateStudy) -> Summary:
        """Against the plan's own curve of all pixels."""
        return Summary.of(rate, plan.reference, self.truth)

    def against_truth(self, rate: RateStudy) -> Summary | None:
        """Against the true curve, where it is known."""
        return None if self.truth is None else Summary.of(rate, self.truth, self.truth)


def prepare(store: Store, movie: Movie, plans: Mapping[str, PlanAsked], stages: Stages) -> None:
    """Choose models and starts, once for all replicates, unless the store has them already.

    Raises:
      UsageError, DataError, NumericalError: the movie cannot be measured by one of the plans.
    """
    missing = {name: plan for name, plan in plans.items() if not store.has_plan(name)}
    if missing:
        classes = [_most_classes(plan) for plan in missing.values()]
        known = None if None in classes else max(c for c in classes if c is not None)
        visited = visit(movie, n_classes=known, stage=stages.stage)
        prepared: dict[str, Any] = {}
        for name, plan in missing.items():
            variant, start, notes = _prepared(plan, visited.pixels, stages, prepared)
            store.save_plan(name, variant, start, (*visited.notes, *notes))
    store.create_arrays(movie.n_frames)


def _most_classes(plan: PlanAsked) -> int | None:
    if plan.variant is not None:
        return plan.asked.over(plan.variant).mixture.classes
    return None if plan.asked.numbers is None else max(plan.asked.numbers)


def _prepared(
    plan: PlanAsked, pixels: Pixels, stages: Stages, before: dict[str, Any]
) -> tuple[Variant, Params | None, tuple[str, ...]]:
    """The model of a plan, the start of its replicates, and what is to be said of them.

    What does not depend on the estimator is taken from `before`, or added to it.
    """
    bare = dataclasses.replace(plan, asked=dataclasses.replace(plan.asked, estimator=None))
    if bare.text not in before:
        before[bare.text] = find_model(bare, pixels, stages)
    variant, start, notes = before[bare.text]
    return Asked(estimator=plan.asked.estimator).over(variant), start, notes


def find_model(
    plan: PlanAsked, pixels: Pixels, stages: Stages
) -> tuple[Variant, Params | None, tuple[str, ...]]:
    if plan.variant is None:
        with stages.stage("choose") as advance:
            variant, choice, note = choose(pixels, plan.asked, progress=advance.say)
        return variant, choice.start, (note, choice.noise.sentence)
    variant = plan.asked.over(plan.variant)
    records = variant.plan()
    if records.local is None:  # a plain fit has a deterministic start of its own
        return variant, None, ()
    with stages.stage("start") as advance:
        start = best_start(records.model, pixels, records.local, progress=advance.say)
    return variant, start, ()


def measure(
    store: Store, stages: Stages, workers: int | None = None, scheduler: str | None = None
) -> None:
    """Measure every block that is not finished, here or on Dask.

    Raises:
      DataError: a block cannot be written, or the scheduler is not there.
    """
    left = store.left()
    if not left:
        return
    with stages.stage("study", len(left), unit="blocks") as advance:
        if workers is None and scheduler is None:
            in_process(store, left, advance)
            return
        from jaxmicro.app.study.cluster import on_cluster

        on_cluster(store, left, advance, workers=workers, scheduler=scheduler, say=advance.say)


def collect(
    store: Store,
    movie: Movie,
    thickness_um: float | None = None,
    truth: Float[np.ndarray, " T"] | None = None,
) -> Study:
    """What a store that is finished holds."""
    plans = tuple(_plan(store, name) for name in store.request.plans)
    unit, factor = unit_of(movie, thickness_um)
    notes = dict.fromkeys(note for plan in plans for note in (*plan.notes, *_failures(plan)))
    return Study(movie, plans, truth, unit, factor, tuple(notes))


def _plan(store: Store, name: str) -> PlanStudy:
    reference = store.read(Task(name, None, 0).array)[QUANTITIES.index("area_px"), :, 0]
    rates = tuple(
        RateStudy(r.rate, store.read(Task(name, r.rate, 0).array)) for r in store.request.rates
    )
    return PlanStudy(name, store.variant(name), reference, rates, store.notes(name))


def _failures(plan: PlanStudy) -> Iterator[str]:
    """Where many fits gave no area that may be used: how most of them ended."""
    for rate in plan.rates:
        if rate.failed > MANY:
            failed = rate.of("usable") == 0
            codes, counts = np.unique(rate.of("result")[failed], return_counts=True)
            most = Result(int(codes[np.argmax(counts)]))
            yield (
                f"plan {plan.name}, rate {rate.rate:g}: {100 * rate.failed:.3g} % of the fits gave "
                f"no area that may be used, most of them for {most.name}: {most.sentence} Their "
                "areas are in bias and width all the same"
            )


def unit_of(movie: Movie, thickness_um: float | None) -> tuple[str, float]:
    """The best unit that the calibration allows, and what a pixel is in it."""
    area = movie.pixel_area_um2
    if area is None:
        return "px", 1.0
    return ("um2", area) if thickness_um is None else ("um3", area * thickness_um)
