"""The phantom must be what it says it is: every later statistical test leans on its truth."""

import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.phantom import NOISES, Contrast, operando, scaled_coordinates, stages
from jaxmicro.data.phantom_growth import SHAPES
from jaxmicro.errors import UsageError

SHAPE = (20, 96, 128)


@pytest.fixture(scope="module", params=sorted(SHAPES))
def scene(request):
    return operando(3, shape=SHAPE, scene=request.param)


@pytest.fixture(scope="module", params=NOISES)
def big(request):
    return operando(5, shape=(12, 256, 256), contrast=Contrast(noise=request.param))


def residual_and_design(scene, t):
    """Frame t less its class means, and the trend's columns x, y, x:y, pixel by pixel."""
    y, x = (np.asarray(c, float) for c in scaled_coordinates(scene.movie.shape[1:]))
    ones = np.ones(scene.movie.shape[1:])
    design = np.stack([x * ones, y * ones, x * y], axis=-1).reshape(-1, 3)
    grey = scene.movie.images[t].astype(float) - scene.truth["means"][scene.labels[t]]
    return grey.ravel(), design


def test_truth_counts_the_labels(scene):
    t = SHAPE[0]
    assert scene.movie.shape == scene.labels.shape == SHAPE
    assert scene.labels.dtype == scene.movie.images.dtype == np.uint8
    for k in range(4):
        share = (scene.labels == k).reshape(t, -1).mean(axis=1)
        np.testing.assert_allclose(scene.truth["weights"][:, k], share, rtol=1e-12)
    area = scene.foreground_mask.sum(axis=(1, 2)) * scene.movie.pixel_area_um2
    np.testing.assert_allclose(scene.area_um2, area, rtol=1e-12)
    np.testing.assert_allclose(scene.volume_um3, area * scene.thickness_um, rtol=1e-12)
    assert np.all(np.diff(scene.truth["means"]) > 0)
    assert scene.formula == "x + y + x:y"
    assert scene.movie.frame_interval_s == pytest.approx(0.6)


def test_grows_then_strips_to_a_quarter(scene):
    first, peak, stripped = stages(SHAPE[0])
    area = scene.area_um2
    assert np.all(area[:first] == 0), "the first frames have no deposit"
    assert np.all(np.diff(area[: peak + 1]) >= 0)
    assert area.argmax() == peak
    assert np.all(np.diff(area[peak:stripped]) < 0)
    # a whole number of pixels, hence not exactly a quarter
    assert area[-1] / area[peak] == pytest.approx(0.25, abs=0.01)
    # a pixel deposits once and leaves once: nothing flickers
    on = scene.foreground_mask.astype(int)
    assert np.abs(np.diff(on, axis=0)).sum(axis=0).max() <= 2


def test_islands_stay(scene):
    _, _, stripped = stages(SHAPE[0])
    deposit = scene.foreground_mask
    assert deposit[-1].any()
    assert np.all(deposit[stripped:] == deposit[-1])
    assert np.all(deposit[stages(SHAPE[0])[1]][deposit[-1]]), "islands are what is left of the peak"


def test_electrode_and_interphase_never_vanish(scene):
    assert np.all(scene.truth["weights"][:, :3] > 0)
    electrode = scene.labels == 0
    assert np.all(electrode == electrode[0])


def test_dendrite_is_thin_and_branched():
    """Arms, not blobs: most of the deposit lies within 4 pixels of something else."""
    ndimage = pytest.importorskip("scipy.ndimage")
    whole = operando(1, shape=(10, 512, 512))
    peak = whole.foreground_mask[stages(10)[1]]
    depth = ndimage.distance_transform_edt(peak)[peak]
    assert np.quantile(depth, 0.75) < 4.0
    assert 0.04 < peak.mean() < 0.2
    n_islands = ndimage.label(whole.foreground_mask[-1])[1]
    assert n_islands > 10


def test_noise_moments(big):
    """Class means and sds of (grey - trend), against the truth within sampling error.

    The variance at a pixel is sd^2 (Gaussian) or sd^2 + gain * trend (Poisson part), gain 0.5.
    Sampling error of a variance over n pixels is var * sqrt(2 / n) (near-Gaussian noise).
    """
    for t in (0, 7, 11):
        grey, design = residual_and_design(big, t)
        trend = design @ big.truth["trend"][t]
        labels = big.labels[t].ravel()
        for k in np.unique(labels):
            mine = labels == k
            rest = grey[mine] - trend[mine]
            n, variance = mine.sum(), big.truth["sds"][k] ** 2
            assert abs(rest.mean()) < 4 * np.sqrt(variance / n)
            slack = 4 * variance * np.sqrt(2 / n)
            low, high = sorted((variance, variance + 0.5 * trend[mine].mean()))
            assert low - slack < rest.var() < high + slack


@pytest.mark.parametrize(("noise", "gain"), [("gaussian", 0.0), ("poisson-gaussian", 0.5)])
def test_variance_is_exactly_as_stated(noise, gain):
    """Electrolyte variance over a whole movie: 4 standard errors is about 0.8 %."""
    s = operando(2, shape=(12, 256, 256), contrast=Contrast(noise=noise), trend_scale=2.0)
    rest, shift = [], []
    for t in range(12):
        grey, design = residual_and_design(s, t)
        mine = s.labels[t].ravel() == 1
        trend = (design @ s.truth["trend"][t])[mine]
        rest.append(grey[mine] - trend)
        shift.append(trend)
    rest, shift = np.concatenate(rest), np.concatenate(shift)
    upper = shift > 6  # where the Poisson part is visibly larger
    for part in (upper, ~upper):
        expected = s.truth["sds"][1] ** 2 + gain * shift[part].mean()
        assert rest[part].var() == pytest.approx(expected, rel=4 * np.sqrt(2 / part.sum()))


def test_heavy_tails_are_those_of_four_degrees_of_freedom():
    s = operando(2, shape=(4, 192, 192), contrast=Contrast(noise="student-t"))
    rest = []
    for t in range(4):
        grey, design = residual_and_design(s, t)
        mine = s.labels[t].ravel() == 1
        rest.append((grey - design @ s.truth["trend"][t])[mine])
    u = np.abs(np.concatenate(rest)) / (s.truth["sds"][1] * 0.5**0.5)
    for limit in (1.0, 3.0, 5.0):
        expected = 2 * stats.t.sf(limit, 4)
        # 4 standard errors, and rounding to whole greys, which are an eighth of the scale
        error = 4 * np.sqrt(expected / u.size) + 0.02 * expected
        assert np.mean(u > limit) == pytest.approx(expected, abs=error)


def test_trend_recovered_by_least_squares_given_the_labels(big):
    """Weighted least squares for class means and trend; every z-score within 4, rms near 1."""
    scores = []
    for t in range(12):
        grey, design = residual_and_design(big, t)
        labels = big.labels[t].ravel()
        present = np.unique(labels)
        full = np.concatenate([design, labels[:, None] == present[None, :]], axis=1)
        sd = big.truth["sds"][labels]
        full, target = full / sd[:, None], grey / sd
        covariance = np.linalg.inv(full.T @ full)
        estimate = covariance @ (full.T @ target)
        # the mean residuals are 0 because the class means were taken off already
        truth = np.concatenate([big.truth["trend"][t], np.zeros(len(present))])
        scores.append(((estimate - truth) / np.sqrt(np.diag(covariance)))[:3])
    scores = np.array(scores)
    assert np.abs(scores).max() < 4.0  # 36 scores: beyond 4 once in 400 seeds
    assert 0.6 < np.sqrt((scores**2).mean()) < 1.4


def test_trend_drifts_and_jumps_once(big):
    steps = np.abs(np.diff(big.truth["trend"], axis=0)).sum(axis=1)
    assert np.all(steps > 0)
    assert np.sort(steps)[-1] > 2 * np.sort(steps)[-2]


def _clipped(images):
    return np.mean((images == 255) | (images == 0))


@pytest.mark.parametrize("noise", ["gaussian", "poisson-gaussian"])
def test_saturation_is_rare(noise):
    assert (
        _clipped(operando(5, shape=(12, 256, 256), contrast=Contrast(noise=noise)).movie.images)
        < 1e-4
    )


def test_heavy_tails_are_clipped_as_often_as_they_reach_the_ends():
    s = operando(5, shape=(12, 256, 256), contrast=Contrast(noise="student-t"), trend_scale=0.0)
    means, scales = s.truth["means"], s.truth["sds"] * 0.5**0.5
    # greys are rounded: all beyond 254.5 become 255, all below .5 become 0
    beyond = stats.t.sf((254.5 - means) / scales, 4) + stats.t.cdf((0.5 - means) / scales, 4)
    expected = float(s.truth["weights"].mean(axis=0) @ beyond)
    error = 4 * np.sqrt(expected / s.movie.images.size)  # of a count that is nearly Poisson
    assert _clipped(s.movie.images) == pytest.approx(expected, abs=error)


def test_seeds_repeat_and_differ():
    a, b, c = (operando(s, shape=(5, 48, 48)) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.movie.images, b.movie.images)
    np.testing.assert_array_equal(a.truth["trend"], b.truth["trend"])
    assert np.mean(a.movie.images == c.movie.images) < 0.1
    assert np.any(a.labels != c.labels)
    noise = a.movie.images.astype(int)
    assert np.mean(noise[0] == noise[1]) < 0.2, "frames have noise of their own"


def test_scatter_keeps_weights_and_loses_the_layout():
    kept = operando(1, shape=(5, 64, 64))
    lost = operando(1, shape=(5, 64, 64), scatter=True)
    np.testing.assert_array_equal(kept.truth["weights"], lost.truth["weights"])
    np.testing.assert_array_equal(kept.truth["trend"], lost.truth["trend"])

    def agreement(labels):
        return np.mean(labels[:, :, 1:] == labels[:, :, :-1])

    by_chance = np.mean((lost.truth["weights"] ** 2).sum(axis=1))
    assert agreement(kept.labels) > 0.9
    # 5 * 64 * 63 pairs of neighbours: a standard error of about 0.003
    assert agreement(lost.labels) == pytest.approx(by_chance, abs=0.012)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scene": "moss"}, "moss"),
        ({"shape": (2, 64, 64)}, "(2, 64, 64)"),
        ({"contrast": {"noise": "salt"}}, "salt"),
        ({"contrast": {"means": (1.0, 3.0, 2.0, 4.0)}}, "increasing"),
        ({"contrast": {"gain": 2.0}}, "gain"),
    ],
)
def test_refuses_in_one_line(options, word):
    contrast = options.pop("contrast", {})
    with pytest.raises(UsageError) as caught:
        operando(0, **{"shape": (4, 32, 32), **options}, contrast=Contrast(**contrast))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
