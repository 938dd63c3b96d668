"""One enhance run: read, learn, apply slice by slice, gather the evidence."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.data.movie import Image
from jaxmicro.data.read import read_image, read_volume
from jaxmicro.dictionary.coupled import Recipe
from jaxmicro.dictionary.enhance import (
    Dictionary,
    Enhanced,
    build_dictionary,
    enhance,
    usable_pixels,
)
from jaxmicro.dictionary.evidence import (
    FIELD,
    agreement,
    central_field,
    half_data,
    residual_statistics,
    scrambled,
)
from jaxmicro.dictionary.learn import Learned
from jaxmicro.dictionary.resolution import edge_width, psnr, ssim
from jaxmicro.errors import DataError, UsageError

CONTROL_PATCHES = 20_000
RESIDUAL_LIMIT = 1.5  # residual over noise, either way; good results stay within 1.2


@dataclasses.dataclass(frozen=True)
class Slices:
    """What --apply names: images, or a volume read slice by slice."""

    names: tuple[str, ...]
    source: str
    volume: Any
    pixel_size_nm: tuple[float, float] | None
    spacing_nm: float | None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Image]:
        return (self.volume.slice(z) for z in range(len(self)))


def open_slices(source: str, pixel_size_nm: float | None) -> Slices:
    """The slices of a file, a folder or a glob; nothing but their headers is read."""
    volume = read_volume(source, pixel_size_nm=pixel_size_nm)
    n = len(volume)
    names = (volume.name,) if n == 1 else tuple(f"{volume.name} slice {z}" for z in range(n))
    return Slices(names, source, volume, volume.pixel_size_nm, volume.spacing_nm)


def open_training(sources: Sequence[str], pixel_size_nm: float | None) -> list[Image]:
    """The training images, as float32."""
    images = [read_image(s, pixel_size_nm=pixel_size_nm) for s in sources]
    return [dataclasses.replace(i, values=grey(i.values, i.name)) for i in images]


def grey(values: np.ndarray, name: str) -> np.ndarray:
    """(y, x) float32; a colour image is refused, not averaged in silence."""
    if values.ndim != 2:
        raise DataError(f"{name}: shape {values.shape} is not a grey image (y, x); convert it")
    return values.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One slice before and after, kept for the figures."""

    before: Image
    after: Enhanced
    reference: np.ndarray | None


@dataclasses.dataclass
class EnhanceRun:
    """What a run leaves: the dictionary, a row of metrics a slice, the first slice in full."""

    dictionary: Dictionary
    learned: Learned | None
    recipe: Recipe | None
    rows: list[dict[str, Any]]
    sample: Sample | None
    control: Enhanced | None
    control_field: tuple[slice, slice] | None
    notes: list[str]


def learn_from(
    train: Sequence[Image],
    slices: Slices,
    recipe: Recipe,
    *,
    psf_fwhm_nm: float | None,
    train_fwhm_nm: float | None,
    invert: bool,
    mask: np.ndarray | None,
    start: Learned | None,
    seed: int,
    stages: Stages,
) -> tuple[Dictionary, Learned, list[str]]:
    """Teach a dictionary for the first slice (slices of one stack share their noise)."""
    if not train:
        raise UsageError("--train is missing; give one or more training images, or --dictionary")
    first = next(iter(slices))
    first = dataclasses.replace(first, values=grey(first.values, first.name))
    with stages.stage("learn", unit="batches") as advance:
        dictionary, learned, notes = build_dictionary(
            list(train),
            first,
            recipe,
            psf_fwhm_nm=psf_fwhm_nm,
            train_fwhm_nm=train_fwhm_nm,
            invert=invert,
            slice_mask=mask,
            seed=seed,
            start=start,
            progress=lambda done, total: advance(1),
        )
    return dictionary, learned, list(notes)


def control_for(
    train: Sequence[Image],
    first: Image,
    recipe: Recipe,
    run: EnhanceRun,
    result: Enhanced,
    options: dict[str, Any],
    seed: int,
) -> dict[str, float]:
    """A dictionary of the training images with their phases scrambled, on a field of the slice."""
    good = usable_pixels(first, options.get("slice_mask"))
    field = central_field(np.where(good, first.values, 0.0), good, FIELD)
    part = dataclasses.replace(first, values=first.values[field])
    small = dataclasses.replace(recipe, n_patches=min(recipe.n_patches, CONTROL_PATCHES))
    images = [scrambled(i, seed=seed) for i in train]
    rest = {k: v for k, v in options.items() if k != "slice_mask"}
    other, _, _ = build_dictionary(
        images, first, small, slice_mask=options.get("slice_mask"), seed=seed, **rest
    )
    run.control = enhance(part, other, mask=good[field], seed=seed)
    run.control_field = field
    n = run.dictionary.upscale
    box = tuple(slice(s.start * n, s.stop * n) for s in field)
    cut = dataclasses.replace(result, values=result.values[box])
    correlation, difference = agreement(cut, run.control)
    return {"control_correlation": correlation, "control_rms_over_noise": difference}


def apply_to(
    slices: Slices,
    run: EnhanceRun,
    *,
    mask: np.ndarray | None,
    stride: int,
    references: Sequence[Image],
    evidence: bool,
    train: Sequence[Image],
    build_options: dict[str, Any],
    seed: int,
    stages: Stages,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(enhanced, spread) of every slice as float32, one at a time; rows of metrics on the way."""
    with stages.stage("enhance", len(slices), unit="slices") as advance:
        for number, image in enumerate(slices):
            began = time.perf_counter()
            image = dataclasses.replace(image, values=grey(image.values, image.name))
            result = enhance(image, run.dictionary, mask=mask, stride=stride, seed=seed)
            for note in result.notes:
                if note not in run.notes:
                    run.notes.append(note)
            reference = references[number] if number < len(references) else None
            row = metrics(image, result, run.dictionary, reference, mask)
            run.notes += [note for note in doubts(row) if note not in run.notes]
            row["seconds"] = time.perf_counter() - began
            if number == 0:
                known = None if reference is None else _on_grid(reference, result.values.shape)
                run.sample = Sample(image, result, known)
                if evidence:
                    good = usable_pixels(image, mask)
                    halves = half_data(image, good, run.dictionary, result.noise, seed=seed)
                    row["half_data_before_nm"], row["half_data_after_nm"] = halves
                    if run.recipe is not None and train:
                        options = build_options | {"slice_mask": mask}
                        row |= control_for(train, image, run.recipe, run, result, options, seed)
            run.rows.append(row)
            advance(1)
            yield result.values.astype(np.float32), result.spread.astype(np.float32)


def doubts(row: dict[str, Any]) -> list[str]:
    """Sentences for a slice whose residual does not look like its noise; none where it does."""
    ratio = row["residual_sd_over_noise"]
    if ratio > RESIDUAL_LIMIT:
        return [
            f"{row['slice']}: the residual is {ratio:.2g} times the noise, so the result leaves "
            "out structure of the slice (artefacts of the scan, a wrong blur, or training images "
            "of another material); look at figures/residual.png before you trust it"
        ]
    if ratio < 1 / RESIDUAL_LIMIT:
        return [
            f"{row['slice']}: the residual is {ratio:.2g} of the noise, so the result kept noise; "
            "raise --penalty or learn a dictionary for this slice"
        ]
    return []


def metrics(
    image: Image,
    result: Enhanced,
    dictionary: Dictionary,
    reference: Image | None,
    mask: np.ndarray | None,
) -> dict[str, Any]:
    """One row of metrics.csv; None where a figure is not known."""
    good = usable_pixels(image, mask)
    first = result.tallies[0]
    statistics = residual_statistics(result.residual, result.noise)
    n = dictionary.upscale
    row: dict[str, Any] = {
        "slice": image.name,
        "pixel_size_nm": dictionary.pixel_size_nm,
        "result_pixel_size_nm": dictionary.result_pixel_nm,
        "usable_share": float(good.mean()),
        "noise_sd": result.noise.sd,
        "noise_neighbour_correlation": result.noise.neighbour_correlation,
        "penalty": dictionary.stages[0].penalty or None,
        "mean_nonzeros": first.nonzeros / max(1, first.patches),
        "zero_code_share": first.zero_patches / max(1, first.patches),
        "unfinished_share": first.unfinished / max(1, first.patches),
        "worst_gap": first.worst_gap,
        "residual_sd_over_noise": statistics.sd_over_noise,
        "residual_neighbour_correlation": statistics.neighbour_correlation,
        "residual_share_above_3_sd": statistics.share_above_3,
        "spread_median": float(np.nanmedian(result.spread)),
        "edge_before_nm": edge_width(image.values, dictionary.pixel_size_nm, good),
        "edge_after_nm": edge_width(
            result.values, dictionary.result_pixel_nm, np.kron(good, np.ones((n, n), bool))
        ),
        "half_data_before_nm": None,
        "half_data_after_nm": None,
        "control_correlation": None,
        "control_rms_over_noise": None,
        "psnr_before_db": None,
        "psnr_db": None,
        "ssim_before": None,
        "ssim": None,
    }
    if reference is not None:
        row |= against_reference(image, result, reference)
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def against_reference(image: Image, result: Enhanced, reference: Image) -> dict[str, float]:
    """PSNR and SSIM before and after; the data range is that of the reference."""
    truth = _on_grid(reference, result.values.shape)
    before = _on_grid(image, result.values.shape)
    known = np.isfinite(result.values) & np.isfinite(truth)
    after = np.where(known, result.values, truth)
    before = np.where(known, before, truth)
    extent = float(np.ptp(truth[known]))
    return {
        "psnr_before_db": psnr(before[known], truth[known], extent),
        "psnr_db": psnr(after[known], truth[known], extent),
        "ssim_before": ssim(before, truth, extent),
        "ssim": ssim(after, truth, extent),
    }


def _on_grid(image: Image, shape: tuple[int, ...]) -> np.ndarray:
    """Grey values on the grid of the result, which covers the same field."""
    import jax

    values = grey(image.values, image.name)
    if values.shape == shape:
        return values
    ratios = [a / b for a, b in zip(shape, values.shape, strict=True)]
    if abs(ratios[0] - ratios[1]) > 0.02 * ratios[0]:
        raise DataError(
            f"{image.name}: {values.shape} pixels do not cover the same field as the result's "
            f"{shape}; give a reference of the slice's own field of view"
        )
    filled = np.where(np.isfinite(values), values, np.nanmean(values))
    return np.asarray(jax.image.resize(filled, shape, "cubic"))


def check_references(references: Sequence[str], n_slices: int) -> None:
    if references and len(references) != n_slices:
        raise UsageError(
            f"--reference is given {len(references)} times for {n_slices} slices; "
            "give one per slice, in the same order"
        )


def safe_name(name: str) -> str:
    """A file name from a slice's name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in pathlib.Path(name).name)
