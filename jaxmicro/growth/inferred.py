"""What the grey value of a visited pixel says of its label, free of what was believed before.

Let c be class proportions believed before the grey value z is seen (a working prior), M their sum
over the foreground, f1 and f0 the densities of z in the foreground and in the rest, and r the
posterior probability of foreground. r leans on M: its mean is higher by

    told = 1 - integral f1 f0 / (M f1 + (1 - M) f0) dz

in the foreground than in the rest, and not by 1. So

    g = M + (r - M) / told

has mean 1 in the foreground and 0 in the rest, whatever the true proportion: an unbiased estimate
of the label, of variance M (1 - M) (1 / told - 1) where the prior is right. It is one step of
Fisher's scoring for the proportion, from M on.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.gmrm import GMRM, Params

STEP = 1.0  # of the working prior, in logits
# The least proportion of a class in it. A smaller one hides islands that the map has missed; a
# larger one takes outliers of the noise for islands.
LEAST = 1e-4
LEAST_TOLD = 0.005  # where grey values say less than that, the label stays near the prior
NODES = np.linspace(
    -12, 12, 49
)  # in sds of each class: half an sd is exact to 1e-8 for a normal one


@dataclasses.dataclass(frozen=True)
class Inferred:
    """Labels of the visited pixels as their grey values tell them.

    Attributes:
      labels: (T, n) unbiased estimates of 0 or 1; they may lie outside.
      told: (T, n) by how much the probability of foreground differs between the two.
      prior: (T, K, n) the working prior.
    """

    labels: Float[np.ndarray, "T n"]
    told: Float[np.ndarray, "T n"]
    prior: Float[np.ndarray, "T K n"]


def infer(
    model: GMRM,
    params: Params,
    pixels: Pixels,
    proportions: Float[np.ndarray, "T K n"],
    foreground: tuple[int, ...],
) -> Inferred:
    """Labels of pixels whose model has been fitted.

    Args:
      params: batch axis (frames,), as are the pixels.
      proportions: of the classes at each visited pixel, from elsewhere than its own grey value.
    """
    inside = np.isin(np.arange(model.n_classes), foreground)
    log_f = np.asarray(_log_densities(model, params, pixels), float)
    log_f_at = _at_nodes(model, params)
    labels, told = (np.empty(log_f[:, 0].shape) for _ in range(2))
    prior = np.empty(log_f.shape, np.float32)
    for t in range(len(log_f)):
        cells, which = _cells(proportions[t])
        told_of = _told(cells, log_f_at[t], inside)
        own, told[t] = cells[which].T, told_of[which]
        joint = own * np.exp(log_f[t] - log_f[t].max(axis=0))
        chance = joint[inside].sum(axis=0) / joint.sum(axis=0)
        believed, prior[t] = own[inside].sum(axis=0), own
        labels[t] = believed + (chance - believed) / told[t]
    return Inferred(labels, told, prior)


def _log_densities(model: GMRM, params: Params, pixels: Pixels) -> Float[jax.Array, "T K n"]:
    """Log density of each pixel's grey value in each class, but for a constant of the pixel."""
    even = dataclasses.replace(params, weights=jnp.ones_like(params.weights))
    by_grey = model.responsibilities(even, pixels)
    return jnp.log(jnp.maximum(by_grey, jnp.finfo(by_grey.dtype).tiny))


def _at_nodes(model: GMRM, params: Params) -> Float[np.ndarray, "T K Kq"]:
    """Log densities of all classes at the nodes of class 0, then at those of class 1, .."""
    nodes = jnp.asarray(NODES, params.means.dtype)[None, None]
    z = params.means[:, :, None] + params.sds[:, :, None] * nodes
    z = z.reshape(z.shape[0], -1)  # less the trend
    even = dataclasses.replace(params, weights=jnp.ones_like(params.weights))
    none = jnp.zeros((model.trend.n_terms, *z.shape), z.dtype)
    return np.asarray(jnp.stack(model.log_joint(even, z, none), axis=1), float)


def _cells(
    proportions: Float[np.ndarray, "K n"],
) -> tuple[Float[np.ndarray, "C K"], Int[np.ndarray, " n"]]:
    """Proportions on a coarse grid of logits, and the cell of each pixel."""
    bound = np.log(LEAST / (1 - LEAST))
    kept = np.clip(np.nan_to_num(proportions), LEAST, 1 - LEAST)
    steps = np.rint((np.log(kept / (1 - kept)) - bound) / STEP).astype(np.int64)
    which, base = np.zeros(steps.shape[1], np.int64), steps.max() + 1
    for of_class in steps:
        _, which = np.unique(which * base + of_class, return_inverse=True)
    _, first = np.unique(which, return_index=True)
    cells = 1 / (1 + np.exp(-(steps[:, first].T * STEP + bound)))
    return cells / cells.sum(axis=1, keepdims=True), which


def _told(
    cells: Float[np.ndarray, "C K"], log_f: Float[np.ndarray, "K Kq"], inside: np.ndarray
) -> Float[np.ndarray, " C"]:
    """The integral of the module's docstring, as a mean over the nodes of each class."""
    n_classes = len(log_f)
    f = np.exp(log_f - log_f.max(axis=0))  # ratios are all that counts below
    own = log_f.reshape(n_classes, n_classes, NODES.size)[range(n_classes), range(n_classes)]
    share = np.exp(own - own.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    one, rest = (cells[:, side] @ f[side] for side in (inside, ~inside))  # M f1, (1 - M) f0
    both = cells[:, inside].sum(axis=1) * cells[:, ~inside].sum(axis=1)
    overlap = one * rest / (one + rest) ** 2 / np.maximum(both, 1e-12)[:, None]
    mean = (overlap.reshape(len(cells), n_classes, NODES.size) * share).sum(axis=2)
    return np.clip(1 - (cells * mean).sum(axis=1), LEAST_TOLD, 1)
