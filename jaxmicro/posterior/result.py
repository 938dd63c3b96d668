"""The result of sampling: xarray groups in the InferenceData layout, diagnostics, posterior.nc."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from typing import Any

import numpy as np
import xarray as xr

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.ecm import Fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.posterior.likelihood import Noise
from jaxmicro.posterior.model import Setting
from jaxmicro.posterior.nuts import Sampler

R_HAT_LIMIT = 1.01
BFMI_LIMIT = 0.3
OVERLAP_LIMIT = 0.1  # effective share of importance draws under which a normal is a poor stand-in

_DIMS = {
    "weights": ("frame", "class"),
    "means": ("class",),
    "sds": ("class",),
    "trend": ("frame", "term"),
    "walk_weights": ("odds",),
    "walk_trend": ("term",),
    "degrees_of_freedom": (),
    "area_px": ("frame",),
    "area_um2": ("frame",),
    "volume_um3": ("frame",),
    "histogram": ("frame", "grey"),
    "values": ("frame", "pixel"),
}
_UNITS = {
    "weights": "1",
    "means": "grey level",
    "sds": "grey level",
    "trend": "grey level per unit of the scaled coordinate (-1 to 1 over the frame)",
    "walk_weights": "sd of a frame's step in log odds",
    "walk_trend": "sd of a frame's step, grey level per unit of the scaled coordinate",
    "degrees_of_freedom": "1",
    "area_px": "pixels",
    "area_um2": "um2",
    "volume_um3": "um3",
    "histogram": "visited pixels per bin",
    "values": "nats, density per grey level",
}


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Whether the draws can be trusted, and which parameters say not.

    `table` has r_hat, ess_bulk and ess_tail per parameter (NUTS only); `bad` names parameters
    with r_hat above 1.01.
    """

    table: dict[str, tuple[float, float, float]]
    divergences: int
    bfmi: tuple[float, ...]
    overlap: float | None
    bad: tuple[str, ...]
    complete: bool

    @property
    def trusted(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for the top of the report; empty if all is well."""
        out = []
        if not self.complete:
            out.append("sampling was interrupted: what had been drawn is kept, incomplete")
        if self.bad:
            worst = max(self.bad, key=lambda n: self.table[n][0])
            some = ", ".join(self.bad[:12]) + (" ..." if len(self.bad) > 12 else "")
            out.append(
                f"chains disagree: r-hat is above {R_HAT_LIMIT} for {some} (worst {worst}, "
                f"{self.table[worst][0]:.3f}); do not use these figures: draw more, raise the "
                "warm-up, or use fewer classes"
            )
        if self.divergences:
            out.append(
                f"{self.divergences} divergent transitions remain, so parts of the posterior may "
                "be missed; raise target_accept towards 0.99 or use fewer classes"
            )
        low = [i for i, b in enumerate(self.bfmi) if b < BFMI_LIMIT]
        if low:
            out.append(f"E-BFMI is below {BFMI_LIMIT} in chain(s) {low}: energies mix slowly")
        if self.overlap is not None and self.overlap < OVERLAP_LIMIT:
            out.append(
                f"the normal approximation holds {100 * self.overlap:.2g} % of the posterior's "
                "effective draws; use method = 'nuts'"
            )
        return tuple(out)


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws of a movie's parameters with all that ArviZ wants to know.

    Attributes:
      groups: `posterior`, `sample_stats`, `posterior_predictive`, `observed_data`,
        `constant_data`, and on request `log_likelihood` and `growth` (areas), as Datasets.
      method: "nuts", "svi" or "laplace".
      complete: False where sampling was interrupted.
      start: the fit that chains started from.
    """

    groups: dict[str, xr.Dataset]
    method: str
    complete: bool
    start: Fit

    def __getitem__(self, group: str) -> xr.Dataset:
        return self.groups[group]

    def diagnose(self) -> Diagnostics:
        """r-hat, bulk and tail effective sample sizes, divergences, E-BFMI."""
        import arviz as az

        stats = self.groups.get("sample_stats", xr.Dataset())
        if self.method != "nuts":
            overlap = None
            if "log_ratio" in stats:
                ratio = stats["log_ratio"].values
                lane = ratio.reshape(-1, *ratio.shape[2:])
                w = np.exp(lane - lane.max(axis=0))
                overlap = float(np.min(w.sum(axis=0) ** 2 / (w**2).sum(axis=0) / len(lane)))
            return Diagnostics({}, 0, (), overlap, (), self.complete)
        draws = self.groups["posterior"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constants (a single class's weight) divide 0 by 0
            tables = [az.rhat(draws), az.ess(draws, method="bulk"), az.ess(draws, method="tail")]
        table: dict[str, tuple[float, float, float]] = {}
        for name in draws.data_vars:
            for at in np.ndindex(*tables[0][name].shape):
                label = f"{name}[{', '.join(map(str, at))}]" if at else str(name)
                r, bulk, tail = (float(t[name].values[at]) for t in tables)
                if np.isfinite(r):
                    table[label] = (r, bulk, tail)
        energy = stats["energy"].values
        moves = np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)
        bfmi = moves.reshape(moves.shape[0], -1).min(axis=1)
        bad = tuple(n for n, (r, _, _) in table.items() if r > R_HAT_LIMIT)
        return Diagnostics(
            table,
            int(stats["diverging"].values.sum()),
            tuple(float(b) for b in bfmi),
            None,
            bad,
            self.complete,
        )

    def save(self, path: str | pathlib.Path) -> None:
        """Write posterior.nc (netCDF4), which `arviz.from_netcdf` reads."""
        path = pathlib.Path(path)
        new = path.with_name(f".{path.name}.new")  # a reader may hold the old file open
        for i, (name, data) in enumerate(self.groups.items()):
            data.to_netcdf(new, mode="a" if i else "w", group=name, engine="h5netcdf")
        new.replace(path)

    def area_interval(self, level: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bound (frames,) of the central posterior interval of the area, pixels.

        Raises:
          UsageError: no foreground was asked for, or a level outside (0, 1).
        """
        if "growth" not in self.groups:
            raise UsageError("no areas were drawn; name the foreground classes")
        if not 0 < level < 1:
            raise UsageError(f"level {level} is not allowed; use a number between 0 and 1")
        area = self.groups["growth"]["area_px"].values
        flat = area.reshape(-1, area.shape[-1])
        low, high = np.quantile(flat, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def with_calibration(
        self,
        pixel_area_um2: float | None,
        thickness_um: float | None,
        times_s: np.ndarray | None,
    ) -> Posterior:
        """The same with areas in um2, volumes in um3 and frame times where they are known."""
        groups = dict(self.groups)
        if "growth" in groups and pixel_area_um2 is not None:
            grown = groups["growth"]
            area = grown["area_px"] * pixel_area_um2
            grown = grown.assign(area_um2=area.assign_attrs(units="um2"))
            if thickness_um is not None:
                volume = (area * thickness_um).assign_attrs(units="um3")
                grown = grown.assign(volume_um3=volume)
            groups["growth"] = grown
        if times_s is not None:
            for name, data in groups.items():
                if "frame" in data.dims:
                    time = np.asarray(times_s, float)[data["frame"].values]
                    groups[name] = data.assign_coords(time_s=("frame", time, {"units": "s"}))
        return dataclasses.replace(self, groups=groups)


def collected(
    parts: list[dict[str, np.ndarray]],
    model: GMRM,
    setting: Setting,
    sampler: Sampler,
    noise: Noise,
    pixels: Pixels,
    scalings: list[tuple[float, float]],
    edges: np.ndarray,
    foreground: tuple[int, ...],
    complete: bool,
    start: Fit,
    log_likelihood_every: int | None,
) -> Posterior:
    """Join the lanes' arrays on a frame axis and dress them with names, coordinates and units."""
    joined = parts[0] if setting.movie else _side_by_side(parts)
    n_frames = pixels.n_frames if setting.movie else len(parts)
    n_draws = joined["posterior/means"].shape[1]
    attrs: dict[str, Any] = {
        "inference_library": "jaxmicro, numpyro",
        "method": sampler.method,
        "likelihood": noise.likelihood,
        "complete": int(complete),
        "classes": model.n_classes,
        "trend": model.trend.formula,
        "share": ", ".join(model.share),
        "foreground": ", ".join(map(str, foreground)),
        "scaling_centre": [c for c, _ in scalings],
        "scaling_spread": [s for _, s in scalings],
    }
    middle = (edges[:-1] + edges[1:]) / 2
    coords: dict[str, Any] = {
        "frame": np.arange(n_frames),
        "class": np.arange(model.n_classes),
        "term": list(model.trend.terms),
        "grey": ("grey", middle, {"units": "grey level"}),
        "pixel": np.arange(pixels.values.shape[-1]),
    }
    groups: dict[str, dict[str, Any]] = {}
    for key, array in joined.items():
        if "/" in key:
            group, name = key.split("/")
            groups.setdefault(group, {})[name] = array
    out: dict[str, xr.Dataset] = {}
    for group, arrays in groups.items():
        variables = {}
        for name, array in arrays.items():
            per_frame = not setting.movie and name in ("means", "sds", "degrees_of_freedom")
            dims = (("frame",) if per_frame else ()) + _DIMS.get(name, ())
            if group == "sample_stats":
                dims = () if setting.movie else ("frame",)
            units = {"units": _UNITS[name]} if name in _UNITS and group != "sample_stats" else {}
            variables[name] = (("chain", "draw", *dims), array, units)
        chains, kept = next(iter(arrays.values())).shape[:2]
        step = max(1, n_draws // kept)
        every = np.arange(kept) * (step if group != "log_likelihood" else log_likelihood_every or 1)
        used = {d for dims, _, _ in variables.values() for d in dims}
        own = {n: c for n, c in coords.items() if n in used}
        out[group] = xr.Dataset(
            variables, {"chain": np.arange(chains), "draw": every, **own}, attrs
        )
    out["observed_data"] = _observed(pixels, n_frames, edges, coords, attrs)
    out["constant_data"] = _places(pixels, n_frames, attrs)
    if "trace" in joined:
        out["optimisation"] = xr.Dataset(
            {"loss": (("step",), joined["trace"].ravel())}, attrs=attrs
        )
    return Posterior(out, sampler.method, complete, start)


def _side_by_side(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Frames sampled on their own, joined on the axis after (chain, draw)."""
    out = {}
    for name in parts[0]:
        arrays = [p[name] for p in parts]
        has_frame = name.split("/")[-1] in ("weights", "trend", "area_px", "histogram", "values")
        if name == "trace":
            out[name] = np.stack(arrays, axis=-1)
        elif has_frame:
            out[name] = np.concatenate(arrays, axis=2)
        else:
            out[name] = np.stack(arrays, axis=2)
    return out


def _observed(pixels: Pixels, n_frames: int, edges, coords, attrs) -> xr.Dataset:
    values = np.asarray(pixels.values)[:n_frames]
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)[:n_frames]
    counts = np.stack(
        [np.histogram(z[w > 0], edges)[0] for z, w in zip(values, weight, strict=True)]
    )
    return xr.Dataset(
        {
            "values": (
                ("frame", "pixel"),
                np.where(weight > 0, values, np.nan),
                {"units": "grey level"},
            ),
            "histogram": (("frame", "grey"), counts, {"units": "visited pixels per bin"}),
        },
        {n: coords[n] for n in ("frame", "pixel", "grey")},
        attrs,
    )


def _places(pixels: Pixels, n_frames: int, attrs) -> xr.Dataset:
    shape = (pixels.n_frames, pixels.values.shape[-1])
    variables: dict[str, Any] = {
        name: (
            ("frame", "pixel"),
            np.broadcast_to(np.asarray(a), shape)[:n_frames],
            {"units": unit},
        )
        for name, a, unit in (
            ("row", pixels.rows, "pixels"),
            ("column", pixels.cols, "pixels"),
            ("weight", pixels.weight, "1"),
        )
    }
    variables["n_domain"] = (
        ("frame",),
        np.asarray(pixels.n_domain)[:n_frames],
        {"units": "pixels"},
    )
    return xr.Dataset(variables, attrs=attrs)
