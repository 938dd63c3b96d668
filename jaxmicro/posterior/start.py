"""Where a sampler starts: pixels standardised, the mode found, the coordinates made isotropic.

The observed information at the mode turns the posterior of the shared parameters into something
close to a standard normal, and the walks are whitened given those (see `posterior_model`): so
that a sampler needs neither a long warm-up nor long trajectories.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.lanes import Lane, padded
from jaxmicro.posterior.likelihood import Mixture, Noise
from jaxmicro.posterior.model import (
    GAP_UNIT,
    Data,
    Hint,
    Setting,
    constrained,
    lane_log_likelihood,
    log_weights_of,
    potential,
    unconstrained,
)
from jaxmicro.posterior.random_walk import RandomWalk, unwhiten

_NEWTON_STEPS = 12
_SMOOTHINGS = 12
_RARE = 1e-4  # a class emptier than this starts here: its log odds must be finite


class Flow(eqx.Module):
    """The affine map from nearly isotropic coordinates to unconstrained sites.

    Coordinates are first the `mode.size` shared ones, z -> mode + root z, then the whitened walks.
    """

    mode: Float[Array, " L"]
    root: Float[Array, "L L"]

    def size(self, setting: Setting, data: Data) -> int:
        walks = 0
        if setting.movie:
            walks = setting.n_terms + setting.n_classes - 1
        return self.mode.shape[0] + walks * data.lane.values.shape[0]


def standardised(
    model: GMRM, pixels: Pixels, noise: Noise, grey_step: float, scaling: tuple[float, float] | None
) -> tuple[Data, tuple[float, float]]:
    """One lane's pixels in standardised grey values, and the (centre, spread) that were used."""
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)
    grey = np.asarray(pixels.values, float)
    if scaling is None:
        used = grey[weight > 0]
        low, high = np.quantile(used, [0.005, 0.995])
        scaling = float(low + high) / 2, float(max((high - low) / 4, grey_step, 1e-6))
    centre, spread = scaling
    dtype = pixels.values.dtype
    n_frames, n = grey.shape
    values = np.where(weight > 0, (grey - centre) / spread, 0)
    design = np.asarray(model.design(pixels))
    design = np.broadcast_to(design.reshape(design.shape[0], -1, n), (design.shape[0], n_frames, n))
    saturated = None
    if noise.saturation is not None:
        level = noise.saturation - grey_step / 2  # recorded 255 means 254.5 or more
        bright = (weight > 0) & (grey >= level)
        weight = np.where(bright, 0, weight)
        noise = Noise(noise.likelihood, noise.gain, noise.offset, level)
        saturated = _saturated(bright, values, design, dtype)

    data = Data(
        padded(Lane(*(jnp.asarray(a, dtype) for a in (values, design, weight)))),
        saturated,
        noise.standardised(centre, spread, dtype),
        jnp.zeros(n_frames, dtype),
        jnp.asarray(grey_step / spread, dtype),
        jnp.asarray(0),
    )
    return data, scaling


def _saturated(bright: np.ndarray, values: np.ndarray, design: np.ndarray, dtype) -> Lane | None:
    """The saturated pixels gathered, padded to a power of two so that programs are reused."""
    most = int(bright.sum(axis=1).max())
    if not most:
        return None
    width = max(8, 1 << (most - 1).bit_length())
    n_frames = bright.shape[0]
    z = np.zeros((n_frames, width))
    f = np.zeros((design.shape[0], n_frames, width))
    w = np.zeros((n_frames, width))
    for t in range(n_frames):
        at = np.flatnonzero(bright[t])
        z[t, : at.size], w[t, : at.size] = values[t, at], 1
        f[:, t, : at.size] = design[:, t, at]
    z[w == 0] = values[bright].max()
    return Lane(jnp.asarray(z, dtype), jnp.asarray(f, dtype), jnp.asarray(w, dtype))


def start_sites(
    setting: Setting, data: Data, params: Params, scaling: tuple[float, float]
) -> tuple[Data, dict[str, Array]]:
    """The fit's estimate as values of the model's sites; sets the reference class."""
    centre, spread = scaling
    dtype = data.lane.values.dtype
    k, p, n_frames = setting.n_classes, setting.n_terms, data.lane.values.shape[0]
    prior = setting.priors
    means = (np.asarray(params.means, float)[0] - centre) / spread
    step2 = float(data.grey_step) ** 2 / 12
    own = np.sqrt(np.maximum((np.asarray(params.sds, float)[0] / spread) ** 2 - step2, 1e-4))
    weights = np.maximum(np.asarray(params.weights, float), _RARE)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    trend = np.asarray(params.trend, float) / spread
    values: dict[str, np.ndarray] = {"lowest_mean": means[0], "own_sds": own}
    if k > 1:
        gaps = np.maximum(np.diff(means), 0.02)
        values["scaled_gaps"] = gaps / (GAP_UNIT * (prior.gap or (4.0 / k,))[0])
        means = means[0] + np.concatenate([[0], np.cumsum(gaps)])
    if data.noise.likelihood == "student-t":
        values["dof"] = np.full(1, prior.dof[0])
    if data.noise.gain is not None:
        shot = float(data.noise.gain) * np.maximum(means - float(data.noise.offset), 0)
        values["own_sds"] = np.sqrt(np.maximum(own**2 - shot, 0.1 * own**2))
    values["common_sd"] = np.exp(np.mean(np.log(values["own_sds"]), keepdims=True))
    if not setting.movie:
        if k > 1:
            values["weights"] = weights[0]
        if p:
            values["trend"] = trend[0]
    else:
        reference = prior.reference
        if reference is None:
            reference = int(np.argmax(weights.mean(axis=0)))
        data = eqx.tree_at(lambda d: d.reference, data, jnp.asarray(reference))
        if k > 1:
            odds = np.log(weights) - np.log(weights[:, [reference]])
            odds = np.delete(odds, reference, axis=1).T
            values["log_odds_white"] = np.zeros((k - 1, n_frames))
        else:
            odds = np.zeros((0, n_frames))
        if p:
            values["trend_precision"] = np.ones(p)
            values["trend_walk_white"] = np.zeros((p, n_frames))
        shared = np.concatenate([means, np.log(values["own_sds"])])
        walks = np.concatenate([odds, trend.T])
        hint, steps = _hint(setting, data, jnp.asarray(shared, dtype), jnp.asarray(walks, dtype))
        if k > 1:
            values["walk_weights"] = np.asarray(steps[: k - 1])
        if p:
            values["walk_trend"] = np.asarray(steps[k - 1 :])
        data = eqx.tree_at(lambda d: d.hint, data, hint, is_leaf=lambda x: x is None)
    return data, {name: jnp.asarray(v, dtype) for name, v in values.items()}


@eqx.filter_jit
def _hint(
    setting: Setting, data: Data, shared: Float[Array, " S"], walks: Float[Array, "D T"]
) -> tuple[Hint, Float[Array, " D"]]:
    """Second-order picture of each frame's likelihood about the likely walks, and their steps.

    Frames are independent given the shared parameters, so one forward derivative along a walk,
    taken in all frames at once, is one column of every frame's information. The walks are found
    by smoothing that picture and looking again (an iterated Kalman smoother): a class that is
    absent from a frame has no curvature at the fit, but has where the walk leaves it.
    """
    k, n_frames = setting.n_classes, walks.shape[1]
    n_walks, dtype = walks.shape[0], walks.dtype
    prior = setting.priors

    def total(shared: Array, walks: Array) -> Array:
        means, own = shared[:k], jnp.exp(shared[k:])
        sds = jnp.sqrt(own**2 + data.grey_step**2 / 12)
        if k > 1:
            log_weights = log_weights_of(walks[: k - 1], data.reference)
        else:
            log_weights = jnp.zeros((n_frames, 1), dtype)
        every = (n_frames, k)
        mixture = Mixture(
            log_weights,
            jnp.broadcast_to(means[None], every),
            jnp.broadcast_to(sds[None], every),
            walks[k - 1 :].T,
            jnp.asarray(prior.dof[0], dtype),
        )
        return jnp.sum(lane_log_likelihood(mixture, data))

    slope = jax.grad(total, argnums=(0, 1))
    basis = jnp.eye(shared.shape[0] + n_walks, dtype=dtype)

    def look(walks: Array) -> tuple[Array, Array]:
        """Gradient along the walks (D, T), and its derivatives (S + D, D, T)."""

        def column(along: Array) -> tuple[Array, Array]:
            d_shared = along[: shared.shape[0]]
            d_walks = jnp.broadcast_to(along[shared.shape[0] :, None], walks.shape)
            (_, here), (_, change) = jax.jvp(slope, (shared, walks), (d_shared, d_walks))
            return here, change

        here, change = jax.vmap(column)(basis)
        return here[0], change

    odds = jnp.arange(n_walks) < k - 1
    loc = jnp.where(odds, jnp.asarray(prior.log_odds[0], dtype), 0)
    scale = jnp.where(odds, prior.log_odds[1], prior.trend[0]).astype(dtype)
    usual = jnp.where(odds, prior.walk_weights[0], prior.walk_trend[0]).astype(dtype)

    def smooth(_, state):
        walks, steps, _ = state
        here, change = look(walks)
        information = -jnp.diagonal(change[shared.shape[0] :]).T
        precision = jnp.maximum(information, 1e-2)
        centre = walks + jnp.clip(here / precision, -2, 2)
        walk = RandomWalk(loc, scale, steps, n_frames, (centre, precision))
        walks = unwhiten(walk, jnp.zeros_like(walks))[0]
        moved = jnp.sum(jnp.diff(walks) ** 2, axis=1) + 4 * usual**2
        return walks, jnp.sqrt(moved / (n_frames + 3)), (centre, precision, change)

    wide = jnp.zeros((shared.shape[0] + n_walks, n_walks, n_frames), dtype)
    start = (walks, usual, (walks, walks, wide))
    _, steps, (centre, precision, change) = jax.lax.fori_loop(0, _SMOOTHINGS, smooth, start)
    block = -jnp.transpose(change[shared.shape[0] :], (2, 0, 1))
    cross = jnp.transpose(change[: shared.shape[0]], (2, 1, 0))
    # Neighbouring frames hold back a class that is all but absent: here a weak prior does.
    own = jnp.eye(n_walks, dtype=bool)[None]
    block = jnp.where(own, jnp.maximum(block, 1e-2) + 1.0, block)
    pull = jnp.linalg.solve(block, cross)  # (T, D, S)
    return Hint(centre, precision, jnp.transpose(pull, (1, 0, 2)), shared), steps


def split(sites: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Shared sites and whitened walks."""
    walks = {n: v for n, v in sites.items() if n.endswith("_white")}
    return {n: v for n, v in sites.items() if n not in walks}, walks


def site_shapes(setting: Setting, data: Data) -> dict[str, tuple[int, ...]]:
    """Shapes of the unconstrained sites, in the order in which they are laid out flat."""
    k, p, n_frames = setting.n_classes, setting.n_terms, data.lane.values.shape[0]
    walks: dict[str, tuple[int, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {
        "common_sd": (1,),
        "lowest_mean": (),
        "own_sds": (k,),
    }
    if k > 1:
        shapes["scaled_gaps"] = (k - 1,)
    if data.noise.likelihood == "student-t":
        shapes["dof"] = (1,)
    if setting.movie:
        if k > 1:
            shapes["walk_weights"] = (k - 1,)
            walks["log_odds_white"] = (k - 1, n_frames)
        if p:
            shapes["walk_trend"] = shapes["trend_precision"] = (p,)
            walks["trend_walk_white"] = (p, n_frames)
    else:
        if k > 1:
            shapes["weights"] = (k - 1,)
        if p:
            shapes["trend"] = (p,)
    return {**dict(sorted(shapes.items())), **walks}


def sites_of(setting: Setting, data: Data, flow: Flow, z: Float[Array, " N"]) -> dict[str, Array]:
    """Unconstrained sites from isotropic coordinates."""
    n_low = flow.mode.shape[0]
    z = z.astype(flow.mode.dtype)
    flat = jnp.concatenate([flow.mode + flow.root @ z[:n_low], z[n_low:]])
    out, at = {}, 0
    for name, shape in site_shapes(setting, data).items():
        size = int(np.prod(shape))
        out[name] = flat[at : at + size].reshape(shape)
        at += size
    return out


@eqx.filter_jit
def prepare(setting: Setting, data: Data, values: dict[str, Array]) -> tuple[Data, Flow]:
    """Find the mode of the shared parameters by damped Newton steps and whiten about it."""
    sites = unconstrained(setting, data, values)
    shapes = site_shapes(setting, data)
    low = {n: sites[n].reshape(shapes[n]) for n in shapes if not n.endswith("_white")}
    walks = split(sites)[1]
    flat, unravel = ravel_pytree(low)  # dictionaries are laid out in sorted order
    dtype = flat.dtype

    def height(u: Array) -> Array:
        return potential(setting, data, {**unravel(u), **walks})

    along = jnp.eye(flat.shape[0], dtype=dtype)

    def look(u: Array) -> tuple[Array, Array, Array]:
        """Value, gradient and Hessian: one traced program, a forward derivative per column."""
        slopes, push = jax.linearize(jax.value_and_grad(height), u)
        matrix = jax.vmap(lambda d: push(d)[1])(along)
        return slopes[0], slopes[1], 0.5 * (matrix + matrix.T)

    def newton(_, state):
        at, best, damping = state
        scale, vectors = jnp.linalg.eigh(best[2])
        scale = jnp.maximum(jnp.abs(scale), 1e-2) + damping
        step = vectors @ ((vectors.T @ best[1]) / scale)
        step = step / jnp.maximum(1.0, jnp.max(jnp.abs(step)) / 1.5)
        trial = look(at - step)
        slack = 8 * jnp.finfo(dtype).eps * jnp.abs(best[0])
        better = trial[0] <= best[0] + slack
        chosen = jax.tree.map(lambda a, b: jnp.where(better, a, b), trial, best)
        damping = jnp.where(better, 0.1 * damping, 10 * damping + 1.0)
        return jnp.where(better, at - step, at), chosen, damping

    # The first look is a rejected step: the loop then holds the only copy of the program.
    nowhere = (jnp.asarray(jnp.inf, dtype), jnp.zeros_like(flat), along)
    start = (flat, nowhere, jnp.zeros((), dtype))
    mode, (_, _, matrix), _ = jax.lax.fori_loop(0, _NEWTON_STEPS + 1, newton, start)
    scale, vectors = jnp.linalg.eigh(matrix)
    root = (vectors / jnp.sqrt(jnp.maximum(jnp.abs(scale), 1e-2))[None, :]) @ vectors.T
    at_mode = constrained(setting, data, {**unravel(mode), **walks})
    level = lane_log_likelihood(mixture_of(setting, data, at_mode), data)
    return eqx.tree_at(lambda d: d.level, data, level), Flow(mode, root)


def mixture_of(setting: Setting, data: Data, values: dict[str, Array]) -> Mixture:
    """The mixture at constrained values of the sites, as `constrained` gives them."""
    k, n_frames = setting.n_classes, data.lane.values.shape[0]
    dtype = data.lane.values.dtype
    tiny = jnp.finfo(dtype).tiny
    weights = values.get("weights", jnp.ones(1, dtype)).reshape(-1, k)
    trend = values.get("trend", jnp.zeros(0, dtype)).reshape(-1, setting.n_terms)
    trend = jnp.broadcast_to(trend, (n_frames, setting.n_terms))
    every = (n_frames, k)
    return Mixture(
        jnp.broadcast_to(jnp.log(jnp.maximum(weights, tiny)), every),
        jnp.broadcast_to(values["means"][None], every),
        jnp.broadcast_to(values["sds"][None], every),
        trend,
        values.get("dof", jnp.ones(1, dtype))[0],
    )
