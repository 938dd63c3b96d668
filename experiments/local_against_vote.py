"""Local class proportions against the plain mixture, the vote, HMRF and Atropos.

Command:
    python experiments/local_against_vote.py                  # phantoms
    python experiments/local_against_vote.py --data FOLDER    # real movies as well
    python experiments/local_against_vote.py --quick

Run time: 12 minutes on 2 cores with other work on them, 2 of them the full frames of one seed;
--data adds 2 minutes

Phantoms of four shapes; the same visited pixels go to every method. `accuracy` is over the four
classes, `IoU`, `area` and `|area|` are of the foreground among the visited pixels (so they hold
what the labels get wrong, not what the sampling leaves open), in frames with deposit, `thin` is the
recall on foreground that an opening by a disc of radius 3 removes. `trend` is the mean error of
every trend coefficient with its standard error over runs, in grey. HMRF (dipy) and Atropos
(antspyx) see whole frames with the *true* trend removed, because neither knows of one.

On real movies nobody knows the truth: half of the visited pixels are hidden, and each method's
class proportions there, from the other half, are scored by the log-loss of the grey value.

Expected: (8 runs: 4 shapes, 2 seeds, 24 frames of 512 x 512; full frames: 4 runs of 4 frames; the
standard errors below are the spread over runs)

 rate  method        accuracy  IoU    area %  |area| %  thin   trend x, y, x:y (s.e.)
 100%  plain         .9921    .9763    +.28     .28    .9879  +.034 (.026) +.038 (.077) +.033 (.041)
 100%  vote 5, .05   .9961    .9861    +.32     .63    .9879
 100%  vote 20, .2   .9794    .6907  -28.97   29.41    .5623
 100%  vote 10, .4   .9686    .5943  -35.13   35.23    .3089
 100%  local         .9999    .9995    +.01     .02    .9962  +.003 (.012) -.010 (.004) -.013 (.014)
 100%  local causal  .9999    .9996    -.00     .02    .9961  +.003 (.012) -.009 (.003) -.012 (.015)
 100%  HMRF          .9991    .9925    -.72     .72    .9727  (told the true trend; 1 frame a shape)
 100%  Atropos       .8816    .8933  +13.79   13.82    .9997  (likewise; two of four shapes misread)
 10%   plain         .9918    .9686    -.30     .92    .9752  +.003 (.015) +.126 (.042) +.052 (.028)
 10%   vote 5, .05   .9958    .9742   -3.08    3.83    .9167
 10%   vote 20, .2   .9758    .5008  -53.52   55.48    .2153
 10%   vote 10, .4   .9695    .4470  -49.99   61.84    .1996
 10%   local         .9998    .9987    -.06     .11    .9909  -.016 (.008) +.017 (.011) +.018 (.018)
 10%   local causal  .9998    .9981    -.33     .39    .9796  -.016 (.008) +.017 (.011) +.016 (.018)
 1%    plain         .9916    .9685    -.25    1.72    .9653  +.033 (.020) +.151 (.045) +.140 (.049)
 1%    vote 5, .05   .9830    .7642   -9.52   16.42    .6300
 1%    vote 20, .2   .9753    .5024  -50.63   52.45    .1901
 1%    vote 10, .4   .9670    .4525  -44.04   57.60    .1977
 1%    local         .9995    .9970    -.23     .35    .9918  +.008 (.020) +.012 (.039) +.090 (.045)
 1%    local causal  .9992    .9941    -.59     .68    .9479  +.009 (.019) +.012 (.039) +.092 (.045)

    hidden pixels, nats above the local model: Zn, 10 % seen: plain .281, best vote .047; 2 % seen:
    .229, .063. Cells, 10 % seen: plain .400, best vote .054; 2 % seen: .361, .074.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scoring.labels import area_errors, overlap, visited

import jaxmicro as jm
from jaxmicro.data.phantom import scaled_coordinates
from jaxmicro.spacetime.neighbourhood import neighbour_sum

VOTES = ((5, 0.05), (20, 0.2), (10, 0.4))
SHAPES = ("dendrite", "rods", "islands", "front")
DISC = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3


class Tally:
    """Figures of one method at one rate, over runs."""

    def __init__(self):
        self.rows, self.trend, self.seconds = [], [], []

    def add(self, labels, truth, thin, foreground, seconds, trend_error=None):
        found, real = np.isin(labels, foreground), np.isin(truth, foreground)
        area = area_errors(found, real)
        self.rows.append(
            (
                np.mean(labels == truth),
                overlap(found, real),
                area.mean(),
                np.abs(area).mean(),
                np.mean(found[thin]) if thin.any() else np.nan,
            )
        )
        self.seconds.append(1000 * seconds)
        if trend_error is not None:
            self.trend.append(trend_error.mean(axis=0))

    def line(self, name):
        accuracy, iou, area, size, thin = np.nanmean(self.rows, axis=0)
        text = (
            f"{name:<18} {accuracy:.4f}  {iou:.4f} {area:+7.2f} {size:7.2f} {thin:7.4f} "
            f"{np.median(self.seconds):8.1f}"
        )
        if len(self.trend) > 1:
            error = np.array(self.trend)
            se = error.std(axis=0, ddof=1) / len(error) ** 0.5
            pairs = zip(error.mean(axis=0), se, strict=True)
            text += "   " + "  ".join(f"{m:+.3f} ({s:.3f})" for m, s in pairs)
        return text


def one_run(tallies, scene, frames, rate, seed, rivals, n_votes):
    """All methods on one phantom at one rate."""
    movie = scene.movie.select_frames(*frames)
    labels, trend = scene.labels[slice(*frames)], scene.truth["trend"][slice(*frames)]
    n_frames = len(labels)
    pixels = jm.sample(jax.random.key(seed), movie, rate)
    model = jm.GMRM(4, jm.Trend(scene.formula), ("means", "sds"))
    thick = np.stack([ndimage.binary_opening(np.isin(f, scene.foreground), DISC) for f in labels])
    thin_map = np.isin(labels, scene.foreground) & ~thick
    real, thin = visited(labels, pixels), visited(thin_map, pixels)

    def score(name, found, seconds, params=None):
        error = None if params is None else np.asarray(params.trend) - trend
        tally = tallies.setdefault((rate, name), Tally())
        tally.add(np.asarray(found), real, thin, scene.foreground, seconds / n_frames, error)

    began = time.perf_counter()
    plain = jax.block_until_ready(jm.fit(model, pixels))
    seconds = time.perf_counter() - began
    first = model.classify(plain.params, pixels)
    score("plain", first, seconds, plain.params)
    for radius, threshold in VOTES[:n_votes]:
        began = time.perf_counter()
        ball = jm.Neighbourhood(radius)
        voted = jm.vote(first, pixels, ball, threshold, n_classes=4)
        score(f"vote {radius}, {threshold}", voted.labels, seconds + time.perf_counter() - began)
    for name, local in (("local", jm.Local()), ("local causal", jm.Local(causal=True))):
        began = time.perf_counter()
        fitted = jax.block_until_ready(jm.fit_local(model, pixels, local))
        score(name, fitted.classify(), time.perf_counter() - began, fitted.fit.params)
    if rate != 1:
        return
    at = n_frames - 1  # one frame: these take seconds each
    y, x = scaled_coordinates(pixels.shape)
    flat = movie.frame(at) - (trend[at, 0] * x + trend[at, 1] * y + trend[at, 2] * x * y)
    for name, segment in rivals.items():
        began = time.perf_counter()
        found = segment(flat)
        seconds = time.perf_counter() - began
        tally = tallies.setdefault((rate, name), Tally())
        tally.add(
            found.reshape(1, -1),
            labels[at].reshape(1, -1),
            thin_map[at].reshape(1, -1),
            scene.foreground,
            seconds,
        )


def load_rivals():
    """Segmenters of one frame that are installed; a line for each that is not."""
    found = {}
    try:
        from dipy.segment.tissue import TissueClassifierHMRF

        def hmrf(image):
            # 0 means outside to it, and it wants more than one slice; of beta .1 to 2, 2 is best
            slices = np.repeat((image - image.min() + 1)[..., None].astype(float), 2, axis=2)
            _, labels, _ = TissueClassifierHMRF(verbose=False).classify(slices, 4, 2.0, max_iter=15)
            return np.maximum(labels[..., 0].astype(int) - 1, 0)

        found["HMRF, true trend"] = hmrf
    except ImportError:
        print("HMRF left out: dipy is not installed (pip install dipy)")
    try:
        import ants

        def atropos(image):
            picture = ants.from_numpy(image.astype(np.float32))
            mask = ants.from_numpy(np.ones(image.shape, np.float32))
            found = ants.atropos(picture, mask, i="kmeans[4]", m="[1,1x1]", c="[20,0]")
            return found["segmentation"].numpy().astype(int) - 1

        found["Atropos, true trend"] = atropos
    except ImportError:
        print("Atropos left out: antspyx is not installed (pip install antspyx)")
    return found


def split(pixels: jm.Pixels, seed: int) -> tuple[jm.Pixels, jm.Pixels]:
    """Visited pixels in two random halves."""
    order = np.random.default_rng(seed).permutation(pixels.values.shape[-1])
    half = len(order) // 2
    halves = []
    for pick in (np.sort(order[:half]), np.sort(order[half:])):
        cut = [a[..., pick] for a in (pixels.values, pixels.rows, pixels.cols, pixels.weight)]
        halves.append(jm.Pixels(*cut, pixels.n_domain, pixels.shape, pixels.pattern))
    return halves[0], halves[1]


def hidden_pixels(movie, model, rate, seed, n_frames):
    """Log-loss of hidden pixels for the plain model, the votes and local proportions."""
    seen, hidden = split(jm.sample(jax.random.key(seed), movie, rate), seed)
    weight = np.broadcast_to(np.asarray(hidden.weight), hidden.values.shape)
    design = model.design(hidden)
    design = design[:, None] if design.ndim == 2 else design

    def loss(params, proportions):
        even = jm.Params(
            jnp.ones_like(params.weights), params.means, params.sds, params.trend, params.gain
        )
        density = np.exp(np.stack(model.log_joint(even, hidden.values, design), axis=1))
        mixed = np.sum(density * proportions, axis=1)
        return -np.sum(weight * np.log(np.maximum(mixed, 1e-30))) / weight.sum()

    plain = jm.fit(model, seen)
    weights = np.asarray(plain.params.weights)[..., None]
    out = {"plain": loss(plain.params, weights)}
    labels = model.classify(plain.params, seen)
    times = np.broadcast_to(np.arange(n_frames)[:, None], labels.shape)
    rows, cols = (np.broadcast_to(np.asarray(a), labels.shape) for a in (seen.rows, seen.cols))
    used = np.broadcast_to(np.asarray(seen.weight) > 0, labels.shape)
    for radius, threshold in VOTES:
        ball = jm.Neighbourhood(radius)
        voted = jm.vote(labels, seen, ball, threshold, n_classes=model.n_classes)
        counts = []
        for k in range(model.n_classes):
            grid = np.zeros((n_frames, *seen.shape), bool)
            hit = used & (np.asarray(voted.labels) == k)
            grid[times[hit], rows[hit], cols[hit]] = True
            counts.append(visited(np.asarray(neighbour_sum(jnp.asarray(grid), ball)), hidden))
        counts = np.stack(counts, axis=1)
        share = (weights + counts) / (1 + counts.sum(axis=1, keepdims=True))
        out[f"vote {radius}, {threshold}"] = loss(plain.params, share)
    settings = jm.Local()
    fitted = jm.fit_local(model, seen, settings)
    params = fitted.fit.params
    maps = jm.dense_maps(
        fitted.responsibilities, seen, params.weights, settings, float(fitted.interaction)
    )
    at = [np.broadcast_to(np.asarray(a), hidden.values.shape) for a in (hidden.rows, hidden.cols)]
    share = np.stack([m[:, at[0][t], at[1][t]] for t, m in enumerate(maps)])
    out["local"] = loss(params, share)
    return out


def real_movies(folder: pathlib.Path) -> None:
    """Zn dendrites and cells."""
    zinc = jm.read_movie(folder / "zn_dendrite" / "Video_Zn_Dendrite_growth.gif")
    zinc = zinc.crop((134, 471, 125, 462)).crop((35, 262, 40, 150))
    cells = jm.read_movie(folder / "psc_cells" / "frames").select_frames(0, 20)
    jobs = {
        "Zn": (zinc, jm.GMRM(3, jm.Trend("x + y"), ("means", "sds"))),
        "cells": (cells, jm.GMRM(3, jm.Trend("x + y + x**2 + x:y + y**2"), ("means", "sds"))),
    }
    print("\nhidden pixels, log-loss in nats per pixel above the best")
    for name, (movie, model) in jobs.items():
        for rate in (0.2, 0.04):
            losses = hidden_pixels(movie, model, rate, 0, movie.n_frames)
            best = min(losses.values())
            text = "  ".join(f"{k} {v - best:+.4f}" for k, v in losses.items())
            print(f"{name:<6} {rate / 2:.0%} seen: {text}   (best {best:.4f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one small phantom")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.1, 0.01])
    parser.add_argument("--scenes", nargs="+", default=list(SHAPES), choices=SHAPES)
    home = os.environ.get("JAXMICRO_DATA")
    parser.add_argument("--data", type=pathlib.Path, default=home, help="folder of the real movies")
    parser.add_argument("--no-phantoms", action="store_true", help="real movies only")
    args = parser.parse_args()
    size, scenes, rates, seeds = (24, 512, 512), args.scenes, args.rates, args.seeds
    if args.quick:
        size, scenes, rates, seeds = (6, 96, 96), ["rods"], [0.2], 1
    rivals = {} if 1.0 not in rates else load_rivals()
    tallies: dict = {}
    for seed in range(0 if args.no_phantoms else seeds):
        for shape in scenes:
            scene = jm.operando(10 + seed, scene=shape, shape=size)
            for rate in rates:
                frames = (10, 14) if rate == 1 else (0, size[0])
                one_run(tallies, scene, frames, rate, seed, rivals, 1 if args.quick else 3)
    if tallies:
        terms = "  ".join(f"{t} (s.e.)" for t in ("x", "y", "x:y"))
        print(
            "rate   method             accuracy IoU    area %  |area| %  thin  ms/frame   " + terms
        )
    for (rate, name), tally in tallies.items():
        print(f"{rate:<6.0%} {tally.line(name)}")
    if args.data is not None and not args.quick:
        real_movies(args.data)


if __name__ == "__main__":
    main()
