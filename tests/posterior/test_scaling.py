"""Standardised grey values, saturated pixels, and edges of histograms."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors
from jaxmicro.posterior.scaling import histogram_edges, problem_of, scaling_of


def test_the_range_of_99_percent_becomes_minus_2_to_2(planted):
    pixels, _ = planted()
    problem, every, scaling = problem_of(GMRM(2, Trend("x")), pixels, Noise(), Priors())
    assert scaling == scaling_of(pixels, 0.0)
    low, high = np.quantile(np.asarray(every.values, float), [0.005, 0.995])
    # values are float32: 7 digits
    np.testing.assert_allclose([low, high], [-2, 2], rtol=1e-5)
    assert problem.saturated is None


def test_saturated_pixels_are_censored_half_a_step_below_the_saturation(planted):
    pixels, _ = planted(2)
    grey = jnp.minimum(jnp.round(pixels.values), 125.0)
    pixels = dataclasses.replace(pixels, values=grey)
    noise = Noise(saturation=125.0, grey_step=1.0)
    problem, every, scaling = problem_of(GMRM(2, Trend("x")), pixels, noise, Priors())
    count = np.sum(np.asarray(grey) == 125.0, axis=1)
    assert count.min() > 0
    np.testing.assert_array_equal(problem.saturated.weight.sum(axis=1), count)
    np.testing.assert_array_equal(problem.pixels.weight.sum(axis=1), 512 - count)
    np.testing.assert_array_equal(every.weight.sum(axis=1), [512, 512])
    limit = float(problem.noise.saturation) * scaling.scale + scaling.centre
    assert abs(limit - 124.5) < 1e-4  # float32
    bright = np.asarray(problem.saturated.values)[np.asarray(problem.saturated.weight) > 0]
    assert np.all(bright >= np.asarray(problem.noise.saturation))


def test_edges_of_histograms_lie_between_grey_levels(planted):
    pixels, _ = planted()
    pixels = dataclasses.replace(pixels, values=3.0 * jnp.round(pixels.values / 3.0))
    edges = histogram_edges(pixels, 3.0)
    assert len(edges) <= 65
    np.testing.assert_allclose((edges / 3.0) % 1, 0.5)
    counts, _ = np.histogram(np.asarray(pixels.values), edges)
    assert counts.sum() == 512
