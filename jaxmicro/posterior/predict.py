"""From draws of the parameters to grey units, areas, predicted histograms and pixel likelihoods.

The draws here are standardised site values with chains stacked: arrays (draws, ...).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import design_effect
from jaxmicro.mixture.batch import Item
from jaxmicro.posterior.density import mixture_at
from jaxmicro.posterior.likelihood import (
    ClassNoise,
    Mixture,
    class_log_joint,
    log_proportions,
    pixel_log_likelihood,
    trend_at,
)
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.sampler import Draws
from jaxmicro.posterior.scaling import Scaling
from jaxmicro.posterior.sites import BY_NAME, REPORTED, Site

Stacked = dict[str, Float[np.ndarray, "draws ..."]]


def in_grey(
    problem: Problem, draws: Draws, scaling: Scaling
) -> dict[str, Float[np.ndarray, "chain draw ..."]]:
    """The reported parameters in grey levels, by name, dimensions as in `sites.SITES`."""
    sites = dict(draws.sites)
    if problem.n_classes == 1 and "weights" not in sites:
        sites["weights"] = np.ones((*sites["means"].shape[:2], 1))
    return {
        name: _reported(site, sites[site.name], scaling, problem.movie)
        for name, site in REPORTED.items()
        if site.name in sites
    }


def _reported(site: Site, values: np.ndarray, scaling: Scaling, movie: bool) -> np.ndarray:
    if site.grey == "value":
        values = values * scaling.scale + scaling.centre
    elif site.grey == "difference":
        values = values * scaling.scale
    if not site.dims:
        return values[..., site.column]
    alone = "frame" in site.dims and not movie
    return values[:, :, None] if alone else values


def thinned(draws: Draws, every: int) -> Stacked:
    """Each `every`-th draw of the sites that `mixture_at` needs, chains stacked."""
    return {
        n: np.ascontiguousarray(a[:, ::every]).reshape(-1, *a.shape[2:])
        for n, a in draws.sites.items()
        if BY_NAME[n].in_mixture
    }


def _on_device(draws: Stacked, pixels: Item) -> dict[str, Array]:
    return {n: jnp.asarray(a, pixels.values.dtype) for n, a in draws.items()}


def _with_keys(draws: dict[str, Array], key: Array) -> tuple[dict[str, Array], Array]:
    n = next(iter(draws.values())).shape[0]
    return draws, jax.random.split(key, n)


@eqx.filter_jit
def _foreground(
    problem: Problem,
    pixels: Item,
    draws: dict[str, Array],
    chosen: Float[Array, " K"],
    key: Array,
) -> tuple[Float[Array, "draws T"], Float[Array, "draws T"]]:
    """Foreground pixels among the visited ones, and the foreground's share of the weights."""

    def one(args: tuple[dict[str, Array], Array]) -> tuple[Array, Array]:
        sites, own = args
        mixture = mixture_at(problem, sites)
        joint = class_log_joint(problem.noise, mixture, pixels.values, pixels.design)
        top = jnp.max(jnp.stack(joint), axis=0)
        density = [jnp.exp(j - top) for j in joint]
        total = sum(density[1:], density[0])
        front = sum((d * f for d, f in zip(density, chosen, strict=True)), jnp.zeros_like(top))
        u = jax.random.uniform(own, pixels.values.shape, pixels.values.dtype)
        share = jnp.sum(jnp.exp(mixture.log_weights) * chosen[None, :], axis=-1)
        return jnp.sum(pixels.weight * (u * total < front), axis=-1), share

    return jax.lax.map(one, _with_keys(draws, key))


def areas(
    key: Array,
    problem: Problem,
    pixels: Item,
    draws: Stacked,
    foreground: tuple[int, ...],
    n_domain: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "draws T"]:
    """Foreground pixels of whole frames, one draw for each draw of the parameters.

    The class of a visited pixel is drawn given its grey value. The number of foreground pixels
    among the others is binomial with the class weights (the frame is a sample from a
    superpopulation). `n_domain`: pixels of each frame, visited or not.
    """
    chosen = np.isin(np.arange(problem.n_classes), foreground)
    key, other = jax.random.split(key)
    seen, share = _foreground(
        problem,
        pixels,
        _on_device(draws, pixels),
        jnp.asarray(chosen, pixels.values.dtype),
        key,
    )
    unseen = np.maximum(np.asarray(n_domain) - np.asarray(pixels.weight).sum(axis=-1), 0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(other)))
    share = np.clip(np.asarray(share, float), 0, 1)
    rest = rng.binomial(np.round(unseen).astype(np.int64)[None, :], share)
    return np.asarray(seen, float) + rest


@eqx.filter_jit
def _local_foreground(
    problem: Problem,
    pixels: Item,
    draws: dict[str, Array],
    chosen: Float[Array, " K"],
) -> tuple[Float[Array, "draws T"], Float[Array, "T n"]]:
    """Expected foreground pixels among the visited ones, and the mean of each pixel's chance."""

    def one(total: Array, sites: dict[str, Array]) -> tuple[Array, Array]:
        mixture = mixture_at(problem, sites)
        joint = class_log_joint(problem.noise, mixture, pixels.values, pixels.design)
        chance = jnp.tensordot(chosen, jax.nn.softmax(jnp.stack(joint), axis=0), axes=1)
        return total + chance, jnp.sum(pixels.weight * chance, axis=-1)

    total, seen = jax.lax.scan(one, jnp.zeros_like(pixels.values), draws)
    return seen, total / seen.shape[0]


def local_areas(
    key: Array,
    problem: Problem,
    pixels: Item,
    draws: Stacked,
    foreground: tuple[int, ...],
    visited: Pixels,
    covariance: Float[np.ndarray, "T K K"],
) -> Float[np.ndarray, "draws T"]:
    """Foreground pixels of whole frames where proportions are local, one for each draw.

    The number among the visited pixels is drawn about what a draw's parameters expect, with the
    `covariance` of the class counts: labels of neighbours go together. The other pixels have
    no proportions of their own: their share of foreground has the beta distribution of a share of
    which y of n pixels were seen (Jeffreys' prior). Its variance and the binomial one of their
    number add up to that of simple random sampling without replacement; for the other patterns y
    and n are divided by the design effect.
    """
    chosen = np.isin(np.arange(problem.n_classes), foreground)
    every, dtype = _on_device(draws, pixels), pixels.values.dtype
    seen, chance = _local_foreground(problem, pixels, every, jnp.asarray(chosen, dtype))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    variance = np.maximum(np.asarray(covariance, float)[:, chosen][:, :, chosen].sum((1, 2)), 0)
    y = np.asarray(seen, float)
    y = y + np.sqrt(variance)[None, :] * rng.standard_normal(y.shape)
    n = np.asarray(pixels.weight, float).sum(axis=-1)[None, :]
    y = np.clip(y, 0, n)
    effect = design_effect(np.clip(np.asarray(chance, float), 0, 1), visited)[None, :]
    share = rng.beta((y + 0.5) / effect, (n - y + 0.5) / effect)
    unseen = np.maximum(np.round(np.asarray(visited.n_domain, float)[None, :] - n), 0)
    return y + rng.binomial(unseen.astype(np.int64), share)


@eqx.filter_jit
def _log_likelihoods(
    problem: Problem, pixels: Item, draws: dict[str, Array]
) -> Float[Array, "draws T n"]:
    def one(sites: dict[str, Array]) -> Array:
        mixture = mixture_at(problem, sites)
        return pixel_log_likelihood(problem.noise, mixture, pixels.values, pixels.design)

    return jax.lax.map(one, draws)


def log_likelihoods(
    problem: Problem, pixels: Item, draws: Stacked, scale: float
) -> Float[np.ndarray, "draws T n"]:
    """Log-likelihood of every pixel in nats: of a density per grey level, or, at censored pixels,
    of a probability. `scale`: grey levels per standardised unit.
    """
    out = np.asarray(_log_likelihoods(problem, pixels, _on_device(draws, pixels)))
    out = out - np.log(scale)
    if problem.noise.saturation is not None:  # a probability does not change with the units
        out = out + np.log(scale) * np.asarray(pixels.values >= problem.noise.saturation)
    return out


@eqx.filter_jit
def _histograms(
    problem: Problem, pixels: Item, draws: dict[str, Array], edges: Array, key: Array
) -> Float[Array, "draws T bins"]:
    n_bins = edges.shape[0] - 1

    def one(args: tuple[dict[str, Array], Array]) -> Array:
        sites, own = args
        values = simulate(own, problem.noise, mixture_at(problem, sites), pixels.design)
        place = jnp.searchsorted(edges, values, side="right") - 1
        place = jnp.clip(place, 0, n_bins - 1)
        # One-hot sums in chunks would cost bins times pixels: scatter instead.
        empty = jnp.zeros((values.shape[0], n_bins), values.dtype)
        frame = jnp.broadcast_to(jnp.arange(values.shape[0])[:, None], values.shape)
        return empty.at[frame, place].add(pixels.weight)

    return jax.lax.map(one, _with_keys(draws, key))


def simulate(
    key: Array, noise: ClassNoise, mixture: Mixture, design: Float[Array, "P T n"]
) -> Float[Array, "T n"]:
    """Draw standardised grey values from the model at the pixels of `design`."""
    n_frames, n = design.shape[1:]
    dtype = mixture.means.dtype
    pick, *noise_keys = jax.random.split(key, 3)
    share = jnp.cumsum(jnp.exp(log_proportions(mixture, design)), axis=0)
    u = jax.random.uniform(pick, (n_frames, n), dtype)
    label = jnp.zeros((n_frames, n), jnp.int32)
    for k in range(mixture.means.shape[-1] - 1):
        label = label + (u > share[k])
    slope = trend_at(mixture, design, jnp.zeros((n_frames, n), dtype))
    mean = jnp.take_along_axis(mixture.means, label, axis=1) + slope
    sd = jnp.take_along_axis(mixture.sds, label, axis=1)
    return noise.draw((noise_keys[0], noise_keys[1]), mean, sd, mixture.dof)


def predicted_histograms(
    key: Array,
    problem: Problem,
    pixels: Item,
    draws: Stacked,
    edges: Float[np.ndarray, " bins1"],
) -> Int[np.ndarray, "draws T bins"]:
    """Histograms of new grey values of the visited pixels, drawn from the model.

    `edges` are standardised; values beyond them count in the outer bins.
    """
    own = jnp.asarray(edges, pixels.values.dtype)
    counts = _histograms(problem, pixels, _on_device(draws, pixels), own, key)
    return np.round(np.asarray(counts)).astype(np.int32)
