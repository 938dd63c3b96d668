"""What an enhance run will do, on how much data and in about how long, from a trial on a corner."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from jaxmicro.app.enhance.images import example_of
from jaxmicro.app.enhance.run import CONTROL_PATCHES, enhance_slice
from jaxmicro.app.enhance.training import OWN_PATCHES, EnhancePlan, read_trained, train_for
from jaxmicro.app.progress import Stages, duration
from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume
from jaxmicro.dictionary.enhance import Dictionary, usable_pixels
from jaxmicro.dictionary.evidence import FIELD, central_field
from jaxmicro.dictionary.held_out import CROP

FEW, BATCHES = 2_048, 8  # training patches, and minibatches of the real learning, of the trials
CORNER = 96  # pixels a side
LOOKS = 4  # results of a field that settings are found on: each number of passes, and a rival


def forecast(
    volumes: Sequence[Volume],
    plan: EnhancePlan,
    stages: Stages,
    dictionary: pathlib.Path | None = None,
) -> list[str]:
    """Sentences on the data, the size of the results, and the time of each stage.

    Learning is timed on its first minibatches, coding on a part of the first slice; both grow in
    proportion to patches and pixels. The first time of each holds the compilation.
    """
    n_slices = sum(len(v) for v in volumes)
    pixels = sum(len(v) * v.shape[1] * v.shape[2] for v in volumes)
    sizes = sorted({f"{v.shape[1]} x {v.shape[2]}" for v in volumes})
    lines = [f"data: {n_slices} slice(s) of {', '.join(sizes)} pixels"]
    trained, learning, per_patch = _learning(volumes[0], plan, dictionary)
    total = learning
    if plan.recipe is not None and dictionary is None:
        lines.append(f"learning: {plan.recipe.n_patches} patches, about {duration(learning)}")
    compiling, per_pixel = _coding(example_of(volumes[0], plan.depth), trained, plan)
    total += compiling + per_pixel * pixels
    lines.append(
        f"coding: about {duration(per_pixel * pixels / n_slices)} a slice, "
        f"{duration(per_pixel * pixels)} in all"
    )
    if plan.automatic:
        settings = OWN_PATCHES * per_patch + LOOKS * CROP**2 * per_pixel
        total += settings
        lines.append(f"settings, found on the slice: about {duration(settings)}")
    if plan.evidence:
        control = CONTROL_PATCHES * per_patch
        evidence = control + 2 * FIELD**2 * per_pixel
        total += evidence
        lines.append(f"evidence on the first slice: about {duration(evidence)}")
    size = 2 * 4 * pixels * trained.upscale**2 / 1e9
    lines.append(f"results: up to {size:.2g} GB, and as much again on the disk while it runs")
    lines.append(f"in all: about {duration(total)} on this machine")
    return lines


class _Enough(Exception):
    """The trial has seen enough minibatches."""


def _learning(
    volume: Volume, plan: EnhancePlan, path: pathlib.Path | None
) -> tuple[Dictionary, float, float]:
    """A dictionary to time the coding with; seconds of learning, and of each training patch.

    Learning from few patches holds what does not grow with them; the first minibatches of the real
    learning say what does.
    """
    if path is not None or plan.recipe is None:
        assert path is not None
        return read_trained(path, None).dictionary, 0.0, 0.0
    recipe = plan.recipe
    few = dataclasses.replace(recipe, n_patches=min(FEW, recipe.n_patches))
    first, trained = _timed(
        lambda: train_for(volume, dataclasses.replace(plan, recipe=few), Stages())
    )
    times: list[float] = []

    def watch(done: int, total: int) -> None:
        times.append(time.perf_counter())
        if done == BATCHES:
            raise _Enough

    with contextlib.suppress(_Enough):
        train_for(volume, plan, Stages(), watch=watch)
    per_batch = (times[-1] - times[0]) / max(len(times) - 1, 1)
    per_patch = recipe.learning.passes * per_batch / recipe.learning.batch
    return trained.dictionary, first + max(recipe.n_patches - FEW, 0) * per_patch, per_patch


def _coding(image: Image, dictionary: Dictionary, plan: EnhancePlan) -> tuple[float, float]:
    """Seconds to compile, and seconds a pixel of a slice."""
    good = usable_pixels(image, plan.mask)
    field = central_field(np.where(good, image.values, 0.0), good, CORNER)
    part = dataclasses.replace(image, values=image.values[field])
    mask = None if plan.mask is None else plan.mask[field]
    there = dataclasses.replace(plan, mask=mask)
    first, _ = _timed(lambda: enhance_slice(part, dictionary, there))
    again, _ = _timed(lambda: enhance_slice(part, dictionary, there))
    return max(first - again, 0.0), again / part.values.size


T = TypeVar("T")


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found
