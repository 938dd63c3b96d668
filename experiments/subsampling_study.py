"""Bias and spread of the paper's own pipeline at 10, 5 and 1 % sampling, on a phantom.

Every frame is fitted alone (4 classes, linear and xy trend), labels are hard, the vote has radius
10 and threshold .4, and replicates x rate = 10. The table is laid out as the paper's Table 1, the
figure as its figure 4 (10th to 90th percentile bands).

Command:   python experiments/subsampling_study.py --out study-out   (--quick for a glance)
Run time:  about 5 minutes on 2 idle cores (454 s were seen on busy ones)
Expected:  seed 0, in % of the mean true volume (um3), against the full-frame curve of the pipeline:
             10 %   bias -0.3 (-0.004)   width 11.3 (0.165)     0 % of the fits not converged
              5 %   bias +0.7 (+0.011)   width 16.0 (0.235)     0 %
              1 %   bias +7.4 (+0.108)   width 35.5 (0.519)     4.5 %
           Widths come from 24 frames x 100 or more replicates and repeat to about 3 %.
           The full-frame curve itself is 57 % (0.841 um3) below the truth on this phantom: the vote
           removes arms thinner than its radius, and a frame fitted alone invents deposit where
           there is none (first frames).
"""

import argparse
import pathlib
import time

import jax
import numpy as np

from jaxmicro.app import canvas
from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import sample
from jaxmicro.growth.analyse import analyse
from jaxmicro.growth.plan import Correction, ForegroundRule, Plan
from jaxmicro.growth.study import RateStudy, study_rate
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.neighbourhood import Neighbourhood

RATES = (0.10, 0.05, 0.01)


def bands(path: pathlib.Path, scene, full_um3, studies: list[RateStudy], um3: float) -> None:
    figure = canvas.new_figure(13, 4.2)
    axes = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
    time_s = scene.movie.times_s
    for ax, one, colour in zip(axes, studies, canvas.COLOURS, strict=False):
        low, middle, high = np.nanpercentile(one.areas * um3, [10, 50, 90], axis=1)
        ax.fill_between(time_s, low, high, color=colour, alpha=0.35, label="10 to 90 %")
        ax.plot(time_s, middle, color=colour, label="median")
        ax.plot(time_s, full_um3, color="black", linewidth=1, label="all pixels")
        ax.plot(time_s, scene.volume_um3, color="black", linestyle="--", label="truth")
        ax.set_title(f"{100 * one.rate:g} % ({one.n_replicates} replicates)")
        ax.set_xlabel("time (s)", **canvas.FONT)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("volume (µm$^3$)", **canvas.FONT)
    axes[0].legend(fontsize=10)
    canvas.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="folder for the figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small movie, few replicates")
    args = parser.parse_args()
    shape = (6, 96, 96) if args.quick else (24, 256, 256)
    scene = operando(args.seed, shape=shape)
    area_um2 = scene.movie.pixel_area_um2
    assert area_um2 is not None
    um3 = area_um2 * scene.thickness_um
    ball = Neighbourhood(radius=10, metric="l2", causal=True)
    plan = Plan(
        GMRM(4, Trend("x + y + x:y")),
        foreground=ForegroundRule("brightest"),
        correction=Correction(ball, 0.4),
    )
    began = time.perf_counter()
    full = analyse(sample(None, scene.movie), plan).growth.area_px
    mean_true = float(scene.volume_um3.mean())
    print(f"phantom {shape}, mean true volume {mean_true:.4g} um3; against the full-frame curve")
    print(f"full frame against the truth: bias {np.mean(full * um3 - scene.volume_um3):+.3f} um3")
    print(f"{'rate':>6} {'B':>5} {'bias':>9} {'width':>9} {'bias':>8} {'width':>8} {'failed':>7}")
    print(f"{'':>6} {'':>5} {'um3':>9} {'um3':>9} {'%':>8} {'%':>8} {'fits %':>7}")
    studies = []
    for i, rate in enumerate((0.2, 0.1) if args.quick else RATES):
        one = study_rate(
            jax.random.key(args.seed + i),
            scene.movie,
            plan,
            rate,
            replicates=4 if args.quick else None,
            at_once=4 if args.quick else 20,
        )
        studies.append(one)
        bias, width = one.bias(full) * um3, one.width() * um3
        print(
            f"{100 * rate:5g}% {one.n_replicates:5d} {bias:+9.3f} {width:9.3f} "
            f"{100 * bias / mean_true:+8.1f} {100 * width / mean_true:8.1f} "
            f"{100 * one.failed:7.1f}",
            flush=True,
        )
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        bands(args.out / "bands.png", scene, full * um3, studies, um3)
        print(f"wrote {args.out / 'bands.png'}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
