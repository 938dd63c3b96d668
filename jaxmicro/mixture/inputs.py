"""What a fit takes, checked before any work is done."""

from __future__ import annotations

import math
from typing import Any

from jaxmicro.arguments import expect, is_traced, refuse_traced, whole
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import GMRM, Params


def check_inputs(function: str, model: Any, pixels: Any, init: Any = None) -> None:
    """Model, pixels and start of a fit, or a UsageError that names what is not one."""
    expect(model, GMRM, f"{function}: model")
    expect(pixels, Pixels, f"{function}: pixels")
    if init is None:
        return
    expect(init, Params, f"{function}: init")
    given, k = init.means.shape, model.n_classes
    if given[-1] != k or init.trend.shape[-1] != model.trend.n_terms:
        raise UsageError(
            f"{function}: init has {given[-1]} classes and {init.trend.shape[-1]} trend terms, the "
            f"model {k} and {model.trend.n_terms}; give parameters of the same model"
        )


def check_stopping(function: str, tolerance: Any, max_steps: Any, quantum: Any) -> None:
    """Tolerance, number of steps and grey step of a fit, or a UsageError."""
    if quantum is not None and not is_traced(quantum) and not quantum >= 0:
        raise UsageError(f"quantum = {quantum!r} is not allowed; use a grey step from 0, or None")
    refuse_traced(max_steps, f"{function}: max_steps", "give a plain number")
    whole(max_steps, "max_steps", 1)
    if not is_traced(tolerance) and not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(
            f"tolerance = {tolerance!r} is not allowed; use nats per pixel above 0, such as 1e-6"
        )


def check_untraced(function: str, *trees: Any) -> None:
    """Refuse values inside jax.jit, vmap or grad for a fit that decides on numbers."""
    refuse_traced(trees, function, "it decides on numbers; `fit` can stand there")
