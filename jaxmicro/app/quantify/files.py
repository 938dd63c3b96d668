"""The files a quantify run leaves behind, each in a format its users' programs open."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxmicro.app.quantify import figures, maps
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.data.movie import Movie
from jaxmicro.growth.analyse import result_names
from jaxmicro.growth.columns import MEANINGS
from jaxmicro.growth.estimate import Growth

ABOUT = ["column", "unit", "what it holds"]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a run leaves behind beyond what every run does.

    Attributes:
      dense: labels.tif estimates every pixel.
      overlay: overlay.tif, the movie with the foreground's edge.
      hspy: labels.hspy, for HyperSpy.
      excel: growth.xlsx.
      style: what the figures are drawn for.
    """

    dense: bool = False
    overlay: bool = False
    hspy: bool = False
    excel: bool = False
    style: Style = SCREEN


def write(
    folder: pathlib.Path, run: Quantified, wanted: Wanted = Wanted()
) -> dict[str, pathlib.Path]:
    """growth.csv, fit.nc, labels.tif, model.toml, what is wanted beside them, and the figures,
    which are returned by caption."""
    write_growth(folder / "growth.csv", run.growth)
    if wanted.excel:
        write_growth_workbook(folder / "growth.xlsx", run.growth)
    write_fit(folder / "fit.nc", run)
    maps.write_labels(folder / "labels.tif", run, wanted.dense, wanted.hspy)
    if wanted.overlay:
        maps.write_overlay(folder / "overlay.tif", run, wanted.dense)
    (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
    return figures.all_figures(run, folder / "figures", wanted.style)


def write_growth(path: pathlib.Path, growth: Growth) -> None:
    """growth.csv; a figure that is not known is empty, never 0."""
    growth.to_pandas().to_csv(path, index=False, float_format="%.6g")


def write_growth_workbook(path: pathlib.Path, growth: Growth) -> None:
    """growth.xlsx: the table as numbers, and a second sheet that says what each column holds."""
    about = [(name, unit, text) for name, (unit, text) in MEANINGS.items()]
    sheets = {"growth": growth.to_pandas(), "columns": pd.DataFrame(about, columns=ABOUT)}
    with pd.ExcelWriter(path, engine="openpyxl") as workbook:
        for name, table in sheets.items():
            table.to_excel(workbook, sheet_name=name, index=False, freeze_panes=(1, 0))


def fit_dataset(run: Quantified) -> xr.Dataset:
    """The fit as one Dataset with named classes, terms and units."""
    params, fit = run.fit.params, run.fit
    frame = np.arange(run.pixels.n_frames)
    coords = {"frame": frame, "class": np.arange(run.model.n_classes)}
    coords["term"] = np.array(run.model.trend.terms, dtype=object).astype(str)

    def by(values: object, axis: str, units: str, text: str) -> tuple:
        dims = ("frame",) if axis == "" else ("frame", axis)
        return dims, np.asarray(values), {"units": units, "long_name": text}

    variables = {
        "weights": by(params.weights, "class", "1", "class proportions p_k"),
        "means": by(params.means, "class", "grey", "class means delta_k at the frame's centre"),
        "sds": by(params.sds, "class", "grey", run.model.family.sd_meaning),
        "trend": by(params.trend, "term", "grey", "trend per unit of the scaled coordinate"),
        "log_likelihood": by(fit.log_likelihood, "", "nat", "over the visited pixels"),
        "steps": by(fit.steps, "", "1", "passes over the pixels"),
        "result": (("frame",), result_names(run.fit), {"long_name": "how the fit ended"}),
        "check": (("frame",), run.check.words, {"long_name": "what speaks against the fit"}),
        "optimum_gap": by(fit.optimum_gap, "", "nat/pixel", "bound on the distance to the optimum"),
    }
    if run.model.gain:
        variables["gain"] = by(params.gain, "class", "1", "factor g_k on the trend")
    for i, (name, units, text) in enumerate(run.model.family.columns):
        variables[name] = by(np.asarray(params.law)[:, i], "", units, text)
    data = xr.Dataset(variables, coords=coords)
    numbers = run.movie.frame_numbers
    data = data.assign_coords(
        source_frame=("frame", numbers, {"long_name": "number in the movie that was read"})
    )
    if run.movie.times_s is not None:
        data = data.assign_coords(time=("frame", run.movie.times_s, {"units": "s"}))
    data.attrs = {
        "model": run.variant.to_toml(),
        "family": run.model.family.name,
        "foreground_classes": list(run.partition.foreground),
        "coordinates": "x and y run from -1 at the first to +1 at the last column and row",
        "frame_shape_px": list(run.pixels.shape),
        "offset_px": list(run.movie.offset_px),
    }
    if run.movie.pixel_size_nm is not None:
        data.attrs["pixel_size_nm"] = list(run.movie.pixel_size_nm)
    return data


def write_fit(path: pathlib.Path, run: Quantified) -> None:
    fit_dataset(run).to_netcdf(path, engine="h5netcdf")


def movie_record(movie: Movie) -> dict[str, Any]:
    """What part of which movie was read, for run.json; None is not known."""
    frames = movie.frame_numbers
    return {
        "source": movie.source,
        "source_frames": [int(frames[0]), int(frames[-1])],
        "offset_px": list(map(int, movie.offset_px)),
        "shape": list(movie.shape),
        "pixel_size_nm": None if movie.pixel_size_nm is None else list(movie.pixel_size_nm),
        "first_time_s": None if movie.times_s is None else float(movie.times_s[0]),
        "frame_interval_s": movie.frame_interval_s,
    }
