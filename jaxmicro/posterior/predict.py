"""From draws of one lane to what is reported: grey units, areas, predictions, pointwise terms."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.posterior.likelihood import (
    Mixture,
    class_log_joint,
    class_scale,
    pixel_log_likelihood,
)
from jaxmicro.posterior.model import Data, Setting
from jaxmicro.posterior.nuts import Draws
from jaxmicro.posterior.start import mixture_of

_DERIVED = ("weights", "means", "sds", "trend", "dof")


@dataclasses.dataclass(frozen=True)
class LanePixels:
    """A lane's pixels in their own order, standardised: saturated ones are among the others."""

    values: Float[Array, "T n"]
    design: Float[Array, "P T n"]
    weight: Float[Array, "T n"]


def in_grey(setting: Setting, draws: Draws, spread: float, centre: float) -> dict[str, np.ndarray]:
    """Parameters in grey levels, each (chain, draw, frame or nothing, class or term)."""
    sites = draws.sites
    chains, n = sites["means"].shape[:2]
    out = {
        "weights": sites.get("weights", np.ones((chains, n, 1))),
        "means": sites["means"] * spread + centre,
        "sds": sites["sds"] * spread,
    }
    if "trend" in sites:
        out["trend"] = sites["trend"] * spread
    if "dof" in sites:
        out["degrees_of_freedom"] = sites["dof"][..., 0]
    if setting.movie:
        if "walk_weights" in sites:
            out["walk_weights"] = sites["walk_weights"]
        if "walk_trend" in sites:
            out["walk_trend"] = sites["walk_trend"] * spread
    else:
        for name in ("weights", "trend"):
            if name in out and out[name].ndim == 3:
                out[name] = out[name][:, :, None, :]
    return out


def thinned(draws: Draws, step: int) -> dict[str, np.ndarray]:
    """Every `step`-th draw of the sites a mixture is built from, chains stacked."""
    return {
        n: np.ascontiguousarray(a[:, ::step]).reshape(-1, *a.shape[2:])
        for n, a in draws.sites.items()
        if n in _DERIVED
    }


@eqx.filter_jit
def _foreground_seen(
    setting: Setting,
    data: Data,
    pixels: tuple[Array, Array, Array],
    draws: dict[str, Array],
    foreground: Float[Array, " K"],
    key: Array,
) -> tuple[Float[Array, "draws T"], Float[Array, "draws T"]]:
    """Foreground pixels among the visited ones, drawn pixel by pixel, and the foreground share."""
    values, design, weight = pixels

    def one(args: tuple[dict[str, Array], Array]) -> tuple[Array, Array]:
        sites, own = args
        mixture = mixture_of(setting, data, sites)
        joint = class_log_joint(data.noise, mixture, values, design)
        top = jnp.max(jnp.stack(joint), axis=0)
        density = [jnp.exp(j - top) for j in joint]
        total = sum(density[1:], density[0])
        front = sum((d * f for d, f in zip(density, foreground, strict=True)), jnp.zeros_like(top))
        hit = jax.random.uniform(own, values.shape, values.dtype) * total < front
        share = jnp.sum(jnp.exp(mixture.log_weights) * foreground[None, :], axis=-1)
        return jnp.sum(weight * hit, axis=-1), share

    n = next(iter(draws.values())).shape[0]
    return jax.lax.map(one, (draws, jax.random.split(key, n)))


def areas(
    key: Array,
    setting: Setting,
    data: Data,
    pixels: LanePixels,
    draws: dict[str, np.ndarray],
    foreground: tuple[int, ...],
    n_domain: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "draws T"]:
    """Foreground pixels of whole frames: the visited ones by their own grey value, the others by
    the class weights, as a draw from the superpopulation the frame is one sample of.
    """
    dtype = pixels.values.dtype
    chosen = np.isin(np.arange(setting.n_classes), foreground)
    key, other = jax.random.split(key)
    seen, share = _foreground_seen(
        setting,
        data,
        (pixels.values, pixels.design, pixels.weight),
        {n: jnp.asarray(a, dtype) for n, a in draws.items()},
        jnp.asarray(chosen, dtype),
        key,
    )
    unseen = np.maximum(np.asarray(n_domain) - np.asarray(pixels.weight).sum(axis=-1), 0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(other)))
    share = np.clip(np.asarray(share, float), 0, 1)
    rest = rng.binomial(np.round(unseen).astype(np.int64)[None, :], share)
    return np.asarray(seen, float) + rest


@eqx.filter_jit
def _pointwise(setting: Setting, data: Data, pixels: tuple[Array, Array], draws) -> Array:
    values, design = pixels

    def one(sites: dict[str, Array]) -> Array:
        return pixel_log_likelihood(data.noise, mixture_of(setting, data, sites), values, design)

    return jax.lax.map(one, draws)


def pointwise(
    setting: Setting, data: Data, pixels: LanePixels, draws: dict[str, np.ndarray], spread: float
) -> Float[np.ndarray, "draws T n"]:
    """Log-likelihood of every pixel in nats, as a density per grey level."""
    dtype = pixels.values.dtype
    every = _pointwise(
        setting,
        data,
        (pixels.values, pixels.design),
        {n: jnp.asarray(a, dtype) for n, a in draws.items()},
    )
    out = np.asarray(every) - np.log(spread)
    if data.noise.saturation is not None:  # a probability, not a density: no change of units
        out = out + np.log(spread) * np.asarray(pixels.values >= data.noise.saturation)
    return out


@eqx.filter_jit
def _replicate(setting: Setting, data: Data, pixels, draws, edges: Array, key: Array) -> Array:
    """Histograms (draw, frame, bin) of pixels drawn anew at the places that were visited."""
    design, weight = pixels

    def one(args: tuple[dict[str, Array], Array]) -> Array:
        sites, own = args
        mixture = mixture_of(setting, data, sites)
        values = simulate(own, data, mixture, design)
        place = jnp.searchsorted(edges, values, side="right") - 1
        place = jnp.clip(place, 0, edges.shape[0] - 2)
        # One-hot sums in chunks would cost bins times pixels: scatter instead.
        empty = jnp.zeros((values.shape[0], edges.shape[0] - 1), values.dtype)
        frame = jnp.broadcast_to(jnp.arange(values.shape[0])[:, None], values.shape)
        return empty.at[frame, place].add(weight)

    n = next(iter(draws.values())).shape[0]
    return jax.lax.map(one, (draws, jax.random.split(key, n)))


def simulate(
    key: Array, data: Data, mixture: Mixture, design: Float[Array, "P T n"]
) -> Float[Array, "T n"]:
    """Draw standardised grey values from the model at the pixels of `design`."""
    n_frames, n = design.shape[1:]
    dtype = mixture.means.dtype
    pick, noise, tails = jax.random.split(key, 3)
    share = jnp.cumsum(jnp.exp(mixture.log_weights), axis=-1)
    u = jax.random.uniform(pick, (n_frames, n), dtype)
    label = jnp.zeros((n_frames, n), jnp.int32)
    for k in range(mixture.means.shape[-1] - 1):
        label = label + (u > share[:, k, None])
    slope = jnp.zeros((n_frames, n), dtype)
    for j in range(design.shape[0]):
        slope = slope + mixture.trend[:, j, None] * design[j]
    mean = jnp.take_along_axis(mixture.means, label, axis=1) + slope
    scale = class_scale(data.noise, mean, jnp.take_along_axis(mixture.sds, label, axis=1))
    unit = jax.random.normal(noise, (n_frames, n), dtype)
    if data.noise.likelihood == "student-t":
        half = jnp.broadcast_to(mixture.dof / 2, (n_frames, n))
        unit = unit / jnp.sqrt(jax.random.gamma(tails, half, dtype=dtype) / half)
    values = mean + scale * unit
    if data.noise.saturation is not None:
        values = jnp.minimum(values, data.noise.saturation)
    return values


def predictive_histogram(
    key: Array,
    setting: Setting,
    data: Data,
    pixels: LanePixels,
    draws: dict[str, np.ndarray],
    edges: Float[np.ndarray, " bins1"],
) -> Int[np.ndarray, "draws T bins"]:
    """Counts per grey bin that the model predicts for the visited pixels; `edges` standardised."""
    dtype = pixels.values.dtype
    counts = _replicate(
        setting,
        data,
        (pixels.design, pixels.weight),
        {n: jnp.asarray(a, dtype) for n, a in draws.items()},
        jnp.asarray(edges, dtype),
        key,
    )
    return np.round(np.asarray(counts)).astype(np.int32)
