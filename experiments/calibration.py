"""Simulation-based calibration of the posterior: are its intervals what they say?

    Command: python experiments/calibration.py [--quick] [--datasets 200] [--variant VARIANT]

Parameters are drawn from the prior, grey values from the model, and the posterior of those grey
values is sampled by the shipped method: ECM fit, isotropic coordinates, NUTS. If model, likelihood,
Jacobians and sampler are right, the rank of the true parameter among the posterior draws is
uniform (Talts et al. 2018, arXiv:1804.06788). Each parameter's ranks get a chi-square test of
uniformity in 10 bins; p-values are Holm-corrected over all parameters of a variant and the run
passes if none is below .01.

The prior is the library's, with fixed scaling and classes kept a little further apart: 3 classes
and one trend term on 256 pixels of a single frame; 2 classes, one trend term, 4 frames of 128
pixels for the movie; VARIANT is frame, movie or both.

Run time: 149 s (frame) and 212 s (movie) for 200 data sets each on two shared cores.
Expected: smallest Holm-corrected p 1.000 of 10 parameters (frame; smallest raw p .165) and 0.520
of 18 (movie; smallest raw p .029): both pass. Divergences in 5 and 4 of the 200 runs, an r-hat
above 1.01 in 23 and 18 (500 draws a chain, classes that may overlap as the prior pleases).
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from scipy import stats

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors, Problem, Sampler, posterior
from jaxmicro.posterior.density import sample_prior
from jaxmicro.posterior.predict import simulate

FRAME = Priors(weights=4.0, gap=(4 / 3, 0.25), sd=(1 / 3, 0.3), scaling=(0.0, 1.0))
MOVIE = Priors(gap=(2.0, 0.25), sd=(0.5, 0.3), log_odds=(0.0, 1.0), walk_weights=(0.3, 0.5),
               walk_trend=(0.1, 0.5), reference=0, scaling=(0.0, 1.0))  # fmt: skip
N_RANKS = 100
BINS = 10


def planted(key: jax.Array, priors: Priors, model: GMRM, n_frames: int, n: int):
    """Parameters from the prior and pixels from the model."""
    place_key, prior_key, pixel_key = jax.random.split(key, 3)
    rows, cols = jax.random.randint(place_key, (2, n_frames, n), 0, 64)
    empty = jnp.zeros((n_frames, n), jnp.float32)
    pixels = Pixels(empty, rows, cols, jnp.ones_like(empty), jnp.full(n_frames, 4096.0), (64, 64))
    zero = jnp.zeros((), jnp.float32)
    noise = Noise().standardised(model.family, 0.0, 1.0, jnp.float32)
    places = Item(empty, model.design(pixels), jnp.ones_like(empty))
    problem = Problem(
        model.n_classes, model.trend.n_terms, bool(model.share), priors, places, None, noise,
        jnp.zeros(n_frames, jnp.float32), zero, jnp.asarray(0),
    )  # fmt: skip
    run = numpyro.handlers.trace(numpyro.handlers.seed(sample_prior, prior_key))
    sites = run.get_trace(problem)
    with numpyro.handlers.substitute(data={k: v["value"] for k, v in sites.items()}):
        mixture = sample_prior(problem)
    values = simulate(pixel_key, noise, mixture, places.design)
    truth = {"weights": jnp.exp(mixture.log_weights), "means": mixture.means, "sds": mixture.sds,
             "trend": mixture.trend}  # fmt: skip
    for name in ("walk_weights", "walk_trend"):
        if name in sites:
            truth[name] = sites[name]["value"]
    if problem.movie:
        truth["means"], truth["sds"] = mixture.means[0], mixture.sds[0]
    return Pixels(values, rows, cols, pixels.weight, pixels.n_domain, (64, 64)), truth


def ranks(
    key, variant: str, n_datasets: int, began: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rank of the truth among thinned draws: {parameter: (datasets, ...)}, and runs in doubt."""
    movie = variant == "movie"
    priors = MOVIE if movie else FRAME
    model = GMRM(2 if movie else 3, Trend("x"), share=("means", "sds") if movie else ())
    n_frames, n = (4, 128) if movie else (1, 256)
    sampler = Sampler(chains=4, draws=500, warmup=300)
    out: dict[str, list[np.ndarray]] = {}
    bad = np.zeros(2, int)
    for i in range(n_datasets):
        own, draw_key = jax.random.split(jax.random.fold_in(key, i))
        pixels, truth = jax.jit(planted, static_argnums=(1, 2, 3, 4))(
            own, priors, model, n_frames, n
        )
        result = posterior(draw_key, model, pixels, priors=priors, sampler=sampler,
                           noise=Noise(grey_step=0.0))  # fmt: skip
        draws = result["posterior"]
        found = result.diagnose()
        bad += np.array([bool(found.divergences), bool(found.bad)])
        for name, value in truth.items():
            some = draws[name].values.reshape(-1, *draws[name].shape[2:])
            some = some[:: max(1, some.shape[0] // N_RANKS)][:N_RANKS]
            rank = np.sum(some < np.asarray(value)[None], axis=0)
            out.setdefault(name, []).append(rank)
        if (i + 1) % 50 == 0:
            print(f"  {variant}: {i + 1} data sets after {time.perf_counter() - began:.0f} s",
                  flush=True)  # fmt: skip
    return {name: np.stack(r) for name, r in out.items()}, bad


def p_values(ranked: dict[str, np.ndarray]) -> dict[str, float]:
    out = {}
    for name, table in ranked.items():
        for at in np.ndindex(*table.shape[1:]):
            place = np.minimum(table[(slice(None), *at)] * BINS // (N_RANKS + 1), BINS - 1)
            counts = np.bincount(place, minlength=BINS)
            # Ranks 0..100 do not fill ten bins evenly: one bin has one rank more.
            share = np.bincount(np.arange(N_RANKS + 1) * BINS // (N_RANKS + 1), minlength=BINS)
            expected = counts.sum() * share / share.sum()
            label = f"{name}{list(at) if at else ''}"
            out[label] = float(stats.chisquare(counts, expected).pvalue)
    return out


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm (1979) step-down corrected p-values."""
    order = sorted(p, key=lambda name: p[name])
    out, worst = {}, 0.0
    for i, name in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - i) * p[name]))
        out[name] = worst
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a handful of data sets, no verdict")
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--variant", choices=("frame", "movie", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    n_datasets = 3 if args.quick else args.datasets
    variants = ("frame", "movie") if args.variant == "both" else (args.variant,)
    if args.quick:
        variants = variants[:1]
    for variant in variants:
        began = time.perf_counter()
        key = jax.random.fold_in(jax.random.key(args.seed), variant == "movie")
        ranked, bad = ranks(key, variant, n_datasets, began)
        raw = p_values(ranked)
        corrected = holm(raw)
        worst = min(corrected, key=lambda name: corrected[name])
        print(f"{variant}: {n_datasets} prior draws, {len(raw)} parameters, "
              f"{time.perf_counter() - began:.0f} s; {bad[0]} runs with divergences, "
              f"{bad[1]} with an r-hat above 1.01")  # fmt: skip
        for name in raw:
            print(f"  {name:<18} p = {raw[name]:.3f}, corrected {corrected[name]:.3f}")
        if not args.quick:
            verdict = "pass" if corrected[worst] > 0.01 else "FAIL"
            print(f"{variant}: smallest corrected p = {corrected[worst]:.3f} ({worst}): {verdict}")


if __name__ == "__main__":
    main()
