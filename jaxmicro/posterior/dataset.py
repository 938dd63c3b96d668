"""From the arrays of all batch items to the Datasets of a `Posterior`, with names and units."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Shaped

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.ecm import Fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.posterior.likelihood import Noise
from jaxmicro.posterior.model import Priors
from jaxmicro.posterior.result import Posterior
from jaxmicro.posterior.sampler import Sampler
from jaxmicro.posterior.scaling import Scaling
from jaxmicro.posterior.sites import REPORTED
from jaxmicro.spacetime.neighbour_proportions import Neighbours

# What is reported beside the parameters: dimensions after (chain, draw), and units.
_OTHERS: dict[str, tuple[tuple[str, ...], str]] = {
    "area_px": (("frame",), "pixels"),
    "histogram": (("frame", "grey"), "visited pixels per bin"),
    "values": (("frame", "pixel"), "nats, density per grey level"),
}
_COLUMNS = _OTHERS | {name: (site.dims, site.units) for name, site in REPORTED.items()}
_STATS = "sample_stats"

Groups = dict[str, dict[str, Shaped[np.ndarray, "..."]]]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All that a posterior is drawn from; `noise` with a `grey_step`, `edges` of histograms,
    `neighbours` for local proportions.
    """

    model: GMRM
    pixels: Pixels
    start: Fit
    priors: Priors
    noise: Noise
    sampler: Sampler
    edges: Float[np.ndarray, " bins1"]
    neighbours: Neighbours | None = None

    @property
    def movie(self) -> bool:
        """One batch item for the whole movie, or one for each frame."""
        return bool(self.model.share)

    @property
    def items(self) -> list[tuple[int, int]]:
        """First frame of each batch item, and the one after its last."""
        n_frames = self.pixels.n_frames
        return [(0, n_frames)] if self.movie else [(t, t + 1) for t in range(n_frames)]


@dataclasses.dataclass(frozen=True)
class ItemDraws:
    """What was drawn of one batch item.

    Attributes:
      groups: {group: {name: array (chain, draw, ...)}}, in grey levels.
      loss: of "svi", by step.
      scaling: between grey levels and standardised values.
      complete: False where sampling was interrupted.
    """

    groups: Groups
    loss: Float[np.ndarray, " steps"] | None
    scaling: Scaling
    complete: bool


def assemble(inputs: Inputs, items: list[ItemDraws], complete: bool) -> Posterior:
    """Join the batch items on a frame axis, and add names, coordinates and units."""
    joined = items[0].groups if inputs.movie else _join_frames([item.groups for item in items])
    n_frames = inputs.pixels.n_frames if inputs.movie else len(items)
    attrs = _attributes(inputs, items, complete)
    coords = _coordinates(inputs, n_frames)
    kept = {g: _every(inputs, joined, g) for g in joined}
    out = {
        group: _dataset(group, arrays, inputs.movie, {**kept[group], **coords}, attrs)
        for group, arrays in joined.items()
    }
    out["observed_data"] = _observed(inputs.pixels, n_frames, inputs.edges, coords, attrs)
    out["constant_data"] = _places(inputs.pixels, n_frames, attrs)
    losses = [item.loss for item in items if item.loss is not None]
    if losses:
        flat = np.stack(losses, axis=-1).ravel()
        out["optimisation"] = xr.Dataset({"loss": (("step",), flat)}, attrs=attrs)
    return Posterior(out, inputs.sampler.method, complete, inputs.start)


def _join_frames(items: list[Groups]) -> Groups:
    """Frames on their own, joined on the axis after (chain, draw)."""

    def join(group: str, name: str) -> np.ndarray:
        arrays = [item[group][name] for item in items]
        if group != _STATS and "frame" in _COLUMNS[name][0]:
            return np.concatenate(arrays, axis=2)
        return np.stack(arrays, axis=2)

    return {g: {n: join(g, n) for n in arrays} for g, arrays in items[0].items()}


def _attributes(inputs: Inputs, items: list[ItemDraws], complete: bool) -> dict[str, Any]:
    return {
        "inference_library": "jaxmicro, numpyro",
        "method": inputs.sampler.method,
        "family": inputs.model.family.name,
        "complete": int(complete),
        "classes": inputs.model.n_classes,
        "trend": inputs.model.trend.formula,
        "share": ", ".join(inputs.model.share),
        "proportions": "global" if inputs.neighbours is None else "local",
        "foreground": ", ".join(map(str, inputs.sampler.foreground)),
        "scaling_centre": [item.scaling.centre for item in items],
        "scaling_scale": [item.scaling.scale for item in items],
    }


def _coordinates(inputs: Inputs, n_frames: int) -> dict[str, Any]:
    middle = (inputs.edges[:-1] + inputs.edges[1:]) / 2
    return {
        "frame": np.arange(n_frames),
        "class": np.arange(inputs.model.n_classes),
        "term": list(inputs.model.trend.terms),
        "grey": ("grey", middle, {"units": "grey level"}),
        "pixel": np.arange(inputs.pixels.values.shape[-1]),
    }


def _every(inputs: Inputs, joined: Groups, group: str) -> dict[str, Any]:
    """Coordinates chain and draw of a group, of which some hold each n-th draw only."""
    n_draws = joined["posterior"]["means"].shape[1]
    chains, kept = next(iter(joined[group].values())).shape[:2]
    step = max(1, n_draws // kept)
    if group == "log_likelihood":
        step = inputs.sampler.log_likelihood_every or 1
    return {"chain": np.arange(chains), "draw": np.arange(kept) * step}


def _dataset(
    group: str,
    arrays: dict[str, np.ndarray],
    movie: bool,
    coords: dict[str, Any],
    attrs: dict[str, Any],
) -> xr.Dataset:
    variables = {}
    for name, array in arrays.items():
        dims, units = ((), "") if group == _STATS else _COLUMNS[name]
        if not movie and "frame" not in dims:
            dims = ("frame", *dims)
        described = {"units": units} if units else {}
        variables[name] = (("chain", "draw", *dims), array, described)
    used = {d for dims, _, _ in variables.values() for d in dims}
    return xr.Dataset(variables, {n: c for n, c in coords.items() if n in used}, attrs)


def _observed(
    pixels: Pixels,
    n_frames: int,
    edges: np.ndarray,
    coords: dict[str, Any],
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Grey values of the visited pixels, and their histogram."""
    values = np.asarray(pixels.values)[:n_frames]
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)[:n_frames]
    counts = np.stack(
        [np.histogram(z[w > 0], edges)[0] for z, w in zip(values, weight, strict=True)]
    )
    seen = np.where(weight > 0, values, np.nan)
    return xr.Dataset(
        {
            "values": (("frame", "pixel"), seen, {"units": "grey level"}),
            "histogram": (("frame", "grey"), counts, {"units": _COLUMNS["histogram"][1]}),
        },
        {n: coords[n] for n in ("frame", "pixel", "grey")},
        attrs,
    )


def _places(pixels: Pixels, n_frames: int, attrs: dict[str, Any]) -> xr.Dataset:
    """Where the visited pixels are, and how many pixels each frame has."""
    shape = (pixels.n_frames, pixels.values.shape[-1])

    def column(values: Any, unit: str) -> tuple[tuple[str, str], np.ndarray, dict[str, str]]:
        full = np.broadcast_to(np.asarray(values), shape)[:n_frames]
        return ("frame", "pixel"), full, {"units": unit}

    return xr.Dataset(
        {
            "row": column(pixels.rows, "pixels"),
            "column": column(pixels.cols, "pixels"),
            "weight": column(pixels.weight, "1"),
            "n_domain": (
                ("frame",),
                np.asarray(pixels.n_domain)[:n_frames],
                {"units": "pixels"},
            ),
        },
        attrs=attrs,
    )
