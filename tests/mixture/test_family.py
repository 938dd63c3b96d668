"""Class families: densities against scipy, derivatives, planted parameters, identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxmicro.errors import UsageError
from jaxmicro.mixture.family import (
    Gaussian,
    PoissonGaussian,
    StudentT,
    family_of,
)
from jaxmicro.mixture.gmrm import GMRM, Params, e_step
from jaxmicro.mixture.information import (
    coordinates,
    gradient_and_information,
    missing_information,
    move,
)
from jaxmicro.mixture.student import log_less_digamma, next_dof
from jaxmicro.mixture.trend import Trend

N, K, P = 300, 3, 2
LINE = PoissonGaussian()
SLOW = pytest.mark.slow
CASES = [
    (StudentT(), False),
    (LINE, False),
    pytest.param(StudentT(), True, marks=SLOW),
    pytest.param(StudentT(5.0), True, marks=SLOW),
    pytest.param(PoissonGaussian(grey_per_quantum=0.08), False, marks=SLOW),
    pytest.param(PoissonGaussian(read_noise=0.3, offset=-4.0), False, marks=SLOW),
]


def scene(rng, family, gain):
    design = rng.uniform(-1, 1, (P, N))
    label = rng.choice(K, N, p=[0.3, 0.5, 0.2])
    values = np.array([-2.0, 0.0, 1.5])[label] + 0.5 * rng.standard_t(5, N)
    values += np.array([0.4, -0.3]) @ design
    means, sds, law = jnp.array([-1.8, 0.1, 1.4]), jnp.array([0.6, 0.5, 0.7]), None
    if family.heavy_tailed:
        law = jnp.array([5.0 if family.dof else 7.0])
    if family.ties_sds:
        law = jnp.array([0.09, 0.08, -4.0])
        sds = family.sds(means, law, means, 1e-3)
    gains = jnp.array([0.8, 1.1, 1.1]) if gain else jnp.ones(K)
    params = Params(jnp.array([0.25, 0.45, 0.3]), means, sds, jnp.array([0.3, -0.1]), gains, law)
    return params, jnp.asarray(values), jnp.asarray(design), jnp.ones(N).at[::5].set(0)


@pytest.mark.parametrize(("family", "gain"), CASES, ids=repr)
def test_score_and_information_are_the_derivatives_of_the_likelihood(rng, family, gain):
    model = GMRM(K, Trend("x + y"), (), gain, family)
    params, values, design, weight = scene(rng, family, gain)
    at = jax.tree.map(lambda a: a[None], params)
    zero = jnp.zeros(sum(count for _, count in coordinates(model)))

    def log_likelihood(step):
        return e_step(move(model, at, step[None])[0], values, design, weight, family)[0]

    _, sums = e_step(params, values, design, weight, family)
    score, complete = gradient_and_information(model, at, jax.tree.map(lambda a: a[None], sums))
    missing = missing_information(model, params, values, design, weight)
    np.testing.assert_allclose(score[0], jax.grad(log_likelihood)(zero), atol=1e-8)
    np.testing.assert_allclose(complete[0] - missing, -jax.hessian(log_likelihood)(zero), atol=1e-7)


@pytest.mark.parametrize("dof", [1.0, 2.5, 8.0, 60.0, 1000.0])
def test_densities_are_those_of_scipy_and_keep_their_digits(dof):
    z = np.linspace(-30, 30, 61)
    ours = np.log(StudentT().density(z, 2.0, 3.0, np.array([dof])))
    np.testing.assert_allclose(ours, stats.t.logpdf(z, dof, 2.0, 3.0), atol=3e-8)
    single = StudentT().constant(jnp.asarray([dof], jnp.float32))
    assert abs(float(single) - stats.t.logpdf(0, dof)) < 5e-7  # a few roundings near 1
    x = jnp.asarray(dof / 2)
    np.testing.assert_allclose(log_less_digamma(x), np.log(x) - special.digamma(x), rtol=1e-7)


def test_the_m_step_of_the_degrees_of_freedom_is_the_root_of_its_equation():
    dof, less = jnp.array([2.0, 8.0, 40.0]), jnp.array([-0.3, -0.09, -0.015])
    half = 0.5 * np.asarray(next_dof(dof, less))
    before = 0.5 * (np.asarray(dof) + 1)
    left = np.log(half) - special.digamma(half) + np.asarray(less)
    right = np.log(before) - special.digamma(before)
    np.testing.assert_allclose(left, right, atol=1e-8)


def test_overlap_of_student_t_classes_tends_to_that_of_normal_ones():
    a, b = (10.0, 2.0), (14.0, 3.0)
    near = StudentT().overlap(a, b, np.array([1e6]))
    np.testing.assert_allclose(near, Gaussian().overlap(a, b, None), rtol=1e-5)
    assert StudentT().overlap(a, b, np.array([2.0])) > near
    np.testing.assert_allclose(StudentT().overlap(a, a, np.array([3.0])), 1.0, rtol=1e-3)


def test_free_parameters_are_counted():
    def count(family, share=(), frames=1):
        return GMRM(3, share=share, family=family).n_parameters(frames)

    gaussian = count(Gaussian())
    assert count(StudentT()) == gaussian + 1
    assert count(StudentT(4.0)) == gaussian
    assert count(LINE) == gaussian - 3 + 2
    assert count(PoissonGaussian(grey_per_quantum=2.0)) == gaussian - 3 + 1
    assert count(PoissonGaussian(1.0, 2.0, 0.0)) == gaussian - 3
    assert count(PoissonGaussian(read_noise=1.0)) == count(LINE)
    movie = ("means", "sds")
    assert count(StudentT(), movie, 10) == count(Gaussian(), movie, 10) + 1
    assert count(LINE, movie, 10) == count(Gaussian(), movie, 10) - 1


def test_a_detectors_law_follows_shift_and_scale():
    law = jnp.array([[30.0, 0.5, 12.0]])
    means = jnp.array([[40.0, 100.0]])
    for family in (LINE, PoissonGaussian(offset=12.0)):
        there = family.scaled(law, 80.0, 25.0)
        sds = family.sds(means, there, (means - 80.0) / 25.0, 1e-9)
        np.testing.assert_allclose(sds * 25.0, family.sds(means, law, means, 1e-9), rtol=1e-12)
        back = family.restored(there, 80.0, 25.0)
        np.testing.assert_allclose(family.sds(means, back, means, 1e-9), sds * 25.0, rtol=1e-12)
        np.testing.assert_allclose(back[0, 2], 12.0 if family.offset else 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: family_of("cauchy"), "family = 'cauchy' is not known; use one of gaussian, stud"),
        (lambda: family_of("gaussian", dof=4.0), "dof = 4 has no effect with family = 'gaussian'"),
        (lambda: StudentT(0.5), "dof = 0.5 is not allowed; use a number of at least 1"),
        (lambda: PoissonGaussian(grey_per_quantum=0.0), "grey_per_quantum = 0.0 is not allowed"),
        (lambda: PoissonGaussian(read_noise=-1.0), "read_noise = -1.0 is not allowed"),
        (lambda: PoissonGaussian(offset=np.nan), "offset = nan is not allowed; use a grey level"),
        (lambda: GMRM(3, Trend("x"), (), True, LINE), "gain = true is not supported by family"),
        (lambda: GMRM(1, family=LINE), "cannot estimate its line of variances from one class"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make, words):
    with pytest.raises(UsageError, match=words):
        make()
