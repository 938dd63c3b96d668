"""Derivatives of a fit by the pixels, from the optimum alone: the implicit function theorem.

At the optimum the score g(theta, x) is 0, so theta follows the pixels x by

    d theta = I^-1 (dg / dx) dx,

with the observed information I = -dg / d theta. How the optimum was found does not enter, and
nothing of it is kept for the backward pass. The rule is linear in dx and made of differentiable
parts, so forward mode, reverse mode and higher derivatives all follow from it.

Coordinates are those of `information`: logits, means, log sds and trend, those that frames share
solved for once; what stands at a bound stays there.

Source: Krantz and Parks (2013), The Implicit Function Theorem, Birkhaeuser.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture import newton
from jaxmicro.mixture.batch import Item, by_fit, by_frame, e_steps, over_items, padded
from jaxmicro.mixture.gmrm import GMRM, Params
from jaxmicro.mixture.information import (
    gradient,
    gradient_and_information,
    missing_of_frames,
    move,
)
from jaxmicro.mixture.problem import Fit, Scale, standardise


def follow(model: GMRM, pixels: Pixels, found: Fit, sd_floor: Float[Array, ""]) -> Fit:
    """The fit with derivatives of its parameters and log-likelihood by values and weights.

    Args:
      pixels: what was fitted, with the derivatives that are to be followed.
      found: its fit, taken as an optimum.
      sd_floor: least sd of a class, in grey values.
    """
    params, log_likelihood = _followed(model, pixels, found.params, found.log_likelihood, sd_floor)
    return eqx.tree_at(lambda f: (f.params, f.log_likelihood), found, (params, log_likelihood))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _followed(
    model: GMRM,
    pixels: Pixels,
    params: Params,
    log_likelihood: Float[Array, "*batch"],
    sd_floor: Float[Array, ""],
) -> tuple[Params, Float[Array, "*batch"]]:
    return params, log_likelihood


@_followed.defjvp
def _rule(model: GMRM, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    pixels, _, _, sd_floor = primals
    turned = tangents[0].values, tangents[0].weight
    out = _followed(model, *primals)
    return out, _tangents(model, pixels, turned, out[0], sd_floor)


@jax.jit
def _tangents(
    model: GMRM,
    pixels: Pixels,
    turned: tuple[Array, Array],
    params: Params,
    sd_floor: Float[Array, ""],
) -> tuple[Params, Array]:
    """Change of parameters and log-likelihood with a change of values and weights."""
    at = by_fit(model, pixels, params)

    def scores(values: Array, weight: Array) -> tuple[Array, Array]:
        now = eqx.tree_at(lambda p: (p.values, p.weight), pixels, (values, weight))
        return over_items(functools.partial(_score, model, sd_floor), model, now, at)

    (score, _), (d_score, direct) = jax.jvp(scores, (pixels.values, pixels.weight), turned)
    step = functools.partial(_step, model, sd_floor)
    d_params, moved = over_items(step, model, pixels, (at, score, d_score))
    return by_frame(model, pixels, (d_params, direct + moved))


def _score(model: GMRM, sd_floor: Array, args: Any) -> tuple[Array, Array]:
    """Score (T, q) and log-likelihood (T,) of an item at given parameters in grey values."""
    item, params = args
    item, scale = _standardised(item, sd_floor)
    at = scale.standardised(params, model.family)
    log_likelihood, stats = e_steps(at, item, model.family)
    count = jnp.sum(jnp.broadcast_to(item.weight, item.values.shape), axis=-1)
    return gradient(model, at, stats), log_likelihood - count * jnp.log(scale.scale)


def _step(model: GMRM, sd_floor: Array, args: Any) -> tuple[Params, Array]:
    """How the parameters, and with them the log-likelihood (T,), follow a change of the score."""
    item, (params, score, d_score) = args
    item, scale = _standardised(item, sd_floor)
    at = scale.standardised(params, model.family)
    stats = e_steps(at, item, model.family)[1]
    _, complete = gradient_and_information(model, at, stats)
    known = score, complete, missing_of_frames(model, at, item)
    fixed, _, observed = newton.system(model, at, stats, known, scale.floor)
    step = newton.solve(model, jnp.where(fixed, 0, d_score), observed, apart=True)
    finite = jnp.ones(score.shape[0], bool)

    def in_grey(by: Array) -> Params:
        return scale.restored(move(model, at, by), finite, model.family)

    d_params = jax.jvp(in_grey, (jnp.zeros_like(step),), (step,))[1]
    return d_params, jnp.sum(score * step, axis=-1)


def _standardised(item: Item, sd_floor: Array) -> tuple[Item, Scale]:
    """The item in units that do not follow the pixels: in which ones it is fitted is no matter."""
    _, scale = jax.lax.stop_gradient(standardise(item, sd_floor))
    used = (item.weight > 0) & jnp.isfinite(item.values)
    z = jnp.where(used, (item.values - scale.centre) / scale.scale, 0)
    return padded(Item(z, item.design, item.weight)), scale
