"""Starts: the fit's estimate as parameters, and the mode that is found from there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors
from jaxmicro.posterior.coordinates import find_mode
from jaxmicro.posterior.density import constrained, mixture_at, potential, unconstrained
from jaxmicro.posterior.scaling import problem_of
from jaxmicro.posterior.start import start_values


@pytest.fixture(params=[(), ("means", "sds")], ids=["frame", "movie"])
def start(request, planted):
    pixels, _ = planted(3 if request.param else 1)
    model = GMRM(2, Trend("x"), share=request.param)
    params = fit(model, pixels).params
    problem, _, scaling = problem_of(model, pixels, Noise(grey_step=0.0), Priors())
    return params, scaling, *start_values(problem, params, scaling)


def test_start_values_give_the_fit_back(start):
    params, scaling, problem, values = start
    sites = constrained(problem, unconstrained(problem, values))
    mixture = mixture_at(problem, sites)
    # float32, through logs and back
    np.testing.assert_allclose(
        mixture.means * scaling.scale + scaling.centre, params.means, rtol=1e-5
    )
    np.testing.assert_allclose(mixture.sds * scaling.scale, params.sds, rtol=1e-4)
    if not problem.movie:  # the walks of a movie start where the smoother puts them
        np.testing.assert_allclose(jnp.exp(mixture.log_weights), params.weights, rtol=1e-4)
        np.testing.assert_allclose(mixture.trend * scaling.scale, params.trend, rtol=1e-4)


@pytest.mark.slow
def test_the_mode_is_one_and_coordinates_are_isotropic_there(start):
    _, _, problem, values = start
    problem, coordinates = find_mode(problem, values)
    n_shared = coordinates.mode.shape[0]

    def height(z):
        rest = jnp.zeros(coordinates.size(problem) - n_shared)
        return potential(problem, coordinates.sites(problem, jnp.concatenate([z, rest])))

    zero = jnp.zeros(n_shared)
    # one unit is one posterior sd; float32 pixels leave gradients of a few thousandths
    assert np.abs(jax.grad(height)(zero)).max() < 0.02
    np.testing.assert_allclose(jax.hessian(height)(zero), np.eye(n_shared), atol=0.02)
