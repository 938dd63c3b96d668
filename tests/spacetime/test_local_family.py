"""Local proportions with every class family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.family import PoissonGaussian, StudentT
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import fit_local, local_criteria

MEANS = np.array([50.0, 80.0])
ONE = jnp.ones((3, 2))
START = Params(0.5 * ONE, ONE * jnp.asarray([[45.0, 85.0]]), 9 * ONE, jnp.zeros((3, 0)), ONE)


def halves(family):
    """Three frames of 24 x 24, the left half darker; a third of the pixels visited."""
    rng = np.random.default_rng(2)
    rows, cols = rng.integers(0, 24, (2, 3, 190))
    label = (cols >= 12).astype(int)
    unit = rng.standard_t(4, label.shape) if family.heavy_tailed else rng.normal(size=label.shape)
    values = MEANS[label] + np.sqrt(0.8 * MEANS)[label] * unit
    ones = jnp.ones(label.shape)
    pixels = Pixels(
        *(jnp.asarray(a) for a in (values, rows, cols)), ones, 576 * ONE[:, 0], (24, 24)
    )
    return pixels, label


@pytest.mark.parametrize(
    "family", [PoissonGaussian(), pytest.param(StudentT(), marks=pytest.mark.slow)], ids=repr
)
def test_local_proportions_take_every_family(family):
    pixels, label = halves(family)
    model = GMRM(2, Trend(""), ("means", "sds"), family=family)
    out = fit_local(model, pixels, init=START)
    assert out.fit.results == {"converged": 3}
    # 285 pixels a class, sds 6 to 8, with tails 1.4 times as much: 4 standard errors
    np.testing.assert_allclose(out.fit.params.means[0], MEANS, atol=4 * 1.4 * 8 / 285**0.5)
    wrong = np.mean(np.asarray(out.classify()) != label)
    assert wrong < 0.03  # alone 2 % are nearer to the other mean; neighbours know better
    p = jax.tree.map(np.asarray, out.fit.params)
    if family.ties_sds:
        line = p.law[:, :1] + p.law[:, 1:2] * (p.means - p.law[:, 2:])
        np.testing.assert_allclose(p.sds**2, line, rtol=1e-6)
    else:
        assert 2 < p.law[0, 0] < 10  # planted are 4; 570 pixels leave an error of about 1
    # weights of 3 frames, 2 means, the family's own numbers, strength and field
    found = local_criteria(model, out, pixels).n_parameters
    fields = out.coupling.field.reshape(-1, 2).shape[0]
    assert found == 3 + 2 + (2 if family.ties_sds else 3) + 1 + fields
