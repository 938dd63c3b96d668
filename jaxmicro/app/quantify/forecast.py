"""What a quantify run will do, on how much data, in about how long: by a trial on some frames."""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from jaxmicro.app.progress import Stages, duration
from jaxmicro.app.quantify.choose import Asked, choose
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import fit_plan, visit
from jaxmicro.growth.plan import Plan, Sampling

FEW = 4  # frames of the trial
WRITING_S = 4.0  # figures and files, of any movie


def forecast(
    movie: Movie, variant: Variant | None, sampling: Sampling, asked: Asked, stages: Stages
) -> list[str]:
    """Sentences on the data, the model and the time of each stage.

    The movie is read and sampled, and where no model is given it is chosen, as the run would do;
    the fit is timed on a few frames, in proportion to which it grows.

    Raises:
      UsageError, DataError, NumericalError: as the run would.
    """
    began = time.perf_counter()
    variant = variant if variant is None else asked.over(variant)
    numbers = asked.numbers if variant is None else (variant.mixture.classes,)
    n_classes = None if numbers is None else max(numbers)
    pixels = visit(movie, sampling, n_classes=n_classes, stage=stages.stage).pixels
    reading = time.perf_counter() - began
    lines = [_data(movie, pixels), f"reading and sampling: {duration(reading)}"]
    start = None
    if variant is None:
        began = time.perf_counter()
        with stages.stage("choose") as advance:
            variant, choice, note = choose(pixels, asked, progress=advance.say)
        start = choice.start
        choosing = time.perf_counter() - began
        lines += [note, f"choosing the model: {duration(choosing)}"]
        reading += choosing
    plan = dataclasses.replace(variant.plan(sampling), start=start)
    with stages.stage("trial"):
        first, again = (_seconds(pixels, plan) for _ in range(2))
    share = movie.n_frames / min(FEW, movie.n_frames)
    fitting = max(first - again, 0.0) + share * again
    lines.append(f"model: {variant.mixture.classes} classes, proportions {_proportions(plan)}")
    lines.append(f"fit: about {duration(fitting)}")
    lines.append(f"in all: about {duration(reading + fitting + WRITING_S)} on this machine")
    return lines


def _data(movie: Movie, pixels: Pixels) -> str:
    t, y, x = movie.shape
    counts = np.asarray(pixels.n_pixels)
    size = sum(a.nbytes for a in jax.tree.leaves(pixels)) / 1e6
    return (
        f"data: {t} frame(s) of {y} x {x} pixels, {counts.mean():.0f} visited in each "
        f"({100 * counts.mean() / (y * x):.3g} %); {size:.3g} MB in memory"
    )


def _proportions(plan: Plan) -> str:
    return "of the frame" if plan.local is None else "that follow the neighbours"


def _seconds(pixels: Pixels, plan: Plan) -> float:
    """The time of a fit to frames about the middle of the movie."""
    middle = max(0, (pixels.n_frames - FEW) // 2)
    few = slice(middle, middle + min(FEW, pixels.n_frames))
    start = None if plan.start is None else plan.start[few]
    began = time.perf_counter()
    fit_plan(pixels[few], dataclasses.replace(plan, start=start))
    return time.perf_counter() - began
