"""What is to be done with a movie: which pixels, which model, which classes, which estimator."""

from __future__ import annotations

import dataclasses
from typing import TypedDict

from jaxmicro.arguments import expect
from jaxmicro.errors import UsageError
from jaxmicro.growth.estimators import ESTIMATORS
from jaxmicro.growth.partition import DEFAULT_OVERLAP, RULES
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.settings import choice, setting
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_correction import SoftSettings

TOLERANCE, LOCAL_TOLERANCE = 1e-6, 1e-5  # nats per pixel


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a movie is sub-sampled: see `jaxmicro.data.sampling.sample`; rate None takes it all."""

    rate: float | None = None
    pattern: str = "random"
    seed: int = 0


EVERY_PIXEL = Sampling()


@dataclasses.dataclass(frozen=True)
class ForegroundRule:
    """Which classes are measured: see `jaxmicro.growth.partition.partition`.

    Raises:
      UsageError: an unknown rule, or ranks without rule = "ranks".
    """

    rule: str = choice("auto", RULES)
    ranks: tuple[int, ...] = setting((), "class ranks, 0 the darkest; only with rule = 'ranks'")
    overlap: float = setting(
        DEFAULT_OVERLAP, "a Bhattacharyya coefficient between 0 and 1", gt=0, lt=1
    )

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(
                f"foreground rule {self.rule!r} is not known; use one of {', '.join(RULES)}"
            )
        expect(self.ranks, tuple, "ForegroundRule: ranks")
        if (self.rule == "ranks") != bool(self.ranks):
            raise UsageError(
                f"rule = {self.rule!r} and ranks = {self.ranks} do not go together; use "
                'ForegroundRule("ranks", (0,)), or a rule alone'
            )


@dataclasses.dataclass(frozen=True)
class Correction:
    """The neighbours' vote on foreground labels: see `jaxmicro.spacetime.correct.vote`."""

    neighbourhood: Neighbourhood
    threshold: float


class Stopping(TypedDict):
    """When a fit stops: nats per pixel, and passes over the pixels."""

    tolerance: float
    max_steps: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """A way from pixels to areas, the same for every movie and replicate.

    Attributes:
      model: the mixture.
      local: class proportions that follow the neighbours; None for those of the frame.
      foreground: which classes are measured.
      correction: of the labels after the fit, by the neighbours' vote or by a soft vote whose
        settings are fitted to the movie; None leaves them as they are.
      estimator: of the area, by its name in `jaxmicro.growth.estimators.ESTIMATORS`.
      tolerance: nats per pixel; None is 1e-6 or, with `local`, 1e-5.
      max_steps: passes over the pixels allowed.
      sampling: how a movie's pixels are visited.
      start: parameters of every frame to start the fit from; None tries several starts where
        proportions are local, and the deterministic one of `fit` else.

    Raises:
      UsageError: an estimator that is not known, or parts that do not go together.
    """

    model: GMRM
    local: Local | None = None
    foreground: ForegroundRule = ForegroundRule()
    correction: Correction | SoftSettings | None = None
    estimator: str = choice("count", tuple(ESTIMATORS))
    tolerance: float | None = setting(None, "nats per pixel, above 0 and at most 0.1", gt=0, le=0.1)
    max_steps: int = setting(500, "a whole number from 5 to 100000", ge=5, le=100_000)
    sampling: Sampling = EVERY_PIXEL
    start: Params | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise UsageError(f"estimator {self.estimator!r} is not known; use one of {known}")
        if self.estimator != "count" and isinstance(self.correction, Correction):
            raise UsageError(
                f"estimator {self.estimator!r} adds up class probabilities, which a vote on labels "
                "does not change; use estimator 'count', a soft correction or none"
            )
        if self.estimator == "difference" and self.correction is not None:
            raise UsageError(
                "estimator 'difference' has neighbours in its map, and a soft correction would "
                "count them twice; leave out one of them"
            )
        if self.local is not None and isinstance(self.correction, SoftSettings):
            raise UsageError(
                "a soft correction after local proportions would count the neighbours twice; "
                "leave out one of them"
            )

    def _check_kinds(self) -> None:
        expect(self.model, GMRM, "Plan: model")
        expect(self.foreground, ForegroundRule, "Plan: foreground")
        expect(self.sampling, Sampling, "Plan: sampling")
        for name, value, kind in (
            ("local", self.local, Local),
            ("correction", self.correction, (Correction, SoftSettings)),
            ("start", self.start, Params),
        ):
            if value is not None:
                expect(value, kind, f"Plan: {name}")

    @property
    def stopping(self) -> Stopping:
        usual = TOLERANCE if self.local is None else LOCAL_TOLERANCE
        tolerance = usual if self.tolerance is None else self.tolerance
        return {"tolerance": tolerance, "max_steps": self.max_steps}
