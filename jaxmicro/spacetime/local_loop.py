"""The iteration to a fixed point of proportions and parameters, for all frames of one movie."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmicro.mixture.ecm import MIN_PIXELS_PER_PARAMETER, Fit, Result
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.lanes import Lane, batched_map
from jaxmicro.mixture.maximise import m_step
from jaxmicro.spacetime.local_em import Sums, make_level, movie_step
from jaxmicro.spacetime.smooth import Cells

DAMPING = 0.2  # all pixels move at once: undamped, neighbours can swap classes for ever
INTERACTION_RANGE = (0.5, 3.0)  # learned strengths stay inside


class Past(eqx.Module):
    """What a causal fit of later frames inherits: class and count maps of each kernel, decayed."""

    maps: tuple[Float[Array, "K Y X"], ...]


class _State(eqx.Module):
    params: Params
    old: Float[Array, "T k n"]
    interaction: Float[Array, ""]
    step: Int[Array, ""]
    gap: Float[Array, ""]
    length: Float[Array, ""]
    trace: Float[Array, " steps"]


def fit_movie(
    model: GMRM,
    values: Float[Array, "T n"],
    rows: Int[Array, "S n"],
    cols: Int[Array, "S n"],
    design: Float[Array, "P S n"],
    weight: Float[Array, "S n"],
    start: Params,
    past: Past | None,
    numbers: dict,
    cells: tuple[Cells, ...],
    causal: bool,
    learn: bool,
    max_steps: int,
) -> tuple[Fit, Float[Array, "T K n"], Float[Array, "T n"], Float[Array, ""], Past | None]:
    """Fit one movie; see `jaxmicro.spacetime.local`.

    `numbers` holds width of each kernel, decay, pseudo_count, interaction to start from,
    tolerance and sd_floor. Returns fit, responsibilities, neighbours, interaction, what later
    frames inherit.
    """
    n_frames = values.shape[0]
    k = model.n_classes
    dtype = values.dtype
    full_weight = jnp.broadcast_to(weight, values.shape)
    used = full_weight > 0
    bad = jnp.any(used & ~jnp.isfinite(values), axis=-1)
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

    made = [
        make_level(
            grid,
            rows,
            cols,
            weight,
            n_frames,
            numbers["widths"][i],
            numbers["decay"],
            causal,
            None if past is None else past.maps[i],
        )
        for i, grid in enumerate(cells)
    ]
    levels, last_counts = tuple(level for level, _ in made), [last for _, last in made]

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
            s.params, lane, levels, s.old, numbers["pseudo_count"], s.interaction, causal
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
            sums.responsibilities + DAMPING * (s.old - sums.responsibilities),
            interaction,
            s.step + 1,
            0.5 * length / (1 - ratio),
            length,
            s.trace.at[s.step].set(level),
        )

    inf = jnp.asarray(jnp.inf, dtype)
    state = jax.lax.while_loop(
        lambda s: (s.step < max_steps) & (s.gap > numbers["tolerance"]),
        body,
        _State(
            params,
            old,
            numbers["interaction"],
            jnp.zeros((), jnp.int32),
            inf,
            inf,
            jnp.full(max_steps, jnp.nan, dtype),
        ),
    )

    sums, inherited = movie_step(
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
    finite = jnp.isfinite(sums.log_likelihood) & ~bad
    if model.share:
        finite = jnp.broadcast_to(jnp.all(finite), finite.shape)
    per_frame_nan = jnp.where(finite, 1.0, jnp.nan).astype(dtype)
    nan = per_frame_nan[:, None]
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

    def every(a: Array) -> Array:
        return jnp.broadcast_to(a, (n_frames, *a.shape))

    per_frame = jnp.sum(full_weight, axis=-1)
    out = Fit(
        params,
        (sums.log_likelihood - per_frame * jnp.log(scale)) * per_frame_nan,
        every(state.trace - jnp.log(scale)),
        every(state.step + 1),
        jnp.where(finite, result, Result.nonfinite).astype(jnp.int32),
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
