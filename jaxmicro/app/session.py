"""The commands as functions, for a session in Python: a movie or an array in, a record out.

Nothing is read or written but by name. The options are those of the commands.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmicro.app.model_file import load_as, parse_as
from jaxmicro.app.quantify import run
from jaxmicro.app.quantify.choose import Asked
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.app.wording import in_python
from jaxmicro.arguments import expect, refuse_traced
from jaxmicro.data.movie import Movie
from jaxmicro.errors import UsageError
from jaxmicro.growth.plan import ForegroundRule, Plan, Sampling
from jaxmicro.growth.thickness import Thickness
from jaxmicro.mixture.gmrm import GMRM

if TYPE_CHECKING:
    import pandas as pd

    from jaxmicro.app.posterior.run import PosteriorRun

Model = str | pathlib.Path | Variant | Plan | GMRM
Ranks = str | int | Sequence[int] | None


def load_model(model: str | pathlib.Path) -> Variant:
    """A model variant by its name (`jaxmicro models` lists them), from a TOML file or TOML text.

    `load_model(name).plan()` is the Plan for `analyse`, `.mixture.model()` the GMRM for `fit`.

    Raises:
      UsageError: no such name or file, or a key or value that is not known, named with its line.
    """
    expect(model, (str, pathlib.Path), "load_model: model")
    if isinstance(model, str) and "[mixture]" in model:
        return parse_as(model, Variant)
    return load_as(model, Variant)


@in_python
def quantify(
    movie: Any,
    model: Model | None = None,
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    classes: int | Sequence[int] | None = None,
    trend: str | None = None,
    share: str | Sequence[str] | None = None,
    foreground: Ranks = None,
    estimator: str | None = None,
    thickness_um: float | None = None,
    baseline: str = "none",
) -> Quantified:
    """Measure the foreground of a movie, frame by frame, as `jaxmicro quantify` does.

    Args:
      movie: a Movie, or an array (time, y, x) or (y, x); `Movie(array, pixel_size_nm=28.2,
        frame_interval_s=0.6)` gives areas in um2 and times.
      model: a name, a TOML file or text, a Variant, a Plan, a GMRM (with the defaults of Plan), or
        None: the movie chooses. A Plan's own sampling gives way to the options here.
      rate, pattern, seed: how to sub-sample a full movie; rate None takes every visited pixel.
      classes: a number of classes, or several to choose from.
      trend: a formula, "" or "0" for none.
      share: of "means" and "sds", what all frames have in common; "none" for nothing.
      foreground: a rule such as "brightest" or "grows", or class ranks: 0 the darkest, -1 the
        brightest.
      estimator: of the area: "count", "posterior" or "difference"; see
        `jaxmicro.growth.estimators`.
      thickness_um: thickness along the beam, for volumes.
      baseline: "first" subtracts the first frame's area.

    Returns:
      `Quantified`: `.growth` in um2, um3 and seconds as far as the movie is calibrated, `.notes`
      for the user, `.to_pandas()`, `.to_xarray()`, `.write(folder)`.

    Raises:
      UsageError: an option that is not allowed, by its name.
      DataError: a movie that carries no statistics.
      NumericalError: no frame could be fitted.
    """
    if baseline not in ("none", "first"):
        raise UsageError(f"baseline {baseline!r} is not known; use none or first")
    asked = Asked(_numbers(classes), trend, _texts(share), _texts(foreground), estimator)
    variant = variant_of(model)
    if variant is not None and variant.given is not None and variant.given.model.trend.own:
        variant, asked = _own(variant.given, asked), Asked()
    return run.quantify(
        as_movie(movie),
        variant,
        Sampling(rate, pattern, seed),
        asked=asked,
        thickness_um=_thickness(thickness_um),
        baseline=baseline == "first",
    )


@in_python
def compare(
    movie: Any,
    models: Model | Mapping[str, Model] | Sequence[Model],
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    tests: str = "none",
    bootstrap: int = 99,
) -> pd.DataFrame:
    """Rank models on the same visited pixels, as `jaxmicro compare` does.

    Args:
      movie: as for `quantify`.
      models: several such as for `quantify`, or one; a mapping gives them names.
      rate, pattern, seed: how to sub-sample a full movie.
      tests: of nested models: "recommended", "all" or "none".
      bootstrap: samples of each bootstrap.

    Returns:
      One row a model, best first, with the columns of comparison.csv. `table.attrs["notes"]` are
      sentences for the user, `table.attrs["tests"]` is the table tests.csv, and
      `table.attrs["frames"]` has the rows of each frame.

    Raises:
      UsageError, DataError: as `quantify`; two models of one name, two names for one model.
    """
    from jaxmicro.app.compare import run as comparison
    from jaxmicro.app.compare.tables import ALL, tests_table

    variants, sampling = _named(models), Sampling(rate, pattern, seed)
    wanted = comparison.Tests(tests, (), bootstrap)
    found = comparison.compare(as_movie(movie), variants, sampling, tests=wanted)
    table = found.overall
    table.attrs["notes"] = found.notes
    table.attrs["frames"] = found.table[found.table["frame"] != ALL]
    table.attrs["tests"] = tests_table(found.tests)
    return table


@in_python
def draw_posterior(
    movie: Any,
    model: Model | None = None,
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    thickness_um: float | None = None,
) -> PosteriorRun:
    """Draw from the posterior of a movie's model and growth curve, as `jaxmicro posterior` does.

    Args:
      movie, model, rate, pattern, seed, thickness_um: as for `quantify`. How it is drawn stands
        in the table [posterior] of the model file or text.

    Returns:
      `PosteriorRun`: `.posterior` (the draws, with `.to_inferencedata()`), `.diagnostics`,
        `.growth`, `.notes`.

    Raises:
      UsageError, DataError, NumericalError: as `quantify`; a model that has no posterior here.
    """
    from jaxmicro.app.posterior import run as posterior_run

    sampling, thickness = Sampling(rate, pattern, seed), _thickness(thickness_um)
    return posterior_run.run(as_movie(movie), variant_of(model), sampling, thickness_um=thickness)


def as_movie(movie: Any) -> Movie:
    """The movie itself, or one made of an array."""
    if isinstance(movie, Movie):
        return movie
    if isinstance(movie, str | pathlib.Path):
        raise UsageError(f"movie is {str(movie)!r}, but a Movie or an array is needed; give "
                         "read_movie(path)")  # fmt: skip
    refuse_traced(movie, "this", "it decides on numbers; `fit` can stand there")
    if not (hasattr(movie, "__array__") or isinstance(movie, list | tuple)):
        expect(movie, Movie, "movie")
    return Movie(movie)


def variant_of(model: Model | None) -> Variant | None:
    """The variant that a name, a file, a text or a record stands for; None stays None."""
    if model is None or isinstance(model, Variant):
        return model
    if isinstance(model, str | pathlib.Path):
        return load_model(model)
    if isinstance(model, GMRM):
        return Variant.of(Plan(model))
    expect(model, (Plan, GMRM, Variant), "model")
    return Variant.of(model)


def _own(plan: Plan, asked: Asked) -> Variant:
    """A plan with terms of its own, which no model file can say, with the foreground asked for."""
    tables = asked.tables
    if "mixture" in tables or asked.numbers is not None:
        raise UsageError(
            "a model with terms of its own takes no other classes, trend or share; make another "
            "GMRM or Plan"
        )
    if asked.estimator is not None:
        plan = dataclasses.replace(plan, estimator=asked.estimator)
    if "foreground" in tables:
        said: dict[str, Any] = tables["foreground"]  # type: ignore[assignment]
        rule = ForegroundRule(said["rule"], tuple(said.get("ranks", ())))
        plan = dataclasses.replace(plan, foreground=rule)
    return Variant.of(plan)


def _named(models: Model | Mapping[str, Model] | Sequence[Model]) -> dict[str, Variant]:
    if isinstance(models, str | pathlib.Path | Variant | Plan | GMRM):
        models = [models]
    elif not isinstance(models, Sequence | Mapping):
        expect(models, (list, dict), "compare: models")
    named = isinstance(models, Mapping)
    pairs = list(models.items()) if named else [(_name(m), m) for m in models]  # type: ignore[union-attr]
    found: dict[str, Variant] = {}
    for name, model in pairs:
        if name in found:
            raise UsageError(
                f"two models are called {name!r}; give names, as in {{'one': first, 'two': second}}"
            )
        variant = variant_of(model)
        if variant is None:
            raise UsageError(f"model {name} is None; compare needs models that are known")
        found[name] = variant
    if not found:
        raise UsageError("compare needs one model at least; give names such as 'shared_k4'")
    return found


def _name(model: Any) -> str:
    if isinstance(model, str | pathlib.Path) and "[mixture]" not in str(model):
        return pathlib.Path(model).stem
    variant = variant_of(model)
    if variant is None:
        return "none"
    mixture = variant.mixture
    named = variant.description or (
        f"{mixture.classes} classes, trend {variant.trend_text or 'none'}, "
        f"{mixture.proportions} proportions"
    )
    return named


def _numbers(classes: int | Sequence[int] | None) -> str | None:
    """Numbers of classes as the option says them."""
    if classes is None or isinstance(classes, str):
        return classes
    given = [classes] if isinstance(classes, int | np.integer) else list(classes)
    return ",".join(str(n) for n in given)


def _texts(value: Ranks | Sequence[str]) -> str | None:
    """A text, or several or numbers as an option joins them."""
    if value is None or isinstance(value, str):
        return value
    given = [value] if isinstance(value, int | np.integer) else list(value)
    return ",".join(str(v) for v in given) or "none"


def _thickness(value: float | None) -> float | None:
    if value is None:
        return None
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (good and np.isfinite(value) and value > 0):
        raise UsageError(
            f"thickness_um = {value!r} is not allowed; use micrometres above 0, such as 0.5"
        )
    return value if isinstance(value, Thickness) else float(value)
