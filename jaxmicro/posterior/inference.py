"""The posterior of a GMRM over a movie: one lane a frame, or the whole movie as one.

The same model as the fit, with priors: classes summed out, means in order. Frames are independent
where nothing is shared; with means and sds shared, log odds of the classes and trend coefficients
are random walks over frames, so that a frame of few pixels learns from its neighbours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import DataError, NumericalError, UsageError
from jaxmicro.mixture.ecm import Fit, fit, grey_step
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.posterior.likelihood import Noise
from jaxmicro.posterior.model import Priors, Setting
from jaxmicro.posterior.nuts import Draws, Progress, Sampler, draw
from jaxmicro.posterior.predict import (
    LanePixels,
    areas,
    in_grey,
    pointwise,
    predictive_histogram,
    thinned,
)
from jaxmicro.posterior.result import Posterior, collected
from jaxmicro.posterior.start import prepare, standardised, start_sites

PIXELS_PER_CLASS = 25  # fewer visited pixels than this for each class carry no posterior
AREA_DRAWS = 250  # draws per chain of areas
PREDICTIVE_DRAWS = 25  # draws per chain of predictive histograms
_BINS = 64

__all__ = ["Noise", "Posterior", "Priors", "Sampler", "check", "posterior"]


def check(model: GMRM, pixels: Pixels) -> None:
    """Refuse what has no posterior form here, by name.

    Raises:
      UsageError: gains, only one of means and sds shared, or replicate samplings.
      DataError: fewer than 25 visited pixels a class, or values that are not finite.
    """
    if model.gain:
        raise UsageError(
            "gain = true has no posterior form (gain and trend trade off); set gain = false"
        )
    if set(model.share) not in (set(), {"means", "sds"}):
        raise UsageError(
            f"share = {list(model.share)} has no posterior form; share both means and sds "
            "(a movie), or nothing (frames on their own)"
        )
    if pixels.values.ndim != 2:
        raise UsageError("a posterior takes one sampling of a movie; leave replicates out")
    need = PIXELS_PER_CLASS * model.n_classes
    visited = np.asarray(pixels.n_pixels)
    if model.share:
        visited = visited.sum(keepdims=True)
    if visited.min() < need:
        where = "the movie" if model.share else f"frame {int(visited.argmin())}"
        raise DataError(
            f"{where} has {int(visited.min())} visited pixels, too few for a posterior of "
            f"{model.n_classes} classes ({need} are needed); raise the rate or use fewer classes"
        )
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)
    if not np.all(np.isfinite(np.asarray(pixels.values)[weight > 0])):
        raise DataError("the pixels hold NaN or infinity; exclude those pixels")


def posterior(
    key: jax.Array,
    model: GMRM,
    pixels: Pixels,
    start: Fit | None = None,
    *,
    priors: Priors | None = None,
    noise: Noise | None = None,
    sampler: Sampler | None = None,
    foreground: tuple[int, ...] = (),
    log_likelihood_every: int | None = None,
    grey_levels: float | None = None,
    scaling: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """Draw from the posterior of `model` given the pixels.

    Args:
      key: JAX PRNG key.
      model: share = ("means", "sds") is one posterior over the movie, share = () one per frame.
      pixels: batch axis (frames,).
      start: a fit of the same model to the same pixels, where chains start; default: made here.
      priors, noise, sampler: see there; the defaults are weakly informative priors, Gaussian
        classes and NUTS with 4 chains of 1000 draws.
      foreground: class ranks whose area is wanted; with none there are no areas.
      log_likelihood_every: keep the log-likelihood of every pixel at each such draw.
      grey_levels: step between grey levels, whose rounding the sds include; default: from the
        values. Where class sds are near the step, rounding shapes the data more than the model
        knows, and sds below it mean little.
      scaling: (centre, spread) of the standardised grey values the priors are about; default:
        the lane's own.
      progress: called with (steps done, steps in all).

    Returns:
      `Posterior`. An interruption (KeyboardInterrupt) keeps what was drawn, `complete` False.

    Raises:
      UsageError, DataError: see `check`.
      NumericalError: the fit to start from is not finite.
    """
    priors, noise, sampler = priors or Priors(), noise or Noise(), sampler or Sampler()
    check(model, pixels)
    step = grey_step(np.asarray(pixels.values)) if grey_levels is None else float(grey_levels)
    if start is None:
        start = fit(model, pixels, quantum=step)
    if not np.all(np.isfinite(np.asarray(start.params.means))):
        raise NumericalError("the fit to start from is not finite; check the pixels' values")
    if priors.reference is not None and not 0 <= priors.reference < model.n_classes:
        raise UsageError(
            f"prior reference = {priors.reference} is not a class; use 0 to {model.n_classes - 1}"
        )
    setting = Setting(model.n_classes, model.trend.n_terms, bool(model.share), priors)
    n_frames = pixels.n_frames
    lanes = [(0, n_frames)] if setting.movie else [(t, t + 1) for t in range(n_frames)]
    edges = _edges(pixels, step)
    parts: list[dict[str, np.ndarray]] = []
    complete, scalings = True, []
    for i, (a, b) in enumerate(lanes):
        some = pixels.frames(a, b)

        def advance(done: int, total: int, i: int = i) -> None:
            if progress is not None:
                progress(i * total + done, len(lanes) * total)

        data, scale = standardised(model, some, noise, step, scaling)
        whole = _whole(model, some, scale, data.lane.values.dtype)
        params = jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], start.params)
        data, values = start_sites(setting, data, params, scale)
        data, flow = prepare(setting, data, values)
        if not np.all(np.isfinite(np.asarray(flow.root))):
            raise NumericalError(
                f"no mode of the posterior was found from frame {a} on; use fewer classes or "
                "tighter priors"
            )
        draw_key, area_key, new_key = jax.random.split(jax.random.fold_in(key, i), 3)
        try:
            drawn = draw(draw_key, setting, data, flow, sampler, advance)
        except KeyboardInterrupt:
            if not parts:
                raise
            complete = False
            break
        if not drawn.complete and parts:
            complete = False  # a frame cut short would be ragged beside the whole ones
            break
        out = _lane_output(
            setting, data, whole, drawn, scale, foreground, edges, log_likelihood_every,
            np.asarray(some.n_domain), (area_key, new_key),
        )  # fmt: skip
        parts.append(out)
        scalings.append(scale)
        if not drawn.complete:
            complete = False
            break
    return collected(
        parts, model, setting, sampler, noise, pixels, scalings, edges, foreground, complete,
        start, log_likelihood_every,
    )  # fmt: skip


def _lane_output(
    setting: Setting, data, whole: LanePixels, drawn: Draws, scale, foreground, edges,
    log_likelihood_every: int | None, n_domain, keys,
) -> dict[str, np.ndarray]:  # fmt: skip
    centre, spread = scale
    n_chains, n_draws = drawn.sites["means"].shape[:2]

    def unstack(a: np.ndarray) -> np.ndarray:
        return a.reshape(n_chains, -1, *a.shape[1:])

    out = {f"posterior/{n}": a for n, a in in_grey(setting, drawn, spread, centre).items()}
    out |= {f"sample_stats/{n}": a for n, a in drawn.stats.items()}
    if drawn.trace is not None:
        out["trace"] = drawn.trace
    if foreground:
        few = thinned(drawn, max(1, n_draws // AREA_DRAWS))
        out["growth/area_px"] = unstack(
            areas(keys[0], setting, data, whole, few, foreground, n_domain)
        )
    few = thinned(drawn, max(1, n_draws // PREDICTIVE_DRAWS))
    own = (edges - centre) / spread
    out["posterior_predictive/histogram"] = unstack(
        predictive_histogram(keys[1], setting, data, whole, few, own)
    )
    if log_likelihood_every is not None:
        few = thinned(drawn, log_likelihood_every)
        out["log_likelihood/values"] = unstack(pointwise(setting, data, whole, few, spread))
    return out


def _whole(model: GMRM, pixels: Pixels, scale: tuple[float, float], dtype) -> LanePixels:
    centre, spread = scale
    shape = pixels.values.shape
    weight = np.broadcast_to(np.asarray(pixels.weight), shape)
    values = np.where(weight > 0, (np.asarray(pixels.values, float) - centre) / spread, 0)
    design = np.asarray(model.design(pixels))
    design = design.reshape(design.shape[0], -1, shape[1])
    return LanePixels(
        jnp.asarray(values, dtype),
        jnp.asarray(np.broadcast_to(design, (design.shape[0], *shape)), dtype),
        jnp.asarray(weight, dtype),
    )


def _edges(pixels: Pixels, step: float) -> np.ndarray:
    """Histogram edges in grey: at most 64 bins, between grey levels where there are levels."""
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)
    used = np.asarray(pixels.values, float)[weight > 0]
    low, high = float(used.min()), float(used.max())
    if step > 0:
        width = max(1, int(np.ceil(((high - low) / step + 1) / _BINS))) * step
        count = int(np.ceil((high - low + step) / width))
        return low - step / 2 + width * np.arange(count + 1)
    return np.linspace(low, max(high, low + 1e-6), _BINS + 1)
