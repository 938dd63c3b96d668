"""Fitting a GMRM by ECM: deterministic start, safeguarded SQUAREM, a certificate of the optimum.

Batch items ("lanes") are independent fits: one frame each, or a whole movie where class means or
sds are shared. A lane that goes wrong says so in its own result and leaves the others alone.

Sources: ECM, Meng and Rubin (1993), Biometrika 80:267. SQUAREM, Varadhan and Roland (2008),
Scand. J. Statist. 35:335, scheme S3.
"""

from __future__ import annotations

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.lanes import THIN, Lane, at_once, batched_map, padded, thinned
from jaxmicro.mixture.newton import polish
from jaxmicro.mixture.squarem import run

TIED_STEPS = 20  # steps with one sd for all classes: long enough to place the means
LOOSE = 1e-4  # gap in nats per pixel at which Newton steps take over
THIN_LOOSE = 1e-5  # the same for the thin sample, whose optimum starts the full fit
MIN_PIXELS_PER_PARAMETER = 2


class Result(enum.IntEnum):
    """How a fit ended; `sentence` says what to do about it."""

    converged = 0
    max_steps = 1
    empty_class = 2
    degenerate_class = 3
    nonfinite = 4
    too_few_pixels = 5

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Result.converged: "The fit reached the optimum to within the tolerance.",
    Result.max_steps: "The likelihood is too flat to find its top (classes that coincide); "
    "use fewer classes, share the class means and sds over the movie, or raise max_steps.",
    Result.empty_class: "A class holds fewer than 5 pixels; use fewer classes or share the class "
    "means and sds over the movie.",
    Result.degenerate_class: "A class is as narrow as the grey-level step (a spike such as a "
    "saturated level); use fewer classes or exclude those pixels.",
    Result.nonfinite: "The pixels or the fit held NaN or infinity; exclude those pixels.",
    Result.too_few_pixels: "Too few pixels were visited for this many parameters; raise the rate, "
    "use fewer classes or trend terms, or share more over the movie.",
}


class Fit(eqx.Module):
    """A fitted model.

    Attributes:
      params: parameters with the batch axes of the pixels: (frames,) or (frames, replicates).
      log_likelihood: nats, summed over the visited pixels of each frame.
      trace: mean log-likelihood in nats per pixel after each accepted step of the lane, NaN after
        the last; never falls.
      steps: passes over the pixels.
      result: a `Result` per frame (frames that share parameters share it).
      optimum_gap: extrapolated distance to the optimum of the likelihood, nats per pixel.
    """

    params: Params
    log_likelihood: Float[Array, "*batch"]
    trace: Float[Array, "*batch steps"]
    steps: Int[Array, "*batch"]
    result: Int[Array, "*batch"]
    optimum_gap: Float[Array, "*batch"]

    def __getitem__(self, index) -> Fit:
        return jax.tree.map(lambda a: a[index], self)

    @property
    def results(self) -> dict[str, int]:
        """How many batch items ended how."""
        codes, counts = np.unique(np.asarray(self.result), return_counts=True)
        return {Result(int(c)).name: int(n) for c, n in zip(codes, counts, strict=True)}

    def __repr__(self) -> str:
        k = self.params.means.shape[-1]
        batch = self.log_likelihood.shape

        def middle(a: Array) -> str:
            rows = np.asarray(a).reshape(int(np.prod(batch)), a.shape[-1])
            return "[" + ", ".join(f"{v:.4g}" for v in np.nanmedian(rows, axis=0)) + "]"

        p = self.params
        ended = ", ".join(f"{n} {name}" for name, n in self.results.items())
        return (
            f"Fit of {k} classes to {' x '.join(map(str, batch)) or 1} frame(s): {ended}\n"
            f"  weights {middle(p.weights)}\n  means   {middle(p.means)}\n"
            f"  sds     {middle(p.sds)}\n  trend   {middle(p.trend)}   (medians over frames)\n"
            f"  log-likelihood {float(np.sum(np.asarray(self.log_likelihood))):.1f} nats, "
            f"at most {int(np.max(np.asarray(self.steps)))} steps, optimum within "
            f"{float(np.nanmax(np.asarray(self.optimum_gap))):.1g} nats per pixel"
        )


def fit(
    model: GMRM,
    pixels: Pixels,
    *,
    init: Params | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 500,
    quantum: float | None = None,
) -> Fit:
    """Fit `model` to the pixels by ECM, every frame and replicate at once.

    Args:
      model: which GMRM.
      pixels: batch axes (frames,) or (frames, replicates).
      init: parameters to start from, with the same batch axes or one frame's; default is a
        deterministic start: means spread over the grey values, one sd for all classes at first.
      tolerance: stop where the extrapolated gap to the optimum is below this, nats per pixel.
      max_steps: passes over the pixels allowed.
      quantum: grey-level step of the data; sds stay above quantum / sqrt(12), the sd of rounding.
        Default: read off the values.

    Returns:
      `Fit`. Never raises for numerical trouble; see `Fit.result`.
    """
    if quantum is None:
        quantum = grey_step(np.asarray(pixels.values))
    dtype = pixels.values.dtype
    stop = jnp.asarray(tolerance, dtype)  # as arrays: a new value must not compile again
    floor = jnp.asarray(quantum / 12**0.5, dtype)
    return _fit_all(model, pixels, init, stop, floor, max_steps)


def grey_step(values: np.ndarray) -> float:
    """The step between grey levels in use: 1 for 8-bit data, 0 for continuous data."""
    flat = values.ravel()
    some = flat[:: max(1, flat.size // 10_000)]
    levels = np.unique(some[np.isfinite(some)])
    if levels.size < 2 or levels.size > some.size // 4:
        return 0.0
    if np.all(levels == np.round(levels)) and levels.size > 32:
        return 1.0
    return float((levels[-1] - levels[0]) / (levels.size - 1))


@eqx.filter_jit
def _fit_all(model, pixels, init, tolerance, sd_floor, max_steps: int) -> Fit:
    """Split the batch into lanes, fit each, and put the batch axes back."""
    values = pixels.values
    batch, n = values.shape[:-1], values.shape[-1]
    n_frames, n_rep = batch[0], int(np.prod(batch[1:]))
    shared = pixels.rows.ndim < values.ndim
    design = model.design(pixels)
    n_terms = design.shape[0]
    weight = pixels.weight.astype(values.dtype)
    per_movie = bool(model.share)

    def lanes(a: Array, tail: int) -> Array:
        """(frames, replicates, ...) -> (lanes, frames of the lane, ...)."""
        a = a.reshape(n_frames, n_rep, *a.shape[a.ndim - tail :])
        return jnp.moveaxis(a, 1, 0) if per_movie else a.reshape(n_frames * n_rep, 1, *a.shape[2:])

    if shared:
        fixed = design.reshape(n_terms, 1, n), weight.reshape(1, n)
        moving: tuple[Array, ...] = ()
    else:
        fixed = None
        moving = (jnp.moveaxis(lanes(jnp.moveaxis(design, 0, -2), 2), 2, 1), lanes(weight, 1))
    start = None
    if init is not None:
        full = jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, a.shape[-1])), init)
        start = jax.tree.map(lambda a: lanes(a.astype(values.dtype), 1), full)

    def one(args) -> Fit:
        z, place, lane_start = args
        lane_design, lane_weight = fixed if shared else place
        return _fit_lane(
            model,
            Lane(z, lane_design, lane_weight),
            lane_start,
            jnp.asarray(tolerance, values.dtype),
            jnp.asarray(sd_floor, values.dtype),
            max_steps,
        )

    z = lanes(values, 1)
    out = batched_map(one, (z, moving, start), at_once(z.shape[1] * n))

    def back(a: Array) -> Array:
        if per_movie:
            a = jnp.moveaxis(a, 0, 1)
        return a.reshape(*batch, *a.shape[2:])

    return jax.tree.map(back, out)


def _fit_lane(
    model: GMRM,
    lane: Lane,
    start: Params | None,
    tolerance: Float[Array, ""],
    sd_floor: Float[Array, ""],
    max_steps: int,
) -> Fit:
    n_frames, n = lane.values.shape
    weight = jnp.broadcast_to(lane.weight, lane.values.shape)
    used = weight > 0
    bad = jnp.any(used & ~jnp.isfinite(lane.values))
    z = jnp.where(used & jnp.isfinite(lane.values), lane.values, 0)
    count = jnp.sum(weight)
    centre = jnp.sum(weight * z) / jnp.maximum(count, 1)
    spread = jnp.sqrt(jnp.sum(weight * (z - centre) ** 2) / jnp.maximum(count, 1))
    # Continuous data have no grey step: a thousandth of the spread stands in for it.
    scale = jnp.where(spread > 0, spread, jnp.maximum(sd_floor, 1))
    floor = jnp.maximum(sd_floor / scale, 1e-3)
    lane = padded(Lane(jnp.where(used, (z - centre) / scale, 0), lane.design, lane.weight))

    steps = kept = jnp.zeros((), jnp.int32)
    trace = jnp.full(max_steps, jnp.nan, lane.values.dtype)
    if start is None:
        params = _start(model, lane)
        # A thin sample finds the optimum; the full frame then needs only a few steps.
        thin = thinned(lane) if n >= 2 * THIN else lane
        loose = jnp.maximum(tolerance, LOOSE if thin is lane else THIN_LOOSE)
        state = run(model, thin, params, loose, floor, max_steps, TIED_STEPS)
        params = state.best
        if thin is lane:
            steps, kept, trace = state.step, state.kept, state.trace
    else:
        params = Params(
            start.weights,
            (start.means - centre) / scale,
            jnp.maximum(start.sds / scale, floor),
            start.trend / scale,
            start.gain,
        )
    end = polish(model, lane, params, tolerance, floor, max_steps, steps, kept, trace)
    params, log_likelihood = end.best, end.log_likelihood

    held = jnp.sum(end.held, axis=0)
    per_frame = lane_count = jnp.sum(weight, axis=-1)
    need = MIN_PIXELS_PER_PARAMETER * model.n_parameters(n_frames)
    finite = jnp.all(jnp.isfinite(log_likelihood)) & ~bad
    result = jnp.where(end.gap <= tolerance, Result.converged, Result.max_steps)
    narrow = jnp.any(params.sds <= floor * 1.0001)
    result = jnp.where(narrow, Result.degenerate_class, result)
    result = jnp.where(jnp.any(held < 5), Result.empty_class, result)
    result = jnp.where(finite, result, Result.nonfinite)
    # Too few pixels are the cause of whatever else went wrong, unless the pixels were bad.
    few = (jnp.sum(lane_count) < need) & ~bad
    result = jnp.where(few, Result.too_few_pixels, result).astype(jnp.int32)

    order = jnp.argsort(jnp.mean(params.means, axis=0))
    nan = jnp.where(finite, 1.0, jnp.nan).astype(lane.values.dtype)
    params = Params(
        params.weights[:, order] * nan,
        (params.means[:, order] * scale + centre) * nan,
        params.sds[:, order] * scale * nan,
        params.trend * scale * nan,
        params.gain[:, order] * nan,
    )

    def every(a: Array) -> Array:
        return jnp.broadcast_to(a, (n_frames, *a.shape))

    return Fit(
        params,
        (log_likelihood - per_frame * jnp.log(scale)) * nan,
        every(end.trace - jnp.log(scale)),
        every(end.step),
        every(result),
        every(end.gap),
    )


def _start(model: GMRM, lane: Lane) -> Params:
    """Means spread evenly over the grey values, equal weights, no trend."""
    k, n_frames = model.n_classes, lane.values.shape[0]
    z = jnp.where(lane.weight > 0, lane.values, jnp.nan)
    thin = z[:, :: max(1, z.shape[1] // 4096)]
    low, high = jnp.nanquantile(thin, 0.005), jnp.nanquantile(thin, 0.995)
    place = (jnp.arange(k, dtype=z.dtype) + 0.5) / k
    means = low + (high - low) * place
    like = jnp.ones((n_frames, k), z.dtype)
    sd = jnp.maximum((high - low) / (2 * k), 1e-3)
    trend = jnp.zeros((n_frames, lane.design.shape[0]), z.dtype)
    return Params(like / k, like * means[None, :], like * sd, trend, like)
