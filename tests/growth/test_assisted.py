"""The difference estimator: unbiased, narrower than counting right labels, with an honest error."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.errors import UsageError
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import Correction, ForegroundRule, Plan
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.everywhere import proportions_everywhere
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood

SHAPE, N_FRAMES = (80, 90), 3
ROWS, COLS = np.indices(SHAPE)
AWAY = np.hypot(ROWS - 40, COLS - 48)
DISCS = [np.less(AWAY, r) for r in (8, 14, 20)]
AREAS = np.array([d.sum() for d in DISCS], float)


def _movie(contrast, seed=8):
    """A growing disc, its class mean `contrast` sds of 10 above the rest."""
    noise = np.random.default_rng(seed).normal(0, 10, (N_FRAMES, *SHAPE))
    return Movie((100 + 10 * contrast * np.array(DISCS) + noise).astype(np.float32))


def _plan(contrast, local, estimator):
    share = AREAS / DISCS[0].size
    truth = Params(
        jnp.asarray(np.stack([1 - share, share], axis=1), jnp.float32),
        jnp.tile(jnp.array([100.0, 100 + 10 * contrast], jnp.float32), (N_FRAMES, 1)),
        jnp.full((N_FRAMES, 2), 10.0, jnp.float32),
        jnp.zeros((N_FRAMES, 0), jnp.float32),
        jnp.ones((N_FRAMES, 2), jnp.float32),
    )
    return Plan(
        GMRM(2, share=("means", "sds")),
        local=local,
        foreground=ForegroundRule("brightest"),
        estimator=estimator,
        start=truth,
    )


def _replicates(contrast, local, rate, count):
    """Areas and standard errors, (replicates, frames), and areas by counting right labels.

    Noise and sample are drawn anew each time.
    """
    found, floor = [], []
    plan = _plan(contrast, local, "difference")
    for b in range(count):
        pixels = sample(b, _movie(contrast, b), rate)
        growth = analyse(pixels, plan).growth
        found.append((growth.area_px, growth.area_px_se))
        rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
        right = np.stack([d[r, c] for d, r, c in zip(DISCS, rows, cols, strict=True)])
        floor.append(right.mean(axis=1) * SHAPE[0] * SHAPE[1])
    area, se = np.moveaxis(np.array(found), 1, 0)
    return area, se, np.array(floor)


@pytest.mark.parametrize("local", [None, Local()], ids=["plain", "local"])
def test_it_is_unbiased_and_narrower_than_a_count_of_right_labels(local):
    area, se, floor = _replicates(4.0, local, 0.1, 30)
    error = (area.mean(axis=0) - AREAS) / (area.std(axis=0) / np.sqrt(30))
    assert np.abs(error).max() < 4
    assert np.all(area.std(axis=0)[1:] < 0.7 * floor.std(axis=0)[1:])
    # the standard deviation of 30 is known to 13 %; three times that, over two frames
    assert np.mean(se.mean(axis=0) / area.std(axis=0)) == pytest.approx(1, abs=0.3)


def test_where_classes_overlap_the_maps_error_is_still_put_right():
    """At 2 sds one label in six is wrong by its grey value alone."""
    area, se, floor = _replicates(2.0, Local(), 0.2, 24)
    error = (area.mean(axis=0) - AREAS) / (area.std(axis=0) / np.sqrt(24))
    assert np.abs(error).max() < 4
    # the disc of the first frame is no larger than the kernel: its map is worth nothing
    assert np.all(area.std(axis=0)[1:] < floor.std(axis=0)[1:])
    # an sd of 24 is known to 15 %, and scores of the parameters are taken as independent
    assert np.all(np.abs(np.log(se.mean(axis=0) / area.std(axis=0))) < np.log(2))


def test_of_all_pixels_the_error_is_that_of_the_labels():
    movie = _movie(4.0)
    found = analyse(sample(None, movie), _plan(4.0, Local(), "difference")).growth
    assert np.all(np.abs(found.area_px - AREAS) < 4 * found.area_px_se + 1)
    assert np.all(found.area_px_se < 0.02 * SHAPE[0] * SHAPE[1] ** 0.5)


def test_each_replicate_is_estimated_on_its_own():
    movie = _movie(4.0)
    plan = dataclasses.replace(_plan(4.0, Local(), "difference"), start=None)
    together = analyse(sample(5, movie, 0.1, replicates=2), plan)
    first = together.fitted.pixels.replicate(0)
    alone = analyse(first, plan).growth
    # fits of the replicates together and alone end within the tolerance of the same optimum
    np.testing.assert_allclose(together.growth.area_px[:, 0], alone.area_px, rtol=0.02)


def test_a_region_is_mapped_and_nothing_outside_it():
    movie = _movie(4.0)
    region = (COLS > 10) & (ROWS > 5) & (ROWS < 75)
    part = movie.within(region)
    pixels, plan = sample(3, part, 0.15), _plan(4.0, Local(), "difference")
    found = analyse(pixels, plan, movie=part).growth
    assert np.all(np.abs(found.area_px - AREAS) < 4 * found.area_px_se)
    with pytest.raises(UsageError, match=r"give the movie, analyse\(pixels, plan, movie=movie\)"):
        analyse(pixels, plan)


def test_a_vote_on_labels_does_not_go_with_it():
    vote = Correction(Neighbourhood(radius=3.0, metric="l2"), 0.4)
    with pytest.raises(UsageError, match="'difference' adds up class probabilities"):
        Plan(GMRM(2), correction=vote, estimator="difference")


def test_a_pixel_is_left_out_of_its_own_proportions():
    """Its label changes the proportions of its neighbours, and not its own."""
    movie = _movie(8.0)
    plan = _plan(8.0, Local(interaction=1.0), "difference")
    pixels = sample(1, movie, 0.1)
    fitted = analyse(pixels, plan).fitted
    there = proportions_everywhere(pixels, fitted.local, plan.local).visited
    resp = np.asarray(fitted.local.responsibilities)
    flipped = jnp.asarray(resp[1, ::-1, 7])
    changed = fitted.local.responsibilities.at[1, :, 7].set(flipped)
    other = eqx.tree_at(lambda f: f.responsibilities, fitted.local, changed)
    again = proportions_everywhere(pixels, other, plan.local).visited
    np.testing.assert_allclose(again[1, :, 7], there[1, :, 7], atol=1e-5)
    assert np.abs(again - there).max() > 0.05  # its neighbours have heard of it
