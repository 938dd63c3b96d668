"""Scenes with known truth, written as the files a microscope would leave."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd

from jaxmicro.app.tiff import Grid, write_stack
from jaxmicro.data.phantom import Scene


def write_operando(scene: Scene, folder: pathlib.Path) -> None:
    """movie.tif (calibrated), truth.csv (a row a frame) and truth_labels.tif (class indices)."""
    movie = scene.movie
    grid = Grid.of(movie)
    frames = (np.asarray(movie.images[t]) for t in range(movie.n_frames))
    write_stack(folder / "movie.tif", frames, movie.shape, grid)
    write_stack(folder / "truth_labels.tif", iter(scene.labels), movie.shape, grid)
    truth_table(scene).to_csv(folder / "truth.csv", index=False, float_format="%.6g")


def truth_table(scene: Scene) -> pd.DataFrame:
    """Area, volume, class proportions and trend of every frame; class means and sds repeated."""
    table = pd.DataFrame(
        {
            "frame": np.arange(scene.movie.n_frames),
            "time_s": scene.movie.times_s,
            "area_px": scene.foreground_mask.sum(axis=(1, 2)),
            "area_um2": scene.area_um2,
            "volume_um3": scene.volume_um3,
        }
    )
    for k, name in enumerate(scene.classes):
        table[f"weight_{name}"] = scene.truth["weights"][:, k]
        table[f"mean_{name}"] = scene.truth["means"][k]
        table[f"sd_{name}"] = scene.truth["sds"][k]
    for j, term in enumerate(scene.terms):
        table[f"trend_{term}"] = scene.truth["trend"][:, j]
    return table
