"""Images of a quantify run: labels.tif and overlay.tif, and both in HyperSpy's format."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from jaxmicro.app import palette
from jaxmicro.app.hspy import write_hspy
from jaxmicro.app.quantify.run import BACKGROUND, FOREGROUND, UNSEEN, Quantified
from jaxmicro.app.tiff import Channel, Grid, size_note, write_stack

_LABEL_COLOURS = {
    UNSEEN: "#000000",
    BACKGROUND: palette.BACKGROUND,
    FOREGROUND: palette.FOREGROUND,
}
_SHOWN_FRAMES = 5  # that decide the display range of the overlay


def label_channels(run: Quantified, dense: bool) -> list[Channel]:
    """The channels of labels.tif, with what their values mean."""
    k = run.model.n_classes
    colours = {i + 1: palette.COLOURS[i % len(palette.COLOURS)] for i in range(k)}
    lut = palette.ramp(k, {0: "#000000"} | colours)
    which = ", ".join(map(str, run.partition.foreground))
    rank = f"rank + 1, 1 to {k} from dark to bright; foreground classes: {which}"
    if not dense:
        return [
            Channel(
                "foreground",
                "0 not visited, 127 background, 255 foreground",
                colours=palette.table(_LABEL_COLOURS),
            ),
            Channel("class", f"{rank}; 0 not visited", (0.0, float(k)), lut),
        ]
    return [
        Channel(
            "foreground, estimated where not visited",
            "127 background, 255 foreground",
            colours=palette.table(_LABEL_COLOURS),
        ),
        Channel("class, estimated where not visited", rank, (0.0, float(k)), lut),
        Channel("posterior entropy, 255 = 1 bit", "of foreground against background"),
    ]


def write_labels(
    path: pathlib.Path, run: Quantified, dense: bool = False, hspy: bool = False
) -> None:
    """labels.tif, calibrated, in two channels: foreground (0 not visited, 127 background, 255
    foreground) and class (rank + 1, 0 not visited).

    With `dense` every pixel has both, an estimate where none was visited, and a third channel
    holds the posterior entropy of foreground against background: 255 is 1 bit. With `hspy` the
    same is written in HyperSpy's format beside it.
    """
    channels, grid = label_channels(run, dense), Grid.of(run.movie)
    shape = _label_shape(run, dense)
    frames = run.dense_labels() if dense else _sparse(run)
    planes = (plane for frame in frames for plane in frame)
    write_stack(path, planes, shape, grid, channels=channels, mode="color")
    if hspy:
        write_hspy(path.with_suffix(".hspy"), path, shape, grid)


def _sparse(run: Quantified) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((run.labels(t), run.classes(t)) for t in range(run.pixels.n_frames))


def _label_shape(run: Quantified, dense: bool) -> tuple[int, int, int, int]:
    return (run.pixels.n_frames, 3 if dense else 2, *run.pixels.shape)


def notes(run: Quantified, dense: bool = False, overlay: bool = False) -> list[str]:
    """Sentences for the user on files too large for ImageJ's format."""
    found = [size_note("labels.tif", _label_shape(run, dense), np.uint8)]
    if overlay:
        shape = (run.pixels.n_frames, 2, *run.pixels.shape)
        found.append(size_note("overlay.tif", shape, overlay_dtype(run.movie.images.dtype)))
    return [note for note in found if note is not None]


def overlay_dtype(dtype: np.dtype) -> np.dtype:
    """The smallest of ImageJ's types that holds all grey values of this type."""
    for name in ("uint8", "uint16"):
        if np.can_cast(dtype, name, "safe"):
            return np.dtype(name)
    return np.dtype(np.float32)


def write_overlay(path: pathlib.Path, run: Quantified, dense: bool = False) -> None:
    """overlay.tif: the movie's grey values and, in a second channel, where its foreground ends.

    ImageJ opens it as a composite, napari as two layers. Grey values are those of the movie,
    unscaled. Marked is each foreground pixel with a neighbour (up, down, left or right) that is
    not: the outline where all pixels have a label, and each visited pixel where few have one.
    """
    movie, kind = run.movie, overlay_dtype(run.movie.images.dtype)
    top = 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)
    colour = np.linspace(0, 1, 256) * np.array(palette.rgb(palette.FOREGROUND))[:, None]
    channels = [
        Channel("movie", "grey values as in the source", _grey_range(run)),
        Channel("foreground", f"{top:g} at its edge", (0.0, top), colour.astype(np.uint8)),
    ]
    labels = (f[0] for f in run.dense_labels()) if dense else map(run.labels, range(movie.n_frames))

    def planes() -> Iterator[np.ndarray]:
        for t, frame in enumerate(labels):
            yield np.asarray(movie.images[t]).astype(kind)
            yield (edge(frame == FOREGROUND) * top).astype(kind)

    shape = (movie.n_frames, 2, *movie.shape[1:])
    grid = Grid.of(movie)
    write_stack(path, planes(), shape, grid, dtype=kind, channels=channels, mode="composite")


def edge(inside: np.ndarray) -> np.ndarray:
    """(y, x) bool: pixels of `inside` with one of four neighbours outside; frames end nothing."""
    padded = np.pad(inside, 1, mode="edge")
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~around


def _grey_range(run: Quantified) -> tuple[float, float]:
    few = np.unique(np.linspace(0, run.movie.n_frames - 1, _SHOWN_FRAMES).round().astype(int))
    low, high = np.nanpercentile([run.movie.frame(int(t)) for t in few], [0.5, 99.5])
    return float(low), float(max(high, low + 1e-6))
