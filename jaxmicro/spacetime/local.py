"""Class proportions that vary in space and time, inside the ECM fit.

The mixture's weights p_k are replaced at each pixel i by pi_ik, made of the responsibilities of
the *other* sampled pixels near it in space and time:

    m_ik = (c p_tk + sum_j h_ij r_jk) / (c + sum_j h_ij),  j not i,
    log pi_ik = b log m_ik + a_k + constant,

with h a Gaussian in space times an exponential in time, p_tk the weights of the frame and c a
pseudo-count by which the frame's weights count more where fewer neighbours were sampled. b is the
strength of the interaction and a_k the frame's external field, as in a Potts model; both fade
where there are no neighbours. Fitted together they make pi what it is to be, the chance of class k
beside such neighbours: without the field small convex regions of a class lose a sixth of their
area.

Where the noise of nearby pixels is correlated a pixel's neighbours know its noise as well as its
class. A `buffer` v takes exp(-d^2 / (2 v^2)) off the kernel in the pixel's own frame, so that those
that share its noise do not vote.

What is fitted. At the fixed point the parameters maximise the pseudo-likelihood

    PL = sum_i log sum_k pi_ik N(z_i | class k)

for given pi, and pi is made of the responsibilities those parameters give. This is the mean-field
approximation of a hidden Markov random field, with the neighbours' states at their mean (Celeux,
Forbes and Peyrard 2003, Pattern Recognition 36:131). `Fit.log_likelihood` is PL per frame: with it
AIC and BIC are the mean-field criteria of Forbes and Peyrard (2003, IEEE TPAMI 25:1089). z_i has no
vote in pi_i, but its neighbours, who do, were told of it: PL is too high by what comes back, most
where classes overlap. `growth.choose` therefore ranks numbers of classes by pixels left out.

What rises. Each step computes pi from the responsibilities and weights it starts with, and with
that pi one E-step and one M-step for means, sds, trend and gain. At that pi this is ECM, so

    PL(new parameters; pi) >= PL(old parameters; pi)

in every step, however the means are shared, with or without gains. Weights, strength and field
enter PL only through the next pi, and the responsibilities that make it are damped; this second
half of a step may lower PL. So `Fit.trace`, PL at each step's own pi, may fall: by 1e-4 nats per
pixel near the fixed point of small noisy movies, by more where the model is not quite true, as at
blurred edges. A fit ends at the fixed point or, if PL has a top on the way, at the top.
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
from jaxmicro.mixture.criteria import Criteria
from jaxmicro.mixture.ecm import Fit, Progress, fit, grey_step, in_parts
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.inputs import check_inputs, check_untraced
from jaxmicro.settings import setting
from jaxmicro.spacetime import local_loop
from jaxmicro.spacetime.local_em import Coupling, Fold
from jaxmicro.spacetime.local_state import Found, Observed, Past, Settings, State
from jaxmicro.spacetime.part import Part
from jaxmicro.spacetime.replicates import over_movies, replicate_first
from jaxmicro.spacetime.smooth import Kernel, cells_for, density_kernel

WIDER = 3.0  # the second kernel is this much wider in space
WIDER_THAN_BUFFER = 1.6  # a kernel is at least this many times as wide as its hole
FIRST_INTERACTION = 1.5  # start of the fit of the strength
START_TOLERANCE = 1e-6  # nats per pixel: stopped sooner, a start may lead to another optimum


@dataclasses.dataclass(frozen=True)
class Local:
    """How proportions follow the neighbours; every default adapts to the sampling.

    Attributes:
      causal: only past and present frames count, as a live run needs; or centred in time.
      width: sd of the kernel in space, in pixels; None takes it from the sampling density.
      memory: frames after which the kernel has fallen to 1/e; None likewise.
      pseudo_count: c, how many neighbours the frame's own weights are worth.
      interaction: b, then without a field; None fits both by maximum pseudo-likelihood.
      levels: 1 for one kernel, 2 to fall back on a kernel 3 times as wide before the frame's
        weights.
      buffer: sd of the hole in the kernel, in pixels, below its width; 0 for none.

    Raises:
      UsageError: a value out of range, named.
    """

    causal: bool = setting(False, "true (past and present frames only) or false")
    width: float | None = setting(None, "sd of the kernel, 0 to 256 pixels", gt=0, le=256)
    memory: float | None = setting(None, "0 to 10000 frames to fall to 1/e", ge=0, le=10_000)
    pseudo_count: float = setting(1.0, "a number of pixels above 0, at most 1000", gt=0, le=1000)
    interaction: float | None = setting(None, "a strength above 0 and at most 10", gt=0, le=10)
    levels: int = setting(1, "1 or 2", ge=1, le=2)
    buffer: float = setting(0.0, "sd of the kernel's hole, 0 to 64 pixels; 0 for none", ge=0, le=64)

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
        if not (math.isfinite(self.buffer) and self.buffer >= 0):
            raise UsageError(f"buffer {self.buffer} is not allowed; use 0 or more pixels")

    def kernel(
        self, n_per_frame: float, shape: tuple[int, int], n_frames: int | None = None
    ) -> Kernel:
        """The kernel for this many visited pixels a frame (and frames, if there are only a few)."""
        usual = density_kernel(n_per_frame, shape, self.causal, None if self.causal else n_frames)
        width = max(usual.width, WIDER_THAN_BUFFER * self.buffer)
        return Kernel(
            width if self.width is None else self.width,
            usual.memory if self.memory is None else self.memory,
            self.causal,
        )


DEFAULT = Local()


class LocalFit(eqx.Module):
    """A fit with local proportions.

    Attributes:
      fit: parameters, pseudo-likelihood and status; `fit.params.weights` are the frames' weights.
      responsibilities: posterior class probabilities of the pixels.
      neighbours: kernel-weighted number of other sampled pixels; 1 for one right beside.
      coupling: the strength b, as given or fitted, and each frame's field a_k in the order of the
        classes, 0 where b was given.
      past: for the next frames of a causal run; None with replicates.
      kernel: the kernel in use.
      learned: whether strength and field were fitted.
    """

    fit: Fit
    responsibilities: Float[Array, "*batch K n"]
    neighbours: Float[Array, "*batch n"]
    coupling: Coupling
    past: Past | None
    kernel: Kernel = eqx.field(static=True)
    learned: bool = eqx.field(static=True)

    def classify(self) -> Int[Array, "*batch n"]:
        """The most probable class of each pixel (0 is the darkest)."""
        return jnp.argmax(self.responsibilities, axis=-2).astype(jnp.int32)

    @property
    def interaction(self) -> Float[Array, "*replicates"]:
        """The strength b."""
        return self.coupling.strength

    @property
    def n_alone(self) -> np.ndarray:
        """Pixels per frame with next to no neighbour, whose proportions are the frame's weights."""
        return np.asarray(jnp.sum(self.neighbours < 1e-3, axis=-1))


def fit_local(
    model: GMRM,
    pixels: Pixels,
    local: Local = DEFAULT,
    *,
    init: Params | None = None,
    past: Past | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 60,
    quantum: float | None = None,
    part: Part | None = None,
    progress: Progress | None = None,
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
      part: of the model to fit, and for how long: one compiled program tries many. Default: all.
      progress: called every few seconds with a sentence on how far the fit has come.

    Returns:
      `LocalFit`. Never raises for numerical trouble; see `Fit.result`.

    Raises:
      UsageError: `past` with replicates or without `causal`.
    """
    check_inputs("fit_local", model, pixels, init)
    check_untraced("fit_local", pixels, init)
    if past is not None and (not local.causal or pixels.values.ndim != 2):
        raise UsageError("past frames can be inherited by causal fits without replicates only")
    quantum = grey_step(np.asarray(pixels.values)) if quantum is None else quantum
    if init is None:
        init = fit(
            model, pixels, tolerance=START_TOLERANCE, quantum=quantum, progress=progress
        ).params
    init = jax.tree.map(lambda a: a.astype(pixels.values.dtype), _with_finite_starts(init))
    part = part or Part(model.n_classes, (True,) * model.trend.n_terms, max_steps)
    kernel = local.kernel(part.per_frame(pixels), pixels.shape, pixels.n_frames)
    stop = (tolerance, quantum, max_steps)
    settings = _settings(local, kernel, pixels, stop, part, model.n_classes)
    state = _begin(model, pixels, init, settings)

    def advance(state: State, budget: int) -> tuple[Found, State]:
        return _advance(model, pixels, state, past, settings, jnp.asarray(budget, jnp.int32))

    if progress is None:
        out = advance(state, part.steps + local_loop.SETTLE + local_loop.HELD)[0]
    else:
        out = in_parts(advance, state, part.steps, pixels.values.size, progress)
    learned = local.interaction is None
    return LocalFit(
        out.fit, out.responsibilities, out.neighbours, out.coupling, out.past, kernel, learned
    )


def _settings(
    local: Local,
    kernel: Kernel,
    pixels: Pixels,
    stop: tuple[float, float, int],
    part: Part,
    n_classes: int,
) -> Settings:
    """`stop` is tolerance, grey-level step and most steps."""
    tolerance, quantum, max_steps = stop
    widths = (kernel.width, WIDER * kernel.width)[: local.levels]
    shape = pixels.shape if part.layout is None else part.layout.shape

    def number(value: float) -> Array:
        return jnp.asarray(value, pixels.values.dtype)

    return Settings(
        tuple(number(w) for w in widths),
        number(kernel.decay),
        number(local.pseudo_count),
        _first_coupling(local, part, (pixels.n_frames, n_classes), pixels.values.dtype),
        number(tolerance),
        number(quantum / 12**0.5),
        number(local.buffer) if local.buffer else None,
        jnp.asarray(part.classes, jnp.int32),
        jnp.asarray(part.terms, pixels.values.dtype),
        None if part.layout is None else (part.layout.rows, part.layout.cols),
        _fold(part),
        jnp.asarray(part.held is not None),
        jnp.asarray(part.steps, jnp.int32),
        tuple(cells_for(w, shape, single=local.buffer > 0) for w in widths),
        local.causal,
        local.interaction is None,
        max_steps,
    )


def _first_coupling(local: Local, part: Part, shape: tuple[int, int], dtype: jnp.dtype) -> Coupling:
    if part.held is not None:
        return part.held
    strength = FIRST_INTERACTION if local.interaction is None else local.interaction
    return Coupling(jnp.asarray(strength, dtype), jnp.zeros(shape, dtype))


def _fold(part: Part) -> Fold | None:
    """The pixels that vote, and those that are judged: all, or those left out."""
    if part.told is None:
        return None
    told = part.told if part.told.ndim == 2 else part.told[None]
    return Fold(told, jnp.ones_like(told) if part.held is None else 1 - told)


def _with_finite_starts(params: Params) -> Params:
    """Frames whose start is not finite start from the median of the others."""

    def replace(a: Array) -> Array:
        values = np.array(a)
        good = np.isfinite(values).all(axis=-1)
        if good.all() or not good.any():
            return a
        values[~good] = np.median(values[good], axis=0)
        return jnp.asarray(values)

    return jax.tree.map(replace, params)


@eqx.filter_jit
def _begin(model: GMRM, pixels: Pixels, init: Params, settings: Settings) -> State:
    batch = pixels.values.shape[:-1]
    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, a.shape[-1])), init)
    if len(batch) == 2:
        start = jax.tree.map(replicate_first, start)

    def one(args: tuple[Observed, Params]) -> State:
        return local_loop.begin(model, args[0], args[1], settings)

    return over_movies(one, model, pixels, start, settings)


@eqx.filter_jit
def _advance(
    model: GMRM,
    pixels: Pixels,
    state: State,
    past: Past | None,
    settings: Settings,
    budget: Int[Array, ""],
) -> tuple[Found, State]:
    def one(args: tuple[Observed, State]) -> tuple[Found, State]:
        found, after = local_loop.advance(model, args[0], args[1], past, settings, budget)
        if pixels.values.ndim > 2:  # replicates have no later frames
            found = eqx.tree_at(lambda f: f.past, found, None, is_leaf=lambda x: x is None)
        return found, after

    found, after = over_movies(one, model, pixels, state, settings)
    if pixels.values.ndim > 2:
        fits, resp, neighbours = jax.tree.map(
            replicate_first, (found.fit, found.responsibilities, found.neighbours)
        )
        found = Found(fits, resp, neighbours, found.coupling, None)
    return found, after


def local_criteria(model: GMRM, fitted: LocalFit, pixels: Pixels) -> Criteria:
    """Mean-field AIC, BIC and ICL (Forbes and Peyrard 2003), to rank beside `criteria`.

    The log-likelihood is the pseudo-likelihood; a fitted interaction counts as one parameter, the
    field of a frame as K - 1. Where classes overlap it favours more of them: see the module.
    """
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, pixels.values.shape)
    resp = np.moveaxis(np.asarray(fitted.responsibilities, np.float64), -2, 0)
    entropy = -float(np.sum(np.where(seen, resp * np.log(np.maximum(resp, 1e-300)), 0.0)))
    total = float(np.sum(np.asarray(fitted.fit.log_likelihood, np.float64)))
    of_coupling = 1 + pixels.n_frames * (model.n_classes - 1)
    free = model.n_parameters(pixels.n_frames) + (of_coupling if fitted.learned else 0)
    n = int(np.sum(np.asarray(pixels.n_pixels)))
    bic = -2 * total + free * float(np.log(n))
    return Criteria(total, free, n, -2 * total + 2 * free, bic, bic + 2 * entropy)
