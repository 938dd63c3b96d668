"""The zoo must be what it says it is: what is drawn can be found again, given the labels."""

import functools

import numpy as np
import pytest

from jaxmicro.data.phantom import scaled_coordinates
from jaxmicro.data.zoo import FAMILIES, zoo
from jaxmicro.data.zoo_camera import CONTRAST, blurred
from jaxmicro.errors import UsageError
from jaxmicro.growth.partition import RULES
from jaxmicro.mixture.trend import Trend

SHAPE = (96, 112)


@functools.cache
def scene(family, seed):
    return zoo(family, seed, shape=SHAPE)


def sharp(noise):
    """Scenes with this noise, neither blurred nor overexposed."""
    found = [scene(f, s) for f in FAMILIES for s in range(4)]
    wanted = f"noise {noise}"
    found = [s for s in found if any(p.strip() == wanted for p in s.description.split(","))]
    return [s for s in found if "blur" not in s.description and "clipped" not in s.description]


def columns(found):
    """(n, P) columns of the trend's terms."""
    y, x = (np.asarray(c, float) for c in scaled_coordinates(SHAPE))
    names = {
        "x": x + 0 * y,
        "y": y + 0 * x,
        "x**2": x**2 + 0 * y,
        "y**2": y**2 + 0 * x,
        "x:y": x * y,
    }
    flat = [names[n].ravel() for n in found.terms]
    return np.stack(flat, axis=1) if flat else np.zeros((x.size * y.size, 0))


def residuals(found, t):
    """Frame t less its trend and class means, per pixel, in sds of its class."""
    labels, truth = found.labels[t].ravel(), found.truth
    grey = found.movie.images[t].ravel() - truth["means"][t][labels]
    return (grey - columns(found) @ truth["trend"][t]) / truth["sds"][t][labels], labels


def sum_of_correlations(found, power):
    """Of rho(d)^power, rho(d) = exp(-d^2 / 4 s^2), over all lags; 1 for white noise."""
    sigma = float(found.truth["correlation_px"])
    return max(1.0, 4 * np.pi * sigma**2 / power)


@pytest.mark.parametrize("family", FAMILIES)
def test_truth_counts_the_labels(family):
    found = scene(family, 0)
    truth, k = found.truth, len(found.classes)
    assert found.movie.shape == found.labels.shape == (4, *SHAPE)
    assert found.labels.dtype == found.movie.images.dtype == np.uint8
    assert 2 <= k <= 5
    shares = np.stack([(found.labels == i).mean(axis=(1, 2)) for i in range(k)], axis=1)
    np.testing.assert_allclose(truth["weights"], shares, rtol=1e-12)
    assert truth["means"].shape == truth["sds"].shape == (4, k)
    assert truth["trend"].shape == (4, len(found.terms))
    assert Trend(found.formula).terms == found.terms
    area = found.foreground_mask.sum(axis=(1, 2)) * found.movie.pixel_area_um2
    np.testing.assert_allclose(found.area_um2, area, rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_scenes_are_plausible(family, seed):
    found = scene(family, seed)
    share = found.foreground_mask.mean(axis=(1, 2))
    assert 0.015 <= share[0 if family == "stripping" else -1] <= 0.35
    assert (share[0] == 0) == (family == "late_birth")
    assert (share[-1] == 0) == (family == "stripping")
    # a pixel that moves by 2 and an object that grows: most of a frame stays as it was
    assert np.mean(found.labels[1:] == found.labels[:-1]) > 0.75
    means, sds = found.truth["means"][0], found.truth["sds"][0]
    gaps = np.diff(means) / np.sqrt((sds[1:] ** 2 + sds[:-1] ** 2) / 2)
    assert np.all((gaps > CONTRAST[0] - 1e-9) & (gaps < CONTRAST[1] + 1e-9))
    assert sds.max() / sds.min() <= 1.6
    clipped = np.mean((found.movie.images == 0) | (found.movie.images == 255))
    # the margin is 3.5 of the widest sd: 2.3e-4 in each tail at the very most
    assert clipped < 1e-3 or "clipped" in found.description
    ranks = found.hint.replace(",", "").isdigit()
    assert ranks or found.hint in RULES
    if ranks:
        assert tuple(int(r) for r in found.hint.split(",")) == found.foreground


def test_hints_follow_the_scene():
    """A lone bright class is "auto" only where it stands apart; dark ones are named or grow."""
    hints = {(f, scene(f, s).hint) for f in FAMILIES for s in (0, 1)}
    assert {h for f, h in hints if f in ("dark_particles", "pores", "halo")} == {"darkest"}
    assert {h for f, h in hints if f == "bright_particles"} <= {"auto", "brightest"}
    for family in ("islands", "rods", "front", "ring", "late_birth"):
        assert {h for f, h in hints if f == family} <= {"auto", "grows"}


def test_seeds_repeat_and_differ():
    a, b = scene("islands", 0), zoo("islands", 0, shape=SHAPE)
    np.testing.assert_array_equal(a.movie.images, b.movie.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.truth["trend"], b.truth["trend"])
    assert np.mean(a.labels == scene("islands", 1).labels) < 0.9
    sizes = {zoo("film", seed).movie.shape for seed in range(5)}
    assert len(sizes) > 1  # drawn too


@pytest.mark.parametrize("noise", ["gaussian", "poisson-gaussian", "correlated gaussian"])
def test_sds_and_means_are_those_of_the_record(noise):
    """A variance over n pixels has a relative standard error of sqrt(2 / n * sum of rho^2).

    The Poisson part's variance follows the trend, so those scenes are taken without one.
    """
    scores = []
    for found in sharp(noise):
        if noise.startswith("poisson") and found.terms:
            continue
        rest, labels = zip(*(residuals(found, t) for t in range(4)), strict=True)
        rest, labels = np.concatenate(rest), np.concatenate(labels)
        for k in range(len(found.classes)):
            mine = rest[labels == k]
            if mine.size > 200:
                spread = np.sqrt(2 / mine.size * sum_of_correlations(found, 2))
                error = np.sqrt(sum_of_correlations(found, 1) / mine.size)
                scores.append(((np.mean(mine**2) - 1) / spread, mine.mean() / error))
    assert len(scores) > 5
    # 150 scores at most: beyond 4 sds once in 100 seeds
    assert np.abs(scores).max() < 4.0


@pytest.mark.parametrize("noise", ["gaussian", "poisson-gaussian", "correlated gaussian"])
def test_trend_is_recovered_by_least_squares_given_the_labels(noise):
    scores = []
    for found in sharp(noise):
        for t in range(0, 4 if found.terms else 0):
            labels, sds = found.labels[t].ravel(), found.truth["sds"][t]
            present = np.unique(labels)
            full = np.concatenate([columns(found), labels[:, None] == present[None]], axis=1)
            full = full / sds[labels][:, None]
            covariance = np.linalg.inv(full.T @ full) * sum_of_correlations(found, 1)
            estimate = np.linalg.lstsq(full, found.movie.images[t].ravel() / sds[labels])[0]
            n = len(found.terms)
            error = estimate[:n] - found.truth["trend"][t]
            scores.extend(error / np.sqrt(np.diag(covariance)[:n]))
    assert len(scores) > 5
    # 150 scores at most: beyond 4 sds once in 100 seeds
    assert np.abs(scores).max() < 4.0


def test_correlated_noise_has_the_stated_correlation_with_its_neighbour():
    """exp(-1 / 4 s^2) for white noise after a Gaussian filter of sigma s, less rounding."""
    scenes = sharp("correlated gaussian")
    assert len(scenes) > 3
    for found in scenes:
        unit = np.stack([residuals(found, t)[0].reshape(SHAPE) for t in range(4)])
        expected = np.exp(-0.25 / float(found.truth["correlation_px"]) ** 2)
        # 4 frames of about 10 000 pixels, a sum of rho^2 of up to 14: a standard error of .02
        for lag in (unit[:, 1:] * unit[:, :-1], unit[:, :, 1:] * unit[:, :, :-1]):
            assert lag.mean() == pytest.approx(expected, abs=0.06)
    white = np.stack([residuals(s, 0)[0].reshape(SHAPE) for s in sharp("gaussian")])
    # at least 5 frames of 10 000 independent pairs: 4 standard errors
    assert abs(np.mean(white[:, 1:] * white[:, :-1])) < 4 / np.sqrt(white.size)


def test_a_gaussian_filter_is_one():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(4).normal(size=(12, 17))
    for sigma in (0.3, 1.0):
        reach = int(np.ceil(4 * sigma))
        expected = ndimage.gaussian_filter(image, sigma, mode="reflect", radius=reach)
        np.testing.assert_allclose(blurred(image, sigma), expected, atol=1e-12)
    np.testing.assert_array_equal(blurred(image, 0.0), image)


@pytest.mark.parametrize(
    ("family", "options", "word"),
    [
        ("moss", {}, "moss"),
        ("film", {"n_frames": 1}, "1 frames"),
        ("film", {"shape": (20, 90)}, "(20, 90)"),
    ],
)
def test_refuses_in_one_line(family, options, word):
    with pytest.raises(UsageError) as caught:
        zoo(family, 0, **options)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
