"""How to draw from a posterior, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxmicro.errors import UsageError

BLOCK = 50  # draws between two looks at the clock and the keyboard
METHODS = ("nuts", "svi", "laplace")
PLACEMENTS = ("auto", "threads", "vectorized", "parallel")
GUIDES = ("multivariate", "diagonal", "lowrank")

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How to draw.

    Attributes:
      method: "nuts"; "svi", a normal guide fitted by stochastic gradients; "laplace", the normal
        with the mode and the observed information of the posterior.
      chains, draws, warmup: NUTS runs; draws are per chain and the other methods return as many.
      target_accept: mean acceptance NUTS tunes its step size to.
      placement: chains one by one on CPU threads, vectorised on one device, or in parallel over
        all devices; "auto" takes threads on a CPU, "parallel" on several accelerators.
      guide, steps, learning_rate, subsample: of "svi"; `subsample` is pixels a step, None all.

    Raises:
      UsageError: an unknown name or a number out of range.
    """

    method: str = "nuts"
    chains: int = 4
    draws: int = 1000
    warmup: int = 300
    target_accept: float = 0.8
    placement: str = "auto"
    guide: str = "multivariate"
    steps: int = 3000
    learning_rate: float = 0.01
    subsample: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("placement", PLACEMENTS), ("guide", GUIDES)):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(known)}"
                )
        for name, low in (("chains", 1), ("draws", BLOCK), ("warmup", BLOCK), ("steps", 1)):
            if getattr(self, name) < low:
                raise UsageError(
                    f"{name} = {getattr(self, name)} is not allowed; use {low} or more"
                )
        if not 0.5 <= self.target_accept < 1:
            raise UsageError(
                f"target_accept = {self.target_accept} is not allowed; use .5 up to but not 1"
            )
        if self.subsample is not None and self.subsample < 1:
            raise UsageError(f"subsample = {self.subsample} is not allowed; use 1 or more")


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws of one lane: arrays (chain, draw, ...) in standardised grey values.

    `sites` are constrained quantities, `stats` what the sampler says about each draw, `trace` the
    loss of a variational fit. `complete` is False where sampling was interrupted.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    complete: bool
    trace: np.ndarray | None = None
