"""Every variant of the model is drawn; models and pixels that are not supported are refused."""

import jax
import numpy as np
import pytest

from jaxmicro.errors import DataError, UsageError
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Priors, Sampler, posterior


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (GMRM(2, Trend("x"), gain=True), "gain = true is not supported by the posterior"),
        (GMRM(2, share=("means",)), r"share = \['means'\] is not supported by the posterior"),
    ],
)
def test_models_that_are_not_supported_are_named(model, words, planted):
    with pytest.raises(UsageError, match=words):
        posterior(jax.random.key(0), model, planted(2)[0])


def test_too_few_pixels_for_the_classes(planted):
    with pytest.raises(DataError, match=r"frame 0 has 60 visited pixels, too few .* 3 classes"):
        posterior(jax.random.key(0), GMRM(3), planted(n=60)[0])


def test_a_reference_that_is_not_a_class(planted):
    with pytest.raises(UsageError, match="prior reference = 2 is not a class; use 0 to 1"):
        posterior(jax.random.key(0), GMRM(2), planted()[0], priors=Priors(reference=2))


@pytest.mark.parametrize("share", [(), ("means", "sds")], ids=["frames", "movie"])
@pytest.mark.parametrize("n_classes", [1, 2])
def test_a_model_without_a_trend_is_drawn(n_classes, share, planted, truth):
    """Without a trend, arrays over its terms are empty; with one class, those over log odds."""
    pixels, _ = planted(2)
    sampler = Sampler(method="laplace", draws=50, foreground=(0,), log_likelihood_every=25)
    model = GMRM(n_classes, Trend(""), share=share)
    result = posterior(jax.random.key(5), model, pixels, sampler=sampler)
    draws = result["posterior"]
    assert "trend" not in draws
    np.testing.assert_allclose(draws["weights"].sum("class"), 1, rtol=1e-5)
    known = truth["means"] if n_classes == 2 else [np.mean(np.asarray(pixels.values))]
    means = draws["means"].values.reshape(-1, n_classes)
    # 200 or more draws about an estimate that lies within a few of their sds of the truth
    assert np.all(np.abs(means.mean(axis=0) - known) < 4 * means.std(axis=0))
    assert result["growth"]["area_px"].shape == (4, 50, 2)


@pytest.mark.parametrize("method", ["laplace", pytest.param("svi", marks=pytest.mark.slow)])
def test_the_approximation_agrees_with_nuts_where_the_posterior_is_normal(drawn, method):
    ours, nuts = drawn(False, method)["posterior"], drawn(False)["posterior"]
    for name in ("means", "sds", "trend", "weights"):
        a, b = ours[name].values, nuts[name].values
        sd = b.std(axis=(0, 1))
        # 512 pixels of two clear classes; 1000 draws each: a quarter of an sd, a fifth in width
        assert np.all(np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) < 0.25 * sd), name
        np.testing.assert_allclose(a.std(axis=(0, 1)), sd, rtol=0.2)
