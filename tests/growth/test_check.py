"""Planted faults are named by the look that is made for them; a true model passes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import Analysis
from jaxmicro.growth.check import EXCHANGE, check
from jaxmicro.growth.choose import Choice
from jaxmicro.growth.estimate import estimate
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.partition import partition
from jaxmicro.growth.plan import ForegroundRule, Plan
from jaxmicro.growth.residuals import likeness_to_last
from jaxmicro.growth.search import WHITE, Candidate
from jaxmicro.mixture.ecm import Fit, Result
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import Local, LocalFit
from jaxmicro.spacetime.local_em import Coupling
from jaxmicro.spacetime.smooth import Kernel

SIDE = 80
MEANS, SDS, WEIGHTS = (60.0, 110.0, 160.0), (10.0, 8.0, 10.0), (0.5, 0.3, 0.2)
BRIGHTEST = ForegroundRule("brightest")


@dataclasses.dataclass(frozen=True)
class Given(Fitted):
    """A fit whose responsibilities are given."""

    chance: np.ndarray | None = None

    def responsibilities(self):
        return super().responsibilities() if self.chance is None else jnp.asarray(self.chance)


def _labels(rng, weights=WEIGHTS):
    """Classes in bands of wavy edges, in these shares."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    height = y + 0.1 * np.sin(9 * x + rng.uniform(0, 6))
    edges = np.quantile(height, np.cumsum(weights)[:-1])
    return np.searchsorted(edges, height.ravel()).reshape(SIDE, SIDE)


def _greys(rng, labels, means=MEANS, sds=SDS):
    return np.array(means)[labels] + np.array(sds)[labels] * rng.normal(size=labels.shape)


def _params(weights, means, sds, trend=()):
    one = [jnp.asarray(a, float)[None] for a in (weights, means, sds, trend, np.ones(len(means)))]
    return Params(*one)


def _fit(params):
    one = jnp.ones(1)
    k = params.means.shape[-1]
    converged = jnp.asarray([int(Result.converged)])
    steps, spike = jnp.ones(1, jnp.int32), jnp.zeros((1, k), bool)
    return Fit(params, one, one[:, None], steps, converged, one * 1e-7, spike)


def _analysis(greys, params, rule=BRIGHTEST, chance=None):
    """One frame, every pixel visited, fitted with these parameters."""
    rows, cols = (jnp.asarray(a.ravel(), jnp.int32) for a in np.indices(greys.shape))
    n = greys.size
    pixels = Pixels(
        jnp.asarray(greys.reshape(1, n)),
        rows,
        cols,
        jnp.ones(n),
        jnp.asarray([float(n)]),
        (SIDE,) * 2,
    )
    model = GMRM(params.means.shape[-1], Trend(""))
    fitted = Given(model, pixels, _fit(params), None, chance)
    parts = partition(params, rule.rule, rule.ranks, rule.overlap)
    classes = np.asarray(jnp.argmax(fitted.responsibilities(), axis=-2))
    foreground = parts.is_foreground(classes)
    growth = estimate(foreground, pixels)
    plan = Plan(model, foreground=rule)
    usable = np.array([True])
    return Analysis(plan, fitted, (parts,), classes, foreground, None, growth, usable)


FIELDS = dataclasses.fields(Params)[:5]  # without a law
TRUE = _params(WEIGHTS, MEANS, SDS)


@pytest.mark.parametrize("smooth", [0, 1])
def test_a_true_model_is_ok_with_white_and_with_correlated_noise(smooth):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = _labels(rng)
        noise = rng.normal(size=labels.shape)
        if smooth:  # the mean of 2 x 2 pixels, in sds
            noise = sum(np.roll(noise, s, (0, 1)) for s in ((0, 0), (0, 1), (1, 0), (1, 1))) / 2
        greys = np.array(MEANS)[labels] + np.array(SDS)[labels] * noise
        found = check(_analysis(greys, TRUE))
        assert found.words.tolist() == ["ok"], (seed, found.figures)
        assert found.ok.all()
        assert found.sentences == ()


def test_a_missed_vignette_is_named_and_a_trend_proposed(rng):
    y, x = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    dim = -10 * (x**2 + y**2 - 2 / 3)  # one sd of a class from the centre to an edge
    found = check(_analysis(_greys(rng, _labels(rng)) + dim, TRUE))
    assert "structure" in found.words[0].split()
    (said,) = (s for s in found.sentences if "structure" in s)
    assert '--trend "x + y + x:y + x**2 + y**2"' in said
    # rms of the vignette: 10 sqrt(8 / 45) = 4.2 greys, or about .45 sds; blocks average some of it
    assert 0.3 < found.figures["structure"][0] < 0.55


def test_a_missing_class_is_named_by_the_histogram(rng):
    """Two classes with the moments of three."""
    greys = _greys(rng, _labels(rng))
    mean = (0.5 * 60 + 0.3 * 110) / 0.8
    sd = np.sqrt((0.5 * 60**2 + 0.3 * 110**2) / 0.8 - mean**2 + 90)
    found = check(_analysis(greys, _params((0.8, 0.2), (mean, 160.0), (sd, 10.0))))
    assert "histogram" in found.words[0].split()
    assert any("--classes 3" in s for s in found.sentences)


def test_labels_that_the_histogram_does_not_bear_out_are_named(rng):
    """A quarter of the foreground labelled as the class beside it."""
    labels = _labels(rng)
    wrong = np.where((labels == 2) & (rng.random(labels.shape) < 0.25), 1, labels)
    chance = np.eye(3)[wrong.ravel()].T[None]
    found = check(_analysis(_greys(rng, labels), TRUE, chance=chance))
    assert "proportions" in found.words[0].split()
    # 15 % of the frame by the labels, 20 % by the histogram: a third more, and its sampling error
    np.testing.assert_allclose(found.figures["share_by_histogram"], 0.2, atol=0.01)
    np.testing.assert_allclose(found.figures["share"], 0.15, atol=0.01)


def test_an_ambiguous_foreground_is_named(rng):
    weights, means, sds = (0.7, 0.3), (60.0, 78.0), (10.0, 10.0)
    greys = _greys(rng, _labels(rng, weights), means, sds)
    found = check(_analysis(greys, _params(weights, means, sds)))
    assert found.words.tolist() == ["ambiguous"]


@pytest.mark.parametrize(("mean", "sd"), [(66.0, 10.0), (160.0, 35.0)])
def test_a_foreground_class_that_overlaps_or_is_wide_is_named(rng, mean, sd):
    weights, means, sds = (0.7, 0.3), (60.0, mean), (10.0, sd)
    greys = _greys(rng, _labels(rng, weights), means, sds)
    found = check(_analysis(greys, _params(weights, means, sds)))
    assert "overlap" in found.words[0].split()


def test_auto_names_the_other_end_and_flags_it_where_it_is_the_smaller(rng):
    weights = (0.1, 0.6, 0.3)
    greys = _greys(rng, _labels(rng, weights))
    found = check(_analysis(greys, _params(weights, MEANS, SDS), ForegroundRule("auto")))
    assert found.words.tolist() == ["foreground"]
    said = found.sentences[-1]
    assert "class 2 (the brightest" in said
    assert "30 % of the frames; class 0 would be 10 %: say --foreground darkest" in said


def _candidate(weights, score, start):
    params = _params(weights, MEANS, SDS)
    coupling = Coupling(jnp.asarray(1.0), jnp.zeros(3))
    local = LocalFit(
        _fit(params),
        jnp.ones((1, 3, 1)) / 3,
        jnp.ones((1, 1)),
        coupling,
        None,
        Kernel(2.0, 0.0),
        True,
    )
    return Candidate(3, "", start, score, Result.converged, local)


@pytest.mark.parametrize(
    ("weights", "gap", "named"),
    [((0.5, 0.2, 0.3), 0.002, True), ((0.5, 0.2, 0.3), 0.05, False), (WEIGHTS, 0.002, False)],
)
def test_another_optimum_with_another_area_is_named(rng, weights, gap, named):
    analysis = _analysis(_greys(rng, _labels(rng)), TRUE)
    chosen, other = _candidate(WEIGHTS, -4.0, "one"), _candidate(weights, -4.0 - gap, "other")
    choice = Choice(GMRM(3), Local(), TRUE, WHITE, (chosen, other), chosen, 1e3, 1)
    found = check(analysis, choice)
    assert found.words.tolist() == ["rivals" if named else "ok"]
    # .3 for .2 of the frame
    assert any("50 % away" in s for s in found.sentences) == named


def test_a_frame_that_could_not_be_fitted_is_not_ok_and_leaves_the_others_alone(rng):
    one = _analysis(_greys(rng, _labels(rng)), TRUE)
    lost = _params(WEIGHTS, (np.nan,) * 3, SDS)
    both = Params(*(jnp.concatenate([getattr(p, f.name) for p in (lost, TRUE)]) for f in FIELDS))
    fitted = one.fitted
    pixels = dataclasses.replace(
        fitted.pixels, values=jnp.tile(fitted.pixels.values, (2, 1)), n_domain=jnp.full(2, 6400.0)
    )
    chance = np.repeat(np.asarray(fitted.responsibilities()), 2, axis=0)
    two = dataclasses.replace(fitted, pixels=pixels, fit=_fit(both), chance=chance)
    found = check(dataclasses.replace(one, fitted=two))
    assert found.words.tolist() == ["no-fit", "ok"]
    assert found.ok.tolist() == [False, True]
    neither = dataclasses.replace(fitted, fit=_fit(lost))
    assert check(dataclasses.replace(one, fitted=neither)).words.tolist() == ["no-fit"]


@pytest.mark.parametrize(("second", "named"), [("same", False), ("other", True), ("none", False)])
def test_foreground_that_changes_places_with_the_background_is_seen(rng, second, named):
    first = _labels(rng).ravel() == 2
    frames = {"same": first, "other": ~first, "none": np.zeros_like(first)}
    rows, cols = (jnp.asarray(a.ravel(), jnp.int32) for a in np.indices((SIDE, SIDE)))
    n = first.size
    values = jnp.zeros((2, n))
    pixels = Pixels(values, rows, cols, jnp.ones(n), jnp.full(2, float(n)), (SIDE, SIDE))
    alike = likeness_to_last(np.stack([first, frames[second]]), pixels)
    assert np.isnan(alike[0])
    assert (alike[1] < EXCHANGE) == named
    if second != "none":  # a share and its complement correlate with -1
        assert alike[1] == pytest.approx(-1 if named else 1)
