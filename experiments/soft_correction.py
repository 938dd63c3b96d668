"""What the soft correction gains over no correction, the vote and local proportions.

Command:
    python experiments/soft_correction.py                  # phantoms
    python experiments/soft_correction.py --data FOLDER    # a real movie as well
    python experiments/soft_correction.py --causal         # only past and present frames count
    python experiments/soft_correction.py --quick
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

import jax.numpy as jnp
import numpy as np
from scoring.labels import area_error, overlap, visited

import jaxmicro as jm
from jaxmicro.spacetime.learn import predict_hidden

VOTES = ((5, 0.05), (10, 0.4))
SCENES = ("dendrite", "rods", "islands")
SEEDS = (1, 3)  # reported; even seeds were used while this was written


class Scores:
    """Scores of each method at each rate, over movies."""

    def __init__(self):
        self.rows = {}

    def add(self, key, labels, probability, real, foreground, seconds):
        found, wanted = np.isin(labels, foreground), np.isin(real, foreground)
        error, by_probability = (area_error(f, wanted) for f in (found, probability))
        wrong = 100 * np.mean(labels != real)
        row = (wrong, overlap(found, wanted), error, abs(error), by_probability, seconds)
        self.rows.setdefault(key, []).append(row)

    def print(self):
        print(
            "rate  method            wrong %      IoU           area %         |area| %  by prob. %"
        )
        for (rate, method), rows in self.rows.items():
            mean, sd = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(
                f"{rate:<5.0%} {method:<16} {mean[0]:5.2f} ({sd[0]:4.2f})  {mean[1]:.3f} "
                f"({sd[1]:.3f})  {mean[2]:+7.2f} ({sd[2]:5.2f})  {mean[3]:6.2f}  {mean[4]:+7.2f} "
                f"({sd[4]:5.2f})  {mean[5]:5.1f} s"
            )


def neighbours_and_density(corrected, start, weights, responsibilities, pixels):
    """Posterior of each pixel with the shares of its neighbours in the place of the weights.

    The kernel is the one that the soft correction was fitted with; the vote's threshold and
    sharpness have no part in it.
    """
    numbers = [corrected.radius, corrected.time_scale, corrected.threshold, corrected.sharpness]
    dtype = responsibilities.dtype
    fitted = jm.SoftVote(
        *(jnp.asarray(v, dtype) for v in (*numbers, corrected.edge)),
        start.reach, start.frames, start.metric, start.causal,
    )  # fmt: skip
    log_q = predict_hidden(fitted, jnp.ones((), dtype), responsibilities, weights, pixels)
    density = np.asarray(responsibilities) / np.maximum(np.asarray(weights), 1e-12)[..., None]
    p = np.exp(np.asarray(log_q)) * density
    return p / p.sum(axis=1, keepdims=True)


def compare(scores, rate, model, pixels, real, foreground, causal):
    """All methods on the visited pixels of one movie."""
    fitted = jm.fit(model, pixels)
    p = model.responsibilities(fitted.params, pixels)
    labels = jnp.argmax(p, axis=1).astype(jnp.int32)
    chosen = list(foreground)

    def add(method, labels, probability, began):
        probability = np.asarray(probability)[:, chosen].sum(axis=1)
        seconds = time.perf_counter() - began
        labels = np.asarray(labels)
        scores.add((rate, method), labels, probability, real, foreground, seconds)

    add("none", labels, p, time.perf_counter())
    for radius, threshold in VOTES:
        began = time.perf_counter()
        ball = jm.Neighbourhood(radius, causal=causal)
        voted = jm.vote(labels, pixels, ball, threshold, n_classes=model.n_classes).labels
        hard = np.asarray(voted)[:, None] == np.arange(model.n_classes)[:, None]
        add(f"vote {radius}, {threshold}", voted, hard, began)
    began = time.perf_counter()
    settings = jm.SoftSettings(causal=causal)
    soft = jm.correct_softly(model, fitted.params, p, pixels, settings)
    add("soft", soft.labels, soft.probabilities, began)
    print(
        f"{rate:.0%}: radius {soft.radius:.2f} threshold {soft.threshold:.2f} time scale "
        f"{soft.time_scale:.2f} sharpness {soft.sharpness:.1f} edge {soft.edge:.2f} loss "
        f"{soft.loss[0]:.4f} -> {soft.loss[1]:.4f}",
        flush=True,
    )
    both = neighbours_and_density(soft, settings.vote(pixels), fitted.params.weights, p, pixels)
    add("shares x density", both.argmax(axis=1), both, began)
    began = time.perf_counter()
    local = jm.fit_local(model, pixels, jm.Local(causal=causal), init=fitted.params)
    add("local", local.classify(), local.responsibilities, began)


def phantoms(scores, scenes, seeds, rates, size, causal):
    for scene in scenes:
        for seed in seeds:
            made = jm.operando(seed, shape=size, scene=scene)
            model = jm.GMRM(4, jm.Trend(made.formula), ("means", "sds"))
            for rate in rates:
                middle = size[0] // 2
                frames = slice(middle - 1, middle + 2) if rate == 1 else slice(0, size[0])
                movie = made.movie.select_frames(frames.start, frames.stop)
                pixels = jm.sample(seed, movie, rate)
                real = visited(made.labels[frames], pixels)
                compare(scores, rate, model, pixels, real, made.foreground, causal)


def cells(folder, causal):
    """Phase-contrast frames of cells; the brightest of three classes against the masks."""
    scores = Scores()
    model = jm.GMRM(3, jm.Trend("x + y + x**2 + x:y + y**2"), ("means", "sds"))
    for rate, last in ((1.0, 2), (0.1, 6)):
        movie = jm.read_movie(folder / "frames").select_frames(0, last)
        masks = jm.read_movie(folder / "masks").select_frames(0, last)
        truth = np.stack([np.asarray(masks.frame(t)) > 0 for t in range(last)])
        pixels = jm.sample(1, movie, rate)
        # of the classes only the brightest is known, so "wrong" counts it against the others
        compare(scores, rate, model, pixels, 2 * visited(truth, pixels), (2,), causal)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one small phantom")
    parser.add_argument("--causal", action="store_true", help="past and present frames only")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=SCENES)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.1, 0.01])
    home = os.environ.get("JAXMICRO_DATA")
    parser.add_argument("--data", type=pathlib.Path, default=home, help="folder of the real movie")
    args = parser.parse_args()
    size, scenes, rates, seeds = (6, 192, 192), args.scenes, args.rates, args.seeds
    if args.quick:
        size, scenes, rates, seeds = (4, 64, 64), ["islands"], [0.3], [2]
    scores = Scores()
    phantoms(scores, scenes, seeds, rates, size, args.causal)
    print("phantoms: mean (sd) over movies")
    scores.print()
    if args.data is not None and not args.quick and (args.data / "psc_cells").is_dir():
        real = cells(args.data / "psc_cells", args.causal)
        print("cells")
        real.print()


if __name__ == "__main__":
    main()
