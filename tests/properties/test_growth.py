"""Areas, errors and partitions of anything that sampling and fitting may hand over."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import PATTERNS, Pixels, sample
from jaxmicro.errors import JaxmicroError
from jaxmicro.growth.estimate import estimate
from jaxmicro.growth.partition import RULES, merged_groups, partition
from jaxmicro.mixture.family import Gaussian
from jaxmicro.mixture.gmrm import Params

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.sampled_from([(60, 1), (2, 40), (24, 30)]),
    st.sampled_from(PATTERNS),
    st.sampled_from([0.2, 0.5, 0.95, 1.0]),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    st.booleans(),
    seeds,
)
def test_areas_lie_within_the_domain_and_have_an_error(
    frames, shape, pattern, rate, replicates, share, masked, seed
):
    rng = np.random.default_rng(seed)
    valid = rng.random(shape) < 0.95 if masked else None
    movie = Movie(rng.random((frames, *shape), np.float32), valid=valid)
    try:
        pixels = sample(jax.random.key(seed), movie, rate, pattern, replicates)
    except JaxmicroError:
        event("too few pixels")
        return
    foreground = rng.random(pixels.values.shape) < share
    curve = estimate(foreground, pixels, pixel_area_um2=2.0, thickness_um=0.5)
    domain = np.array([np.count_nonzero(movie.domain(t)) for t in range(frames)], float)
    batch = pixels.values.shape[:-1]
    domain = np.broadcast_to(domain.reshape(-1, *[1] * (len(batch) - 1)), batch)
    assert curve.area_px.shape == curve.area_px_se.shape == batch
    assert ((curve.area_px >= 0) & (curve.area_px <= domain + 1e-9)).all()
    if share in (0, 1):
        np.testing.assert_allclose(curve.area_px, share * domain)
    known = np.isfinite(curve.area_px_se)
    # one scan line alone tells nothing of the spread between lines; all else has an error
    assert known.all() or (pattern == "lines" and round(rate * shape[0]) == 1)
    assert (curve.area_px_se[known] >= 0).all()
    # the error never exceeds that of knowing nothing but that a share lies in [0, 1]
    assert (curve.area_px_se <= domain)[known].all()
    if rate == 1:
        assert (curve.area_px_se == 0).all()
    np.testing.assert_allclose(curve.volume_um3, curve.area_px, rtol=1e-12)
    first = curve.minus_first()
    assert (first.area_px[0] == 0).all()
    assert (first.area_px_se[0] == 0).all()


def every_pixel_of_one_row(pattern):
    movie = Movie(np.random.default_rng(0).random((2, 1, 60), np.float32))
    return sample(jax.random.key(0), movie, 0.95, pattern)


def test_a_line_that_is_the_whole_frame_has_no_error():
    curve = estimate(np.ones((2, 60), bool), every_pixel_of_one_row("lines"))
    np.testing.assert_array_equal(curve.area_px_se, [0, 0])


@given(st.sampled_from(PATTERNS), st.integers(0, 2), seeds)
def test_a_frame_without_visits_has_no_area_and_leaves_the_others_alone(pattern, empty, seed):
    rng = np.random.default_rng(seed)
    weight = np.ones((3, 60), np.float32)
    weight[empty] = 0
    places = np.arange(60) * np.ones((3, 1), int)
    pixels = Pixels(
        jnp.asarray(rng.random((3, 60), np.float32)),
        jnp.asarray(places // 12),
        jnp.asarray(places % 12),
        jnp.asarray(weight),
        jnp.full(3, 144.0),
        (12, 12),
        pattern,
    )
    curve = estimate(rng.random((3, 60)) < 0.4, pixels)
    others = np.arange(3) != empty
    assert np.isnan(curve.area_px[empty])
    assert np.isfinite(curve.area_px[others]).all()
    assert np.isfinite(curve.area_px_se[others]).all()


@st.composite
def fitted(draw, fails=(0.0,)):
    """Parameters of classes in order of increasing mean; a share `fails` of frames failed (NaN)."""
    t, k = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    batch = (t,) if draw(st.booleans()) else (t, draw(st.integers(1, 3)))
    rng = np.random.default_rng(draw(seeds))
    weights = rng.dirichlet(np.ones(k) * draw(st.sampled_from([0.05, 1.0])), batch)
    means = np.sort(rng.normal(0, draw(st.sampled_from([0.0, 30.0])), (*batch, k)), axis=-1)
    sds = rng.uniform(1e-3, 10, (*batch, k))
    failed = rng.random(batch) < draw(st.sampled_from(fails))
    for a in (weights, means, sds):
        a[failed] = np.nan
    return weights, means, sds


def params_of(values):
    none = jnp.zeros((*values[0].shape[:-1], 0))
    return Params(*(jnp.asarray(a) for a in values), none, jnp.ones(values[0].shape))


def check_partition(values, rule, ranks, overlap):
    k = values[0].shape[-1]
    try:
        parts = partition(params_of(values), rule, tuple(ranks), overlap)
    except JaxmicroError:
        event("refused")
        return
    assert 0 < len(parts.foreground) < k
    assert set(parts.foreground) < set(range(k))
    assert parts.reason
    assert parts.is_foreground(np.arange(k)).sum() == len(parts.foreground)


some_ranks = st.lists(st.integers(-9, 8), max_size=3)


@settings(max_examples=50)
@given(fitted(), st.sampled_from(RULES), some_ranks, st.floats(0, 1))
def test_a_partition_leaves_neither_side_empty(values, rule, ranks, overlap):
    check_partition(values, rule, ranks, overlap)


@given(fitted((0.3, 1.0)), st.sampled_from(RULES), some_ranks, st.floats(0, 1))
def test_frames_that_failed_do_not_stop_a_partition(values, rule, ranks, overlap):
    check_partition(values, rule, ranks, overlap)


def test_what_grows_is_found_although_one_frame_failed():
    grown = np.linspace(0, 0.5, 12)
    weights = np.stack([1 - grown, grown], axis=1)
    weights[5] = np.nan
    like = np.ones((12, 2))
    parts = partition(params_of((weights, like * [0, 9], like)), "auto")
    assert "grows" in parts.reason


@given(fitted(), st.floats(0, 1))
def test_merged_groups_are_runs_of_all_classes(values, overlap):
    groups = merged_groups(params_of(values), overlap)
    assert [i for g in groups for i in g] == list(range(values[0].shape[-1]))


@given(st.floats(-100, 100), st.floats(1e-3, 50), st.floats(-100, 100), st.floats(1e-3, 50))
def test_overlap_is_symmetric_and_a_share(mean_a, sd_a, mean_b, sd_b):
    a, b = (mean_a, sd_a), (mean_b, sd_b)
    value = Gaussian().overlap(a, b, None)
    assert 0 <= value <= 1 + 1e-12
    assert value == Gaussian().overlap(b, a, None)
    assert abs(Gaussian().overlap(a, a, None) - 1) < 1e-12
