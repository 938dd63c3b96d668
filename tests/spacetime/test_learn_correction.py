"""Fitted corrections err less than their start, with labels and without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.phantom import Contrast, operando
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.correct import vote
from jaxmicro.spacetime.learn import learn_correction
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_vote import SoftVote, soft_vote

MODEL = GMRM(4, Trend("x + y + x:y"), ("means", "sds"))
STEPS = 30


@pytest.fixture(scope="module")
def case():
    """Noisy pixels (sds half as large again as the default's), their truth, the true parameters."""
    scene = operando(2, shape=(5, 56, 56), contrast=Contrast(sds=(15.0, 16.0, 18.0, 20.0)))
    pixels = sample(jax.random.key(0), scene.movie, 0.3)
    truth = scene.labels[
        np.arange(5)[:, None], np.asarray(pixels.rows), np.asarray(pixels.cols)
    ].astype(np.int32)
    known = {k: jnp.asarray(v, jnp.float32) for k, v in scene.truth.items()}
    even = jnp.ones((5, 4), jnp.float32)
    params = Params(
        known["weights"],
        even * known["means"][None],
        even * known["sds"][None],
        known["trend"],
        even,
    )
    start = SoftVote.from_vote(Neighbourhood(5.0), 0.4, reach=7, frames=3)
    return pixels, truth, params, MODEL.responsibilities(params, pixels), start


def wrong(case, learned):
    """Share of wrong labels after the soft vote with the start's and the learned settings."""
    pixels, truth, _, p, start = case
    out = [soft_vote(s, p, pixels) for s in (start, learned.settings)]
    return [float(np.mean(np.argmax(o, axis=1) != truth)) for o in out]


def test_with_labels_the_learned_vote_errs_less_than_its_start(case):
    pixels, truth, _, p, start = case
    learned = learn_correction(start, pixels, p, labels=jnp.asarray(truth), steps=STEPS)
    loss = np.asarray(learned.loss)
    assert loss[-1] < 0.6 * loss[0]
    before, after = wrong(case, learned)
    assert after < before
    assert np.isnan(float(learned.held_out))


def test_without_labels_it_errs_less_than_its_start_and_than_no_correction(case):
    pixels, truth, params, p, start = case
    learned = learn_correction(start, pixels, p, model=MODEL, params=params, steps=STEPS)
    assert learned.loss[-1] < learned.loss[0] - 0.05
    before, after = wrong(case, learned)
    plain = float(np.mean(np.argmax(np.asarray(p), axis=1) != truth))
    assert after < before
    assert after < plain
    # neighbours predict a hidden pixel's grey value better than the frame's weights do
    n = int(np.sum(np.asarray(pixels.n_pixels)))
    frame = -criteria(MODEL, params, pixels).log_likelihood / n
    assert float(learned.held_out) < frame
    # the hard vote with the learned numbers is legal and runs
    hard = vote(
        jnp.asarray(truth),
        pixels,
        learned.neighbourhood(),
        float(learned.settings.threshold),
        4,
    )
    assert hard.labels.shape == truth.shape


def test_what_is_missing_is_named(case):
    pixels, truth, _, p, start = case
    with pytest.raises(UsageError, match="needs labels"):
        learn_correction(start, pixels, p)
    with pytest.raises(UsageError, match="steps = 0"):
        learn_correction(start, pixels, p, labels=jnp.asarray(truth), steps=0)
