"""The quantities of the model: where each is a parameter, its shape, and how it is reported.

This table is the only list of the NumPyro sites. Sizes: K classes, P trend terms, T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from jaxmicro.posterior.model import Problem

Shape = tuple[int, ...]
Condition = Callable[[Problem], bool]


@dataclasses.dataclass(frozen=True)
class Site:
    """One quantity of the model.

    Attributes:
      name: of the NumPyro site.
      sampled: the problems of which it is a parameter.
      shape: of the parameter in unconstrained coordinates (a simplex has one fewer than classes).
      derived: the problems of which it is a deterministic function of the parameters.
      walk: a random walk over frames, sampled through whitened coordinates `NAME_white`.
      reported: name in posterior.nc; "" leaves it out.
      dims: dimensions in posterior.nc after (chain, draw); of single frames, "frame" is added.
      units: in posterior.nc.
      grey: how standardised values become grey levels: "value" (times scale, plus centre),
        "difference" (times scale) or "no".
      in_mixture: it is needed to rebuild the `Mixture` of a draw.
      column: which number is reported of a site without dimensions.
    """

    name: str
    sampled: Condition
    shape: Callable[[Problem], Shape]
    derived: Condition = lambda _: False
    walk: bool = False
    reported: str = ""
    dims: Shape | tuple[str, ...] = ()
    units: str = "1"
    grey: Literal["value", "difference", "no"] = "no"
    in_mixture: bool = False
    column: int = 0

    @property
    def coordinate(self) -> str:
        """Name of the site that is sampled."""
        return f"{self.name}_white" if self.walk else self.name


def _always(problem: Problem) -> bool:
    return True


def _never(problem: Problem) -> bool:
    return False


def _several_classes(problem: Problem) -> bool:
    return problem.n_classes > 1


def _free_sds(problem: Problem) -> bool:
    return not problem.noise.family.ties_sds


def _movie(problem: Problem) -> bool:
    return problem.movie


def _walking_weights(problem: Problem) -> bool:
    return problem.movie and problem.n_classes > 1


def _walking_trend(problem: Problem) -> bool:
    return problem.movie and problem.n_terms > 0


def _local(problem: Problem) -> bool:
    return problem.local


def _scalar(problem: Problem) -> Shape:
    return ()


def _one(problem: Problem) -> Shape:
    return (1,)


def _per_class(problem: Problem) -> Shape:
    return (problem.n_classes,)


def _per_class_but_one(problem: Problem) -> Shape:
    return (problem.n_classes - 1,)


def _per_term(problem: Problem) -> Shape:
    return (problem.n_terms,)


_PER_COORDINATE = "grey level per unit of the scaled coordinate (-1 to 1 over the frame)"

SITES = (
    Site("common_sd", _free_sds, _one),
    Site("lowest_mean", _always, _scalar),
    Site("own_sds", _free_sds, _per_class),
    Site("end_sds", lambda p: p.noise.n_ends > 0, lambda p: (p.noise.n_ends,)),
    Site(
        "line",
        _never,
        lambda p: (3,),
        derived=lambda p: p.noise.family.ties_sds,
        reported="grey_per_quantum",
        units="grey level",
        grey="difference",
        column=1,
    ),
    Site("scaled_gaps", _several_classes, _per_class_but_one),
    Site(
        "weights",
        lambda p: not p.movie and p.n_classes > 1,
        _per_class_but_one,
        derived=_movie,
        reported="weights",
        dims=("frame", "class"),
        in_mixture=True,
    ),
    Site(
        "means",
        _never,
        _per_class,
        derived=_always,
        reported="means",
        dims=("class",),
        units="grey level",
        grey="value",
        in_mixture=True,
    ),
    Site(
        "sds",
        _never,
        _per_class,
        derived=_always,
        reported="sds",
        dims=("class",),
        units="grey level",
        grey="difference",
        in_mixture=True,
    ),
    Site(
        "trend",
        lambda p: not p.movie and p.n_terms > 0,
        _per_term,
        derived=_walking_trend,
        reported="trend",
        dims=("frame", "term"),
        units=_PER_COORDINATE,
        grey="difference",
        in_mixture=True,
    ),
    Site(
        "dof",
        lambda p: p.noise.estimates_dof,
        _one,
        reported="degrees_of_freedom",
        in_mixture=True,
    ),
    Site(
        "walk_weights",
        _walking_weights,
        _per_class_but_one,
        reported="walk_weights",
        dims=("odds",),
        units="sd of a frame's step in log odds",
    ),
    Site(
        "strength",
        _local,
        _one,
        reported="interaction",
        units="strength of the neighbours",
        in_mixture=True,
    ),
    Site(
        "field",
        _never,
        lambda p: (p.n_frames, p.n_classes),
        derived=_local,
        reported="field",
        dims=("frame", "class"),
        units="log odds beside as many neighbours of every class",
        in_mixture=True,
    ),
    Site("trend_precision", _walking_trend, _per_term),
    Site(
        "walk_trend",
        _walking_trend,
        _per_term,
        reported="walk_trend",
        dims=("term",),
        units="sd of a frame's step, grey level per unit of the scaled coordinate",
        grey="difference",
    ),
    Site(
        "log_odds",
        _walking_weights,
        lambda p: (p.n_classes - 1, p.n_frames),
        walk=True,
    ),
    Site("trend_walk", _walking_trend, lambda p: (p.n_terms, p.n_frames), walk=True),
)
BY_NAME = {site.name: site for site in SITES}
REPORTED = {site.reported: site for site in SITES if site.reported}


def is_sampled(problem: Problem, name: str) -> bool:
    """Whether the site is a parameter of this problem."""
    return BY_NAME[name].sampled(problem)


def size(problem: Problem, name: str) -> int:
    """Length of a parameter that is a vector."""
    (length,) = BY_NAME[name].shape(problem)
    return length


def coordinate_shapes(problem: Problem) -> dict[str, Shape]:
    """Shapes of the unconstrained parameters: shared ones by name, then the whitened walks."""
    sampled = [s for s in SITES if s.sampled(problem)]
    shared = sorted((s for s in sampled if not s.walk), key=lambda s: s.name)
    walks = [s for s in sampled if s.walk]
    return {s.coordinate: s.shape(problem) for s in (*shared, *walks)}


def walk_coordinates(problem: Problem) -> tuple[str, ...]:
    """Names of the whitened walks."""
    return tuple(s.coordinate for s in SITES if s.walk and s.sampled(problem))
