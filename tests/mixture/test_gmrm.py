"""The E-step against scipy, the M-step and the information against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxmicro.errors import UsageError
from jaxmicro.mixture.batch import Item, e_steps
from jaxmicro.mixture.gmrm import GMRM, Params, e_step
from jaxmicro.mixture.information import (
    coordinates,
    gradient_and_information,
    missing_information,
    move,
)
from jaxmicro.mixture.m_step import m_step
from jaxmicro.mixture.trend import Trend

N, K, P = 400, 3, 2


def scene(rng, gain=False):
    design = rng.uniform(-1, 1, (P, N))
    label = rng.choice(K, N, p=[0.3, 0.5, 0.2])
    values = np.array([-2.0, 0.0, 1.5])[label] + 0.5 * rng.standard_normal(N)
    values += np.array([0.4, -0.3]) @ design
    params = Params(
        jnp.array([0.25, 0.45, 0.3]),
        jnp.array([-1.8, 0.1, 1.4]),
        jnp.array([0.6, 0.5, 0.7]),
        jnp.array([0.3, -0.1]),
        jnp.array([0.8, 1.1, 1.1]) if gain else jnp.ones(K),
    )
    return params, jnp.asarray(values), jnp.asarray(design), jnp.ones(N)


def densities(params, values, design):
    slope = np.asarray(params.trend) @ np.asarray(design)
    centre = np.asarray(params.means)[:, None] + np.asarray(params.gain)[:, None] * slope
    width = np.asarray(params.sds)[:, None]
    return np.asarray(params.weights)[:, None] * stats.norm.pdf(values[None], centre, width), centre


@pytest.mark.parametrize("gain", [False, True])
def test_e_step_is_the_sum_over_pixels(rng, gain):
    params, values, design, weight = scene(rng, gain)
    weight = weight.at[::7].set(0)
    joint, centre = densities(params, np.asarray(values), design)
    resp = joint / joint.sum(0) * np.asarray(weight)
    u = np.asarray(values)[None] - centre
    f = np.asarray(design)
    log_likelihood, got = e_step(params, values, design, weight)
    # float64 sums of 400 terms
    np.testing.assert_allclose(log_likelihood, (weight * np.log(joint.sum(0))).sum(), rtol=1e-12)
    np.testing.assert_allclose(got.s0, resp.sum(1), rtol=1e-12)
    np.testing.assert_allclose(got.su, (resp * u).sum(1), atol=1e-10)
    np.testing.assert_allclose(got.suu, (resp * u * u).sum(1), rtol=1e-11)
    np.testing.assert_allclose(got.sf, np.einsum("kn,pn->kp", resp, f), atol=1e-10)
    np.testing.assert_allclose(got.suf, np.einsum("kn,pn->kp", resp * u, f), atol=1e-10)
    np.testing.assert_allclose(got.sff, np.einsum("kn,pn,qn->kpq", resp, f, f), atol=1e-10)


@pytest.mark.parametrize(
    ("share", "gain"), [((), False), (("means", "sds"), False), (("sds",), False), ((), True)]
)
def test_m_step_is_the_maximum_of_the_expected_log_likelihood(rng, share, gain):
    """Repeated on the same responsibilities it ends where scipy's maximiser ends."""
    model = GMRM(K, Trend("x + y"), share, gain)
    frames = [scene(rng, gain) for _ in range(2)]
    params = jax.tree.map(lambda *a: jnp.stack(a), *[f[0] for f in frames])
    values, design = jnp.stack([f[1] for f in frames]), jnp.stack([f[2] for f in frames], axis=1)
    item = Item(values, design, jnp.ones((2, N)))
    _, sums = e_steps(params, item)
    resp = []
    for t in range(2):
        joint, _ = densities(params[t], np.asarray(values[t]), design[:, t])
        resp.append(joint / joint.sum(0))
    resp = np.array(resp)

    def split(x):
        parts, at = [], 0
        for name, count in (("means", K), ("sds", K), ("trend", P), ("gain", K)):
            if name == "gain" and not gain:
                parts.append(np.ones((2, K)))
                continue
            frames_of = 1 if name in share else 2
            block = x[at : at + frames_of * count].reshape(frames_of, count)
            parts.append(np.broadcast_to(block, (2, count)))
            at += frames_of * count
        return parts, at

    def loss(x):
        (means, log_sds, trend, gains), _ = split(x)
        slope = np.einsum("tp,ptn->tn", trend, np.asarray(design))
        u = np.asarray(values)[:, None] - means[..., None] - gains[..., None] * slope[:, None]
        return np.sum(resp * (0.5 * (u / np.exp(log_sds)[..., None]) ** 2 + log_sds[..., None]))

    size = split(np.zeros(100))[1]
    # gains start at 1, everything else at 0
    start = np.zeros(size)
    if gain:
        start[-2 * K :] = 1
    best = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7, "maxiter": 500})
    new = params
    tied, floor = jnp.asarray(False), jnp.asarray(1e-3)
    # Same sums about moved parameters: one E-step's responsibilities, maximised to the end.
    from jaxmicro.mixture.m_step import recentred

    for _ in range(30):
        here = recentred(
            sums,
            new.means - params.means,
            new.gain[..., None] * new.trend[:, None]
            - params.gain[..., None] * params.trend[:, None],
        )
        new = m_step(model, new, here, tied=tied, sd_floor=floor)
    flat = [new.means, jnp.log(new.sds), new.trend, new.gain]
    slope = np.einsum("tp,ptn->tn", flat[2], np.asarray(design))
    u = np.asarray(values)[:, None] - flat[0][..., None] - flat[3][..., None] * slope[:, None]
    width = np.asarray(new.sds)[..., None]
    reached = np.sum(resp * (0.5 * (u / width) ** 2 + np.log(width)))
    # BFGS stops within gtol^2 of the minimum of a sum of about 400 nats
    assert reached <= best.fun + 1e-6
    np.testing.assert_allclose(new.weights, resp.mean(-1), rtol=1e-10)


@pytest.mark.parametrize("gain", [False, True])
def test_score_and_information_are_the_derivatives_of_the_likelihood(rng, gain):
    model = GMRM(K, Trend("x + y"), (), gain)
    params, values, design, weight = scene(rng, gain)
    weight = weight.at[::5].set(0)
    at = jax.tree.map(lambda a: a[None], params)
    q = sum(count for _, count in coordinates(model))

    def log_likelihood(step):
        moved = move(model, at, step[None])[0]
        return e_step(moved, values, design, weight)[0]

    _, sums = e_step(params, values, design, weight)
    score, complete = gradient_and_information(model, at, jax.tree.map(lambda a: a[None], sums))
    missing = missing_information(model, params, values, design, weight)
    zero = jnp.zeros(q)
    np.testing.assert_allclose(score[0], jax.grad(log_likelihood)(zero), atol=1e-9)
    hessian = jax.hessian(log_likelihood)(zero)
    np.testing.assert_allclose(complete[0] - missing, -hessian, atol=1e-8)


def test_parameters_are_counted_once_where_shared():
    trend = Trend("x + y + x:y")
    assert GMRM(4, trend).n_parameters(1) == 3 + 4 + 4 + 3
    assert GMRM(4, trend, ("means", "sds")).n_parameters(10) == 10 * (3 + 3) + 8
    assert GMRM(3, trend, (), True).n_parameters(2) == 2 * (2 + 3 + 3 + 3 + 2)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((0,), "classes"), ((3, Trend(), ("weights",)), "weights"), ((3, Trend(), (), True), "gain")],
)
def test_impossible_models_are_refused(arguments, word):
    with pytest.raises(UsageError, match=word):
        GMRM(*arguments)
