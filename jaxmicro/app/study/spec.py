"""What a study is asked to do: which plans, at which rates, on which movie."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxmicro
from jaxmicro.app import options
from jaxmicro.app.quantify import spec
from jaxmicro.app.quantify.choose import Asked
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import PATTERNS
from jaxmicro.errors import UsageError
from jaxmicro.growth.study import Blocks

CHOSEN = "chosen"  # the name of the plan whose model the movie chooses


@dataclasses.dataclass(frozen=True)
class PlanAsked:
    """One plan: a model file's variant, or None where the movie is to choose; and what the user
    says of the model beside it."""

    variant: Variant | None
    asked: Asked

    @property
    def text(self) -> str:
        """What the plan is known by."""
        if self.variant is not None:
            return self.asked.over(self.variant).to_toml()
        return json.dumps(dataclasses.asdict(self.asked), sort_keys=True)


def plans_of(
    models: Sequence[str | pathlib.Path], estimators: Sequence[str], asked: Asked
) -> dict[str, PlanAsked]:
    """Every model with every estimator, by name; without a model file the movie chooses one.

    Raises:
      UsageError: two plans of one name, or a model that does not go with an estimator.
    """
    variants: list[tuple[str, Variant | None]] = [(CHOSEN, None)]
    if models:
        variants = [(pathlib.Path(m).stem, spec.load(m)) for m in models]
    found: dict[str, PlanAsked] = {}
    for stem, variant in variants:
        for estimator in estimators or (None,):
            parts = [stem] if estimator is None else [stem, estimator]
            name = re.sub(r"[^\w.-]+", "_", "_".join(parts))
            if name in found:
                raise UsageError(f"two plans are called {name}; give each model and estimator once")
            plan = PlanAsked(variant, dataclasses.replace(asked, estimator=estimator))
            try:
                _ = plan.text  # made once, so that what cannot be is refused before any work
            except UsageError as problem:
                words = str(problem).removeprefix(": ")
                raise UsageError(f"plan {name}: {words}") from problem
            found[name] = plan
    return found


def rates_of(texts: Sequence[str]) -> tuple[float, ...]:
    """Rates from texts such as "0.1", "10%" or "0.1,0.05", in the order given.

    Raises:
      UsageError: a text that is no rate, a rate given twice, or none.
    """
    words = [word for text in texts for word in re.split(r"[,\s]+", text) if word]
    if not words:
        raise UsageError("--rates is empty; give shares of the pixels, such as 0.1 0.05 0.01")
    found: list[float] = []
    for word in words:
        if re.match(r"[^\d.+-]", word):
            raise UsageError(
                f"--rates {word!r} is not a share of the pixels such as 0.1 or 10%; models stand "
                "before --rates"
            )
        rate = options.share(word, "--rates")
        assert rate is not None
        if rate in found:
            raise UsageError(f"--rates holds {word} twice; give each rate once")
        found.append(rate)
    return tuple(found)


def replicates_asked(text: str) -> int | None:
    """A number of replicates, or None for "auto"."""
    if text.strip().lower() == "auto":
        return None
    if not re.fullmatch(r"\s*\d+\s*", text) or int(text) < 1:
        raise UsageError(
            f"--replicates {text} is not allowed; use auto (replicates x rate = 10) or a whole "
            "number from 1"
        )
    return int(text)


@dataclasses.dataclass(frozen=True)
class Request:
    """What decides every number of a study; its `identity` is what a study is known by.

    Attributes:
      movie: SHA-256 of the grey values and of which pixels count.
      plans: SHA-256 of what was asked of each plan, by name.
      rates: the replicates of each rate and how they are cut into blocks.
      program: versions and precision, without which numbers differ in their last digits.
    """

    movie: str
    plans: dict[str, str]
    rates: tuple[Blocks, ...]
    pattern: str
    seed: int
    program: str

    @classmethod
    def of(
        cls,
        movie: Movie,
        plans: Mapping[str, PlanAsked],
        rates: Sequence[float],
        replicates: int | None = None,
        pattern: str = "random",
        seed: int = 0,
    ) -> Request:
        """Raises UsageError for rates, replicates, a pattern or a movie that cannot be studied."""
        if pattern not in PATTERNS:
            known = ", ".join(PATTERNS)
            raise UsageError(f"pattern {pattern!r} is not known; use one of {known}")
        if movie.sampled is not None or movie.missing is not None:
            raise UsageError(
                "--rates sub-sample a full movie, but this one is sub-sampled already (--visited "
                "or --missing); leave that out"
            )
        blocks = tuple(Blocks.of(movie, rate, replicates) for rate in rates)
        hashes = {name: _sha256(plan.text) for name, plan in plans.items()}
        return cls(movie_sha256(movie), hashes, blocks, pattern, seed, program())

    @classmethod
    def parse(cls, text: str) -> Request:
        """The request of the text that `to_json` gave."""
        said = json.loads(text)
        return cls(**said | {"rates": tuple(Blocks(**rate) for rate in said["rates"])})

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @property
    def identity(self) -> str:
        return _sha256(self.to_json())

    def extends(self, other: Request) -> bool:
        """Whether every block of another study is a block of this one too."""
        same = ("movie", "pattern", "seed", "program")
        return (
            all(getattr(self, name) == getattr(other, name) for name in same)
            and other.plans.items() <= self.plans.items()
            and set(other.rates) <= set(self.rates)
        )

    def differences(self, other: Request) -> str:
        """What another request has otherwise, in words."""
        told = [
            f"another {name} ({_short(theirs)} there, {_short(ours)} now)"
            for name in ("movie", "plans", "rates", "pattern", "seed", "program")
            if (ours := getattr(self, name)) != (theirs := getattr(other, name))
        ]
        return ", ".join(told)


def _short(value: Any) -> str:
    """A value as a sentence has it: hashes by their first digits."""
    if isinstance(value, dict):
        return " ".join(f"{name} {sha[:8]}" for name, sha in value.items())
    if isinstance(value, tuple):
        return " ".join(f"{b.rate:g} x {b.replicates}" for b in value)
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def program() -> str:
    """Versions and precision of this process."""
    bits = 64 if wide_floats() else 32
    return f"jaxmicro {jaxmicro.__version__}, jax {jax.__version__}, {bits} bit"


def wide_floats() -> bool:
    """Whether JAX has 64-bit floats."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def movie_sha256(movie: Movie) -> str:
    """SHA-256 of what a study sees of a movie: its grey values and which pixels count."""
    found = hashlib.sha256(repr((movie.shape, str(movie.dtype))).encode())
    for t in range(movie.n_frames):
        found.update(np.ascontiguousarray(movie.frame(t)).data)
        found.update(np.packbits(movie.domain(t)).data)
    return found.hexdigest()
