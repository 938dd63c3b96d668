"""The table of sites against the NumPyro model itself."""

import jax
import numpy as np
import numpyro
import pytest

from jaxmicro.mixture.family import PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors
from jaxmicro.posterior.density import model, unconstrained
from jaxmicro.posterior.scaling import problem_of
from jaxmicro.posterior.sites import SITES, coordinate_shapes

MOVIE = ("means", "sds")
VARIANTS = [
    (GMRM(1), Noise()),
    (GMRM(3, Trend("x + y")), Noise()),
    (GMRM(2, Trend("x"), family=StudentT()), Noise()),
    (GMRM(1, Trend("x"), MOVIE, family=StudentT(4.0)), Noise()),
    (GMRM(3, share=MOVIE), Noise(saturation=120.0)),
    (GMRM(3, Trend("x + y"), MOVIE, family=PoissonGaussian()), Noise()),
    (GMRM(2, family=PoissonGaussian(1.0, 0.5, 0.0)), Noise(saturation=120.0)),
]


@pytest.mark.parametrize(("gmrm", "noise"), VARIANTS)
def test_the_model_has_the_sites_of_the_table(gmrm, noise, planted):
    pixels, _ = planted(4 if gmrm.share else 1, n=64)
    problem, _, _ = problem_of(gmrm, pixels, noise, Priors())
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0)))
    found = trace.get_trace(problem)
    sampled = {n: s["value"] for n, s in found.items() if s["type"] == "sample"}
    sampled = {n: v for n, v in sampled.items() if not found[n].get("is_observed")}
    assert set(sampled) == {s.name for s in SITES if s.sampled(problem)}
    derived = {n for n, s in found.items() if s["type"] == "deterministic"}
    assert derived == {s.name for s in SITES if s.derived(problem)}
    free = unconstrained(problem, sampled)
    assert {n: np.shape(v) for n, v in free.items()} == {
        s.name: s.shape(problem) for s in SITES if s.sampled(problem)
    }
    assert {n.removesuffix("_white") for n in coordinate_shapes(problem)} == set(sampled)
