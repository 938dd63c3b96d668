"""The files an enhance run leaves behind, each in a format its users' programs open."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from jaxmicro.app.enhance.metrics import Metrics
from jaxmicro.app.hspy import write_hspy
from jaxmicro.app.tiff import Grid, write_stack
from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import Sections


@contextlib.contextmanager
def stack_writer(
    paths: Sequence[pathlib.Path],
    shape: tuple[int, int, int],
    grid: Grid,
    hspy: bool = False,
) -> Iterator[Callable[..., None]]:
    """Several stacks of one shape side by side; what is yielded takes the next slice of each.

    Calibrated float32, NaN where nothing is; with `hspy` each in HyperSpy's format too. A TIFF
    file is written in one go, so the slices wait on disk beside it, uncompressed.
    """
    with contextlib.ExitStack() as files:
        waiting = [files.enter_context(tempfile.TemporaryFile(dir=p.parent)) for p in paths]

        def write(*slices: np.ndarray) -> None:
            for file, values in zip(waiting, slices, strict=True):
                file.write(values.astype(np.float32).tobytes())

        yield write
        for path, file in zip(paths, waiting, strict=True):
            write_stack(path, _slices(file, shape), shape, grid, dtype=np.float32)
            if hspy:
                write_hspy(path.with_suffix(".hspy"), path, shape, grid)


def _slices(file: IO[bytes], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    n_slices, height, width = shape
    file.seek(0)
    for _ in range(n_slices):
        yield np.frombuffer(file.read(4 * height * width), np.float32).reshape(height, width)


def write_metrics(path: pathlib.Path, rows: Sequence[Metrics]) -> None:
    """metrics.csv, a row a slice; a figure that is not known is empty, never 0."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in dataclasses.fields(Metrics))
        writer.writerows(map(_text, dataclasses.astuple(row)) for row in rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_sections(scene: Sections, folder: pathlib.Path) -> list[str]:
    """Calibrated TIFFs of a phantom, and scene.json with blur and noise; returns the names."""
    names = []
    for number, image in enumerate(scene.stem):
        names.append(f"stem_{number}.tif")
        _write(folder / names[-1], [image], None)
    for name, images in (("txm.tif", scene.slices), ("truth.tif", scene.truth)):
        names.append(name)
        _write(folder / name, images, scene.spacing_nm)
    facts = {
        "psf_fwhm_nm": scene.psf_fwhm_nm,
        "train_fwhm_nm": scene.train_fwhm_nm,
        "noise_sd": scene.noise_sd,
    }
    (folder / "scene.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [*names, "scene.json"]


def _write(path: pathlib.Path, images: Sequence[Image], spacing_nm: float | None) -> None:
    values, size = [i.values for i in images], images[0].pixel_size_nm
    assert size is not None  # phantoms are calibrated
    shape = (len(values), *values[0].shape)
    grid = Grid((size[-2], size[-1]), spacing_nm=spacing_nm, depth=True)
    write_stack(path, (v.astype(np.float32) for v in values), shape, grid, dtype=np.float32)
