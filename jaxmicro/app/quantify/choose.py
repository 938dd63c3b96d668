"""The model of a run: from a file, from options, or chosen by the movie itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import pydantic

from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.growth import choose as growth_choose
from jaxmicro.growth.choose import CLASSES, SHARE, TRENDS, Choice
from jaxmicro.growth.estimators import ESTIMATORS
from jaxmicro.growth.partition import RULES
from jaxmicro.mixture.ecm import Progress

SHOWN = 3  # runners-up in the note


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the user said of the model; None leaves it to the model file or to the movie.

    Attributes:
      classes: a number, or several to choose from, as "3" or "2,3,4".
      trend: a formula; "" or "0" for none.
      share: "means,sds", "sds" or "none".
      foreground: a rule, or class ranks as "0,2" (0 the darkest, -1 the brightest).
      estimator: of the area: "count", "posterior" or "difference".

    Raises:
      UsageError: what cannot be read.
    """

    classes: str | None = None
    trend: str | None = None
    share: str | None = None
    foreground: str | None = None
    estimator: str | None = None

    def __post_init__(self) -> None:
        _ = self.numbers, self.tables

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The numbers of classes to choose from."""
        if self.classes is None:
            return None
        if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", self.classes):
            raise UsageError(
                f"--classes {self.classes!r} is not understood; use a number such as 3, or several "
                "to choose from, such as 2,3,4"
            )
        found = tuple(sorted({int(n) for n in self.classes.split(",")}))
        if not all(1 <= n <= 32 for n in found):
            raise UsageError(f"--classes {self.classes} is not allowed; use numbers from 1 to 32")
        return found

    @property
    def tables(self) -> dict[str, dict[str, object]]:
        """Tables of a model file that say the same; the number of classes where it is one."""
        mixture: dict[str, object] = {}
        if self.numbers is not None and len(self.numbers) == 1:
            mixture["classes"] = self.numbers[0]
        if self.trend is not None:
            mixture["trend"] = "" if self.trend.strip() == "0" else self.trend
        if self.share is not None:
            mixture["share"] = _shared(self.share)
        foreground = {} if self.foreground is None else _foreground(self.foreground)
        growth = {} if self.estimator is None else {"estimator": _estimator(self.estimator)}
        tables = {"mixture": mixture, "foreground": foreground, "growth": growth}
        return {name: table for name, table in tables.items() if table}

    def over(self, variant: Variant) -> Variant:
        """A model file's variant with what was asked for in its place."""
        if self.numbers is not None and len(self.numbers) > 1:
            raise UsageError(
                f"--classes {self.classes} leaves a choice that --model has made; name one number "
                "or leave out --model"
            )
        if not self.tables:
            return variant
        return made(variant.model_dump(exclude_unset=True), self.tables)


def _shared(text: str) -> list[str]:
    names = [] if text.strip() == "none" else [n.strip() for n in text.split(",")]
    if any(n not in SHARE for n in names):
        raise UsageError(f"--share {text!r} is not known; use means,sds or sds or means or none")
    return names


def _estimator(text: str) -> str:
    if text not in ESTIMATORS:
        known = ", ".join(ESTIMATORS)
        raise UsageError(f"--estimator {text!r} is not known; use one of {known}")
    return text


def _foreground(text: str) -> dict[str, object]:
    if text in RULES and text != "ranks":
        return {"rule": text}
    if re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        return {"rule": "ranks", "ranks": [int(n) for n in text.split(",")]}
    known = ", ".join(r for r in RULES if r != "ranks")
    raise UsageError(
        f"--foreground {text!r} is not known; use {known}, or class ranks such as 0 (the darkest), "
        "-1 (the brightest) or 1,2"
    )


def made(*layers: Mapping[str, object]) -> Variant:
    """The variant of these tables; keys of later layers replace those of earlier ones."""
    tables: dict[str, object] = {}
    for layer in layers:
        for name, value in layer.items():
            before = tables.get(name)
            if name != "foreground" and isinstance(before, dict) and isinstance(value, dict):
                value = before | value
            tables[name] = value
    try:
        return Variant.model_validate(tables)
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        where = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
        told = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {told}" if where else told) from None


def choose(
    pixels: Pixels,
    asked: Asked | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Variant, Choice, str]:
    """The model for a movie, how it was chosen, and the sentence that says so.

    Raises:
      NumericalError: no candidate could be fitted.
      UsageError: what was asked for cannot be.
    """
    asked = asked or Asked()
    mixture = asked.tables.get("mixture", {})
    share = mixture.get("share", list(SHARE))
    trends = TRENDS if asked.trend is None else (str(mixture["trend"]),)
    choice = growth_choose.choose(
        pixels,
        classes=asked.numbers or CLASSES,
        trends=trends,
        share=tuple(share),  # type: ignore[arg-type]
        progress=progress,
    )
    chosen: dict[str, dict[str, object]] = {
        "mixture": {
            "classes": choice.model.n_classes,
            "trend": choice.model.trend.formula,
            "share": share,
            "proportions": "local",
        },
        "growth": {"estimator": "difference"},
    }
    given = {"buffer": choice.local.buffer, "memory": choice.local.memory}
    chosen["local"] = {k: round(v, 3) for k, v in given.items() if v is not None}
    said = {k: v for k, v in asked.tables.items() if k in ("foreground", "growth")}
    variant = made({"description": "chosen by the movie"}, chosen, said)
    return variant, choice, _note(choice, asked)


def _frames(n: int) -> str:
    return "1 frame" if n == 1 else f"{n} frames"


def _note(choice: Choice, asked: Asked) -> str:
    chosen = choice.chosen
    best: dict[str, float] = {}
    for c in choice.tried:
        ahead = -chosen.behind(c)
        if c.name != chosen.name and ahead == ahead:
            best[c.name] = max(best.get(c.name, ahead), ahead)
    nearest = sorted(best.items(), key=lambda pair: -pair[1])[:SHOWN]
    listed = "; ".join(f"{name}: {ahead:+.3f}" for name, ahead in nearest)
    said = [n for n in ("classes", "trend") if getattr(asked, n) is not None]
    how = f" ({' and '.join(said)} as asked for)" if said else ""
    against = "score against it in nats per pixel, where what is larger has to gain more"
    runners = f"; runners-up ({against}): {listed}" if listed else ""
    trend = f'"{chosen.trend or 0}"'
    pin = f"--classes {chosen.classes} --trend {trend}"
    return (
        f"model: {chosen.name}{how}, proportions that follow the neighbours; "
        f"chosen on {_frames(choice.n_frames)}{runners}. To pin it: {pin}"
    )
