"""The same posterior from an independent program: jaxmicro against PyMC on one small data set.

    Command: python experiments/posterior_against_pymc.py [--quick]

400 pixels of two classes and a trend in x; the priors of both programs are the same, written down
twice. PyMC is not among the project's packages: where it is missing the script says so and ends.
Means and sds are compared in units of their Monte-Carlo error, which for two correct programs is
standard normal: the largest of 14 should stay below 3.5.

Run time: 7 minutes on two busy cores, most of it compilers.
Expected: largest difference 1.2 Monte-Carlo errors of 14 (PyMC 5.28.5, measured once).
"""

from __future__ import annotations

import argparse
import time

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.posterior import Noise, Priors, Sampler, posterior


def planted(n: int) -> Pixels:
    """Two overlapping classes, so that the posterior is not trivially normal."""
    rng = np.random.default_rng(7)
    label = (rng.random((1, n)) > 0.4).astype(int)
    rows, cols = rng.integers(0, 64, (2, 1, n))
    z = np.array([-0.8, 0.7])[label] + 0.3 * np.linspace(-1, 1, 64)[cols]
    z = z + np.array([0.4, 0.5])[label] * rng.standard_normal(z.shape)
    return Pixels(
        jnp.asarray(z, jnp.float32), jnp.asarray(rows, jnp.int32), jnp.asarray(cols, jnp.int32),
        jnp.ones((1, n), jnp.float32), jnp.full(1, 4096.0), (64, 64),
    )  # fmt: skip


def by_pymc(pixels: Pixels, design: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    import pymc as pm

    k = 2
    with pm.Model():
        weights = pm.Dirichlet("weights", np.ones(k))
        lowest = pm.Normal("lowest", 2 / k - 2, 0.5)
        gap = pm.LogNormal("gap", np.log(4 / k), 0.5)
        means = pm.Deterministic("means", pm.math.stack([lowest, lowest + gap]))
        common = pm.LogNormal("common", np.log(1 / k), 0.5)
        sds = pm.LogNormal("sds", pm.math.log(common), 0.3, shape=k)
        trend = pm.StudentT("trend", nu=3, mu=0, sigma=0.25)
        centre = means[None, :] + (trend * design)[:, None]
        pm.NormalMixture("z", weights, mu=centre, sigma=sds, observed=np.asarray(pixels.values[0]))
        data = pm.sample(draws, tune=1000, chains=4, cores=2, random_seed=1, progressbar=False,
                         target_accept=0.9)  # fmt: skip
    found = {n: data.posterior[n].values for n in ("weights", "means", "sds", "trend")}
    return {n: a if a.ndim == 3 else a[..., None] for n, a in found.items()}


def error(a: np.ndarray, statistic: str) -> float:
    """Monte-Carlo standard error of the mean or the sd of draws (chain, draw)."""
    ess = az.ess(az.convert_to_dataset({"v": a}), method="mean" if statistic == "mean" else "sd")
    n = float(ess.v.values)
    return float(a.std() / np.sqrt(n if statistic == "mean" else 2 * n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="our side alone, few draws")
    args = parser.parse_args()
    pixels, model = planted(400), GMRM(2, Trend("x"))
    sampler = Sampler(draws=100, warmup=100) if args.quick else Sampler(draws=2000)
    began = time.perf_counter()
    result = posterior(
        jax.random.key(0),
        model,
        pixels,
        sampler=sampler,
        priors=Priors(scaling=(0.0, 1.0)),
        noise=Noise(grey_step=0.0),
    )
    print(f"jaxmicro: {time.perf_counter() - began:.1f} s with compilation")
    names = ("weights", "means", "sds", "trend")
    ours = {n: result["posterior"][n].values[:, :, 0] for n in names}
    if args.quick:
        return
    try:
        import pymc
    except ImportError:
        print("PyMC is not installed: nothing to compare with")
        return
    began = time.perf_counter()
    theirs = by_pymc(pixels, np.asarray(model.design(pixels)).reshape(-1), 2000)
    print(f"PyMC {pymc.__version__}: {time.perf_counter() - began:.1f} s with compilation")
    worst = 0.0
    for name in names:
        for j in range(ours[name].shape[-1]):
            a, b = ours[name][..., j], theirs[name][..., j]
            line = f"  {name}[{j}]: mean {a.mean():.4f} and {b.mean():.4f}, sd {a.std():.4f} and "
            line += f"{b.std():.4f};"
            for statistic, value in (("mean", np.mean), ("sd", np.std)):
                gap = value(a) - value(b)
                z = gap / np.hypot(error(a, statistic), error(b, statistic))
                worst = max(worst, abs(z))
                line += f" {statistic} {z:+.1f} errors apart"
            print(line)
    print(f"largest difference: {worst:.1f} Monte-Carlo errors")


if __name__ == "__main__":
    main()
