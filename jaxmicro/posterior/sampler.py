"""Settings of a sampler, and the draws it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from jaxmicro.errors import UsageError
from jaxmicro.settings import choice, setting

DRAWS_PER_BLOCK = 50  # NUTS runs in blocks: progress and interruptions are handled between them
METHODS = ("nuts", "svi", "laplace")
PLACEMENTS = ("auto", "threads", "vectorized", "parallel")
GUIDES = ("multivariate", "diagonal", "lowrank")

Progress = Callable[[int, int], None]  # called with (steps done, steps in all)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How to draw, and what to draw beside the parameters.

    Attributes:
      method: "nuts" (the No-U-Turn sampler); "svi", stochastic variational inference with a normal
        guide; "laplace", the normal distribution with the mode of the posterior and the inverse of
        its observed information as covariance.
      chains, draws, warmup: number of chains; draws and warm-up draws of each. "svi" and "laplace"
        have no warm-up and return chains x draws independent draws.
      target_accept: mean acceptance probability to which NUTS adapts its step size.
      placement: chains of NUTS on CPU threads ("threads"), vectorised on one device
        ("vectorized"), or divided equally among all devices ("parallel"); "auto" takes threads on
        a single CPU device, "parallel" where the number of devices divides the number of chains,
        "vectorized" otherwise.
      guide: covariance of the guide of "svi": "multivariate" (full), "diagonal" or "lowrank".
      steps, learning_rate: optimiser steps of "svi", and its initial learning rate.
      subsample: pixels per frame and step of "svi"; None uses all of them.
      foreground: ranks of the classes whose area is drawn (0 is the darkest); () draws no areas.
      log_likelihood_every: keep the log-likelihood of every pixel at each n-th draw; None keeps
        none.

    Raises:
      UsageError: an unknown name or a number out of range.
    """

    method: str = choice("nuts", METHODS)
    chains: int = setting(4, "1 to 64", ge=1, le=64)
    draws: int = setting(1000, "a whole number from 50", ge=DRAWS_PER_BLOCK)
    warmup: int = setting(300, "a whole number from 50", ge=DRAWS_PER_BLOCK)
    target_accept: float = setting(0.8, "0.5 up to but not 1", ge=0.5, lt=1)
    placement: str = choice("auto", PLACEMENTS)
    guide: str = choice("multivariate", GUIDES)
    steps: int = setting(3000, "a whole number from 1", ge=1)
    learning_rate: float = setting(0.01, "a number above 0", gt=0)
    subsample: int | None = setting(None, "pixels a frame and step", ge=1)
    foreground: tuple[int, ...] = ()
    log_likelihood_every: int | None = setting(
        None, "keep every n-th draw's pixel log-likelihoods", ge=1
    )

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("placement", PLACEMENTS), ("guide", GUIDES)):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(known)}"
                )
        lowest = {
            "chains": 1,
            "draws": DRAWS_PER_BLOCK,
            "warmup": DRAWS_PER_BLOCK,
            "steps": 1,
            "subsample": 1,
            "log_likelihood_every": 1,
        }
        for name, low in lowest.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"{name} = {value} is not allowed; use {low} or more")
        if not 0.5 <= self.target_accept < 1:
            raise UsageError(
                f"target_accept = {self.target_accept} is not allowed; use .5 up to but not 1"
            )


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws from the posterior of one batch item (a frame, or a whole movie).

    Attributes:
      sites: value of each site of the model (see `sites`), arrays (chain, draw, *shape of the
        site), grey values standardised.
      stats: statistics of the sampler for each draw, arrays (chain, draw).
      complete: False where sampling was interrupted.
      loss: negative evidence lower bound at each step of "svi", nats; None for other methods.
    """

    sites: dict[str, Shaped[np.ndarray, "chain draw ..."]]
    stats: dict[str, Shaped[np.ndarray, "chain draw"]]
    complete: bool
    loss: Float[np.ndarray, " steps"] | None = None
