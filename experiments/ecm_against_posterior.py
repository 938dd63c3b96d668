"""What the posterior adds to the ECM point estimate on phantoms sampled at 1 %.

    Command: python experiments/ecm_against_posterior.py [--quick] [--part PART]

PART is one of speed, seeds, frames, movies, or all.

Parts:
  seeds  One 512 x 512 frame whose labels are scattered at random, 1 % of its pixels, default
         settings, 20 seeds: how far posterior means lie from the truth in posterior sds, posterior
         sds against observed-information standard errors, convergence.
  frames, movies  Area of whole frames, real (arranged) labels, four scenes: how often the 80 %
         posterior interval holds the truth, frames on their own and as one movie.
  speed  4 chains x 1000 draws on one frame against the textbook NumPyro model (a marginalised
         `MixtureSameFamily` with the default NUTS), effective draws per second of sampling.

Run time: speed 9 minutes (the textbook model takes them), seeds 5 minutes, frames and movies
several minutes each.
Expected: all on two cores that other programs shared.
speed: jaxmicro 3.0 s for 4 x 1000 draws on 2621 pixels, least bulk ESS 2516, 839 effective draws
a second; textbook 167 s, 985 and 6; a factor of 143 (median of two runs each, measured once).
seeds: |mean - truth| within 2 posterior sds in 98.8 % (weights), 100 % (means), 97.5 % (sds) and
95.0 % (trend); posterior sd over information s.e. 0.95 to 1.03 for every trend term, medians
1.015, 0.992, 0.768 and 0.994 for the means: the third class holds some 40 pixels, where the
likelihood is far from quadratic (0.33 to 2.97). r-hat <= 1.0052, no divergence in 19 of 20 seeds
(one divergence in the other).
frames: 80 % intervals of area hold the truth in 80.6 % of 98 frames (dendrite 79, front 86,
islands 75, rods 82 %), mean error +0.61 %, mean width 22.9 % of the area. No figures are kept
for movies: they take long on a busy machine.
"""

from __future__ import annotations

import argparse
import time

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_value

from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Sampler, posterior

TREND = Trend("x + y + x:y")
SCENES = ("dendrite", "front", "islands", "rods")


def information_errors(model: GMRM, pixels: Pixels, params: Params) -> dict[str, np.ndarray]:
    """Standard errors from the observed information of one frame, inverted by finite algebra."""
    k, p = model.n_classes, model.trend.n_terms
    z = jnp.asarray(pixels.values[0])
    design = model.design(pixels).reshape(p, -1)

    def minus(u: jax.Array) -> jax.Array:
        odds, means, log_sds, trend = jnp.split(u, [k - 1, 2 * k - 1, 3 * k - 1])
        log_weights = jax.nn.log_softmax(jnp.concatenate([odds, jnp.zeros(1)]))
        r = (z - trend @ design)[:, None] - means[None, :]
        joint = log_weights - log_sds - 0.5 * (r * jnp.exp(-log_sds)) ** 2
        return -jnp.sum(jax.nn.logsumexp(joint, axis=1))

    weights, means, sds, trend = (
        jnp.asarray(a[0]) for a in (params.weights, params.means, params.sds, params.trend)
    )
    odds = jnp.log(weights[:-1] / weights[-1])
    at = jnp.concatenate([odds, means, jnp.log(sds), trend])
    errors = np.sqrt(np.diag(np.linalg.inv(np.asarray(jax.jit(jax.hessian(minus))(at), float))))
    return {"means": errors[k - 1 : 2 * k - 1], "trend": errors[3 * k - 1 :]}


def seeds(n_seeds: int, sampler: Sampler) -> None:
    model = GMRM(4, TREND)
    distance: dict[str, list[np.ndarray]] = {"weights": [], "means": [], "sds": [], "trend": []}
    ratio: dict[str, list[np.ndarray]] = {"means": [], "trend": []}
    good = []
    for seed in range(n_seeds):
        scene = operando(seed, shape=(4, 512, 512), scatter=True)
        frame = scene.movie.select_frames(2, 3)
        pixels = sample(jax.random.key(seed), frame, 0.01)
        start = fit(model, pixels)
        result = posterior(jax.random.key(100 + seed), model, pixels, start, sampler=sampler)
        found = result.diagnose()
        worst = max(r for r, _, _ in found.table.values())
        good.append(worst <= 1.01 and found.divergences == 0)
        draws = result["posterior"]
        errors = information_errors(model, pixels, start.params)
        truth = {n: scene.truth[n] for n in ("means", "sds")}
        truth |= {n: scene.truth[n][2] for n in ("weights", "trend")}
        for name, values in truth.items():
            a = draws[name].values[:, :, 0]
            mean, sd = a.mean(axis=(0, 1)), a.std(axis=(0, 1))
            distance[name].append((mean - values) / sd)
            if name in ratio:
                ratio[name].append(sd / errors[name])
        print(f"  seed {seed}: r-hat {worst:.4f}, {found.divergences} divergences", flush=True)
    for name, table in distance.items():
        z = np.stack(table)
        print(f"{name}: |posterior mean - truth| <= 2 posterior sds in "
              f"{100 * np.mean(np.abs(z) <= 2):.1f} % of {z.size} (95 expected), "
              f"rms {np.sqrt(np.mean(z**2)):.2f} sds")  # fmt: skip
    for name, table in ratio.items():
        r = np.stack(table)
        middle = ", ".join(f"{v:.3f}" for v in np.median(r, axis=0))
        print(f"{name}: posterior sd / observed-information s.e. per parameter, median {middle}; "
              f"all within {r.min():.2f} to {r.max():.2f}")  # fmt: skip
    print(f"r-hat <= 1.01 and no divergence in {sum(good)} of {len(good)} seeds")


def bands(share: tuple[str, ...], n_frames: int, samplings: int, sampler: Sampler) -> None:
    model = GMRM(4, TREND, share=share)
    name = "one movie" if share else "frames on their own"
    inside, error, width = [], [], []
    for i, scene_name in enumerate(SCENES):
        scene = operando(10 + i, shape=(n_frames, 512, 512), scene=scene_name)
        # Frames without deposit leave a free fourth class nothing to describe.
        first = 0 if share else int(np.argmax(scene.truth["weights"][:, 3] > 0.02))
        movie = scene.movie.select_frames(first, n_frames)
        truth = (scene.labels[first:] == 3).sum(axis=(1, 2))
        for s in range(samplings):
            pixels = sample(jax.random.key(s), movie, 0.01)
            result = posterior(jax.random.key(s), model, pixels, sampler=sampler)
            low, high = result.area_interval(0.8)
            inside.append((low <= truth) & (truth <= high))
            area = result["growth"]["area_px"].values.mean(axis=(0, 1))
            seen = truth > 0
            error.append((area[seen] - truth[seen]) / truth[seen].mean())
            width.append((high - low)[seen] / truth[seen].mean())
            if share and not seen.all():
                print(f"    frames with no deposit: 90 % upper bound at most "
                      f"{100 * high[~seen].max() / 512**2:.2f} % of the frame")  # fmt: skip
        one = np.concatenate(inside[-samplings:])
        print(f"  {name}, {scene_name}: {100 * one.mean():.0f} % of {one.size}", flush=True)
    every = np.concatenate(inside)
    print(f"{name}: 80 % intervals of area hold the truth in {100 * every.mean():.1f} % of "
          f"{every.size} frames; mean error {100 * np.mean(np.concatenate(error)):+.2f} %, "
          f"mean width {100 * np.mean(np.concatenate(width)):.1f} % of the area")  # fmt: skip


def textbook(z, design, k):
    """The mixture as a NumPyro user would write it, in standardised greys."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(k)))
    means = numpyro.sample(
        "means",
        dist.TransformedDistribution(
            dist.Normal(0, 1.5).expand([k]).to_event(1), dist.transforms.OrderedTransform()
        ),
    )
    sds = numpyro.sample("sds", dist.LogNormal(jnp.log(1.0 / k), 0.5).expand([k]).to_event(1))
    trend = numpyro.sample("trend", dist.Normal(0, 0.5).expand([design.shape[0]]).to_event(1))
    centre = means + (trend @ design)[:, None]
    with numpyro.plate("pixels", z.shape[0]):
        mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(centre, sds))
        numpyro.sample("z", mixture, obs=z)


def least_ess(draws: dict[str, np.ndarray]) -> float:
    return min(
        float(np.min(az.ess(az.convert_to_dataset({"v": np.asarray(a)}), method="bulk").v.values))
        for a in draws.values()
    )


def speed(n_draws: int, repeats: int) -> None:
    model = GMRM(4, TREND)
    scene = operando(1, shape=(4, 512, 512))
    pixels = sample(jax.random.key(0), scene.movie.select_frames(2, 3), 0.01)
    start = fit(model, pixels)
    names = ("weights", "means", "sds", "trend")
    sampler = Sampler(draws=n_draws)
    ours = []
    for i in range(repeats + 1):  # the first run compiles
        began = time.perf_counter()
        result = posterior(jax.random.key(i), model, pixels, start, sampler=sampler)
        seconds = time.perf_counter() - began
        if i:
            ess = least_ess({n: result["posterior"][n].values[:, :, 0] for n in names})
            ours.append((seconds, ess, ess / seconds))
    low, high = np.quantile(np.asarray(pixels.values), [0.005, 0.995])
    centre, spread = (low + high) / 2, (high - low) / 4
    z = (pixels.values[0] - centre) / spread
    design = model.design(pixels).reshape(3, -1)
    p = start.params
    values = {"weights": p.weights[0], "means": (p.means[0] - centre) / spread,
              "sds": p.sds[0] / spread, "trend": p.trend[0] / spread}  # fmt: skip
    theirs = []
    kernel = NUTS(textbook, init_strategy=init_to_value(values=values))
    mcmc = MCMC(kernel, num_warmup=n_draws, num_samples=n_draws, num_chains=4,
                chain_method="vectorized", progress_bar=False)  # fmt: skip
    for i in range(repeats + 1):
        began = time.perf_counter()
        mcmc.run(jax.random.key(i), z, design, 4)
        draws = {n: np.asarray(a) for n, a in mcmc.get_samples(group_by_chain=True).items()}
        seconds = time.perf_counter() - began
        if i:
            ess = least_ess({n: draws[n] for n in names})
            theirs.append((seconds, ess, ess / seconds))
    for name, rows in (("jaxmicro", ours), ("textbook", theirs)):
        table = np.median(np.asarray(rows), axis=0)
        print(f"{name}: {table[0]:.1f} s after compilation for 4 x {n_draws} draws on "
              f"{z.shape[0]} pixels (warm-up, areas and predictions included), least bulk ESS "
              f"{table[1]:.0f}, {table[2]:.0f} effective draws a second")  # fmt: skip
    gain = np.median([r[2] for r in ours]) / np.median([r[2] for r in theirs])
    print(f"effective draws per second: {gain:.1f} times the textbook model's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few draws")
    parser.add_argument(
        "--part", choices=("seeds", "frames", "movies", "speed", "all"), default="all"
    )
    args = parser.parse_args()
    parts = ("speed", "seeds", "frames", "movies") if args.part == "all" else (args.part,)
    if args.quick:
        seeds(1, Sampler(chains=2, draws=100, warmup=100))
        return
    if "speed" in parts:
        speed(1000, 2)
    if "seeds" in parts:
        seeds(20, Sampler())
    if "frames" in parts:
        bands((), 16, 2, Sampler(draws=250, foreground=(3,)))
    if "movies" in parts:
        bands(("means", "sds"), 16, 1, Sampler(draws=250, warmup=200, foreground=(3,)))


if __name__ == "__main__":
    main()
