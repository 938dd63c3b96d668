"""The files a quantify run leaves behind, each in a format its users' programs open."""

from __future__ import annotations

import pathlib

import numpy as np
import xarray as xr

from jaxmicro.app.ome import write_ome
from jaxmicro.app.quantify import figures
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.growth.analyse import result_names
from jaxmicro.growth.estimate import Growth


def write(folder: pathlib.Path, run: Quantified, dense: bool = False) -> dict[str, pathlib.Path]:
    """growth.csv, fit.nc, labels.tif, model.toml and the figures, which are returned by caption."""
    write_growth(folder / "growth.csv", run.growth)
    write_fit(folder / "fit.nc", run)
    write_labels(folder / "labels.tif", run, dense)
    (folder / "model.toml").write_text(run.variant.to_toml(), encoding="utf-8")
    return figures.all_figures(run, folder / "figures")


def write_growth(path: pathlib.Path, growth: Growth) -> None:
    """growth.csv; a figure that is not known is empty, never 0."""
    growth.to_pandas().to_csv(path, index=False, float_format="%.6g")


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
    if run.movie.times_s is not None:
        data = data.assign_coords(time=("frame", run.movie.times_s, {"units": "s"}))
    data.attrs = {
        "model": run.variant.to_toml(),
        "family": run.model.family.name,
        "foreground_classes": list(run.partition.foreground),
        "coordinates": "x and y run from -1 at the first to +1 at the last column and row",
    }
    return data


def write_fit(path: pathlib.Path, run: Quantified) -> None:
    fit_dataset(run).to_netcdf(path, engine="h5netcdf")


def write_labels(path: pathlib.Path, run: Quantified, dense: bool = False) -> None:
    """labels.tif: OME-TIFF, 0 not visited, 127 background, 255 foreground, calibrated.

    With `dense` every pixel has a label, an estimate where none was visited, and a second channel
    holds the posterior entropy of foreground against background: 255 is 1 bit.
    """
    t, (y, x) = run.pixels.n_frames, run.pixels.shape
    calibration = run.movie.pixel_size_nm, run.movie.frame_interval_s
    if dense:
        names = ("foreground, estimated where not visited", "posterior entropy, 255 = 1 bit")
        planes = (plane for frame in run.dense_labels() for plane in frame)
        write_ome(path, planes, (t, 2, y, x), *calibration, channels=names)
        return
    write_ome(path, (run.labels(i) for i in range(t)), (t, y, x), *calibration)
