"""Grids of models without files: numbers of classes x trends x families about a base model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from jaxmicro.app.quantify.choose import made
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.errors import UsageError
from jaxmicro.growth.choose import CLASSES, SHARE, TRENDS
from jaxmicro.growth.plan import Plan
from jaxmicro.mixture.family import NAMES

MOST = 32  # classes of a model
EXAMPLE = "use a range such as 2:6 (2, 3, 4, 5 and 6), several such as 2,3,5, or one number"
DEFAULT: Mapping[str, object] = {
    "mixture": {"classes": CLASSES[0], "share": list(SHARE), "proportions": "local"},
    "growth": {"estimator": "difference"},
}


def class_numbers(text: str) -> tuple[int, ...]:
    """`2:6` (both ends included), `2,3,5` or `4`.

    Raises:
      UsageError: what is none of these, or beyond 1 to 32.
    """
    said = text.replace(" ", "")
    span = re.fullmatch(r"(\d+):(\d+)", said)
    if span is None and not re.fullmatch(r"\d+(,\d+)*", said):
        raise UsageError(f"--classes {text!r} is not understood; {EXAMPLE}")
    if span is not None and int(span[1]) > int(span[2]):
        raise UsageError(f"--classes {text!r} runs downwards; write {span[2]}:{span[1]}")
    found = (
        sorted({int(n) for n in said.split(",")})
        if span is None
        else [*range(int(span[1]), min(int(span[2]), MOST + 1) + 1)]
    )
    if found[0] < 1 or found[-1] > MOST:
        raise UsageError(f"--classes {text!r} is not allowed; use numbers from 1 to {MOST}")
    return tuple(found)


def expanded(
    base: Variant | None,
    classes: Sequence[int] = (),
    trends: Sequence[str] = (),
    families: Sequence[str] = (),
) -> dict[str, Variant]:
    """A base model with every number of classes, trend and family in its place, by name.

    Args:
      base: None for the model of `jaxmicro quantify`: proportions that follow the neighbours,
        means and sds shared by the frames. What is not varied stays as in the base; without a base
        and anything to vary, classes and trends are those that `quantify` chooses from.

    Raises:
      UsageError: an unknown family, a trend that is no formula, the same model twice.
    """
    for family in families:
        if family not in NAMES:
            raise UsageError(f"--family {family!r} is not known; use one of {', '.join(NAMES)}")
    tables = DEFAULT if base is None else base.model_dump(exclude_unset=True)
    start = made(tables).mixture
    of_default = base is None
    numbers = tuple(classes) or (CLASSES if of_default else (start.classes,))
    formulas = [_formula(t) for t in trends] or (list(TRENDS) if of_default else [start.trend])
    kinds = tuple(families) or (start.family,)
    out: dict[str, Variant] = {}
    for kind, trend, k in itertools.product(kinds, formulas, numbers):
        name = f"k{k} {trend or '0'}" + (f" {kind}" if len(kinds) > 1 else "")
        if name in out:
            raise UsageError(f"--trend {trend or '0'!r} or --family {kind!r} is given twice")
        out[name] = made(tables, {"mixture": {"classes": k, "trend": trend, "family": kind}})
    refuse_twins(out)
    return out


def _formula(text: str) -> str:
    return "" if text.strip() in ("0", "", "none") else " ".join(text.split())


def refuse_twins(variants: Mapping[str, Variant]) -> None:
    """
    Raises:
      UsageError: two names for one model.
    """
    seen: dict[object, str] = {}
    for name, variant in variants.items():
        plan = variant.plan()
        key = (*_fit_of(plan), *_rest_of(plan))
        if key in seen:
            raise UsageError(
                f"{seen[key]!r} and {name!r} are two names for one model; leave one of them out"
            )
        seen[key] = name


def same_fit(variants: Mapping[str, Variant]) -> list[tuple[str, str]]:
    """Pairs of models that differ in what follows the fit only, so that their rows are alike."""
    first: dict[object, str] = {}
    out = []
    for name, variant in variants.items():
        key = _fit_of(variant.plan())
        if key in first:
            out.append((first[key], name))
        first.setdefault(key, name)
    return out


def _fit_of(plan: Plan) -> tuple[object, ...]:
    """What decides a fit; terms in any order are the same trend."""
    model = plan.model
    trend = frozenset(model.trend.terms) if not model.trend.own else model.trend
    which = model.n_classes, trend, model.family, frozenset(model.share), model.gain
    return (*which, plan.local, plan.tolerance, plan.max_steps)


def _rest_of(plan: Plan) -> tuple[object, ...]:
    return plan.foreground, plan.correction, plan.estimator
