"""Bias, spread and coverage of sub-sampled growth curves: the paper's pipeline, and ours.

On the phantom the paper's own pipeline: every frame is fitted alone (4 classes, linear and xy
trend), labels are hard, the vote has radius 10 and threshold .4, and replicates x rate = 10. The
table is laid out as the paper's Table 1, the figure as its figure 4 (10th to 90th percentile
bands).

With --zoo three pipelines on scenes of `jaxmicro.data.zoo` (8 frames of 192 x 208), against the
truth: a count of perfect labels, which no count can beat; the paper's; and ours, the model that
`jaxmicro quantify` chooses without options from all pixels, with the difference estimator.

Command:   python experiments/subsampling_study.py --out study-out   (--quick for a glance)
           python experiments/subsampling_study.py --zoo [--families islands front ..] [--seed 1]
           [--rates .1 .05 .01] [--replicates 20]
Run time:  about 5 minutes on 2 idle cores (454 s were seen on busy ones); the zoo 3 minutes a scene
           for two rates on busy cores
Expected:  seed 0, in % of the mean true volume (um3), against the full-frame curve of the pipeline:
             10 %   bias -0.3 (-0.004)   width 11.3 (0.165)     0 % of the fits not converged
              5 %   bias +0.7 (+0.011)   width 16.0 (0.235)     0 %
              1 %   bias +7.4 (+0.108)   width 35.5 (0.519)     4.5 %
           Widths come from 24 frames x 100 or more replicates and repeat to about 3 %.
           The full-frame curve itself is 57 % (0.841 um3) below the truth on this phantom: the vote
           removes arms thinner than its radius, and a frame fitted alone invents deposit where
           there is none (first frames).
           These were measured before normal classes started from half the spread.

           Zoo, seed 1, 20 replicates (200 for perfect labels); bias and width in % of the mean true
           area, cover of the 80 and 95 % intervals in % of 160 (known to 3 %):

             scene, sds apart  rate   perfect labels     paper                    ours
             islands 1.6       10 %   -0.1  15.2  80  96   +447  1334  76  79    -4.4  11.1  61  87
                                1 %   -0.2  50.5  80  95   +460   894  52  60   -21.2  49.8  56  82
             front   5.2       10 %   +0.1  14.4  78  96   +518    27   0   0    -8.9   4.6   0   2
                                1 %   -0.4  46.9  81  97   +513    87   0   0    -6.3  19.8  57  80
             film    5.3       10 %   +0.2  11.9  82  95    -37    86  41  54    -0.0   2.7  86  98
                                1 %   -0.2  41.1  80  95    -32    77  44  60    -0.2  13.9  91  97
             ring    2.2       10 %   -0.0  11.3  78  95    -76    18  34  50    -2.3   7.7  68  88
                                1 %   +0.5  37.8  79  95    -70    40  31  47   -12.8  43.0  65  82
             rods    3.3       10 %   +0.0  22.4  82  95   +345  1630  17  20    +1.9  20.0  79  94
                                1 %   +1.3  78.4  77  96   +387  1573  38  46    -5.1  82.8  69  88

           Ours is narrower than a count of perfect labels at 10 % in all, and at 1 % where classes
           are more than 5 sds apart. It is biased where they are less than about 2.5 sds apart and
           few pixels were visited, and where edges are blurred (front): half of an edge is taken
           for a class between, which no error here holds.
"""

import argparse
import dataclasses
import pathlib
import time

import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.choose import Asked
from jaxmicro.app.quantify.spec import load
from jaxmicro.app.study import figures
from jaxmicro.app.study.run import PlanStudy, Study, find_model, unit_of
from jaxmicro.app.study.spec import PlanAsked
from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import Scene, operando
from jaxmicro.data.sampling import sample
from jaxmicro.data.totals import area_of
from jaxmicro.data.zoo import FAMILIES as ZOO
from jaxmicro.data.zoo import zoo
from jaxmicro.errors import JaxmicroError
from jaxmicro.growth.intervals import area_interval
from jaxmicro.growth.study import (
    QUANTITIES,
    RateStudy,
    Summary,
    measure_all_pixels,
    study_rate,
)

RATES = (0.10, 0.05, 0.01)


FAMILIES = ("islands", "rods", "front", "film", "dendrite", "ring")
SHAPE = (8, 192, 208)


def perfect(scene: Scene, rate: float, replicates: int, truth: np.ndarray) -> Summary:
    """The count of true labels, which no count can beat."""
    movie = Movie(np.isin(scene.labels, scene.foreground).astype(np.float32))
    pixels = sample(0, movie, rate, replicates=replicates)
    area, se = area_of(np.asarray(pixels.values) > 0.5, pixels)
    region = np.broadcast_to(np.asarray(pixels.n_domain, float)[:, None], area.shape)
    found = {"area_px": area, "area_px_se": se}
    for level in (80, 95):
        ends = area_interval(area, se, region, level)
        found |= {f"area_px_lo{level}": ends[0], f"area_px_hi{level}": ends[1]}
    table = [found.get(name, np.ones_like(area)) for name in QUANTITIES]
    return Summary.of(RateStudy(rate, np.stack(table).astype(np.float32)), truth, truth)


def of_family(name: str, seed: int, rates: list[float], replicates: int) -> None:
    """Three pipelines on one scene, against the truth."""
    scene = zoo(name, seed, n_frames=SHAPE[0], shape=SHAPE[1:])
    truth = np.isin(scene.labels, scene.foreground).sum(axis=(1, 2)).astype(float)
    hint = None if scene.hint == "auto" else scene.hint
    asked = Asked(foreground=hint)
    plans = {"paper": asked.over(load("paper")).plan()}
    try:
        pixels = sample(None, scene.movie)
        variant, start, _ = find_model(PlanAsked(None, asked), pixels, Stages())
        plans["ours"] = dataclasses.replace(variant.plan(), start=start)
    except JaxmicroError as problem:
        print(f"{name} {seed}: no model ({problem})", flush=True)
    for rate in rates:
        floor = perfect(scene, rate, max(replicates, 200), truth)
        found = {"perfect": floor} | {
            label: Summary.of(
                study_rate(scene.movie, plan, rate, replicates=replicates), truth, truth
            )
            for label, plan in plans.items()
        }
        cells = "  ".join(
            f"{f.bias_percent:+7.1f} {f.width_percent:6.1f} {f.cover80:4.0f} {f.cover95:4.0f}"
            for f in (found[label] for label in ("perfect", "paper", "ours") if label in found)
        )
        contrast = float(scene.truth["contrast"])
        print(f"{name:>9} {seed} {contrast:4.1f} {100 * rate:4g} %  {cells}", flush=True)


def table_of_zoo(options: argparse.Namespace) -> None:
    print("bias and width in % of the mean true area, cover of 80 and 95 % intervals in %")
    print(f"{'scene, sds apart':>17} {'rate':>6}  " + "  ".join(
        f"{label:>26}" for label in ("perfect labels", "paper", "ours")
    ))  # fmt: skip
    for name in options.families:
        of_family(name, options.seed, options.rates, options.replicates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="folder for the figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small movie, few replicates")
    parser.add_argument("--zoo", action="store_true", help="the table of the zoo instead")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=tuple(ZOO))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.05, 0.01])
    parser.add_argument("--replicates", type=int, default=25, help="of a zoo scene and rate")
    args = parser.parse_args()
    if args.zoo:
        began = time.perf_counter()
        table_of_zoo(args)
        print(f"{time.perf_counter() - began:.0f} s")
        return
    shape = (6, 96, 96) if args.quick else (24, 256, 256)
    scene = operando(args.seed, shape=shape)
    unit, um3 = unit_of(scene.movie, scene.thickness_um)
    truth = scene.volume_um3 / um3
    variant = load("paper")
    plan = variant.plan()
    began = time.perf_counter()
    full = measure_all_pixels(scene.movie, plan)[QUANTITIES.index("area_px"), :, 0]
    mean_true = float(scene.volume_um3.mean())
    print(f"phantom {shape}, mean true volume {mean_true:.4g} um3; against the full-frame curve")
    print(f"full frame against the truth: bias {np.mean(full - truth) * um3:+.3f} um3")
    print(f"{'rate':>6} {'B':>5} {'bias':>9} {'width':>9} {'bias':>8} {'width':>8} {'failed':>7}")
    print(f"{'':>6} {'':>5} {'um3':>9} {'um3':>9} {'%':>8} {'%':>8} {'fits %':>7}")
    studies = []
    for rate in (0.2, 0.1) if args.quick else RATES:
        replicates = 4 if args.quick else None
        one = study_rate(scene.movie, plan, rate, seed=args.seed, replicates=replicates)
        studies.append(one)
        found = Summary.of(one, full, truth)
        print(
            f"{100 * rate:5g}% {found.replicates:5d} {found.bias * um3:+9.3f} "
            f"{found.width * um3:9.3f} {found.bias_percent:+8.1f} {found.width_percent:8.1f} "
            f"{found.failed_percent:7.1f}",
            flush=True,
        )
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        ours = PlanStudy("paper", variant, full, tuple(studies), ())
        study = Study(scene.movie, (ours,), truth, unit, um3, ())
        print(f"wrote {figures.bands(study, ours, args.out / 'bands.png')}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
