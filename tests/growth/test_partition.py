"""Foreground rules on class distributions whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.errors import UsageError
from jaxmicro.growth.partition import likeness, merged_groups, partition
from jaxmicro.mixture.family import GAUSSIAN
from jaxmicro.mixture.gmrm import Params


def params(weights, means, sds):
    weights = np.atleast_2d(np.asarray(weights, float))
    t, k = weights.shape

    def rows(v):
        return jnp.asarray(np.broadcast_to(np.asarray(v, float), (t, k)).copy())

    return Params(jnp.asarray(weights), rows(means), rows(sds), jnp.zeros((t, 0)), rows(1.0))


FLAT = params([[0.6, 0.3, 0.1]] * 4, [10, 50, 90], [5, 5, 5])


@pytest.mark.parametrize(
    ("rule", "ranks", "chosen"),
    [
        ("brightest", (), (2,)),
        ("darkest", (), (0,)),
        ("ranks", (-1, 1), (1, 2)),
        ("merge", (), (2,)),
        ("auto", (), (2,)),
    ],
)
def test_rules(rule, ranks, chosen):
    assert partition(FLAT, rule, ranks).foreground == chosen


def test_grows_takes_every_class_that_starts_near_nothing():
    rise = np.linspace(0, 1, 10)[:, None]
    weights = np.concatenate([0.9 - 0.3 * rise, 0.1 - 0.02 * rise, 0.2 * rise, 0.12 * rise], axis=1)
    movie = params(weights, [20, 60, 100, 140], [8] * 4)
    assert partition(movie, "auto").foreground == (2, 3)
    with pytest.raises(UsageError, match="no class starts near 0"):
        partition(FLAT, "grows")


def test_bhattacharyya_of_normals_against_quadrature():
    x = np.linspace(-200, 300, 200_001)

    def normal(m, s):
        return np.exp(-0.5 * ((x - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))

    expected = np.trapezoid(np.sqrt(normal(10, 7) * normal(31, 12)), x)
    # the grid's step of 2.5e-3 integrates such smooth functions to rounding
    assert GAUSSIAN.overlap((10.0, 7.0), (31.0, 12.0), None) == pytest.approx(expected, rel=1e-9)
    assert GAUSSIAN.overlap((4.0, 2.0), (4.0, 2.0), None) == pytest.approx(1.0)


def test_overlapping_components_are_merged_and_far_ones_are_not():
    movie = params([[0.4, 0.3, 0.2, 0.1]], [10, 20, 100, 112], [8, 9, 6, 7])
    assert merged_groups(movie, 0.1) == [(0, 1), (2, 3)]
    assert partition(movie, "merge").foreground == (2, 3)
    assert merged_groups(movie, 0.999) == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("rule", "ranks", "says"),
    [
        ("lightest", (), "not known"),
        ("ranks", (3,), "not allowed with 3 classes"),
        ("ranks", (), "not allowed"),
        ("ranks", (0, 1, 2), "every class"),
    ],
)
def test_wrong_rules_are_refused(rule, ranks, says):
    with pytest.raises(UsageError, match=says):
        partition(FLAT, rule, ranks)


def test_replicates_are_not_pooled():
    both = jax.tree.map(lambda a: jnp.stack([a, a], axis=1), FLAT)
    with pytest.raises(UsageError, match=r"shape \(4, 2, 3\) are of several replicates"):
        partition(both)


def test_a_frame_that_could_not_be_fitted_does_not_hide_what_grows():
    rise = np.linspace(0, 1, 10)[:, None]
    weights = np.concatenate([0.9 - 0.5 * rise, 0.1 + 0 * rise, 0.5 * rise], axis=1)
    weights[[0, 6]] = np.nan
    assert partition(params(weights, [20, 60, 100], [8] * 3), "grows").foreground == (2,)


@pytest.mark.parametrize(("foreground", "gap"), [((2,), 2.0), ((0,), 1.0), ((0, 1), 2.0)])
def test_likeness_is_that_of_the_nearest_pair_across_the_partition(foreground, gap):
    found = likeness(params([[0.4, 0.3, 0.3]] * 3, [10, 15, 25], [5, 5, 5]), foreground)
    assert found == pytest.approx(np.exp(-(gap**2) / 8))  # two normals `gap` sds apart
