"""Class proportions that vary in space and time, inside the ECM fit.

The mixture's weights p_k are replaced at each pixel i by pi_ik, made of the responsibilities of
the *other* sampled pixels near it in space and time:

    m_ik = (c p_tk + sum_j h_ij r_jk) / (c + sum_j h_ij),  j not i,      pi_ik = m_ik^b / norm,

with h a Gaussian in space times an exponential in time, p_tk the weights of the frame, c a
pseudo-count that lets the frame's weights rule where few neighbours were sampled, and b the
strength of the interaction (1: proportions as they are; larger: neighbours that agree weigh
more than their share, as in a Potts model; b goes back to 1 where there are no neighbours).

What is fitted. At the fixed point the parameters maximise the pseudo-likelihood

    PL = sum_i log sum_k pi_ik N(z_i | class k)

for given pi, and pi is made of the responsibilities those parameters give. This is the mean-field
approximation of a hidden Markov random field, with the neighbours' states at their mean (Celeux,
Forbes and Peyrard 2003, Pattern Recognition 36:131). pi_i never sees z_i, so every term is the
density of a pixel left out, given the others. `Fit.log_likelihood` is PL per frame: with it AIC
and BIC are the mean-field criteria of Forbes and Peyrard (2003, IEEE TPAMI 25:1089) and rank local
beside plain models. PL need not rise in every step, because pi moves too: `Fit.trace` may fall.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.ecm import MIN_PIXELS_PER_PARAMETER, Fit, Result, fit, grey_step
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.lanes import Lane, batched_map
from jaxmicro.mixture.maximise import m_step
from jaxmicro.spacetime.local_em import Level, Sums, counted, movie_step
from jaxmicro.spacetime.smooth import (
    Cells,
    Kernel,
    cells_for,
    density_kernel,
    own_share,
    places,
    taps_of,
)

INTERACTION_RANGE = (0.5, 3.0)  # learned strengths stay inside
WIDER = 3.0  # the second kernel is this much wider in space
START_TOLERANCE = 1e-4  # nats per pixel: how well the plain fit that starts things is done


@dataclasses.dataclass(frozen=True)
class Local:
    """How proportions follow the neighbours; every default adapts to the sampling.

    Attributes:
      causal: only past and present frames count, as a live run needs; or centred in time.
      width: sd of the kernel in space, in pixels; None takes it from the sampling density.
      memory: frames after which the kernel has fallen to 1/e; None likewise.
      pseudo_count: c, how many neighbours the frame's own weights are worth.
      interaction: b; None learns it by maximum pseudo-likelihood.
      levels: 1 for one kernel, 2 to fall back on a kernel 3 times as wide before the frame's
        weights.

    Raises:
      UsageError: a value out of range, named.
    """

    causal: bool = False
    width: float | None = None
    memory: float | None = None
    pseudo_count: float = 1.0
    interaction: float | None = None
    levels: int = 1

    def __post_init__(self) -> None:
        Kernel(
            1.0 if self.width is None else self.width, 1.0 if self.memory is None else self.memory
        )
        if not (math.isfinite(self.pseudo_count) and self.pseudo_count > 0):
            raise UsageError(
                f"pseudo_count {self.pseudo_count} is not allowed; use a number of pixels > 0"
            )
        if self.interaction is not None and not 0 < self.interaction <= 10:
            raise UsageError(f"interaction {self.interaction} is not allowed; use 0 < b <= 10")
        if self.levels not in (1, 2):
            raise UsageError(f"levels {self.levels} is not allowed; use 1 or 2")

    def kernel(self, n_per_frame: float, shape: tuple[int, int]) -> Kernel:
        """The kernel for this many visited pixels a frame."""
        usual = density_kernel(n_per_frame, shape, self.causal)
        return Kernel(
            usual.width if self.width is None else self.width,
            usual.memory if self.memory is None else self.memory,
            self.causal,
        )


class Past(eqx.Module):
    """What a causal fit of later frames inherits: class and count maps of each kernel, decayed."""

    maps: tuple[Float[Array, "K Y X"], ...]


class LocalFit(eqx.Module):
    """A fit with local proportions.

    Attributes:
      fit: parameters, pseudo-likelihood and status; `fit.params.weights` are the frames' weights.
      responsibilities: posterior class probabilities of the pixels.
      neighbours: kernel-weighted number of other sampled pixels; 1 for one right beside.
      interaction: the strength b, as given or learned.
      past: for the next frames of a causal run; None with replicates.
      kernel: the kernel in use.
    """

    fit: Fit
    responsibilities: Float[Array, "*batch K n"]
    neighbours: Float[Array, "*batch n"]
    interaction: Float[Array, "*replicates"]
    past: Past | None
    kernel: Kernel = eqx.field(static=True)

    def classify(self) -> Int[Array, "*batch n"]:
        """The most probable class of each pixel (0 is the darkest)."""
        return jnp.argmax(self.responsibilities, axis=-2).astype(jnp.int32)

    @property
    def n_alone(self) -> np.ndarray:
        """Pixels per frame with next to no neighbour, where the frame's weights rule."""
        return np.asarray(jnp.sum(self.neighbours < 1e-3, axis=-1))


def fit_local(
    model: GMRM,
    pixels: Pixels,
    local: Local = Local(),  # noqa: B008  frozen
    *,
    init: Params | None = None,
    past: Past | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 60,
    quantum: float | None = None,
) -> LocalFit:
    """Fit `model` with local class proportions to the pixels of a movie.

    Args:
      model: which GMRM. Classes must mean the same in all frames: share the means over the movie,
        or start from parameters that are right (`init`).
      pixels: batch axes (frames,) or (frames, replicates); replicates do not see one another.
      local: how proportions follow the neighbours.
      init: parameters to start from; default is the plain fit of the same pixels.
      past: what earlier frames left, for a causal run that goes frame by frame.
      tolerance: stop where the extrapolated gap to the fixed point is below this, nats per pixel.
      max_steps: passes over the pixels.
      quantum: grey-level step of the data; default read off the values.

    Returns:
      `LocalFit`. Never raises for numerical trouble; see `Fit.result`.

    Raises:
      UsageError: `past` with replicates or without `causal`.
    """
    if past is not None and (not local.causal or pixels.values.ndim != 2):
        raise UsageError("past frames can be inherited by causal fits without replicates only")
    if quantum is None:
        quantum = grey_step(np.asarray(pixels.values))
    if init is None:
        init = fit(model, pixels, tolerance=START_TOLERANCE, quantum=quantum).params
    kernel = local.kernel(float(np.mean(np.asarray(pixels.n_pixels))), pixels.shape)
    widths = (kernel.width, WIDER * kernel.width)[: local.levels]
    cells = tuple(cells_for(w, pixels.shape) for w in widths)
    numbers = {
        "widths": widths,
        "decay": kernel.decay,
        "pseudo_count": local.pseudo_count,
        "interaction": 1.5 if local.interaction is None else local.interaction,
        "tolerance": tolerance,
        "sd_floor": quantum / 12**0.5,
    }
    numbers = jax.tree.map(lambda v: jnp.asarray(v, pixels.values.dtype), numbers)
    out = _fit_all(
        model,
        pixels,
        init,
        past,
        numbers,
        cells,
        local.causal,
        local.interaction is None,
        max_steps,
    )
    return LocalFit(*out, kernel)


@eqx.filter_jit
def _fit_all(model, pixels, init, past, numbers, cells, causal: bool, learn: bool, max_steps: int):
    values = pixels.values
    batch, n = values.shape[:-1], values.shape[-1]
    design = model.design(pixels)
    shared = pixels.rows.ndim < values.ndim
    weight = pixels.weight.astype(values.dtype)
    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, a.shape[-1])), init)
    if values.ndim == 2:
        where = (pixels.rows, pixels.cols, design, weight)
        if shared:
            where = (pixels.rows[None], pixels.cols[None], design[:, None], weight[None])
        out = _fit_movie(
            model,
            values,
            *where,
            start,
            past,
            numbers,
            cells,
            pixels.shape,
            causal,
            learn,
            max_steps,
        )
        return out

    def one(args):
        z, at, first = args
        if shared:
            at = (pixels.rows[None], pixels.cols[None], design[:, None], weight[None])
        else:
            at = (at[0], at[1], jnp.moveaxis(at[2], 1, 0), at[3])
        return _fit_movie(
            model, z, *at, first, None, numbers, cells, pixels.shape, causal, learn, max_steps
        )[:4]

    def replicate_first(a: Array) -> Array:
        return jnp.moveaxis(a, 1, 0)

    at = None
    if not shared:
        at = tuple(
            replicate_first(a)
            for a in (pixels.rows, pixels.cols, jnp.moveaxis(design, 0, 2), weight)
        )
    args = (replicate_first(values), at, jax.tree.map(replicate_first, start))
    fits, resp, neighbours, interaction = batched_map(one, args, 1)
    fits, resp, neighbours = jax.tree.map(replicate_first, (fits, resp, neighbours))
    return fits, resp, neighbours, interaction, None


class _State(eqx.Module):
    params: Params
    old: Float[Array, "T k n"]
    interaction: Float[Array, ""]
    log_likelihood: Float[Array, " T"]
    count: Float[Array, " K"]
    step: Int[Array, ""]
    gap: Float[Array, ""]
    length: Float[Array, ""]
    trace: Float[Array, " steps"]


def _fit_movie(
    model, values, rows, cols, design, weight, start, past, numbers, cells, shape, causal, learn,
    max_steps,
):  # fmt: skip
    n_frames, n = values.shape
    k = model.n_classes
    dtype = values.dtype
    full_weight = jnp.broadcast_to(weight, values.shape)
    used = full_weight > 0
    bad = jnp.any(used & ~jnp.isfinite(values))
    z = jnp.where(used & jnp.isfinite(values), values, 0)
    count = jnp.maximum(jnp.sum(full_weight), 1)
    centre = jnp.sum(full_weight * z) / count
    spread = jnp.sqrt(jnp.sum(full_weight * (z - centre) ** 2) / count)
    scale = jnp.where(spread > 0, spread, jnp.maximum(numbers["sd_floor"], 1))
    floor = jnp.maximum(numbers["sd_floor"] / scale, 1e-3)
    lane = Lane(jnp.where(used, (z - centre) / scale, 0), design, weight)
    params = Params(
        start.weights,
        (start.means - centre) / scale,
        jnp.maximum(start.sds / scale, floor),
        start.trend / scale,
        start.gain,
    )

    levels, last_counts = [], []
    for i, grid in enumerate(cells):
        where = places(grid, rows, cols, dtype)
        taps = taps_of(numbers["widths"][i], grid, dtype)
        own = own_share(taps, where)
        before = None if past is None else past.maps[i]
        neighbours, last = counted(
            grid, where, taps, numbers["decay"], own, weight, n_frames, causal,
            None if before is None else before[-1],
        )  # fmt: skip
        levels.append(Level(grid, where, taps, numbers["decay"], own, neighbours, before))
        last_counts.append(last)
    levels = tuple(levels)

    # The first responsibilities are the plain ones: no neighbours yet.
    def plain(args):
        p, zz, f, w = args
        joint = jnp.stack(model.log_joint(p, zz, f))
        return jax.nn.softmax(joint, axis=0)[: k - 1] * w[None]

    spread_design = jnp.broadcast_to(
        jnp.moveaxis(lane.design, 1, 0), (n_frames, *design.shape[::2])
    )
    old = batched_map(plain, (params, lane.values, spread_design, full_weight), 1)

    def body(s: _State) -> _State:
        sums, _ = movie_step(
            model, s.params, lane, levels, s.old, numbers["pseudo_count"], s.interaction, causal
        )
        new = m_step(model, s.params, sums.stats, tied=jnp.asarray(False), sd_floor=floor)
        interaction = s.interaction
        if learn:
            step = jnp.sum(sums.slope) / jnp.maximum(jnp.sum(sums.curvature), 1e-3)
            interaction = jnp.clip(interaction + jnp.clip(step, -0.5, 0.5), *INTERACTION_RANGE)
        length = (jnp.sum(sums.change) + _moved(s.params, new, sums)) / count
        ratio = jnp.clip(jnp.sqrt(length / jnp.maximum(s.length, jnp.finfo(dtype).tiny)), 0.3, 0.95)
        level = jnp.sum(sums.log_likelihood) / count
        return _State(
            new,
            sums.responsibilities,
            interaction,
            sums.log_likelihood,
            jnp.sum(sums.stats.s0, axis=0),
            s.step + 1,
            0.5 * length / (1 - ratio),
            length,
            s.trace.at[s.step].set(level),
        )

    zero = jnp.zeros((), jnp.int32)
    inf = jnp.asarray(jnp.inf, dtype)
    state = jax.lax.while_loop(
        lambda s: (s.step < max_steps) & (s.gap > numbers["tolerance"]),
        body,
        _State(
            params, old, numbers["interaction"], jnp.zeros(n_frames, dtype), jnp.zeros(k, dtype),
            zero, inf, inf, jnp.full(max_steps, jnp.nan, dtype),
        ),
    )  # fmt: skip

    sums, inherited = movie_step(
        model,
        state.params,
        lane,
        levels,
        state.old,
        numbers["pseudo_count"],
        state.interaction,
        causal,
    )
    resp = sums.responsibilities
    last_class = jnp.maximum(full_weight - jnp.sum(resp, axis=1), 0)
    resp = jnp.concatenate([resp, last_class[:, None]], axis=1)
    order = jnp.argsort(jnp.mean(state.params.means, axis=0))
    finite = jnp.all(jnp.isfinite(sums.log_likelihood)) & ~bad
    nan = jnp.where(finite, 1.0, jnp.nan).astype(dtype)
    p = state.params
    params = Params(
        p.weights[:, order] * nan,
        (p.means[:, order] * scale + centre) * nan,
        p.sds[:, order] * scale * nan,
        p.trend * scale * nan,
        p.gain[:, order] * nan,
    )
    held = jnp.sum(sums.stats.s0, axis=0)
    result = jnp.where(state.gap <= numbers["tolerance"], Result.converged, Result.max_steps)
    result = jnp.where(jnp.any(p.sds <= floor * 1.0001), Result.degenerate_class, result)
    result = jnp.where(jnp.any(held < 5), Result.empty_class, result)
    need = MIN_PIXELS_PER_PARAMETER * model.n_parameters(n_frames)
    result = jnp.where(jnp.sum(full_weight) < need, Result.too_few_pixels, result)
    result = jnp.where(finite, result, Result.nonfinite).astype(jnp.int32)

    def every(a: Array) -> Array:
        return jnp.broadcast_to(a, (n_frames, *a.shape))

    per_frame = jnp.sum(full_weight, axis=-1)
    out = Fit(
        params,
        (sums.log_likelihood - per_frame * jnp.log(scale)) * nan,
        every(state.trace - jnp.log(scale)),
        every(state.step + 1),
        every(result),
        every(state.gap),
    )
    carried = tuple(
        jnp.concatenate([m, c[None]]) for m, c in zip(inherited, last_counts, strict=True)
    )
    past_out = Past(carried) if causal else None
    neighbours = jnp.where(used, levels[0].neighbours, 0)
    return out, resp[:, order], neighbours, state.interaction, past_out


def _moved(old: Params, new: Params, sums: Sums) -> Float[Array, ""]:
    """Squared length of a parameter step in the complete-data information, nats."""
    s = sums.stats
    d_mean = new.means - old.means
    slope = (
        new.gain[..., None] * new.trend[..., None, :]
        - old.gain[..., None] * old.trend[..., None, :]
    )
    along = 2 * d_mean * jnp.sum(s.sf * slope, axis=-1)
    square = jnp.einsum("tkpq,tkp,tkq->tk", s.sff, slope, slope)
    location = (s.s0 * d_mean**2 + along + square) / old.sds**2
    return jnp.sum(location + 2 * s.s0 * jnp.log(new.sds / old.sds) ** 2)


def grid_of(local_fit: LocalFit, shape: tuple[int, int]) -> Cells:
    """The cells of the narrowest kernel."""
    return cells_for(local_fit.kernel.width, shape)
