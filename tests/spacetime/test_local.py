"""Local proportions: kernel sums against brute force, invariances, recovery, carried past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pixels_at import pixels_at

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.errors import UsageError
from jaxmicro.mixture.criteria import criteria
from jaxmicro.mixture.ecm import Result, fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime import local_loop
from jaxmicro.spacetime.local import Local, Part, _settings, fit_local, local_criteria
from jaxmicro.spacetime.local_em import gathered, make_level
from jaxmicro.spacetime.local_state import Observed
from jaxmicro.spacetime.neighbourhood import correlate
from jaxmicro.spacetime.smooth import Kernel, cells_for, density_kernel, over_time

MODEL = GMRM(4, Trend("x + y + x:y"), ("means", "sds"))
SHAPE = (6, 64, 64)


@pytest.fixture(scope="module")
def scene():
    return operando(3, shape=SHAPE)


@pytest.fixture(scope="module")
def pixels(scene):
    return sample(jax.random.key(0), scene.movie, 0.2)


@pytest.fixture(scope="module")
def start(pixels):
    return fit(MODEL, pixels).params


@pytest.fixture(scope="module")
def fitted(pixels, start):
    return fit_local(MODEL, pixels, init=start)


def visited(volume, pixels):
    return volume[np.arange(len(volume))[:, None], np.asarray(pixels.rows), np.asarray(pixels.cols)]


def sums_by_pairs(rows, cols, values, kernel, causal, buffer=0.0):
    """sum over j not i of h_ij v_j, one pair at a time; times is the first axis."""
    out = np.zeros(values.shape)
    for t, i in np.ndindex(*values.shape):
        for s, j in np.ndindex(*values.shape):
            if (t, i) == (s, j) or (causal and s > t):
                continue
            square = (rows[t, i] - rows[s, j]) ** 2 + (cols[t, i] - cols[s, j]) ** 2
            near = np.exp(-0.5 * square / kernel.width**2) * kernel.decay ** abs(t - s)
            if buffer and s == t:
                near -= np.exp(-0.5 * square / buffer**2)
            out[t, i] += values[s, j] * near
    return out


def kernel_sums(cells, rows, cols, values, kernel, buffer=None):
    """The engine's sums with the pixel itself, or its surroundings, taken off, (t, n)."""
    values = jnp.asarray(values)
    pixels = pixels_at(values, rows, cols, jnp.ones(values.shape), cells.frame)
    decay, width = jnp.asarray(kernel.decay), jnp.asarray(kernel.width)
    hole = None if buffer is None else jnp.asarray(buffer)
    level, _ = make_level(cells, pixels, width, decay, kernel.causal, None, hole)
    frames = gathered(cells, level.places.cell, values[:, None], len(values))
    maps, _ = over_time(frames, decay, kernel.causal)
    out = []
    for t in range(len(values)):
        place = jax.tree.map(lambda a, t=t: a[t], level.places)
        out.append(level.others(maps[t], frames[t], place, level.own[t], values[t][None])[0])
    return np.stack(out), np.asarray(level.neighbours)


@pytest.mark.parametrize("causal", [False, True])
def test_kernel_sums_with_one_pixel_a_cell_are_the_sums_over_pairs(causal, rng):
    kernel = Kernel(1.2, 1.5, causal)
    flat = np.stack([rng.choice(12 * 15, 30, replace=False) for _ in range(3)]).astype(np.int32)
    rows, cols = np.divmod(flat, np.int32(15))
    values = rng.random((3, 30))
    cells = cells_for(kernel.width, (12, 15))
    assert cells.side == 1
    sums, count = kernel_sums(cells, rows, cols, values, kernel)
    # taps end at 4 pixels = 3.3 sd, where the kernel is .004
    expected = sums_by_pairs(rows, cols, values, kernel, causal)
    assert np.max(np.abs(sums - expected)) < 0.005 * expected.max()
    exact = sums_by_pairs(rows, cols, np.ones_like(values), kernel, causal)
    assert np.max(np.abs(count - exact)) < 0.005 * exact.max()


def test_a_buffer_takes_the_nearest_pixels_of_the_frame_off(rng):
    kernel, buffer = Kernel(2.5, 1.5), 1.4
    flat = np.stack([rng.choice(12 * 15, 60, replace=False) for _ in range(3)]).astype(np.int32)
    rows, cols = np.divmod(flat, np.int32(15))
    values = rng.random((3, 60))
    cells = cells_for(kernel.width, (12, 15), single=True)
    sums, count = kernel_sums(cells, rows, cols, values, kernel, buffer)
    expected = sums_by_pairs(rows, cols, values, kernel, False, buffer)
    # taps end at 3 sds of the kernel, where it is .011
    assert np.max(np.abs(sums - expected)) < 0.01 * expected.max()
    exact = sums_by_pairs(rows, cols, np.ones_like(values), kernel, False, buffer)
    assert np.max(np.abs(count - exact)) < 0.01 * exact.max()


def test_full_frame_sums_are_the_correlation_of_the_movie(rng):
    kernel = Kernel(1.0, 2.0, causal=True)
    grid = rng.random((4, 9, 10))
    cells = cells_for(kernel.width, (9, 10))
    where = np.indices((9, 10)).reshape(2, 1, -1).astype(np.int32)
    rows, cols = (np.broadcast_to(a, (4, 90)) for a in where)
    sums, _ = kernel_sums(cells, rows, cols, grid.reshape(4, -1), kernel)
    r = cells.reach
    d = np.arange(-r, r + 1)
    flat = np.exp(-0.5 * (d[:, None] ** 2 + d[None, :] ** 2) / kernel.width**2)
    table = kernel.decay ** np.arange(3, -1, -1)[:, None, None] * flat
    table[3, r, r] = 0
    expected = correlate(jnp.asarray(grid), jnp.asarray(table), (3, r, r))
    # the correlation goes by FFT: rounding relative to the largest sum
    np.testing.assert_allclose(sums, np.asarray(expected).reshape(4, -1), atol=1e-10)


def test_coarse_cells_leave_the_pixel_out_exactly(rng):
    """A pixel without another within reach has no neighbours, whatever the cell it lies in."""
    rows = rng.integers(0, 64, (1, 1)).astype(np.int32)
    cells = cells_for(5.0, (64, 64))
    assert cells.side > 1
    sums, count = kernel_sums(cells, rows, rows, np.full((1, 1), 0.7), Kernel(5.0, 0.0))
    assert abs(sums[0, 0]) < 1e-12
    assert count[0, 0] < 1e-12


def test_coarse_sums_are_near_the_sums_over_pairs(rng):
    kernel = Kernel(5.0, 1.0)
    flat = np.stack([rng.choice(64 * 64, 60, replace=False) for _ in range(3)]).astype(np.int32)
    rows, cols = np.divmod(flat, np.int32(64))
    values = rng.random((3, 60))
    sums, count = kernel_sums(cells_for(5.0, (64, 64)), rows, cols, values, kernel)
    expected = sums_by_pairs(rows, cols, values, kernel, False)
    weights = sums_by_pairs(rows, cols, np.ones_like(values), kernel, False)
    # where a pixel lies within its cell of 4 x 4 is lost; at 15 pixels a frame that shows
    assert np.corrcoef(sums.ravel(), expected.ravel())[0, 1] > 0.96
    assert sums.sum() == pytest.approx(expected.sum(), rel=0.1)
    share, true_share = sums / (1 + count), expected / (1 + weights)
    assert np.sqrt(np.mean((share - true_share) ** 2)) < 0.03


def test_kernel_follows_the_sampling():
    widths = [density_kernel(r * 512 * 512, (512, 512), False).width for r in (1.0, 0.1, 0.01)]
    np.testing.assert_allclose(widths, [1, 10**0.35, 100**0.35], rtol=1e-12)
    one = density_kernel(0.1 * 512 * 512, (512, 512), False, n_frames=1)
    # nine neighbours in the one frame there is
    assert 2 * np.pi * one.width**2 * 0.1 == pytest.approx(9)


def test_labels_area_and_trend_beat_the_plain_fit(scene, pixels, start, fitted):
    truth = visited(scene.labels, pixels)
    plain = np.asarray(MODEL.classify(start, pixels))
    local = np.asarray(fitted.classify())
    assert np.mean(local == truth) > 0.995 > np.mean(plain == truth)
    real = truth == 3
    # 341 visited pixels are foreground: ten of them are 3 %
    wrong = [abs(np.sum(labels == 3) / real.sum() - 1) for labels in (plain, local)]
    assert wrong[1] < min(0.03, wrong[0])
    assert np.all(np.asarray(fitted.fit.result) == Result.converged)


def test_responsibilities_are_probabilities_and_weights_their_means(pixels, fitted):
    resp = np.asarray(fitted.responsibilities)
    np.testing.assert_allclose(resp.sum(axis=1), 1, atol=1e-5)
    # the parameters come from the step before the last: equal to within the tolerance's root
    np.testing.assert_allclose(resp.mean(axis=2), fitted.fit.params.weights, atol=5e-3)


def test_criteria_rank_local_above_plain(pixels, start, fitted):
    plain = criteria(MODEL, fit(MODEL, pixels, init=start).params, pixels)
    local = local_criteria(MODEL, fitted, pixels)
    fields = fitted.coupling.field.reshape(-1, 4).shape[0]
    # the strength, and a field of which one direction changes nothing
    assert local.n_parameters == plain.n_parameters + 1 + 3 * fields
    assert local.bic < plain.bic - 100
    assert local.icl - local.bic < plain.icl - plain.bic  # twice the entropy of the labels


def turned(pixels, start, how):
    """The same pixels with the frame flipped or turned; the trend follows its axes."""
    last = SHAPE[1] - 1
    rows, cols, trend = pixels.rows, pixels.cols, start.trend
    if how == "flip":
        rows, trend = last - rows, trend * jnp.asarray([[1.0, -1.0, -1.0]])
    else:  # rows become columns: a quarter turn with a flip
        rows, cols, trend = cols, rows, trend[:, jnp.array([1, 0, 2])]
    moved = Pixels(pixels.values, rows, cols, pixels.weight, pixels.n_domain, pixels.shape)
    return moved, Params(start.weights, start.means, start.sds, trend, start.gain)


@pytest.mark.parametrize("how", ["flip", "transpose"])
def test_turning_the_movie_turns_the_result(how, pixels, start, fitted):
    moved, first = turned(pixels, start, how)
    other = fit_local(MODEL, moved, init=first)
    # sums come in another order, and the fixed point is found to 1e-5 nats
    np.testing.assert_allclose(other.responsibilities, fitted.responsibilities, atol=2e-3)
    np.testing.assert_array_equal(other.classify(), fitted.classify())


def test_order_of_pixels_does_not_matter(pixels, start, fitted, rng):
    order = rng.permutation(pixels.values.shape[1])
    cut = [a[:, order] for a in (pixels.values, pixels.rows, pixels.cols, pixels.weight)]
    mixed = Pixels(*cut, pixels.n_domain, pixels.shape)
    other = fit_local(MODEL, mixed, init=start)
    np.testing.assert_allclose(
        other.responsibilities, fitted.responsibilities[..., order], atol=2e-3
    )


def test_frame_by_frame_with_carried_past_is_the_causal_batch(pixels, start):
    """Parameters held (no step of theirs matters at this interaction): maps carry exactly."""
    local = Local(causal=True, interaction=1.5)
    model = GMRM(4, Trend("x + y + x:y"))
    whole = fit_local(model, pixels, local, init=start, tolerance=1e-9, max_steps=200)
    past, labels = None, []
    for t in range(SHAPE[0]):
        one = fit_local(
            model,
            pixels[t : t + 1],
            local,
            init=start[t : t + 1],
            past=past,
            tolerance=1e-9,
            max_steps=200,
        )
        past = one.past
        labels.append(np.asarray(one.classify())[0])
        np.testing.assert_allclose(one.neighbours[0], whole.neighbours[t], atol=1e-5)
    # both reach the same fixed point but for pixels near the decision boundary
    assert np.mean(np.stack(labels) == np.asarray(whole.classify())) > 0.998


def test_replicates_are_fitted_alone(scene, start):
    pixels = sample(jax.random.key(4), scene.movie, 0.2, replicates=2)
    both = fit_local(MODEL, pixels)
    one = Pixels(
        *(a[:, 1] for a in (pixels.values, pixels.rows, pixels.cols, pixels.weight)),
        pixels.n_domain,
        pixels.shape,
    )
    alone = fit_local(MODEL, one)
    assert both.responsibilities.shape[:2] == (SHAPE[0], 2)
    assert both.past is None
    np.testing.assert_array_equal(both.classify()[:, 1], alone.classify())


def test_a_hole_and_pixels_without_neighbours_use_the_frames_weights(start):
    scene = operando(3, shape=SHAPE)
    valid = np.ones(SHAPE[1:], bool)
    valid[10:50, 10:50] = False
    pixels = sample(jax.random.key(1), scene.movie.replace(valid=valid), 0.2)
    holed = fit_local(MODEL, pixels, init=start)
    truth = visited(scene.labels, pixels)
    assert np.mean(np.asarray(holed.classify()) == truth) > 0.99
    # without neighbours the model is the plain one, and its optimum is a fixed point
    plain = fit(MODEL, pixels, init=start, tolerance=1e-8)
    lonely = fit_local(MODEL, pixels, Local(width=0.05, memory=0.0), init=plain.params)
    assert np.all(lonely.n_alone == np.asarray(pixels.n_pixels))
    # both sums are in float32: 2100 nats to 1e-5 of it
    np.testing.assert_allclose(lonely.fit.log_likelihood, plain.log_likelihood, rtol=3e-5)


def test_one_frame_and_a_kernel_wider_than_the_frame(scene, pixels, start):
    one = pixels[4:5]
    first = start[4:5]
    alone = fit_local(MODEL, one, init=first)
    assert np.mean(np.asarray(alone.classify()) == visited(scene.labels, pixels)[4:5]) > 0.98
    wide = fit_local(MODEL, one, Local(width=500.0), init=first)
    plain = fit(MODEL, one, init=first)
    # every pixel is a neighbour: proportions are the frame's but for the interaction
    even = fit_local(MODEL, one, Local(width=500.0, interaction=1.0), init=first)
    np.testing.assert_allclose(even.fit.params.weights, plain.params.weights, atol=0.02)
    assert np.all(np.isfinite(np.asarray(wide.fit.log_likelihood)))


def test_bad_pixels_are_a_result_not_an_exception(pixels, start):
    values = np.array(pixels.values)
    values[0, 0] = np.nan
    bad = Pixels(
        jnp.asarray(values), pixels.rows, pixels.cols, pixels.weight, pixels.n_domain, pixels.shape
    )
    out = fit_local(GMRM(4, Trend("x + y + x:y")), bad, init=start)
    assert int(out.fit.result[0]) == Result.nonfinite
    assert np.all(np.asarray(out.fit.result[1:]) != Result.nonfinite)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"width": 0.0}, "kernel width 0.0"),
        ({"memory": -1.0}, "kernel memory -1.0"),
        ({"pseudo_count": 0.0}, "pseudo_count 0.0"),
        ({"interaction": 0.0}, "interaction 0.0"),
        ({"levels": 3}, "levels 3"),
        ({"buffer": -1.0}, "buffer -1.0"),
    ],
)
def test_impossible_settings_are_refused_by_name(kwargs, text):
    with pytest.raises(UsageError, match=text):
        Local(**kwargs)


def test_past_needs_a_causal_fit(pixels, start):
    past = fit_local(MODEL, pixels, Local(causal=True), init=start).past
    with pytest.raises(UsageError, match="past frames"):
        fit_local(MODEL, pixels, init=start, past=past)


def test_lowers_for_cuda_and_tpu(pixels, start):
    local = Local(width=2.0, memory=1.0)
    kernel = local.kernel(float(pixels.n_pixels[0]), pixels.shape, pixels.n_frames)
    whole = Part(MODEL.n_classes, (True,) * MODEL.trend.n_terms, 5)
    settings = _settings(local, kernel, pixels, (1e-5, 1.0, 5), whole, MODEL.n_classes)
    design = MODEL.design(pixels)

    def program(values, rows, cols, weight, first):
        item = Pixels(values, rows, cols, weight, pixels.n_domain, pixels.shape)
        movie = Observed(item, design)
        state = local_loop.begin(MODEL, movie, first, settings)
        found, _ = local_loop.advance(MODEL, movie, state, None, settings, jnp.asarray(5))
        return found.responsibilities

    args = (pixels.values, pixels.rows, pixels.cols, pixels.weight, start)
    lowered = jax.export.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(*args)
    assert set(lowered.platforms) == {"cpu", "cuda", "tpu"}


def test_an_all_dark_movie_does_not_fail():
    movie = Movie(images=np.full((2, 32, 32), 7, np.uint8))
    pixels = sample(jax.random.key(0), movie, 0.5)
    out = fit_local(GMRM(2), pixels)
    assert np.all(np.asarray(out.fit.result) != Result.converged)
