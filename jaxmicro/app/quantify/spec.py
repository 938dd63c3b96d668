"""Model variants as data: a TOML file, checked key by key, becomes the objects of a run."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from jaxmicro.app import toml
from jaxmicro.app.model_file import Table, command_of, load_as, record_of, table_of
from jaxmicro.growth import plan
from jaxmicro.growth.plan import EVERY_PIXEL, Plan, Sampling
from jaxmicro.mixture.family import FAMILIES, NAMES, PoissonGaussian, StudentT, family_of
from jaxmicro.mixture.gmrm import GMRM, SHAREABLE
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior.model import Priors
from jaxmicro.posterior.sampler import Sampler
from jaxmicro.settings import settings_of
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_correction import SoftSettings


class Mixture(table_of(StudentT, PoissonGaussian)):
    """[mixture]: classes and their distribution, trend, and what all frames share."""

    classes: Annotated[int, Field(ge=1, le=32, description="a whole number from 1 to 32")]
    trend: Annotated[
        str, Field(description="a formula in x and y, for example 'x + y + x:y', or '' for none")
    ] = ""
    share: Annotated[
        list[Literal["means", "sds", "gain"]], Field(description=f"any of {list(SHAREABLE)}")
    ] = []
    gain: Annotated[bool, Field(description="true or false")] = False
    proportions: Annotated[
        Literal["global", "local"],
        Field(description="'global' (one weight per class and frame) or 'local' (by neighbours)"),
    ] = "global"
    family: Annotated[Literal[NAMES], Field(description=f"one of {', '.join(NAMES)}")] = "gaussian"

    @pydantic.model_validator(mode="after")
    def _buildable(self) -> Mixture:
        self.model()
        return self

    def model(self) -> GMRM:
        numbers = {key: getattr(self, key) for f in FAMILIES for key in settings_of(f)}
        family = family_of(self.family, **numbers)
        return GMRM(self.classes, Trend(self.trend), tuple(self.share), self.gain, family)


class FitOptions(table_of(Plan, only=("tolerance", "max_steps"))):
    """[fit]: when to stop."""


class Foreground(table_of(plan.ForegroundRule)):
    """[foreground]: which classes are measured."""

    @pydantic.model_validator(mode="after")
    def _ranks_go_with_rule(self) -> Foreground:
        if (self.rule == "ranks") != bool(self.ranks):
            raise ValueError("rule = 'ranks' and a list of ranks go together")
        return self

    def settings(self) -> plan.ForegroundRule:
        return record_of(self, plan.ForegroundRule)


class Correction(table_of(Neighbourhood)):
    """[correction]: of the labels by their neighbours; leave the table out for none."""

    kind: Annotated[
        Literal["vote", "soft"],
        Field(description="'vote' (as the numbers say) or 'soft' (numbers fitted to the movie)"),
    ] = "vote"
    radius: Annotated[
        int | float | None, Field(ge=1, le=64, description="a number of pixels from 1 to 64")
    ] = None
    threshold: Annotated[float | None, Field(ge=0, le=1, description="a share between 0 and 1")] = (
        None
    )
    steps: Annotated[
        int | None, Field(ge=0, le=10_000, description="of the fit, 0 to 10000; kind = 'soft'")
    ] = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Correction:
        if self.kind == "vote" and (self.radius is None or self.threshold is None):
            raise ValueError("kind = 'vote' needs a radius and a threshold")
        if self.kind == "vote" and self.steps is not None:
            raise ValueError("steps belong to kind = 'soft'; leave them out")
        return self

    def settings(self) -> plan.Correction | SoftSettings:
        given = self.model_dump(exclude={"kind"}, exclude_none=True)
        if self.kind == "soft":
            return SoftSettings(**given)
        threshold = given.pop("threshold")
        return plan.Correction(Neighbourhood(**given), threshold)


class LocalOptions(table_of(Local)):
    """[local]: how local proportions follow the neighbours; what is left out adapts."""

    def settings(self) -> Local:
        return record_of(self, Local)


class GrowthOptions(table_of(Plan, only=("estimator",))):
    """[growth]: how areas are estimated."""


class Prior(table_of(Priors)):
    """[posterior.priors]: see `jaxmicro.posterior.model.Priors`."""

    def settings(self) -> Priors:
        return record_of(self, Priors)


# Keys that [posterior] had of its own, and what they are called where the fit sees them too.
_MOVED = {
    "likelihood": "family",
    "grey_per_quantum": "grey_per_quantum",
    "gain": "grey_per_quantum",
    "offset": "offset",
}


class Posterior(table_of(Sampler)):
    """[posterior]: how `jaxmicro posterior` draws; the other commands leave it alone."""

    censoring: Annotated[
        Literal["none", "saturated"], Field(description="'none' or 'saturated'")
    ] = "none"
    saturation: Annotated[float | None, Field(description="a grey level")] = None
    priors: Prior = Prior()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        for old, new in _MOVED.items():
            if isinstance(values, dict) and old in values:
                raise ValueError(f"the key {old} is now {new} in [mixture]; move it there")
        return values

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Posterior:
        if self.saturation is not None and self.censoring == "none":
            raise ValueError("a saturation level needs censoring = 'saturated'")
        return self

    def sampler(self, foreground: tuple[int, ...]) -> Sampler:
        return record_of(self, Sampler, foreground=foreground)


class Variant(Table):
    """A whole model file for `quantify`, `compare`, `study` and `posterior`."""

    description: Annotated[str, Field(description="a text")] = ""
    mixture: Mixture
    fit: FitOptions = FitOptions()
    foreground: Foreground = Foreground()
    correction: Correction | None = None
    local: LocalOptions | None = None
    growth: GrowthOptions = GrowthOptions()
    posterior: Posterior | None = None
    _given: Plan | None = pydantic.PrivateAttr(None)

    @classmethod
    def of(cls, plan: Plan) -> Variant:
        """The variant of a plan made in Python, whose own objects it goes on to use."""
        variant = cls.model_validate(tables_of_plan(plan))
        variant._given = plan
        return variant

    @property
    def given(self) -> Plan | None:
        """The plan that the variant was made of, or None."""
        return self._given

    @property
    def trend_text(self) -> str:
        """The formula, with terms of its own that no file can hold."""
        return self.mixture.trend if self._given is None else self._given.model.trend.formula

    @pydantic.model_validator(mode="before")
    @classmethod
    def _for_movies(cls, values: Any) -> Any:
        if isinstance(values, dict) and command_of(values) == "enhance":
            raise ValueError(
                "this is a model for `jaxmicro enhance`; give one with a table [mixture]"
            )
        return values

    @pydantic.model_validator(mode="after")
    def _local_goes_with_proportions(self) -> Variant:
        if self.local is not None and self.mixture.proportions != "local":
            raise ValueError("a table [local] needs proportions = 'local' in [mixture]")
        return self

    @pydantic.model_validator(mode="after")
    def _plan_is_possible(self) -> Variant:
        self.plan()
        return self

    @pydantic.model_validator(mode="after")
    def _censoring_goes_with_family(self) -> Variant:
        censored = self.posterior is not None and self.posterior.censoring == "saturated"
        if censored and self.mixture.family == "student-t":
            raise ValueError(
                "censoring = 'saturated' is not supported by the posterior with family = "
                "'student-t'; use 'gaussian' or 'poisson-gaussian', or censoring = 'none'"
            )
        return self

    def plan(self, sampling: Sampling = EVERY_PIXEL) -> Plan:
        """The same as the records of an analysis."""
        if self._given is not None:
            return dataclasses.replace(self._given, sampling=sampling)
        local = None if self.mixture.proportions == "global" else self.local or LocalOptions()
        return Plan(
            model=self.mixture.model(),
            local=None if local is None else local.settings(),
            foreground=self.foreground.settings(),
            correction=None if self.correction is None else self.correction.settings(),
            estimator=self.growth.estimator,
            tolerance=self.fit.tolerance,
            max_steps=self.fit.max_steps,
            sampling=sampling,
        )

    def to_toml(self) -> str:
        """The variant as a TOML file, defaults written out."""
        tables = self.model_dump()
        tables["mixture"]["trend"] = self.trend_text
        return toml.text(tables)


def tables_of_plan(plan: Plan) -> dict[str, Any]:
    """The tables of a model file that say what a plan does; its terms of its own left out."""
    model, family = plan.model, plan.model.family
    name = family.name or "gaussian"
    mixture = {
        "classes": model.n_classes,
        "trend": "" if model.trend.own else model.trend.formula,
        "share": list(model.share),
        "gain": model.gain and not model.trend.own,
        "family": name,
        "proportions": "global" if plan.local is None else "local",
        **_settings(family),
    }
    tables: dict[str, Any] = {"mixture": mixture, "foreground": _settings(plan.foreground)}
    tables["growth"] = {"estimator": plan.estimator}
    tables["fit"] = {"max_steps": plan.max_steps}
    if plan.tolerance is not None:
        tables["fit"]["tolerance"] = plan.tolerance
    if plan.local is not None:
        tables["local"] = _settings(plan.local)
    if plan.correction is not None:
        tables["correction"] = _correction(plan.correction)
    return tables


def _correction(how: plan.Correction | SoftSettings) -> dict[str, Any]:
    said: dict[str, Any] = {"kind": "soft"}
    numbers: Any = how
    if not isinstance(how, SoftSettings):
        said, numbers = {"kind": "vote", "threshold": how.threshold}, how.neighbourhood
    found = {key: getattr(numbers, key, None) for key in Correction.model_fields}
    return {key: value for key, value in found.items() if value is not None} | said


def _settings(record: Any) -> dict[str, Any]:
    """What a model file says of a record; what is None is left out."""
    found = {key: getattr(record, f.name) for key, f in settings_of(type(record)).items()}
    known = {key: value for key, value in found.items() if value is not None}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in known.items()}


def load(path: str | pathlib.Path) -> Variant:
    """Read and check a model file; raises as `jaxmicro.app.model_file.load_as` does."""
    return load_as(path, Variant)
