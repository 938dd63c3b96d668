"""Speed of the mixture fit beside a NumPy ECM, scikit-learn and flexmix, on two threads.

Command:   python experiments/benchmark_mixture.py   (--quick: small frames; --local-only)
Run time:  about 4 minutes on 2 cores; --quick about 20 s

One frame of 512 x 512 pixels, K 4, trend x + y + x:y (planted at random places, so that every
program looks for the same optimum). NumPy's ECM is float64, starts and stops by the same rules
(tied sds for 20 steps, then free; Aitken's extrapolated gap below 1e-6 nats a pixel) and has its
sums as matrix products. scikit-learn fits the same frame with the true trend removed. flexmix
needs R with its package (`apt-get install r-cran-flexmix`); where it is absent the line says so.
Compile time is reported apart. Figures are the least of three runs.

Expected:  on 2 idle cores, JAX 0.10.2 (least of three runs; ratios repeat to about 15 %)

    cold full frame, NumPy           226-234 ms     7.3 s   31 to 32 times (20 asked)
    cold full frame, scikit-learn    120-155 ms   14-16 s  102 to 115 times
    warm frame at 10 %, NumPy        5.0-5.5 ms    22 ms   4.1 to 4.4 times (5 asked, not reached)
    cold frame at 10 %, flexmix       71-103 ms   12 s     119 to 167 times (50 asked)
    1000 replicates at 1 %, NumPy        3.1 s    83-90 s   26 to 28 times (20 asked)
    peak memory, 200 frames of 512 x 512          1.85 to 1.91 GiB (2 asked)
    local proportions, plain and local, ms a frame: 48 and 67-86 at 10 %, 6.8 and 13.1 at 1 %
    one warm causal frame, local: 17 to 28 ms at 10 % (30 asked), 3.5 ms at 1 % (15)

Ours ends 6e-7 nats a pixel above the reference optimum, which float64 NumPy found to 1e-6.
Compilation 3 to 5 s. NumPy takes plain ECM steps (639 cold, 26 warm), ours 2 to 50 passes: the
ratios are faster passes times fewer of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import threadpoolctl  # comes with scikit-learn

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import operando
from jaxmicro.data.sampling import Pixels, sample
from jaxmicro.mixture.criteria import log_likelihood_and_entropy
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.local import Local, fit_local

FORMULA = "x + y + x:y"
K = 4
TOLERANCE = 1e-6


# -- the NumPy rival ------------------------------------------------------------------------


def numpy_ecm(z, design, start=None, tied_steps=20, max_steps=2000):
    """Float64 ECM of one frame: (weights, means, sds, trend), nats per pixel, steps."""
    z = np.asarray(z, np.float64)
    centre, scale = z.mean(), z.std()
    z = (z - centre) / scale
    n, p = z.size, design.shape[0]
    pairs = [design[i] * design[j] for i in range(p) for j in range(i + 1)]
    table = np.ascontiguousarray(np.stack([np.ones(n), *design, *pairs]).T)
    where = np.array([[1 + p + max(i, j) * (max(i, j) + 1) // 2 + min(i, j) for j in range(p)]
                      for i in range(p)])  # fmt: skip
    if start is None:
        low, high = np.quantile(z[:: max(1, n // 4096)], [0.005, 0.995])
        means = low + (high - low) * (np.arange(K) + 0.5) / K
        weights, sds, trend = np.full(K, 1 / K), np.full(K, (high - low) / (2 * K)), np.zeros(p)
    else:
        weights, means, sds, trend = (np.array(a, np.float64) for a in start)
        means, sds, trend, tied_steps = (means - centre) / scale, sds / scale, trend / scale, 0
    levels: list[float] = []
    for step in range(max_steps):
        plain = z - trend @ design
        u = plain[None] - means[:, None]
        log_joint = np.log(weights / sds)[:, None] - 0.5 * (u / sds[:, None]) ** 2
        top = log_joint.max(axis=0)
        np.exp(log_joint - top, out=log_joint)
        total = log_joint.sum(axis=0)
        levels.append(np.mean(top + np.log(total)) - 0.5 * np.log(2 * np.pi) - np.log(scale))
        if step > tied_steps + 2:
            a, b = levels[-2] - levels[-3], levels[-1] - levels[-2]
            ratio = min(max(b / a if a > 0 else 0.0, 0.0), 0.9999)
            if b * ratio / (1 - ratio) < TOLERANCE:
                break
        resp = log_joint
        resp /= total
        sums = resp @ table
        u *= resp
        sums_u = u @ table[:, : p + 1]
        suu = np.einsum("kn,kn->k", u, plain[None] - means[:, None])
        s0, sf, sff = sums[:, 0], sums[:, 1 : p + 1], sums[:, where]
        su, suf = sums_u[:, 0], sums_u[:, 1:]
        weights = s0 / n
        d_mean, d_trend = np.zeros(K), np.zeros(p)
        for _ in range(3):
            precision = 1 / sds**2
            centred = sff - np.einsum("kp,kq->kpq", sf, sf) / s0[:, None, None]
            right = suf - sf * (su / s0)[:, None]
            d_trend = np.linalg.solve(np.einsum("kpq,k->pq", centred, precision), precision @ right)
            d_mean = (su - sf @ d_trend) / s0
            rss = (
                suu - 2 * d_mean * su - 2 * suf @ d_trend + d_mean**2 * s0
                + 2 * d_mean * (sf @ d_trend) + np.einsum("kpq,p,q->k", sff, d_trend, d_trend)
            )  # fmt: skip
            sds = np.sqrt(np.full(K, rss.sum() / n) if step < tied_steps else rss / s0)
        means, trend = means + d_mean, trend + d_trend
    return (weights, means * scale + centre, sds * scale, trend * scale), levels[-1], len(levels)


# -- measuring ------------------------------------------------------------------------------


def best_of(function, times=3):
    """Least wall time of a few calls, and the last answer."""
    least, out = np.inf, None
    for _ in range(times):
        begin = time.perf_counter()
        out = function()
        least = min(least, time.perf_counter() - begin)
    return least, out


def compiled(model, pixels, **kwargs):
    """(compile seconds, run seconds, fit)."""
    begin = time.perf_counter()
    jax.block_until_ready(fit(model, pixels, **kwargs))
    first = time.perf_counter() - begin
    run, out = best_of(lambda: jax.block_until_ready(fit(model, pixels, **kwargs)))
    return first - run, run, out


def line(name, ours, theirs, asked, note=""):
    ratio = theirs / ours
    state = "reached" if ratio >= asked else "NOT reached"
    print(f"{name:34s} {ours * 1e3:10.1f} ms {theirs * 1e3:12.1f} ms   ratio {ratio:7.1f}"
          f"  (asked {asked}: {state}) {note}", flush=True)  # fmt: skip


def host(pixels: Pixels, index):
    """Values and design of one frame (and replicate) in float64, for the rivals."""
    z = np.asarray(pixels.values[index], np.float64)
    rows, cols = pixels.rows, pixels.cols
    if rows.ndim > 1:
        rows, cols = rows[index], cols[index]
    by_row, by_col = Trend(FORMULA).factors(pixels.shape)
    return z, by_row[:, np.asarray(rows)] * by_col[:, np.asarray(cols)]


def flexmix(pixels: Pixels) -> float | None:
    """Seconds of one flexmix fit of the first frame, or None where R has no flexmix."""
    program = shutil.which("Rscript")
    if program is None:
        return None
    have = subprocess.run([program, "-e", "library(flexmix)"], capture_output=True, check=False)
    if have.returncode:
        return None
    z, design = host(pixels, 0)
    script = f"""
suppressMessages(library(flexmix)); d <- read.csv("frame.csv"); set.seed(1)
start <- cut(d$z, quantile(d$z, seq(0, 1, length.out = {K} + 1)), include.lowest = TRUE,
  labels = FALSE)
control <- list(minprior = 0, iter.max = 500, tolerance = 1e-8)
t <- system.time(flexmix(z ~ 1, data = d, k = {K}, cluster = start, control = control,
  model = FLXMRglmfix(nested = NULL, fixed = ~ a + b + c, varFix = FALSE)))
cat(t[["elapsed"]])
"""
    with tempfile.TemporaryDirectory() as folder:
        table = np.column_stack([z, design.T])
        np.savetxt(f"{folder}/frame.csv", table, delimiter=",", header="z,a,b,c", comments="")
        done = subprocess.run(
            [program, "-e", script], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        print("flexmix failed:", done.stderr.strip().splitlines()[-1])
        return None
    return float(done.stdout.split()[-1])


MEMORY = """
import resource, sys
import numpy as np, jax
from jaxmicro.data.phantom import operando
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import sample
from jaxmicro.mixture.ecm import fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
frames, size = int(sys.argv[1]), int(sys.argv[2])
few = operando(0, shape=(4, size, size), scatter=True).movie.images
movie = Movie(np.concatenate([few] * (frames // 4)))
pixels = sample(None, movie)
out = fit(GMRM(4, Trend("x + y + x:y"), ("means", "sds")), pixels)
jax.block_until_ready(out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, out.results)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--local-only", action="store_true", help="only the local model")
    args = parser.parse_args()
    if args.local_only:
        local_model()
        return
    quick = args.quick
    size, replicates, loop = (128, 32, 4) if quick else (512, 1000, 10)
    rates = (0.2, 0.1) if quick else (0.1, 0.01)
    scene = operando(3, shape=(4, size, size), scatter=True)
    peak = int(np.argmax(scene.truth["weights"][:, -1]))
    movie = Movie(scene.movie.images[peak : peak + 1])
    model = GMRM(K, Trend(FORMULA))
    threadpoolctl.threadpool_limits(2)
    print(f"{size} x {size}, K {K}, trend {FORMULA}, {os.cpu_count()} cores, jax {jax.__version__}")
    print(f"{'':34s} {'jaxmicro':>13s} {'rival':>15s}")

    full = sample(None, movie)
    compile_s, ours, out = compiled(model, full)
    z, design = host(full, 0)
    theirs, (params, level, steps) = best_of(lambda: numpy_ecm(z, design), 1 if quick else 2)
    mine = log_likelihood_and_entropy(model, out.params, full)[0][0] / z.size  # in float64
    tight = numpy_ecm(z, design, start=params, max_steps=200)[1]
    line("cold full frame, NumPy", ours, theirs, 20, f"{steps} steps")
    print(f"   below the best optimum by {tight - mine:.1e} nats a pixel (NumPy "
          f"{tight - level:.1e});"
          f" compile {compile_s:.1f} s", flush=True)  # fmt: skip

    from sklearn.mixture import GaussianMixture

    flat = (z - np.asarray(scene.truth["trend"][peak]) @ design)[:, None]
    theirs, _ = best_of(
        lambda: GaussianMixture(K, tol=TOLERANCE, max_iter=2000, random_state=0).fit(flat), 1
    )
    plain = GMRM(K)
    removed = Pixels(jax.numpy.asarray(flat.T, full.values.dtype), full.rows, full.cols,
                     full.weight, full.n_domain, full.shape)  # fmt: skip
    _, ours, _ = compiled(plain, removed)
    line("cold full frame, scikit-learn", ours, theirs, 1, "no trend")

    some = sample(jax.random.key(1), movie, rates[0])
    warm = fit(model, sample(jax.random.key(2), movie, rates[0]))
    _, ours, _ = compiled(model, some, init=warm.params)
    z, design = host(some, 0)
    p = warm.params[0]
    start = tuple(np.asarray(a, np.float64) for a in (p.weights, p.means, p.sds, p.trend))
    theirs, (_, _, steps) = best_of(lambda: numpy_ecm(z, design, start=start))
    line(f"warm frame at {rates[0]:.0%}, NumPy", ours, theirs, 5, f"{steps} steps")

    compile_s, ours, _ = compiled(model, some)
    seconds = flexmix(some)
    if seconds is None:
        print("flexmix: not here; install R and it by `apt-get install r-cran-flexmix`")
    else:
        line(f"cold frame at {rates[0]:.0%}, flexmix", ours, seconds, 50)

    many = sample(jax.random.key(3), movie, rates[1], replicates=replicates)
    compile_s, ours, out = compiled(model, many)
    begin = time.perf_counter()
    for b in range(loop):
        numpy_ecm(*host(many, (0, b)))
    theirs = (time.perf_counter() - begin) / loop * replicates
    line(f"{replicates} replicates at {rates[1]:.0%}, NumPy", ours, theirs, 20,
         f"{loop} timed; {out.results}")  # fmt: skip
    print(f"   compile {compile_s:.1f} s")

    frames, side = (8, 128) if quick else (200, 512)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(frames), str(side)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    gib, results = done.stdout.strip().split(" ", 1)
    print(f"peak memory, {frames} frames of {side} x {side}, shared classes: {float(gib):.2f} GiB "
          f"(asked under 2)  {results}")  # fmt: skip
    if not quick:
        local_model()


def local_model() -> None:
    """Local proportions beside the plain fit: cold movie per frame, and one warm causal frame."""
    frames, size, rates = 16, 512, (0.1, 0.01)
    scene = operando(3, shape=(frames, size, size))
    model = GMRM(K, Trend(FORMULA), ("means", "sds"))
    causal = Local(causal=True)
    print("local proportions, ms a frame of 512 x 512")
    for rate, asked in zip(rates, (30, 15), strict=True):
        pixels = sample(jax.random.key(4), scene.movie, rate)
        _, plain, _ = compiled(model, pixels)
        jax.block_until_ready(fit_local(model, pixels))
        cold, out = best_of(lambda p=pixels: jax.block_until_ready(fit_local(model, p)))
        before = fit_local(model, pixels[0 : frames - 1], causal, init=out.fit.params[:-1])
        last = pixels[frames - 1 : frames]

        def warm(last=last, start=before.fit.params[-1:], past=before.past):
            one = fit_local(model, last, causal, init=start, past=past, quantum=1.0)
            return jax.block_until_ready(one)

        warm()
        seconds, one = best_of(warm, 10)
        slower = cold / plain
        state = ["NOT reached", "reached"]
        print(
            f"  {rate:4.0%}: plain {plain / frames * 1e3:6.1f}, local {cold / frames * 1e3:6.1f}: "
            f"{slower:.1f} times (asked 4: {state[slower <= 4]}); warm frame "
            f"{seconds * 1e3:.1f} ms in {int(one.fit.steps[0])} passes "
            f"(asked {asked}: {state[seconds * 1e3 <= asked]})"
        )


if __name__ == "__main__":
    main()
