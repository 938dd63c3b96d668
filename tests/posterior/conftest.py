"""Planted frames, and one posterior of each variant for all tests of the package."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Mixture, Posterior, Sampler, posterior

TRUTH = {"weights": [0.35, 0.65], "means": [60.0, 120.0], "sds": [8.0, 10.0], "trend": [5.0]}


def plant(n_frames=1, n=512, seed=0, weights=None) -> tuple[Pixels, np.ndarray]:
    """Two classes and an x-trend, continuous grey values, and labels; `weights` (frames, 2)."""
    rng = np.random.default_rng(seed)
    w = np.broadcast_to(TRUTH["weights"] if weights is None else weights, (n_frames, 2))
    label = (rng.random((n_frames, n)) > w[:, :1]).astype(int)
    rows, cols = rng.integers(0, 64, (2, n_frames, n))
    z = np.take(TRUTH["means"], label) + TRUTH["trend"][0] * np.linspace(-1, 1, 64)[cols]
    z = z + np.take(TRUTH["sds"], label) * rng.standard_normal(z.shape)
    pixels = Pixels(
        jnp.asarray(z, jnp.float32), jnp.asarray(rows, jnp.int32), jnp.asarray(cols, jnp.int32),
        jnp.ones(z.shape, jnp.float32), jnp.full(n_frames, 4096.0), (64, 64),
    )  # fmt: skip
    return pixels, label


@functools.cache
def draw_variant(movie: bool, method: str = "nuts") -> Posterior:
    model = GMRM(2, Trend("x"), share=("means", "sds") if movie else ())
    pixels, _ = plant(3) if movie else plant()
    sampler = Sampler(
        chains=4, draws=250, warmup=150, method=method, steps=1500, foreground=(1,),
        log_likelihood_every=5,
    )  # fmt: skip
    return posterior(jax.random.key(1), model, pixels, sampler=sampler)


@pytest.fixture
def truth() -> dict[str, list[float]]:
    return TRUTH


@pytest.fixture
def planted() -> Callable[..., tuple[Pixels, np.ndarray]]:
    return plant


@pytest.fixture
def drawn() -> Callable[..., Posterior]:
    """One posterior for each variant, drawn once for all tests."""
    return draw_variant


@pytest.fixture
def quick() -> Sampler:
    return Sampler(chains=4, draws=250, warmup=150)


@pytest.fixture
def item() -> Item:
    rng = np.random.default_rng(3)
    values = jnp.asarray(rng.normal(size=(2, 40)))
    return Item(values, jnp.asarray(rng.uniform(-1, 1, (2, 2, 40))), jnp.ones((2, 40)))


@pytest.fixture
def mixture() -> Mixture:
    rng = np.random.default_rng(4)
    return Mixture(
        jnp.log(jnp.asarray(rng.dirichlet(np.ones(3), 2))),
        jnp.sort(jnp.asarray(rng.normal(size=(2, 3))), axis=1),
        jnp.asarray(rng.uniform(0.3, 0.8, (2, 3))),
        jnp.asarray(rng.normal(size=(2, 2))),
        jnp.asarray(5.0),
    )
