"""The result of sampling: groups in ArviZ's InferenceData layout, diagnostics, posterior.nc."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from jaxmicro.errors import UsageError
from jaxmicro.mixture.ecm import Fit
from jaxmicro.posterior.diagnostics import Diagnostics, diagnose, import_arviz


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws of a movie's parameters, and what ArviZ needs beside them.

    Attributes:
      groups: `posterior`, `sample_stats`, `posterior_predictive`, `observed_data`,
        `constant_data`, on request `log_likelihood` and `growth` (areas), and `optimisation` of
        "svi", as Datasets with units.
      method: "nuts", "svi" or "laplace".
      complete: False where sampling was interrupted.
      start: the fit that the chains started from.
    """

    groups: dict[str, xr.Dataset]
    method: str
    complete: bool
    start: Fit

    def __getitem__(self, group: str) -> xr.Dataset:
        return self.groups[group]

    def diagnose(self) -> Diagnostics:
        """r-hat, bulk and tail effective sample sizes, divergences and E-BFMI of NUTS; the
        overlap with the posterior of "laplace".
        """
        stats = self.groups.get("sample_stats", xr.Dataset())
        return diagnose(self.groups["posterior"], stats, self.method, self.complete)

    def save(self, path: str | pathlib.Path) -> None:
        """Write posterior.nc (netCDF4), which `arviz.from_netcdf` reads."""
        path = pathlib.Path(path)
        new = path.with_name(f".{path.name}.new")  # a reader may hold the old file open
        for i, (name, data) in enumerate(self.groups.items()):
            data.to_netcdf(new, mode="a" if i else "w", group=name, engine="h5netcdf")
        new.replace(path)

    def to_inferencedata(self) -> Any:
        """The draws for ArviZ: its InferenceData or, from ArviZ 1 on, the DataTree it works on."""
        az = import_arviz()
        if int(az.__version__.partition(".")[0]) < 1:
            return az.InferenceData(**self.groups)
        return xr.DataTree.from_dict(self.groups)

    def __repr__(self) -> str:
        sizes = self.groups["posterior"].sizes
        state = "" if self.complete else ", interrupted"
        return (
            f"Posterior({sizes['chain']} x {sizes['draw']} draws by {self.method}{state}; groups "
            f"{', '.join(self.groups)}; to_inferencedata() for ArviZ)"
        )

    def area_interval(
        self, probability: float = 0.8
    ) -> tuple[Float[np.ndarray, " frame"], Float[np.ndarray, " frame"]]:
        """Lower and upper bound of the central posterior interval of each frame's area, pixels.

        Raises:
          UsageError: no foreground was asked for, or a probability outside (0, 1).
        """
        if "growth" not in self.groups:
            raise UsageError("no areas were drawn; name the foreground classes")
        if not 0 < probability < 1:
            raise UsageError(
                f"probability {probability} is not allowed; use a number between 0 and 1"
            )
        area = self.groups["growth"]["area_px"].values
        flat = area.reshape(-1, area.shape[-1])
        bounds = [(1 - probability) / 2, (1 + probability) / 2]
        low, high = np.quantile(flat, bounds, axis=0)
        return low, high

    def with_calibration(
        self,
        pixel_area_um2: float | None,
        thickness_um: float | None,
        times_s: Float[np.ndarray, " frame"] | None,
    ) -> Posterior:
        """The same with areas in um2, volumes in um3 and frame times where they are known."""
        groups = dict(self.groups)
        if "growth" in groups and pixel_area_um2 is not None:
            area = groups["growth"]["area_px"] * pixel_area_um2
            grown = groups["growth"].assign(area_um2=area.assign_attrs(units="um2"))
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
