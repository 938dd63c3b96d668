"""What no step of a local fit may lower."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime import local_loop
from jaxmicro.spacetime.local_em import Coupling
from jaxmicro.spacetime.local_state import Observed, Settings
from jaxmicro.spacetime.smooth import cells_for

SHAPE, T, N, STEPS = (12, 12), 3, 70, 15


def half_and_half(seed):
    """Two classes that overlap, one above the other, with a trend; float64, some of it padding."""
    rng = np.random.default_rng(seed)
    spots = np.stack([rng.permutation(144)[:N] for _ in range(T)])
    rows, cols = np.divmod(spots.astype(np.int32), 12)
    label = rows + rng.integers(-1, 2, rows.shape) > 5
    values = 100 + 25 * label + 0.8 * cols + 10 * rng.standard_normal(rows.shape)
    weight = np.ones(rows.shape)
    weight[:, N - 6 :] = 0
    arrays = (jnp.asarray(a) for a in (values, rows, cols, weight))
    return Pixels(*arrays, jnp.full(T, 144.0), SHAPE)


def poor_start(n_terms):
    even = jnp.ones((T, 2))
    means = even * jnp.asarray([[90.0, 140.0]])
    return Params(0.5 * even, means, 20 * even, jnp.zeros((T, n_terms)), even)


def settings_for(learn, n_terms):
    return Settings(
        widths=(jnp.asarray(1.5),),
        decay=jnp.asarray(0.5),
        pseudo_count=jnp.asarray(1.0),
        coupling=Coupling(jnp.asarray(1.5), jnp.zeros((T, 2))),
        tolerance=jnp.asarray(0.0),
        sd_floor=jnp.asarray(0.1),
        buffer=None,
        classes=jnp.asarray(2),
        terms=jnp.ones(n_terms),
        places=None,
        fold=None,
        held=jnp.asarray(False),
        steps=jnp.asarray(STEPS),
        cells=(cells_for(1.5, SHAPE),),
        causal=False,
        learn=learn,
        max_steps=STEPS,
    )


@pytest.fixture(
    scope="module",
    params=[
        (GMRM(2, Trend("x + y")), False),
        (GMRM(2, Trend("x + y"), ("means", "sds")), True),
        (GMRM(2, Trend("x"), ("means", "sds", "gain"), gain=True), True),
        (GMRM(2, Trend("x"), gain=True), False),
    ],
    ids=["each frame", "shared", "shared with gain", "gain of each frame"],
)
def steps(request):
    """States of a local fit, one step apart, and a function of parameters and a state's pi."""
    model, learn = request.param
    pixels, settings = half_and_half(5), settings_for(learn, model.trend.n_terms)
    movie = Observed(pixels, model.design(pixels))

    @jax.jit
    def one_step(state):
        return local_loop.advance(model, movie, state, None, settings, jnp.asarray(1))[1]

    def pseudo_likelihood(params, state):
        """Per pixel, at the proportions of `state`: the trace of a step from there."""
        held = eqx.tree_at(lambda p: p.weights, params, state.params.weights)
        after = one_step(eqx.tree_at(lambda s: s.params, state, held))
        return float(after.trace[state.steps])

    states = [local_loop.begin(model, movie, poor_start(model.trend.n_terms), settings)]
    while int((after := one_step(states[-1])).left) == local_loop.CLIMBING:
        states.append(after)
    return states, pseudo_likelihood, learn


def test_no_step_lowers_the_pseudo_likelihood_at_the_proportions_it_started_from(steps):
    states, pseudo_likelihood, learn = steps
    assert len(states) > 8
    gains = [
        pseudo_likelihood(after.params, before) - pseudo_likelihood(before.params, before)
        for before, after in itertools.pairwise(states)
    ]
    # rounding of a mean of 192 terms of size 1, in float64
    assert min(gains) > -1e-13
    assert gains[0] > 0.01, "the start must be poor enough for the first step to count"
    moved = [float(s.coupling.strength) for s in states]
    assert (len(set(moved)) > 1) == learn
