"""Standardised grey values: from the pixels of a batch item to the `Problem` of its posterior."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import Item, padded
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.posterior.likelihood import Noise
from jaxmicro.posterior.model import Priors, Problem
from jaxmicro.spacetime.neighbour_proportions import Neighbours

_LEAST_SCALE = 1e-6  # grey levels: constant pixels are standardised too


class Scaling(NamedTuple):
    """Standardised grey values are (z - centre) / scale; both in grey levels."""

    centre: float
    scale: float


def scaling_of(pixels: Pixels, grey_step: float) -> Scaling:
    """The scaling in which the range of 99 % of the visited pixels is -2 to 2."""
    low, high = np.quantile(_visited(pixels), [0.005, 0.995])
    scale = float(max((high - low) / 4, grey_step, _LEAST_SCALE))
    return Scaling(float(low + high) / 2, scale)


def _weight(pixels: Pixels) -> Float[np.ndarray, "T n"]:
    return np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)


def _visited(pixels: Pixels) -> Float[np.ndarray, " m"]:
    """Grey values of all visited pixels."""
    return np.asarray(pixels.values, float)[_weight(pixels) > 0]


def standardised(model: GMRM, pixels: Pixels, scaling: Scaling) -> Item:
    """Pixels (T frames, n), their trend terms and weights; 0 where the weight is 0."""
    weight, dtype = _weight(pixels), pixels.values.dtype
    n_frames, n = weight.shape
    grey = np.asarray(pixels.values, float)
    values = np.where(weight > 0, (grey - scaling.centre) / scaling.scale, 0)
    design = np.asarray(model.design(pixels))
    if design.ndim == 2:  # all frames were visited at the same places
        design = design[:, None]
    design = np.broadcast_to(design, (design.shape[0], n_frames, n))
    return Item(jnp.asarray(values, dtype), jnp.asarray(design, dtype), jnp.asarray(weight, dtype))


def problem_of(
    model: GMRM,
    pixels: Pixels,
    noise: Noise,
    priors: Priors,
    neighbours: Neighbours | None = None,
) -> tuple[Problem, Item, Scaling]:
    """The problem of one batch item.

    Args:
      model: nothing shared, or means and sds shared.
      pixels: batch axis (frames,).
      noise: with a `grey_step`.
      neighbours: for local proportions.

    Returns:
      The problem, without `baseline` and `walks`; all pixels of the item, saturated ones included,
      in their order and without padding; and the scaling.
    """
    step = noise.grey_step or 0.0
    scaling = Scaling(*priors.scaling) if priors.scaling else scaling_of(pixels, step)
    every = standardised(model, pixels, scaling)
    if neighbours is not None:
        every = _beside(every, neighbours)
    dtype, used, saturated = every.values.dtype, every, None
    if noise.saturation is not None:
        noise = dataclasses.replace(noise, saturation=noise.saturation - step / 2)  # 255: >= 254.5
        bright = (_weight(pixels) > 0) & (np.asarray(pixels.values, float) >= noise.saturation)
        weight = np.where(bright, 0, _weight(pixels))
        used = Item(every.values, every.design, jnp.asarray(weight, dtype))
        saturated = _gathered(every, bright)
    problem = Problem(
        n_classes=model.n_classes,
        n_terms=model.trend.n_terms,
        movie=bool(model.share),
        priors=priors,
        pixels=padded(used),
        saturated=saturated,
        noise=noise.standardised(model.family, *scaling, dtype),
        baseline=jnp.zeros(pixels.n_frames, dtype),
        grey_step=jnp.asarray(step / scaling.scale, dtype),
        reference=jnp.asarray(0),
        strength=None if neighbours is None else neighbours.coupling.strength.astype(dtype),
    )
    return problem, every, scaling


def _beside(pixels: Item, neighbours: Neighbours) -> Item:
    """The pixels with `known` and log m in the rows of their design after the trend."""
    more = [neighbours.known[None], jnp.moveaxis(neighbours.log_proportions, 1, 0)]
    rows = [pixels.design, *(jnp.where(pixels.weight[None] > 0, a, 0) for a in more)]
    dtype = pixels.values.dtype
    return Item(pixels.values, jnp.concatenate([a.astype(dtype) for a in rows]), pixels.weight)


def _gathered(pixels: Item, chosen: Bool[np.ndarray, "T n"]) -> Item | None:
    """The chosen pixels of every frame, padded to a power of two so that programs are reused."""
    most = int(chosen.sum(axis=1).max())
    if not most:
        return None
    width = max(8, 1 << (most - 1).bit_length())
    values, design = np.asarray(pixels.values), np.asarray(pixels.design)
    n_frames = chosen.shape[0]
    z = np.full((n_frames, width), values[chosen].max())
    f = np.zeros((design.shape[0], n_frames, width))
    w = np.zeros((n_frames, width))
    for t in range(n_frames):
        at = np.flatnonzero(chosen[t])
        z[t, : at.size], w[t, : at.size] = values[t, at], 1
        f[:, t, : at.size] = design[:, t, at]

    def array(a: np.ndarray) -> Any:
        return jnp.asarray(a, pixels.values.dtype)

    return Item(array(z), array(f), array(w))


def histogram_edges(
    pixels: Pixels, grey_step: float, most_bins: int = 64
) -> Float[np.ndarray, " bins1"]:
    """Edges in grey levels of a histogram of the visited pixels, halfway between grey levels."""
    used = _visited(pixels)
    low, high = float(used.min()), float(used.max())
    if grey_step > 0:
        width = max(1, int(np.ceil(((high - low) / grey_step + 1) / most_bins))) * grey_step
        count = int(np.ceil((high - low + grey_step) / width))
        return low - grey_step / 2 + width * np.arange(count + 1)
    return np.linspace(low, max(high, low + 1e-6), most_bins + 1)
