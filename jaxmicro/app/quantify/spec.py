"""Model variants as data: a TOML file, checked key by key, becomes the objects of a run."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from jaxmicro.app import toml
from jaxmicro.app.model_file import Table, command_of, load_as
from jaxmicro.growth import plan
from jaxmicro.growth.estimators import ESTIMATORS
from jaxmicro.growth.partition import DEFAULT_OVERLAP, RULES
from jaxmicro.growth.plan import EVERY_PIXEL, Plan, Sampling
from jaxmicro.mixture.family import NAMES, family_of
from jaxmicro.mixture.gmrm import GMRM, SHAREABLE
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_correction import SoftSettings

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class Mixture(Table):
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
    family: Annotated[
        Literal["gaussian", "student-t", "poisson-gaussian"],
        Field(description=f"one of {', '.join(NAMES)}"),
    ] = "gaussian"
    dof: Annotated[
        float | None, Field(ge=1, description="degrees of freedom, at least 1; left out: estimated")
    ] = None
    read_noise: Annotated[
        float | None, Field(ge=0, description="an sd of at least 0 grey levels")
    ] = None
    grey_per_quantum: Annotated[
        float | None, Field(gt=0, description="grey levels per detected quantum, above 0")
    ] = None
    offset: Annotated[float | None, Field(description="grey level without signal")] = None

    @pydantic.model_validator(mode="after")
    def _buildable(self) -> Mixture:
        self.model()
        return self

    def model(self) -> GMRM:
        family = family_of(
            self.family,
            dof=self.dof,
            read_noise=self.read_noise,
            grey_per_quantum=self.grey_per_quantum,
            offset=self.offset,
        )
        return GMRM(self.classes, Trend(self.trend), tuple(self.share), self.gain, family)


class FitOptions(Table):
    """[fit]: when to stop."""

    tolerance: Annotated[
        float | None, Field(gt=0, le=0.1, description="nats per pixel, above 0 and at most 0.1")
    ] = None
    max_steps: Annotated[
        int, Field(ge=5, le=100_000, description="a whole number from 5 to 100000")
    ] = 500


class Foreground(Table):
    """[foreground]: which classes are measured."""

    rule: Annotated[
        Literal["auto", "brightest", "darkest", "ranks", "merge", "grows"],
        Field(description=f"one of {list(RULES)}"),
    ] = "auto"
    ranks: Annotated[
        list[int], Field(description="class ranks, 0 the darkest; only with rule = 'ranks'")
    ] = []
    overlap: Annotated[
        float, Field(gt=0, lt=1, description="a Bhattacharyya coefficient between 0 and 1")
    ] = DEFAULT_OVERLAP

    @pydantic.model_validator(mode="after")
    def _ranks_go_with_rule(self) -> Foreground:
        if (self.rule == "ranks") != bool(self.ranks):
            raise ValueError("rule = 'ranks' and a list of ranks go together")
        return self

    def settings(self) -> plan.ForegroundRule:
        return plan.ForegroundRule(self.rule, tuple(self.ranks), self.overlap)


class Correction(Table):
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
    metric: Annotated[Literal["l1", "l2"], Field(description="'l1' or 'l2'")] = "l2"
    causal: Annotated[bool, Field(description="true (past and present frames only) or false")] = (
        True
    )
    time_scale: Annotated[
        float, Field(ge=0.1, le=1000, description="pixels from one frame to the next, 0.1 to 1000")
    ] = 1.0
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


class LocalOptions(Table):
    """[local]: how local proportions follow the neighbours; what is left out adapts."""

    causal: Annotated[bool, Field(description="true (past and present frames only) or false")] = (
        False
    )
    width: Annotated[
        float | None, Field(gt=0, le=256, description="sd of the kernel, 0 to 256 pixels")
    ] = None
    memory: Annotated[
        float | None, Field(ge=0, le=10_000, description="0 to 10000 frames to fall to 1/e")
    ] = None
    pseudo_count: Annotated[
        float, Field(gt=0, le=1000, description="a number of pixels above 0, at most 1000")
    ] = 1.0
    interaction: Annotated[
        float | None, Field(gt=0, le=10, description="a strength above 0 and at most 10")
    ] = None
    levels: Annotated[int, Field(ge=1, le=2, description="1 or 2")] = 1

    def settings(self) -> Local:
        return Local(**self.model_dump())


class GrowthOptions(Table):
    """[growth]: how areas are estimated."""

    estimator: Annotated[
        Literal["count", "posterior"], Field(description=f"one of {list(ESTIMATORS)}")
    ] = "count"


class Prior(Table):
    """[posterior.priors]: see `jaxmicro.posterior.model.Priors`."""

    weights: Annotated[float, Field(gt=0, description="a Dirichlet concentration above 0")] = 1.0
    lowest_mean: Annotated[Pair | None, Field(description="[location, scale]")] = None
    gap: Annotated[Pair | None, Field(description="[median, sd of the log]")] = None
    sd: Annotated[Pair | None, Field(description="[median, sd of the log]")] = None
    sd_ratio: Annotated[float, Field(gt=0, description="an sd of the log above 0")] = 0.3
    trend: Annotated[Pair, Field(description="[scale, degrees of freedom]")] = [0.25, 3.0]
    dof: Annotated[Pair, Field(description="[median, sd of the log]")] = [8.0, 0.75]
    log_odds: Annotated[Pair, Field(description="[location, scale]")] = [-1.0, 2.5]
    walk_weights: Annotated[Pair, Field(description="[median, sd of the log]")] = [0.1, 1.0]
    walk_trend: Annotated[Pair, Field(description="[median, sd of the log]")] = [0.02, 1.0]
    reference: Annotated[
        int | None,
        Field(ge=0, description="a class rank, 0 the darkest, that log odds are against"),
    ] = None


# Keys that [posterior] had of its own, and what they are called where the fit sees them too.
_MOVED = {
    "likelihood": "family",
    "grey_per_quantum": "grey_per_quantum",
    "gain": "grey_per_quantum",
    "offset": "offset",
}


class Posterior(Table):
    """[posterior]: how `jaxmicro posterior` draws; the other commands leave it alone."""

    method: Annotated[
        Literal["nuts", "svi", "laplace"], Field(description="'nuts', 'svi' or 'laplace'")
    ] = "nuts"
    censoring: Annotated[
        Literal["none", "saturated"], Field(description="'none' or 'saturated'")
    ] = "none"
    saturation: Annotated[float | None, Field(description="a grey level")] = None
    chains: Annotated[int, Field(ge=1, le=64, description="1 to 64")] = 4
    draws: Annotated[int, Field(ge=50, description="a whole number from 50")] = 1000
    warmup: Annotated[int, Field(ge=50, description="a whole number from 50")] = 300
    target_accept: Annotated[float, Field(ge=0.5, lt=1, description="0.5 up to but not 1")] = 0.8
    placement: Annotated[
        Literal["auto", "threads", "vectorized", "parallel"],
        Field(description="'auto', 'threads', 'vectorized' or 'parallel'"),
    ] = "auto"
    guide: Annotated[
        Literal["multivariate", "diagonal", "lowrank"],
        Field(description="'multivariate', 'diagonal' or 'lowrank'"),
    ] = "multivariate"
    steps: Annotated[int, Field(ge=1, description="a whole number from 1")] = 3000
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")] = 0.01
    subsample: Annotated[int | None, Field(ge=1, description="pixels a frame and step")] = None
    log_likelihood_every: Annotated[
        int | None, Field(ge=1, description="keep every n-th draw's pixel log-likelihoods")
    ] = None
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
        return toml.text(self.model_dump())


def load(path: str | pathlib.Path) -> Variant:
    """Read and check a model file; raises as `jaxmicro.app.model_file.load_as` does."""
    return load_as(path, Variant)
