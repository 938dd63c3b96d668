"""Bias, spread and coverage of each estimator of foreground area, on scenes made by seed.

Scenes of `jaxmicro.data.zoo` (8 frames of 192 x 208) are sampled again and again at one rate. The
fit starts from the truth and has the true number of classes and trend: what is at stake is how the
area is read off it. Beside the estimators with local proportions stands the count of *perfect*
labels, which no estimator that counts can beat, and the paper's: each frame alone, hard labels, a
vote within 10 pixels (threshold .4). Bias and width (10th to 90th percentile) are in % of the mean
true area, coverage is that of the 80 and 95 % intervals of growth.csv.

    Command:  python experiments/area_estimators.py [--quick] [--families islands rods front ring]
              [--seeds FIRST COUNT] [--rates 0.1 0.02] [--replicates 12]
              Even seeds are for development, odd ones for reporting: FIRST, FIRST + 2, ...
    Run time: about 25 s a scene and rate on two idle cores; --quick 40 s
    Expected: seeds 1 and 3 of islands and rods, seed 1 of front, 6 replicates, on a busy machine
              (bias and width in % of the mean area; cover in % of 48 intervals, known to 6 %):

                                        perfect labels        difference
                scene, sds apart  rate   bias  width    bias  width  cover80  cover95
                islands 1, 1.6    10 %   -0.2   12.3    -5.8   10.8     50       67
                                   1 %   +2.6   32.9   -29.5   32.6     31       60
                islands 3, 6.6    10 %   +0.2    5.9    -0.1    3.2     83       98
                                   1 %   -2.8   23.6    -1.2   13.5     79       98
                rods 1, 3.3       10 %   +1.2   15.0    +3.7   13.3     90       98
                                   1 %   -0.9   56.2    +0.1   75.1     73       90
                rods 3, 4.2       10 %   +0.3   11.2    -1.8    8.0     81       98
                                   1 %   +4.7   37.2    +3.2   32.1     88       96
                front 1, 5.2      10 %   +1.2    8.9    -4.9    2.4      0        2
                                   1 %   +5.4   38.2    -3.4   11.7     83       94

              Two things spoil it. Below about 2 sds the map of the labels is wrong, and at 1 % so
              are the fitted means. Where edges are blurred (front 1: by .9 pixels, which also
              makes noise correlated) half of the edge is taken for another class, which no
              standard error here contains. The paper's pipeline: bias -29 to -100 % on the same.
              On even seeds, before the factor `ECHO`: 80 % intervals hold the truth in 75 % of the
              frames at 10 % (11 scenes, without one that is blurred) and in 72 % at 2 % (10
              scenes), median rms error 3.5 and 12.8 % against 5.6 and 15.7 of perfect labels.
"""

from __future__ import annotations

import argparse
import time

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.phantom import Scene
from jaxmicro.data.sampling import sample
from jaxmicro.data.totals import area_of
from jaxmicro.data.zoo import FAMILIES, zoo
from jaxmicro.growth.analyse import analyse, fit_plan
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.estimators import ESTIMATORS, Evidence
from jaxmicro.growth.intervals import LEVELS
from jaxmicro.growth.partition import Partition
from jaxmicro.growth.plan import Correction, ForegroundRule, Plan
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbourhood import Neighbourhood

SHAPE, N_FRAMES = (192, 208), 8
PAPER, PERFECT = "paper's pipeline", "perfect labels"


def truth_of(scene: Scene) -> Params:
    names = ("weights", "means", "sds", "trend")
    weights, means, sds, trend = (jnp.asarray(scene.truth[n], jnp.float32) for n in names)
    return Params(weights, means, sds, trend, jnp.ones_like(means))


def curves(scene: Scene, rate: float, seed: int) -> dict[str, Growth | np.ndarray]:
    """The areas of one sampling, by each way."""
    pixels = sample(seed, scene.movie, rate)
    k, foreground = len(scene.classes), tuple(int(f) for f in scene.foreground)
    trend = Trend(" + ".join(scene.terms))
    plan = Plan(GMRM(k, trend, share=("means", "sds")), local=Local(), start=truth_of(scene))
    fitted = fit_plan(pixels, plan)
    parts = (Partition(foreground, k, "the truth"),)
    labels = np.isin(fitted.classify(), foreground)
    evidence = Evidence(fitted, parts, labels, None, plan.local, scene.movie.valid)
    found: dict[str, Growth | np.ndarray] = {n: e(evidence) for n, e in ESTIMATORS.items()}
    rows, cols = np.asarray(pixels.rows), np.asarray(pixels.cols)
    frames = np.arange(N_FRAMES)[:, None]
    right = np.isin(np.asarray(scene.labels)[frames, rows, cols], foreground)
    found[PERFECT] = area_of(right, pixels)[0]
    vote = Correction(Neighbourhood(radius=10, metric="l2", causal=True), 0.4)
    alone = Plan(
        GMRM(k, trend), start=truth_of(scene), foreground=ForegroundRule("ranks", foreground),
        correction=vote,
    )  # fmt: skip
    found[PAPER] = analyse(pixels, alone).growth.area_px
    return found


def row(found: list[Growth | np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """Bias and width in % of the mean true area; coverage in % where there are intervals."""
    areas = np.array([f.area_px if isinstance(f, Growth) else f for f in found])
    low, high = np.nanpercentile(areas, [10, 90], axis=0)
    mean = truth.mean()
    out = {
        "bias": 100 * float(np.nanmean(areas, axis=0).mean() - mean) / mean,
        "width": 100 * float((high - low).mean()) / mean,
    }
    for level in LEVELS:
        ends = [f.interval_px(level) for f in found if isinstance(f, Growth)]
        if ends:
            held = [(lo <= truth) & (truth <= hi) for lo, hi in ends]
            out[f"cover{level}"] = 100 * float(np.mean(held))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=["islands", "rods", "front", "ring"],
                        choices=FAMILIES)  # fmt: skip
    parser.add_argument("--seeds", nargs=2, type=int, default=(1, 3), metavar=("FIRST", "COUNT"))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.02])
    parser.add_argument("--replicates", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one scene, few replicates")
    args = parser.parse_args()
    if args.quick:
        args.families, args.seeds, args.rates, args.replicates = ["islands"], (1, 1), [0.1], 3
    began = time.perf_counter()
    names = [PAPER, PERFECT, *ESTIMATORS]
    total: dict[tuple[float, str], list[dict[str, float]]] = {}
    for family in args.families:
        for seed in range(args.seeds[0], args.seeds[0] + 2 * args.seeds[1], 2):
            scene = zoo(family, seed, n_frames=N_FRAMES, shape=SHAPE)
            inside = np.isin(scene.labels, [int(f) for f in scene.foreground])
            truth = inside.sum(axis=(1, 2)).astype(float)
            contrast = float(scene.truth["contrast"])
            for rate in args.rates:
                runs = [curves(scene, rate, 1000 * seed + b) for b in range(args.replicates)]
                print(f"{family} {seed}, {100 * rate:g} %, classes {contrast:.1f} sds apart")
                for name in names:
                    found = row([r[name] for r in runs], truth)
                    total.setdefault((rate, name), []).append(found)
                    say(name, found)
    print("median over the scenes")
    for (rate, name), rows in total.items():
        keys = rows[0].keys()
        print(f"{100 * rate:g} %", end=" ")
        say(name, {key: float(np.median([r[key] for r in rows])) for key in keys})
    print(f"{time.perf_counter() - began:.0f} s")


def say(name: str, found: dict[str, float]) -> None:
    figures = "  ".join(f"{key} {value:+.1f}" for key, value in found.items())
    print(f"  {name:18s} {figures}", flush=True)


if __name__ == "__main__":
    main()
