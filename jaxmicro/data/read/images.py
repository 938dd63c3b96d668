"""PNG, JPEG, BMP and multi-frame GIF through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.claims import refuse_impossible
from jaxmicro.data.read.stack import (
    Axis,
    LazyFrames,
    Stack,
    as_grey,
    colour_dtype,
    is_grey,
    pixel_dtype,
    saturation_of,
)

_COLOURED = {"RGBA": "RGB", "RGBX": "RGB", "RGBa": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_COLOURED |= {"LAB": "RGB", "HSV": "RGB", "P": "RGB", "PA": "RGB", "LA": "L", "La": "L"}


def failures() -> tuple[type[Exception], ...]:
    """What Pillow raises on damaged files (a broken PNG is a SyntaxError)."""
    from PIL import Image

    return OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError


def peek(path: Path) -> tuple[int, int, int]:
    """(frames, rows, columns) from the header alone."""
    from PIL import Image

    with Image.open(path) as image:
        return getattr(image, "n_frames", 1), image.height, image.width


def open_image(path: Path, select: str | None = None) -> Stack:
    """A still image; its pixels are decoded when the frame is asked for."""
    first = _decoded(path)
    dtype, warnings = colour_dtype(first, path.name)
    shape = (1, first.shape[0], first.shape[1])
    kind = {".PNG": "PNG", ".BMP": "BMP"}.get(path.suffix.upper(), "JPEG")
    return Stack(
        LazyFrames(lambda t: _decoded(path), shape, dtype),
        (Axis("t", 1), Axis("y", shape[1]), Axis("x", shape[2])),
        kind,
        saturation_of(pixel_dtype(first.dtype, path.name)),
        warnings,
    )


def open_gif(path: Path, select: str | None = None) -> Stack:
    """All frames of a GIF, composed as they are shown.

    The delay between frames is how fast to play them, not when they were recorded, so a GIF
    has no times.
    """
    from PIL import Image

    frames: list[np.ndarray] = []
    with Image.open(path) as image:
        delay = image.info.get("duration")
        n_frames = getattr(image, "n_frames", 1)
        # frames that differ in a corner are stored as that corner: no ratio is too large
        refuse_impossible(path, (n_frames, image.height, image.width, 3), np.uint8, 2**30)
        for t in range(n_frames):
            image.seek(t)
            frame = np.asarray(image.convert("RGB"))
            frames.append(frame[..., 0] if is_grey(frame) else frame)
    coloured = [f for f in frames if f.ndim == 3]
    dtype, warnings = colour_dtype(coloured[0] if coloured else frames[0], path.name)
    grey = np.stack([as_grey(f, dtype) for f in frames])
    if delay and len(frames) > 1:
        warnings = (
            *warnings,
            f"the GIF's delay of {delay} ms is for playing it and is not taken as the frame "
            "interval; give --frame-interval if you know it",
        )
    n, height, width = grey.shape
    axes = (Axis("t", n), Axis("y", height), Axis("x", width))
    return Stack(grey, axes, "GIF", saturation_of(np.uint8), warnings)


def _decoded(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        converted: Any = image.convert(_COLOURED[image.mode]) if image.mode in _COLOURED else image
        return np.asarray(converted)
