"""A fit in parts: watched and interrupted, with the same numbers as in one go."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxmicro.app import progress as app_progress
from jaxmicro.app.progress import Stages
from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import sample
from jaxmicro.mixture import ecm
from jaxmicro.mixture.ecm import Fit, fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime import local_loop
from jaxmicro.spacetime.local import Local, fit_local

SHARED = GMRM(3, Trend("x"), ("means", "sds"))


@pytest.fixture(scope="module")
def pixels():
    return sample(jax.random.key(0), operando(3, shape=(4, 40, 44)).movie, 0.3)


@pytest.fixture
def short(monkeypatch):
    """Parts of two steps each."""
    monkeypatch.setattr(ecm, "PART_S", 0.0)


def _same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", [SHARED, GMRM(3, Trend("x"))], ids=["shared", "apart"])
def test_parts_give_the_same_numbers_to_the_last_bit(pixels, model, short):
    said: list[str] = []
    parts = fit(model, pixels, progress=said.append)
    assert len(said) > 3
    assert all(re.match(r"step \d+", text) for text in said)
    _same(parts, fit(model, pixels))


def test_parts_of_a_local_fit_give_the_same_numbers(pixels, short):
    start = fit(SHARED, pixels).params
    said: list[str] = []
    parts = fit_local(SHARED, pixels, init=start, progress=said.append)
    assert len(said) >= 2
    whole = fit_local(SHARED, pixels, init=start)
    _same((parts.fit, parts.responsibilities), (whole.fit, whole.responsibilities))


def test_a_local_fit_that_cannot_converge_says_so_all_along(pixels, short):
    start = fit(SHARED, pixels).params
    said: list[str] = []
    # so few steps cannot show that the top of the pseudo-likelihood lies behind either
    steps = local_loop.PATIENCE
    out = fit_local(
        SHARED, pixels, Local(), init=start, tolerance=0.0, max_steps=steps, progress=said.append
    )
    assert out.fit.results == {"max_steps": 4}
    assert sorted({int(text.split()[1]) for text in said}) == list(range(2, steps + 1, 2))


def test_words_appear_now_and_then_where_there_is_no_terminal(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(app_progress, "LINE_S", 0.0)
    with Stages(Console(file=out, force_terminal=False)).stage("fit") as advance:
        advance.say("step 40")
    assert re.search(r"fit +\d+ s +step 40", out.getvalue())


def test_a_distance_that_is_not_known_is_said_in_words():
    one = jnp.ones((3, 1))
    params = Params(one, one, one, jnp.zeros((3, 0)), one)

    def found(gap):
        steps = jnp.ones(3, jnp.int32)
        zero = jnp.zeros((3, 5))
        return Fit(params, zero[:, 0], zero, steps, steps, jnp.asarray(gap), one > 2)

    inf = np.inf
    assert found([1e-7, 2e-7, 3e-7]).optimum_text == "optimum within 3e-07 nats per pixel"
    some = found([1e-7, inf, 3e-7])
    assert some.optimum_text == (
        "optimum within 3e-07 nats per pixel in 2 of 3 frames, not known in the others"
    )
    assert found([inf] * 3).optimum_text == "distance to the optimum not known"
    assert "inf" not in repr(some)
