"""Fitting the soft vote's settings, to known labels or to the movie that is to be corrected.

Without labels the settings are cross-validated on the sampled pixels. Each pixel in turn is left
out and its class predicted from its neighbours' probabilities, which do not depend on its grey
value: q = softmax of log shares to the power `sharpening`, mixed with the frame's weights where
neighbours are few. The prediction is scored by the density of the pixel's grey value, sum_k q_k
N(z | class k). This is a proper score, so no truth is needed to fit radius, anisotropy and
sharpening.
Prediction and grey value together give the pixel's posterior, and the soft vote's threshold and
sharpness are then fitted to agree with it.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import UsageError
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.spacetime.neighbourhood import Neighbourhood
from jaxmicro.spacetime.soft_vote import SoftVote, decide, neighbour_shares

_MIN_RADIUS = 1.0


class FittedVote(eqx.Module):
    """A soft vote whose settings were fitted.

    Attributes:
      settings: the soft vote; `radius`, `time_scale` and `threshold` also set the hard vote.
      loss: per step, nats per pixel; the last is the loss of `settings`.
      sharpening: power of the neighbours' shares in predictions of hidden pixels; 1 without use.
      held_out: log-loss of hidden pixels' grey values, nats per pixel; NaN when labels were given.
    """

    settings: SoftVote
    loss: Float[Array, " steps"]
    sharpening: Float[Array, ""]
    held_out: Float[Array, ""]

    def neighbourhood(self) -> Neighbourhood:
        """The hard vote's neighbourhood with the fitted radius and anisotropy."""
        s = self.settings
        return Neighbourhood(
            float(s.radius), "l1" if s.metric == "l1" else "l2", s.causal, float(s.time_scale)
        )


class _Free(eqx.Module):
    """Unconstrained coordinates of the settings."""

    radius: Array
    time_scale: Array
    threshold: Array
    sharpness: Array
    edge: Array
    sharpening: Array

    @classmethod
    def of(cls, s: SoftVote, sharpening: float) -> _Free:
        share = jnp.clip((s.radius - _MIN_RADIUS) / (s.reach - _MIN_RADIUS), 0.02, 0.98)
        gamma = jnp.clip(s.threshold, 0.01, 0.99)
        return cls(
            jnp.log(share / (1 - share)),
            jnp.log(s.time_scale),
            jnp.log(gamma / (1 - gamma)),
            jnp.log(s.sharpness),
            jnp.log(s.edge),
            jnp.log(jnp.asarray(sharpening, s.radius.dtype)),
        )

    def settings(self, like: SoftVote) -> SoftVote:
        span = like.reach - _MIN_RADIUS
        return SoftVote(
            _MIN_RADIUS + span * jax.nn.sigmoid(self.radius),
            jnp.exp(self.time_scale),
            jax.nn.sigmoid(self.threshold),
            jnp.exp(self.sharpness),
            jnp.exp(self.edge),
            like.reach,
            like.frames,
            like.metric,
            like.causal,
        )


def learn_correction(
    start: SoftVote,
    pixels: Pixels,
    probabilities: Float[Array, "t K n"],
    *,
    labels: Int[Array, "t n"] | None = None,
    model: GMRM | None = None,
    params: Params | None = None,
    steps: int = 100,
    rate: float = 0.1,
) -> FittedVote:
    """Fit a soft vote's radius, anisotropy, edge, sharpness and threshold by Adam (optax).

    Args:
      start: settings to start from; `start.reach` and `start.frames` bound the kernel.
      pixels: batch axes (frames,).
      probabilities: class probabilities of the pixels before correction (responsibilities).
      labels: the true classes, where known.
      model, params: the fitted mixture, needed where labels are not given.
      steps: of Adam.
      rate: its step length, in log or logit units of the settings.

    Raises:
      UsageError: neither labels nor a fitted mixture, pixels with replicates, no steps.
    """
    if pixels.values.ndim != 2:
        raise UsageError("learn_correction takes (frames,) of pixels; index the replicates first")
    if labels is None and (model is None or params is None):
        raise UsageError("learn_correction needs labels, or the fitted model and its params")
    if steps < 1:
        raise UsageError(f"steps = {steps} is not allowed; use 1 or more")
    log_density = None
    weights = jnp.mean(probabilities, axis=-1)
    if labels is None:
        assert model is not None
        assert params is not None
        even = eqx.tree_at(lambda p: p.weights, params, jnp.ones_like(params.weights))
        design = model.design(pixels)
        design = design[:, None] if design.ndim == 2 else design
        log_density = jnp.stack(model.log_joint(even, pixels.values, design), axis=1)
        weights = params.weights
    data = (probabilities, labels, log_density, weights, _on_smallest_grid(pixels))
    free, losses, held_out = _descend(start, data, steps, rate)
    return FittedVote(
        free.settings(start),
        losses,
        jnp.exp(free.sharpening) if labels is None else jnp.ones_like(free.sharpening),
        held_out if labels is None else jnp.full_like(held_out, np.nan),
    )


def _on_smallest_grid(pixels: Pixels) -> Pixels:
    """The same pixels in the smallest frame that holds them: an empty margin only costs time.

    The sums over neighbours do not change, because there is nothing outside.
    """
    seen = np.broadcast_to(np.asarray(pixels.weight) > 0, np.shape(pixels.rows))
    if not seen.any():
        return pixels
    places = [
        np.where(seen, a, np.min(a, where=seen, initial=2**30))
        for a in (np.asarray(pixels.rows), np.asarray(pixels.cols))
    ]
    rows, cols = (jnp.asarray(a - a.min()) for a in places)
    shape = int(rows.max()) + 1, int(cols.max()) + 1
    weight, domain = pixels.weight, pixels.n_domain
    return Pixels(pixels.values, rows, cols, weight, domain, shape, pixels.pattern)


@eqx.filter_jit
def _descend(start: SoftVote, data, steps: int, rate):
    optimiser = optax.adam(rate)
    first = _Free.of(start, 1.0)

    def step(carry, _):
        free, state = carry
        (loss, held_out), gradient = jax.value_and_grad(_loss, has_aux=True)(free, start, data)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(free, change), state), (loss, held_out)

    (free, _), (losses, _) = jax.lax.scan(step, (first, optimiser.init(first)), None, length=steps)
    loss, held_out = _loss(free, start, data)
    return free, jnp.concatenate([losses, loss[None]]), held_out


def _loss(free: _Free, like: SoftVote, data):
    probabilities, labels, log_density, weights, pixels = data
    settings = free.settings(like)
    w = jnp.broadcast_to(pixels.weight, probabilities[:, 0].shape).astype(probabilities.dtype)
    sums, count = neighbour_shares(settings, probabilities, pixels)
    out = decide(settings, probabilities, sums, count)
    log_out = jnp.log(jnp.maximum(out, 1e-6))
    if labels is not None:
        hit = jnp.take_along_axis(log_out, labels[:, None], axis=1)[:, 0]
        loss = -jnp.sum(w * hit) / jnp.sum(w)
        return loss, loss
    log_q = _hidden(jnp.exp(free.sharpening), weights, sums, count)
    joint = log_q + log_density
    held_out = -jnp.sum(w * jax.nn.logsumexp(joint, axis=1)) / jnp.sum(w)
    posterior = jax.lax.stop_gradient(jax.nn.softmax(joint, axis=1))
    agree = -jnp.sum(w * jnp.sum(posterior * log_out, axis=1)) / jnp.sum(w)
    return held_out + agree, held_out


def predict_hidden(
    settings: SoftVote,
    sharpening: Float[Array, ""],
    probabilities: Float[Array, "t K n"],
    weights: Float[Array, "t K"],
    pixels: Pixels,
) -> Float[Array, "t K n"]:
    """Log class probabilities of each pixel as its neighbours alone predict them."""
    return _hidden(sharpening, weights, *neighbour_shares(settings, probabilities, pixels))


def _hidden(sharpening, weights, sums, count):
    count = jnp.maximum(count, 0)[:, None]
    mixed = (weights[..., None] + jnp.maximum(sums, 0)) / (1 + count)
    power = 1 + (sharpening - 1) * count / (1 + count)
    return jax.nn.log_softmax(power * jnp.log(jnp.maximum(mixed, 1e-6)), axis=1)
