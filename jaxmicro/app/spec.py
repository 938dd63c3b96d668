"""Model variants as data: a TOML file, checked key by key, becomes the objects of a run."""

from __future__ import annotations

import pathlib
import tomllib
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from jaxmicro.app import toml
from jaxmicro.errors import UsageError
from jaxmicro.growth.partition import DEFAULT_OVERLAP, RULES
from jaxmicro.mixture.family import NAMES, family_of
from jaxmicro.mixture.gmrm import GMRM, SHAREABLE
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood


class Table(BaseModel):
    """A table of a TOML file: unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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


class Correction(Table):
    """[correction]: the vote of the neighbours; leave the table out for none."""

    radius: Annotated[int, Field(ge=1, le=64, description="a whole number from 1 to 64")]
    threshold: Annotated[float, Field(ge=0, le=1, description="a share between 0 and 1")]
    metric: Annotated[Literal["l1", "l2"], Field(description="'l1' or 'l2'")] = "l2"
    causal: Annotated[bool, Field(description="true (past and present frames only) or false")] = (
        True
    )
    time_scale: Annotated[
        float, Field(ge=0.1, le=1000, description="pixels from one frame to the next, 0.1 to 1000")
    ] = 1.0

    def neighbourhood(self) -> Neighbourhood:
        return Neighbourhood(**self.model_dump(exclude={"threshold"}))


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
    posterior: Posterior | None = None

    @pydantic.model_validator(mode="after")
    def _local_goes_with_proportions(self) -> Variant:
        if self.local is not None and self.mixture.proportions != "local":
            raise ValueError("a table [local] needs proportions = 'local' in [mixture]")
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

    @property
    def neighbours(self) -> Local | None:
        """Settings of the local proportions, or None for global ones."""
        if self.mixture.proportions == "global":
            return None
        return (self.local or LocalOptions()).settings()

    @property
    def stopping(self) -> dict[str, Any]:
        """Options of `fit` and `fit_local`; a tolerance left out is 1e-6 or, for local, 1e-5."""
        usual = {"global": 1e-6, "local": 1e-5}[self.mixture.proportions]
        given = self.fit.tolerance
        tolerance = usual if given is None else given
        return {"tolerance": tolerance, "max_steps": self.fit.max_steps}

    def to_toml(self) -> str:
        """The variant as a TOML file, defaults written out."""
        return toml.text(self.model_dump())


Schema = TypeVar("Schema", bound=Table)


def load(path: str | pathlib.Path, schema: type[Schema] = Variant) -> Schema:  # type: ignore[assignment]
    """Read and check a model file.

    Raises:
      UsageError: the file is missing, is not TOML, or holds an unknown key, a wrong type or an
        impossible value; the message names file, line, key, value and what is allowed.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"model {path}: cannot be read ({err}); give a TOML file") from err
    try:
        return schema.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"model {path}: not valid TOML: {err}") from err
    except pydantic.ValidationError as err:
        # A misspelt key also leaves its right name missing: the misspelling is what to show.
        first = min(err.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UsageError(_sentence(path, text, schema, dict(first))) from err


def _sentence(path: pathlib.Path, text: str, schema: type[Table], error: dict[str, Any]) -> str:
    where = [p for p in error["loc"] if isinstance(p, str)]
    line = _line_of(text, where)
    name = ".".join(where) or "the file"
    at = f"model {path}, line {line}: " if line else f"model {path}: "
    owner = _table(schema, where[:-1])
    if error["type"] == "extra_forbidden":
        return f"{at}{name} is not a known key; allowed are {', '.join(owner.model_fields)}"
    if error["type"] == "missing":
        wanted = owner.model_fields[where[-1]].description or f"a table [{name}]"
        return f"{at}{name} is missing; give {wanted}"
    if error["type"] in ("value_error", "assertion_error"):
        return f"{at}{name}: {str(error['msg']).removeprefix('Value error, ')}"
    field = owner.model_fields.get(where[-1]) if where else None
    allowed = field.description if field is not None else None
    return f"{at}{name} = {error['input']!r} is not allowed; use {allowed or error['msg']}"


def _table(schema: type[Table], where: list[str]) -> type[Table]:
    for name in where:
        field = schema.model_fields.get(name)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        schema = next((o for o in options if isinstance(o, type) and issubclass(o, Table)), schema)
    return schema


def _line_of(text: str, where: list[str]) -> int | None:
    """Line (from 1) that sets the key, or opens the table it would be in."""
    table, found = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = stripped.strip("[]").strip()
            if table == ".".join(where):
                return number
            if table == ".".join(where[:-1]):
                found = number
        elif where and table == ".".join(where[:-1]):
            key = stripped.partition("=")[0].strip()
            if key == where[-1]:
                return number
    return found
