"""An enhance run: every slice through the dictionary, each written as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from jaxmicro.app.enhance.files import stack_writer
from jaxmicro.app.enhance.finished import Finished, Slice
from jaxmicro.app.enhance.images import on_grid, safe_name, slices_of
from jaxmicro.app.enhance.metrics import Metrics, doubts, known, measure
from jaxmicro.app.enhance.training import EnhancePlan, Trained, learn
from jaxmicro.app.progress import Stages
from jaxmicro.app.tiff import Grid, size_note
from jaxmicro.data.movie import Image
from jaxmicro.data.read import Volume
from jaxmicro.dictionary.enhance import Dictionary, Enhanced, enhance, usable_pixels
from jaxmicro.dictionary.evidence import (
    FIELD,
    agreement,
    central_field,
    half_data,
    scrambled,
    trained_below,
)

CONTROL_PATCHES = 20_000


@dataclasses.dataclass(frozen=True)
class Control:
    """Part of a slice, enhanced with a dictionary of scrambled training images.

    `field` holds its rows and columns, in pixels of the slice.
    """

    field: tuple[slice, slice]
    enhanced: Enhanced


@dataclasses.dataclass(frozen=True)
class SliceResult:
    """One slice, before and after.

    Attributes:
      before: the slice.
      after: result, uncertainty and residual.
      reference: the truth on the grid of the result (Y, X), if known.
      metrics: its row of metrics.csv.
      notes: sentences for the user.
      control: what a dictionary of no structure makes of it, if that was asked for.
    """

    before: Image
    after: Enhanced
    reference: np.ndarray | None
    metrics: Metrics
    notes: tuple[str, ...]
    control: Control | None = None


@dataclasses.dataclass(frozen=True)
class EnhanceRun:
    """What a run found: a row of metrics per slice, the first slice in full, notes."""

    trained: Trained
    metrics: tuple[Metrics, ...]
    first: SliceResult
    notes: tuple[str, ...]

    @property
    def dictionary(self) -> Dictionary:
        return self.trained.dictionary


def enhance_slice(
    image: Image, dictionary: Dictionary, plan: EnhancePlan, reference: Image | None = None
) -> SliceResult:
    """One slice (float32) through the dictionary, with its metrics.

    Raises:
      DataError, UsageError: as `jaxmicro.enhance`; a reference of another field.
    """
    result = enhance(image, dictionary, mask=plan.mask, stride=plan.stride, seed=plan.seed)
    truth = None if reference is None else on_grid(reference, result.values.shape)
    row = measure(image, result, dictionary, truth, plan.mask)
    notes = result.notes + doubts(row.slice, row.residual_sd_over_noise)
    return SliceResult(image, result, truth, row, notes)


def with_evidence(result: SliceResult, trained: Trained, plan: EnhancePlan) -> SliceResult:
    """The result with half-data resolution and, where training images were used, a control."""
    image, after, dictionary = result.before, result.after, trained.dictionary
    good = usable_pixels(image, plan.mask)
    halves = half_data(image, good, dictionary, after.noise, seed=plan.seed)
    row = dataclasses.replace(
        result.metrics,
        half_data_before_nm=known(halves[0]),
        half_data_after_nm=known(halves[1]),
    )
    if not plan.train or plan.recipe is None or trained.of_slice:
        return dataclasses.replace(result, metrics=row)
    control = control_of(image, plan, len(dictionary.stages))
    n = dictionary.upscale
    box = tuple(slice(s.start * n, s.stop * n) for s in control.field)
    part = dataclasses.replace(after, values=after.values[box])
    correlation, difference = agreement(part, control.enhanced)
    below = trained_below(part.values, control.enhanced.values, dictionary.result_pixel_nm)
    row = dataclasses.replace(
        row, control_correlation=correlation, control_rms_over_noise=difference,
        control_agrees_to_nm=None if below is None else known(below),
    )  # fmt: skip
    return dataclasses.replace(result, metrics=row, control=control)


def control_of(image: Image, plan: EnhancePlan, passes: int) -> Control:
    """A field of the slice, enhanced with as many passes learned from scrambled training images."""
    assert plan.recipe is not None
    good = usable_pixels(image, plan.mask)
    field = central_field(np.where(good, image.values, 0.0), good, FIELD)
    few = plan.recipe.with_passes(passes)
    few = dataclasses.replace(few, n_patches=min(few.n_patches, CONTROL_PATCHES))
    images = [scrambled(i, seed=plan.seed) for i in plan.train]
    dictionary = learn(images, image, few, plan).dictionary
    part = dataclasses.replace(image, values=image.values[field])
    return Control(field, enhance(part, dictionary, mask=good[field], seed=plan.seed))


def enhance_all(
    volumes: Sequence[Volume],
    references: Sequence[Image],
    trained: Trained,
    plan: EnhancePlan,
    folder: pathlib.Path,
    stages: Stages,
    *,
    hspy: bool = False,
    finished: Finished | None = None,
) -> EnhanceRun:
    """Every slice of every volume through the dictionary, written to `folder` as it comes.

    Of the slices only the first and the present one are in memory. `references` belong to the
    slices of all volumes in their order; there may be none. With `hspy` the results are written in
    HyperSpy's format too. `finished` keeps the slices, and has those of a run that was stopped; the
    first slice is done again, for the report.
    """
    first: SliceResult | None = None
    rows: list[Metrics] = []
    told: set[str] = set()
    heard: dict[str, list[str]] = {}  # notes, and the slices of which they were said
    truths = itertools.chain(references, itertools.repeat(None))
    for volume in volumes:
        name = None if len(volumes) == 1 else volume.name
        shape = _result_shape(volume, trained.dictionary)
        large = size_note("a result", shape, np.float32)
        told |= set() if large is None else {large}
        with (
            stages.stage("enhance", len(volume), unit="slices") as advance,
            _writer(folder, volume, trained.dictionary, name, hspy) as write,
        ):
            for image, truth in zip(slices_of(volume, plan.depth), truths, strict=False):
                number = len(rows)
                if first is not None and finished is not None and finished.has(number):
                    done = finished.load(number)
                else:
                    result, done = _one(image, truth, trained, plan, evidence=first is None)
                    first = first or result
                    if finished is not None:
                        finished.save(number, done)
                rows.append(done.metrics)
                for note in done.notes:
                    heard.setdefault(note, []).append(image.name)
                write(done.values, done.uncertainty)
                advance(1)
    assert first is not None  # a volume has a slice
    notes = [_of_slices(note, names, len(rows)) for note, names in heard.items()]
    return EnhanceRun(trained, tuple(rows), first, (*trained.notes, *sorted(told), *notes))


def _one(
    image: Image, truth: Image | None, trained: Trained, plan: EnhancePlan, *, evidence: bool
) -> tuple[SliceResult, Slice]:
    """A slice, with evidence where that is asked for and planned, and what is kept of it."""
    began = time.perf_counter()
    result = enhance_slice(image, trained.dictionary, plan, truth)
    seconds = time.perf_counter() - began
    if evidence and plan.evidence:
        result = with_evidence(result, trained, plan)
    row = dataclasses.replace(result.metrics, seconds=seconds)
    after = result.after
    return result, Slice(after.values, after.uncertainty, row, result.notes)


def _of_slices(note: str, names: Sequence[str], n_slices: int) -> str:
    """The note with the slices that it is about; the only slice of a run needs no name."""
    if n_slices == 1 or any(note.startswith(name) for name in names):
        return note
    if len(names) == n_slices:
        return f"all {n_slices} slices: {note}"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: {note}"


def _writer(
    folder: pathlib.Path, volume: Volume, dictionary: Dictionary, name: str | None, hspy: bool
) -> contextlib.AbstractContextManager[Callable[..., None]]:
    """Of enhanced.tif and uncertainty.tif, with the volume's name where there are several."""
    end = "" if name is None else f"_{safe_name(name)}"
    paths = [folder / f"{kind}{end}.tif" for kind in ("enhanced", "uncertainty")]
    pixel = dictionary.result_pixel_nm
    grid = Grid((pixel, pixel), spacing_nm=volume.spacing_nm, depth=True, source=volume.name)
    return stack_writer(paths, _result_shape(volume, dictionary), grid, hspy)


def _result_shape(volume: Volume, dictionary: Dictionary) -> tuple[int, int, int]:
    n_slices, height, width = volume.shape
    n = dictionary.upscale
    return n_slices, height * n, width * n
