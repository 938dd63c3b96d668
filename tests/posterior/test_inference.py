"""The posterior of the GMRM: likelihoods, walks, samplers, refusals, what is kept."""

import functools

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.errors import DataError, UsageError
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.lanes import Lane
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors, Sampler, posterior
from jaxmicro.posterior.likelihood import (
    Mixture,
    gaussian_log_likelihood,
    pixel_log_likelihood,
)
from jaxmicro.posterior.random_walk import RandomWalk, unwhiten

QUICK = Sampler(chains=4, draws=250, warmup=150)
TRUTH = {"weights": [0.35, 0.65], "means": [60.0, 120.0], "sds": [8.0, 10.0], "trend": [5.0]}


def planted(n_frames=1, n=512, seed=0, weights=None):
    """Two classes and an x-trend, continuous grey values; `weights` (frames, 2)."""
    rng = np.random.default_rng(seed)
    w = np.broadcast_to(TRUTH["weights"] if weights is None else weights, (n_frames, 2))
    label = (rng.random((n_frames, n)) > w[:, :1]).astype(int)
    rows, cols = rng.integers(0, 64, (2, n_frames, n))
    z = np.take(TRUTH["means"], label) + TRUTH["trend"][0] * np.linspace(-1, 1, 64)[cols]
    z = z + np.take(TRUTH["sds"], label) * rng.standard_normal(z.shape)
    pixels = Pixels(
        jnp.asarray(z, jnp.float32), jnp.asarray(rows, jnp.int32), jnp.asarray(cols, jnp.int32),
        jnp.ones(z.shape, jnp.float32), jnp.full(n_frames, 4096.0), (64, 64),
    )  # fmt: skip
    return pixels, label


@functools.cache
def drawn(movie: bool, method: str = "nuts"):
    """One posterior per variant, shared by the tests below."""
    model = GMRM(2, Trend("x"), share=("means", "sds") if movie else ())
    pixels, _ = planted(3) if movie else planted()
    sampler = Sampler(chains=4, draws=250, warmup=150, method=method, steps=1500)
    return posterior(
        jax.random.key(1), model, pixels, sampler=sampler, foreground=(1,), log_likelihood_every=5
    )


@pytest.fixture
def lane():
    rng = np.random.default_rng(3)
    values = jnp.asarray(rng.normal(size=(2, 40)))
    return Lane(values, jnp.asarray(rng.uniform(-1, 1, (2, 2, 40))), jnp.ones((2, 40)))


@pytest.fixture
def mixture():
    rng = np.random.default_rng(4)
    return Mixture(
        jnp.log(jnp.asarray(rng.dirichlet(np.ones(3), 2))),
        jnp.sort(jnp.asarray(rng.normal(size=(2, 3))), axis=1),
        jnp.asarray(rng.uniform(0.3, 0.8, (2, 3))),
        jnp.asarray(rng.normal(size=(2, 2))),
        jnp.asarray(5.0),
    )


# -- likelihoods -----------------------------------------------------------------------------


def test_e_step_gives_value_gradient_and_hessian_of_the_marginal_likelihood(lane, mixture):
    noise = Noise().standardised(0.0, 1.0, jnp.float64)

    def plain(m):
        return jnp.sum(pixel_log_likelihood(noise, m, lane.values, lane.design))

    def fast(m):
        return jnp.sum(gaussian_log_likelihood(m, lane))

    assert float(fast(mixture)) == pytest.approx(float(plain(mixture)), rel=1e-12)
    ours, theirs = jax.grad(fast)(mixture), jax.grad(plain)(mixture)
    for name in ("log_weights", "means", "sds", "trend"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)

    def mean_only(f, means):
        return f(Mixture(mixture.log_weights, means, mixture.sds, mixture.trend, mixture.dof))

    second = [jax.hessian(functools.partial(mean_only, f))(mixture.means) for f in (fast, plain)]
    np.testing.assert_allclose(*second, rtol=1e-8, atol=1e-8)


def _by_hand(lane, mixture, density):
    """log sum_k p_k f(z) with SciPy; `density(z, mean, sd)` is a log density."""
    out = np.zeros(lane.values.shape)
    for t in range(out.shape[0]):
        slope = np.asarray(mixture.trend[t]) @ np.asarray(lane.design[:, t])
        total = 0
        for k in range(mixture.means.shape[1]):
            mean = float(mixture.means[t, k]) + slope
            one = density(np.asarray(lane.values[t]), mean, float(mixture.sds[t, k]))
            total = total + np.exp(float(mixture.log_weights[t, k]) + one)
        out[t] = np.log(total)
    return out


@pytest.mark.parametrize("kind", ["gaussian", "student-t", "poisson-gaussian", "censored"])
def test_densities_agree_with_scipy(lane, mixture, kind):
    def variance(mean, sd):
        return sd**2 + 0.3 * np.maximum(mean + 1, 0)

    noise, density = {
        "gaussian": (Noise(), stats.norm.logpdf),
        "student-t": (
            Noise("student-t"),
            lambda z, m, s: stats.t.logpdf(z, 5.0, m, s),
        ),
        "poisson-gaussian": (
            Noise("poisson-gaussian", gain=0.3, offset=-1.0),
            lambda z, m, s: stats.norm.logpdf(z, m, np.sqrt(variance(m, s))),
        ),
        "censored": (
            Noise(saturation=0.5),
            lambda z, m, s: np.where(
                z >= 0.5, stats.norm.logsf(0.5, m, s), stats.norm.logpdf(z, m, s)
            ),
        ),
    }[kind]
    ours = pixel_log_likelihood(
        noise.standardised(0.0, 1.0, jnp.float64), mixture, lane.values, lane.design
    )
    np.testing.assert_allclose(ours, _by_hand(lane, mixture, density), rtol=1e-9)


# -- walks -----------------------------------------------------------------------------------


def test_whitening_is_the_exact_square_root_of_walk_times_hint():
    rng = np.random.default_rng(5)
    n = 6
    centre, precision = rng.normal(size=(1, n)), rng.uniform(0, 4, (1, n))
    steps, loc, scale = jnp.asarray([0.4]), 0.5, 1.5
    hint = (jnp.asarray(centre), jnp.asarray(precision))
    walk = RandomWalk(loc, scale, steps, n, hint)
    difference = (np.eye(n) - np.eye(n, k=-1)) / 0.4
    difference[0, 0] = 1 / scale
    matrix = difference.T @ difference + np.diag(precision[0])
    right = precision[0] * centre[0]
    right[0] += loc / scale**2
    flat, log_volume = unwhiten(walk, jnp.zeros((1, n)))
    np.testing.assert_allclose(flat[0], np.linalg.solve(matrix, right), rtol=1e-10)
    root = jax.jacobian(lambda w: unwhiten(walk, w)[0][0])(jnp.zeros((1, n)))[:, 0]
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)
    assert float(log_volume) == pytest.approx(np.linalg.slogdet(np.asarray(root))[1], rel=1e-10)
    prior = difference.T @ difference
    value = rng.normal(size=(1, n))
    expected = stats.multivariate_normal(
        np.full(n, loc), np.linalg.inv(prior)
    ).logpdf(value[0])  # fmt: skip
    assert float(walk.log_prob(jnp.asarray(value))) == pytest.approx(expected, rel=1e-10)


# -- sampling --------------------------------------------------------------------------------


@pytest.mark.parametrize("movie", [False, True])
def test_nuts_recovers_what_was_planted(movie):
    result = drawn(movie)
    found = result.diagnose()
    # 4 x 250 draws leave r-hat some room; divergences none
    assert max(r for r, _, _ in found.table.values()) < 1.03
    assert found.divergences == 0
    for name, truth in TRUTH.items():
        a = result["posterior"][name].values
        mean, sd = a.mean(axis=(0, 1)), a.std(axis=(0, 1))
        # 4 sds over some 20 parameters of a fixed seed: a wrong model misses by tens
        assert np.all(np.abs(mean - np.broadcast_to(truth, mean.shape)) < 4 * sd), name


@pytest.mark.parametrize("movie", [False, True])
def test_means_stay_in_order_in_every_draw(movie):
    means = drawn(movie)["posterior"]["means"].values
    assert np.all(np.diff(means, axis=-1) > 0)


@pytest.mark.parametrize("method", ["laplace", "svi"])
def test_normal_approximations_agree_with_nuts_where_the_posterior_is_normal(method):
    ours, nuts = drawn(False, method)["posterior"], drawn(False)["posterior"]
    for name in ("means", "sds", "trend", "weights"):
        a, b = ours[name].values, nuts[name].values
        sd = b.std(axis=(0, 1))
        # 512 pixels of two clear classes; 1000 draws each: a quarter of an sd, a fifth in width
        assert np.all(np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) < 0.25 * sd), name
        np.testing.assert_allclose(a.std(axis=(0, 1)), sd, rtol=0.2)


def test_interval_widths_match_the_observed_information():
    """Sds of means and trend against the inverse Hessian of the log-likelihood at the fit."""
    pixels, _ = planted()
    model = GMRM(2, Trend("x"))
    start = fit(model, pixels).params
    z, f = (np.asarray(a, float)[0] for a in (pixels.values, model.design(pixels)[0]))

    def minus(u):
        w = jax.nn.sigmoid(u[0])
        logs = [jnp.log(w), jnp.log1p(-w)]
        joint = [
            logs[k] - u[3 + k] - 0.5 * ((z - u[5] * f - u[1 + k]) / jnp.exp(u[3 + k])) ** 2
            for k in range(2)
        ]
        return -jnp.sum(jnp.logaddexp(*joint))

    w = np.asarray(start.weights[0], float)
    at = np.concatenate(
        [[np.log(w[0] / w[1])], start.means[0], np.log(start.sds[0]), start.trend[0]]
    )
    errors = np.sqrt(np.diag(np.linalg.inv(jax.hessian(minus)(jnp.asarray(at)))))
    draws = drawn(False)["posterior"]
    ours = np.concatenate([draws[n].values[:, :, 0].std(axis=(0, 1)) for n in ("means", "trend")])
    np.testing.assert_allclose(ours, errors[[1, 2, 5]], rtol=0.15)


def test_a_class_that_is_absent_from_a_frame_gets_a_bound_near_zero():
    weights = np.array([[1.0, 0.0], [0.6, 0.4], [0.4, 0.6]])
    pixels, _ = planted(3, seed=2, weights=weights)
    model = GMRM(2, Trend("x"), share=("means", "sds"))
    result = posterior(jax.random.key(2), model, pixels, sampler=QUICK, foreground=(1,))
    share = result["posterior"]["weights"].values[..., 1]
    upper = np.quantile(share, 0.975, axis=(0, 1))
    # none of 512 seen: the rule of three allows 3 / 512 = 0.6 %; neighbours pull it up a little
    assert upper[0] < 0.02
    assert upper[1] > 0.35


def test_area_counts_what_was_seen_and_draws_what_was_not():
    result, (_, label) = drawn(False), planted()
    area = result["growth"]["area_px"].values[..., 0]
    seen = label.sum()
    share = result["posterior"]["weights"].values[:, :, 0, 1].mean()
    assert area.mean() == pytest.approx(seen + share * (4096 - 512), rel=0.01)
    low, high = result.area_interval(0.999)
    assert low[0] < 4096 * 0.65 < high[0]
    assert np.all(area <= 4096)


@pytest.mark.parametrize("placement", ["vectorized", "parallel"])
def test_chains_may_sit_side_by_side_on_devices(placement):
    pixels, _ = planted()
    sampler = Sampler(chains=2, draws=100, warmup=100, placement=placement)
    result = posterior(jax.random.key(1), GMRM(2, Trend("x")), pixels, sampler=sampler)
    other = drawn(False)["posterior"]["means"].values
    means = result["posterior"]["means"].values
    assert means.shape == (2, 100, 1, 2)
    # 200 draws of effective size over 60: half an sd
    gap = np.abs(means.mean(axis=(0, 1)) - other.mean(axis=(0, 1)))
    assert np.all(gap < 0.5 * other.std(axis=(0, 1)))


@pytest.mark.parametrize(
    "noise",
    [Noise("student-t"), Noise("poisson-gaussian", gain=0.1), Noise(saturation=130.0)],
    ids=["student-t", "poisson-gaussian", "censored"],
)
def test_other_noise_forms_recover_the_means(noise):
    pixels, _ = planted()
    if noise.saturation is not None:
        clipped = jnp.minimum(pixels.values, noise.saturation)
        pixels = Pixels(
            clipped, pixels.rows, pixels.cols, pixels.weight, pixels.n_domain, pixels.shape
        )
    sampler = Sampler(method="laplace", draws=250)
    result = posterior(jax.random.key(3), GMRM(2, Trend("x")), pixels, noise=noise, sampler=sampler)
    means = result["posterior"]["means"].values
    gap = np.abs(means.mean(axis=(0, 1))[0] - TRUTH["means"])
    assert np.all(gap < 4 * means.std(axis=(0, 1))[0])


# -- what is kept ----------------------------------------------------------------------------


# ArviZ warns of few draws for importance weights, and of pandas' future on its own account
@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_summarises_compares_and_draws_the_file(tmp_path):
    path = tmp_path / "posterior.nc"
    drawn(True).save(path)
    data = az.from_netcdf(path)
    table = az.summary(data, var_names=["means"])
    assert len(table) == 2
    assert az.loo(data) is not None
    other = tmp_path / "laplace.nc"
    drawn(True, "laplace").save(other)
    ranked = az.compare({"nuts": data, "laplace": az.from_netcdf(other)})
    assert set(ranked.index) == {"nuts", "laplace"}
    score = next(ranked[c] for c in ("elpd_loo", "elpd") if c in ranked.columns)
    # two sets of 200 draws of one posterior: their predictive scores agree to a few nats
    assert abs(float(score.iloc[0]) - float(score.iloc[1])) < 3
    posterior_group = data["posterior"]
    assert posterior_group["means"].attrs["units"] == "grey level"
    assert list(posterior_group["trend"].dims)[2:] == ["frame", "term"]
    assert data["growth"]["area_px"].attrs["units"] == "pixels"
    observed = data["observed_data"]["histogram"].values
    assert observed.sum() == 3 * 512


@pytest.mark.filterwarnings("ignore")
def test_trace_and_rank_plots_work_on_the_file(tmp_path):
    drawn(False).save(tmp_path / "posterior.nc")
    data = az.from_netcdf(tmp_path / "posterior.nc")
    assert az.plot_trace(data, var_names=["trend"]) is not None
    assert az.plot_rank(data, var_names=["trend"]) is not None


def test_predictions_cover_the_histogram_that_was_seen():
    result = drawn(True)
    new = result["posterior_predictive"]["histogram"].values
    new = new.reshape(-1, *new.shape[2:])
    seen = result["observed_data"]["histogram"].values
    low, high = np.quantile(new, [0.025, 0.975], axis=0)
    assert np.all(new.sum(axis=-1) == 512)
    # 95 % intervals of counts are wide at the edges: at least nine bins of ten
    assert np.mean((low <= seen) & (seen <= high)) > 0.9


def test_interruption_keeps_what_was_drawn_and_says_so():
    pixels, _ = planted()

    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    result = posterior(
        jax.random.key(1), GMRM(2, Trend("x")), pixels, sampler=QUICK, progress=interrupt
    )
    assert not result.complete
    assert result["posterior"].attrs["complete"] == 0
    # 5 blocks of 50 less 3 of warm-up
    assert result["posterior"].sizes["draw"] == 100
    assert "interrupted" in result.diagnose().problems[0]


def test_chains_that_disagree_are_named():
    result = drawn(False)
    shifted = result["posterior"].copy(deep=True)
    shifted["trend"][0] += 50.0
    bad = type(result)({**result.groups, "posterior": shifted}, "nuts", True, result.start)
    found = bad.diagnose()
    assert "trend[0, 0]" in found.bad
    assert "worst trend[0, 0]" in found.problems[0]
    assert not found.trusted


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (GMRM(2, Trend("x"), gain=True), "gain = true has no posterior form"),
        (GMRM(2, share=("means",)), r"share = \['means'\] has no posterior form"),
    ],
)
def test_variants_without_a_posterior_are_named(model, words):
    with pytest.raises(UsageError, match=words):
        posterior(jax.random.key(0), model, planted(2)[0])


def test_too_few_pixels_for_the_classes():
    with pytest.raises(DataError, match=r"frame 0 has 60 visited pixels, too few .* 3 classes"):
        posterior(jax.random.key(0), GMRM(3), planted(n=60)[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Noise("cauchy"), "likelihood 'cauchy' is not known"),
        (lambda: Noise("poisson-gaussian"), "gain = None is not allowed"),
        (lambda: Noise(gain=1.0), "gain = 1.0 has no effect"),
        (lambda: Noise("student-t", saturation=255.0), "no posterior form"),
        (lambda: Priors(gap=(0.0, 1.0)), "prior gap"),
        (lambda: Sampler(method="gibbs"), "method 'gibbs' is not known"),
        (lambda: Sampler(chains=0), "chains = 0"),
        (lambda: Sampler(target_accept=1.0), "target_accept = 1.0"),
    ],
)
def test_settings_that_make_no_sense(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_a_phantom_frame_at_one_percent_mixes_with_default_priors():
    """A rare class between two firm ones once made a curved ridge full of divergences."""
    scene = operando(1, shape=(4, 512, 512))
    pixels = sample(jax.random.key(0), scene.movie.select_frames(2, 3), 0.01)
    model = GMRM(4, Trend("x + y + x:y"))
    result = posterior(jax.random.key(1), model, pixels, sampler=QUICK)
    found = result.diagnose()
    assert found.divergences == 0
    assert max(r for r, _, _ in found.table.values()) < 1.03
