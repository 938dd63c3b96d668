"""Arguments of public functions, checked by name: one line for what was given in its place."""

from __future__ import annotations

import operator
import sys
from typing import Any

from jaxmicro.errors import UsageError

# What to do, by the type that was given and the one that is needed.
_ADVICE = {
    ("Movie", "Pixels"): "call sample(seed, movie, rate=0.1) first, or analyse(movie, plan)",
    ("ndarray", "Pixels"): "make a Movie of the array, and call sample(seed, movie, rate=0.1)",
    ("ArrayImpl", "Pixels"): "make a Movie of the array, and call sample(seed, movie, rate=0.1)",
    ("GMRM", "Pixels"): "the model comes first: fit(model, pixels)",
    ("Pixels", "GMRM"): "the model comes first: fit(model, pixels)",
    ("Plan", "GMRM"): "give plan.model, or call analyse(pixels, plan)",
    ("str", "GMRM"): "give load_model(name).mixture.model(), or GMRM(classes, formula)",
    ("bool", "Local"): "give Local(), or None for proportions of the frame",
    ("str", "Family"): "give Gaussian(), StudentT() or PoissonGaussian()",
    ("GMRM", "Plan"): "give Plan(model)",
    ("Pixels", "Plan"): "the pixels come first: analyse(pixels, plan)",
    ("Plan", "Pixels"): "the pixels come first: analyse(pixels, plan)",
    ("Pixels", "Movie"): "give the movie itself",
    ("ndarray", "Movie"): "give Movie(array)",
    ("ArrayImpl", "Movie"): "give Movie(array)",
    ("str", "Movie"): "give read_movie(path)",
    ("PosixPath", "Movie"): "give read_movie(path)",
    ("Image", "Movie"): "give Movie(image.values, pixel_size_nm=image.pixel_size_nm)",
    ("Fit", "Params"): "give fit.params",
    ("LocalFit", "Params"): "give local.fit.params",
    ("Analysis", "Params"): "give found.fitted.fit.params, or use found.partition",
    ("int", "Trend"): 'give a formula such as "x + y", or "" for no trend',
    ("str", "ForegroundRule"): 'give ForegroundRule("brightest")',
    ("Params", "Fit"): "give what fit(model, pixels) returned",
    ("Fit", "Analysis"): "give what analyse(pixels, plan) returned",
}


def expect(value: Any, kind: type | tuple[type, ...], argument: str) -> None:
    """Refuse an argument of another type in one line that says what to give.

    Args:
      value: what was given.
      kind: the type that is needed, or several.
      argument: function and parameter, as in "fit: pixels".

    Raises:
      UsageError: `value` is of another type.
    """
    if isinstance(value, kind):
        return
    kinds = kind if isinstance(kind, tuple) else (kind,)
    given = type(value).__name__
    advice = next((a for k in kinds if (a := _ADVICE.get((given, k.__name__)))), None)
    wanted = " or ".join(k.__name__ for k in kinds)
    shown = repr(value) if isinstance(value, str | int | float | None) else f"of type {given}"
    raise UsageError(f"{argument} is {shown}, but a {wanted} is needed; {advice or 'give one'}")


def whole(value: Any, name: str, least: int, most: int | None = None) -> int:
    """A whole number within bounds, as int; a NumPy one will do.

    Raises:
      UsageError: anything else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise UsageError(f"{name} = {value!r} is not allowed; use {bounds}")
    return number


def is_traced(tree: Any) -> bool:
    """Whether anything in a tree of arrays is a value inside jax.jit, jax.vmap or jax.grad."""
    jax = sys.modules.get("jax")  # what is traced comes from a JAX that is loaded
    return jax is not None and any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(tree))


def refuse_traced(tree: Any, what: str, instead: str) -> None:
    """Refuse to work on values inside jax.jit, vmap or grad where numbers are needed.

    Raises:
      UsageError: something in the tree is traced.
    """
    if is_traced(tree):
        raise UsageError(f"{what} cannot run inside jax.jit, jax.vmap or jax.grad; {instead}")
