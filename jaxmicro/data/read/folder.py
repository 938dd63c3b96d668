"""Folders and globs of images: one file a frame, in natural order of their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.stack import LazyFrames, Stack
from jaxmicro.errors import DataError


def natural_key(path: Path) -> list[Any]:
    """Sorts `t2` before `t10`."""
    return [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", path.name)]


def images_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The image files of a folder in natural order; DataError if none, or of several kinds."""
    files = [
        p
        for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() in suffixes
    ]
    if not files:
        inside = sorted(p.name for p in folder.iterdir() if p.is_dir())[:5]
        hint = f"; it has the folders {', '.join(inside)}, name one of them" if inside else ""
        raise DataError(f"{folder}: no image files in this folder{hint}")
    kinds = sorted({p.suffix.lower() for p in files})
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: images of several kinds ({', '.join(kinds)}); "
            f"choose one with a glob, as {folder}/*{kinds[0]}"
        )
    return sorted(files, key=natural_key)


def open_files(
    paths: Sequence[Path],
    open_one: Callable[[Path], Stack],
    peek: Callable[[Path], tuple[int, int, int]],
) -> Stack:
    """A movie of single images, each opened only when its frame is asked for.

    `peek` gives (frames, rows, columns) of a file from its header, so that an odd file is named
    before any work is done.
    """
    first = open_one(paths[0])
    shape = first.frames.shape
    for path in paths:
        found = tuple(int(n) for n in peek(path))
        if found[0] != 1:
            raise DataError(
                f"{path}: holds {found[0]} frames where a folder's files hold one each; "
                "give this file by itself"
            )
        if found[1:] != tuple(shape[1:]):
            raise DataError(
                f"{path}: has {found[1]} x {found[2]} pixels, but {paths[0].name} has "
                f"{shape[1]} x {shape[2]}; all images of a movie must have the same shape"
            )
    dtype = first.frames.dtype

    def read(t: int) -> np.ndarray:
        image = open_one(paths[t]).frames
        if np.dtype(image.dtype) != dtype and not np.can_cast(image.dtype, dtype):
            raise DataError(
                f"{paths[t]}: has values of type {image.dtype}, but {paths[0].name} has {dtype}; "
                "all images of a movie must have the same type"
            )
        return image[0]

    _, y, x = first.axes
    frame_axis = first.axes[0].__class__("t", len(paths))
    return Stack(
        LazyFrames(read, (len(paths), *shape[1:]), dtype),
        (frame_axis, y, x),
        f"folder of {first.format}",
        first.saturation,
        first.warnings,
    )
