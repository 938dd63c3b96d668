"""Areas from a map of the whole frame, corrected by the pixels that were visited.

The map says how likely every pixel is foreground, from the visited pixels around it; a visited
pixel is left out of its own. What the map gets wrong shows at the visited pixels, and is added for
the whole frame: the model-assisted difference estimator of survey sampling (Särndal, Swensson and
Wretman 1992, ch. 6), unbiased whatever the map gets wrong, and more exact the better the map is.

A visited pixel's class is not seen but inferred from its grey value and the map: r instead of 0 or
1. Where classes overlap r leans on the map and hides part of its error. With

    rho = sum r (1 - r) / sum m (1 - m),

the share of what is not known of the labels beside the map m that the grey values leave unknown,
E(r - m) is 1 - rho times the map's error, to first order in it; so (r - m) / (1 - rho) is added.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.sampling import Pixels
from jaxmicro.data.totals import area_of
from jaxmicro.errors import UsageError
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.parameter_error import parameter_variance
from jaxmicro.spacetime.everywhere import as_local, proportions_everywhere
from jaxmicro.spacetime.local import Local

MOST_UNKNOWN = 0.9  # of the labels by their grey values: beyond it an error is not put right


def assisted_area(
    fitted: Fitted,
    classes: tuple[int, ...],
    local: Local | None,
    region: Bool[np.ndarray, "*T rows cols"] | None,
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Area of the foreground classes in pixels, and its standard error.

    The error is that of the sampling design, of what the grey values leave open of the labels, and
    of the fitted parameters.

    Args:
      fitted: of pixels with batch axis (frames,).
      local: the settings of a local fit; None for a plain one, whose labels are averaged over the
        neighbours.
      region: pixels that count, where that is not the whole frame.

    Raises:
      UsageError: part of the frame does not count, and `region` does not say which.
    """
    pixels, settings = fitted.pixels, local or Local()
    _check(pixels, region)
    seen = fitted.local or as_local(fitted.model, fitted.fit, pixels, settings)
    found = proportions_everywhere(pixels, seen, settings, region)
    mapped = found.visited[:, list(classes)].sum(axis=1)
    chance = _chance(fitted, found.visited)[:, list(classes)].sum(axis=1)
    weight = np.broadcast_to(np.asarray(pixels.weight, float), chance.shape)
    n, domain = weight.sum(axis=1), np.asarray(pixels.n_domain, float)
    elsewhere = found.unvisited[:, list(classes)].sum(axis=1)
    rest = np.where(np.isnan(elsewhere), 0.0, (domain - n) * elsewhere)
    left = np.sum(weight * chance * (1 - chance)) / max(np.sum(weight * mapped * (1 - mapped)), 1.0)
    told = 1 - min(left, MOST_UNKNOWN)
    missed, se = area_of((chance - mapped) / told, pixels)
    noise = np.sum(weight * chance * (1 - chance), axis=1) / np.maximum(n, 1) / told
    of_parameters = parameter_variance(
        fitted.model, fitted.fit.params, pixels, found.visited, classes, told
    )
    area = rest + np.sum(weight * mapped, axis=1) + missed
    return area, np.sqrt(se**2 + domain * noise + domain**2 * of_parameters)


def _check(pixels: Pixels, region: Bool[np.ndarray, "*T rows cols"] | None) -> None:
    whole = pixels.shape[0] * pixels.shape[1]
    if region is None and np.any(np.asarray(pixels.n_domain) < whole):
        raise UsageError(
            "estimator 'difference' maps the frame, and part of it does not count; give the movie, "
            "analyse(pixels, plan, movie=movie), or use estimator 'posterior'"
        )


def _chance(fitted: Fitted, mapped: Float[np.ndarray, "T K n"]) -> Float[np.ndarray, "T K n"]:
    """Posterior class probabilities of the visited pixels, where the map is their prior."""
    params = fitted.fit.params
    even = dataclasses.replace(params, weights=jnp.ones_like(params.weights))
    by_grey = fitted.model.responsibilities(even, fitted.pixels)
    prior = jnp.asarray(mapped, by_grey.dtype)
    return np.asarray(jax.nn.softmax(jnp.log(by_grey) + jnp.log(prior), axis=1), float)
