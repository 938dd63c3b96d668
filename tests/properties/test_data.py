"""Movies, samplings and surveys of any shape: what is visited, what is refused, what is counted."""

import jax
import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import NOISES, Contrast, operando
from jaxmicro.data.phantom_growth import SHAPES
from jaxmicro.data.sampling import MIN_PIXELS, PATTERNS, sample
from jaxmicro.data.survey import survey
from jaxmicro.errors import DataError, JaxmicroError, UsageError


def one_line(err):
    assert "\n" not in str(err)


seeds = st.integers(0, 2**32 - 1)
rates = st.one_of(st.none(), st.just(1.0), st.floats(0.01, 1.0), st.floats(0.3, 1.0))
patterns = st.sampled_from(PATTERNS)
# a few shapes only: arrays of a new shape are compiled anew wherever they are cut
SMALL = st.sampled_from([(1, 60), (70, 1), (2, 40), (13, 17), (24, 30), (61, 47)])
LARGE = st.sampled_from([(1, 50), (50, 1), (700, 1100), (512, 512), (438, 438), (7, 1100)])


@st.composite
def masks(draw, shape, rng):
    """None, or a mask (y, x) or (t, y, x) with scattered, blank or only few pixels."""
    kind = draw(st.sampled_from(["none", "scatter", "rows", "box", "frames"]))
    if kind == "none":
        return None
    share = draw(st.sampled_from([0.3, 0.9, 1.0]))
    mask = rng.random(shape if kind == "frames" else shape[1:]) < share
    if kind == "rows":
        mask = np.broadcast_to(
            rng.random((shape[1], 1)) < draw(st.sampled_from([0.1, 0.5])), shape[1:]
        )
    if kind == "box":
        mask = np.zeros(shape[1:], bool)
        mask[shape[1] // 3 :, : 1 + shape[2] // 2] = True
    return mask


@st.composite
def movies(draw, shapes=SMALL, most_frames=3):
    """Arguments of a movie of any kind of number, with masks, missing values, NaN and infinity.

    The movie itself is made in the test: shape checks draw random numbers and strategies may not.
    """
    shape = (draw(st.integers(1, most_frames)), *draw(shapes))
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64]))
    images = rng.integers(0, draw(st.sampled_from([1, 3, 250])), shape, endpoint=True).astype(dtype)
    if images.dtype.kind == "f":
        for bad in (np.nan, np.inf, -np.inf):
            images[rng.random(shape) < draw(st.sampled_from([0.0, 0.1]))] = bad
    missing = draw(st.sampled_from([None, 0.0, -1.0, float("nan")]))
    valid, sampled = draw(masks(shape, rng)), draw(masks(shape, rng))
    return {"images": images, "valid": valid, "sampled": sampled, "missing": missing}


def visited(pixels, index):
    """Flat places and values of one sampling, padding left out."""
    shared = pixels.rows.ndim == 1
    rows, cols, weight = (
        np.asarray(a if shared else a[index]) for a in (pixels.rows, pixels.cols, pixels.weight)
    )
    assert set(np.unique(weight)) <= {0.0, 1.0}
    seen = weight > 0
    return rows[seen] * pixels.shape[1] + cols[seen], np.asarray(pixels.values[index])[seen]


def check_sampling(movie, rate, pattern, replicates, seed):
    movie = Movie(**movie)
    try:
        pixels = sample(jax.random.key(seed), movie, rate, pattern, replicates)
    except JaxmicroError as err:
        one_line(err)
        event("refused")
        return
    event("sampled")
    assert pixels.n_frames == movie.n_frames
    assert pixels.shape == movie.shape[1:]
    for t in range(movie.n_frames):
        frame = movie.frame(t)
        usable = np.flatnonzero(movie.usable(t, frame))
        assert float(pixels.n_domain[t]) == np.count_nonzero(movie.domain(t))
        for b in range(replicates or 1):
            index = (t,) if replicates is None else (t, b)
            flat, values = visited(pixels, index)
            assert MIN_PIXELS <= flat.size == np.asarray(pixels.n_pixels)[index]
            assert np.unique(flat).size == flat.size
            assert np.isin(flat, usable).all()
            np.testing.assert_array_equal(values, frame.ravel()[flat])
            if rate is None or rate == 1:
                assert flat.size == usable.size
            elif pattern != "lines":
                assert flat.size == round(rate * usable.size)


@settings(max_examples=80)
@given(movies(), rates, patterns, st.sampled_from([None, 1, 2]), seeds)
def test_only_usable_pixels_are_visited_and_none_twice(movie, rate, pattern, replicates, seed):
    check_sampling(movie, rate, pattern, replicates, seed)


@given(movies(LARGE, 2), rates, patterns, seeds)
def test_so_it_is_on_large_and_on_thin_frames(movie, rate, pattern, seed):
    check_sampling(movie, rate, pattern, None, seed)


@given(st.integers(50, 300), patterns, seeds)
@example(50, "random", 0)
def test_exactly_fifty_pixels_are_enough_and_one_fewer_is_refused(width, pattern, seed):
    movie = Movie(np.random.default_rng(seed).random((1, 2, width), np.float32))
    rate = MIN_PIXELS / (2 * width)
    assume(round(rate * 2 * width) == MIN_PIXELS)  # not where the product rounds down
    if pattern != "lines":  # lines are visited whole
        assert float(sample(jax.random.key(seed), movie, rate, pattern).n_pixels[0]) == MIN_PIXELS
    with pytest.raises(UsageError, match=f"{MIN_PIXELS} are needed"):
        sample(jax.random.key(seed), movie, (MIN_PIXELS - 1) / (2 * width), pattern)


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.floats(0.05, 0.99),
    patterns,
    st.sampled_from(["whole", "scatter", "rows"]),
    seeds,
)
def test_each_usable_pixel_is_visited_equally_often(shape, rate, pattern, mask, seed):
    """Visits of one pixel over independent samplings are binomial; refused below p = 1e-9."""
    draws, rng = 400, np.random.default_rng(seed)
    valid = np.ones(shape, bool)
    if mask == "scatter":
        valid = rng.random(shape) < 0.7
    if mask == "rows":
        valid[rng.random(shape[0]) < 0.4] = False
    movie = Movie(np.zeros((1, *shape), np.float32), valid=valid)
    try:
        pixels = sample(jax.random.key(seed), movie, rate, pattern, draws)
    except (UsageError, DataError):
        return
    seen = np.asarray(pixels.weight[0]) > 0
    flat = (np.asarray(pixels.rows[0]) * shape[1] + np.asarray(pixels.cols[0]))[seen]
    visits = np.bincount(flat, minlength=valid.size)[valid.ravel()]
    if pattern == "lines":
        share = max(1, round(rate * shape[0])) / shape[0]
    else:
        share = round(rate * valid.sum()) / valid.sum()
    tail = np.minimum(
        stats.binom.cdf(visits, draws, share), stats.binom.sf(visits - 1, draws, share)
    )
    assert tail.min() > 1e-9


# -- movies ---------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(movies(), st.data())
def test_cutting_a_movie_cuts_its_frames_masks_and_domain(movie, data):
    movie = Movie(**movie)
    t, y, x = movie.shape
    y0, y1 = sorted(data.draw(st.tuples(st.integers(-1, y), st.integers(0, y + 1))))
    x0, x1 = sorted(data.draw(st.tuples(st.integers(-1, x), st.integers(0, x + 1))))
    a, b = sorted(data.draw(st.tuples(st.integers(0, t), st.integers(0, t + 1))))
    inside = 0 <= y0 < y1 <= y and 0 <= x0 < x1 <= x and 0 <= a < b <= t
    try:
        cut = movie.crop((y0, y1, x0, x1)).select_frames(a, b)
    except UsageError:
        assert not inside
        return
    assert inside
    assert cut.shape == (b - a, y1 - y0, x1 - x0)
    for i in range(b - a):
        box = np.s_[y0:y1, x0:x1]
        np.testing.assert_array_equal(cut.frame(i), movie.frame(a + i)[box])
        np.testing.assert_array_equal(cut.usable(i), movie.usable(a + i)[box])
        np.testing.assert_array_equal(cut.domain(i), movie.domain(a + i)[box])


@settings(max_examples=50)
@given(movies(), st.data())
def test_an_excluded_box_is_outside_the_domain_and_nothing_else_changes(movie, data):
    movie = Movie(**movie)
    y0 = data.draw(st.integers(0, movie.shape[1] - 1))
    x0 = data.draw(st.integers(0, movie.shape[2] - 1))
    box = np.zeros(movie.shape[1:], bool)
    box[y0 : y0 + 3, x0 : x0 + 5] = True
    y1, x1 = min(y0 + 3, movie.shape[1]), min(x0 + 5, movie.shape[2])
    try:
        out = movie.exclude([(y0, y1, x0, x1)])
    except UsageError:
        assert all(not (movie.domain(t) & ~box).any() for t in range(movie.n_frames))
        return
    for t in range(movie.n_frames):
        np.testing.assert_array_equal(out.domain(t), movie.domain(t) & ~box)
        np.testing.assert_array_equal(out.usable(t), movie.usable(t) & ~box)


@settings(max_examples=100)
@given(movies(), st.sampled_from([None, 1, 4]))
def test_a_survey_counts_every_pixel_of_the_domain_once(movie, n_classes):
    movie = Movie(**movie)
    try:
        found = survey(movie, n_classes)
    except DataError as err:
        one_line(err)
        return
    for t in range(movie.n_frames):
        assert found.n_usable[t] == np.count_nonzero(movie.usable(t))
    assert (found.n_nonfinite >= 0).all()
    assert 2 <= found.n_distinct <= 64
    assert all("\n" not in line for line in found.warnings)


@settings(max_examples=12)
@given(
    st.integers(1, 6),
    st.integers(16, 60),
    st.integers(16, 60),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from(NOISES),
    st.booleans(),
    seeds,
)
def test_a_phantom_of_any_shape_agrees_with_its_truth(
    frames, height, width, scene, noise, scatter, seed
):
    shape = (frames, height, width)
    try:
        made = operando(
            seed, shape=shape, scene=scene, contrast=Contrast(noise=noise), scatter=scatter
        )
    except UsageError:
        assert frames < 4 or min(height, width) < 32
        return
    assert made.movie.shape == shape
    assert set(np.unique(made.labels)) <= set(range(4))
    shares = np.stack([(made.labels == k).mean(axis=(1, 2)) for k in range(4)], axis=1)
    np.testing.assert_allclose(made.truth["weights"], shares, atol=1e-12)
    area = made.foreground_mask.sum(axis=(1, 2)) * made.movie.pixel_area_um2
    np.testing.assert_allclose(made.area_um2, area, rtol=1e-9)
