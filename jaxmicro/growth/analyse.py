"""What every command on a movie begins with: refuse, survey, sample."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import jax

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.data.survey import survey
from jaxmicro.errors import UsageError

# Opens a stage of so many frames; what it yields is told how many more are done.
Stage = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


def _silent(name: str, total: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    return contextlib.nullcontext(lambda count: None)


@dataclasses.dataclass(frozen=True)
class Visited:
    """The visited pixels of a movie, and sentences for the user about what was found."""

    pixels: Pixels
    notes: tuple[str, ...]


def visit(
    movie: Movie,
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    n_classes: int | None = None,
    stage: Stage = _silent,
) -> Visited:
    """Check a movie and sample its pixels.

    Args:
      rate, pattern, seed: how to sub-sample; rate None takes every visited pixel.
      n_classes: of the largest model that will be fitted; None where it is yet to be chosen.
      stage: opens the stages "check" and "sample", to show progress and time them.

    Raises:
      UsageError: `rate` for a movie that is sub-sampled already; see also `sample`.
      DataError: frames that carry no statistics, or too few grey values; see `survey`.
    """
    if rate is not None and (movie.sampled is not None or movie.missing is not None):
        raise UsageError(
            f"--rate {rate:g} sub-samples a full movie, but this one is sub-sampled already "
            "(--mask or --missing); leave one of them out"
        )
    with stage("check", movie.n_frames) as advance:
        found = survey(movie, n_classes, advance)
    with stage("sample", movie.n_frames) as advance:
        pixels = sample(jax.random.key(seed), movie, rate, pattern, done=advance)
    return Visited(pixels, (*movie.warnings, *found.warnings))
