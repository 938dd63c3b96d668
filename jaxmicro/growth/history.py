"""Class shares over a whole movie of which only some frames are analysed.

Whether a class grows is a question to the movie from its start, not to the frames that were picked.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import MIN_PIXELS, Pixels
from jaxmicro.mixture.gmrm import GMRM, Params

MOST_FRAMES, MOST_PIXELS = 24, 4000  # a share is then good to .008, a tenth of what must grow
STEPS = 100


def class_shares(
    model: GMRM, params: Params, movie: Movie, *, rate: float | None = None, seed: int = 0
) -> Float[np.ndarray, "few K"]:
    """Share of each class in frames spread evenly over a movie, its ends included.

    The classes are those of `params`, pooled over its frames by the median; only proportions are
    fitted, by EM, whose log-likelihood is concave in them. NaN where a frame has too few pixels.

    Args:
      params: batch axis (frames,), from a fit to some frames of the movie.
      movie: the whole movie.
      rate: share of a frame's pixels that may be looked at; None for all.
    """
    pooled = jax.tree.map(lambda a: jnp.nanmedian(a, axis=0), params)
    rng = np.random.default_rng(seed)
    chosen = np.unique(np.linspace(0, movie.n_frames - 1, MOST_FRAMES).round().astype(int))
    return np.stack([_shares(model, pooled, movie, int(t), rate, rng) for t in chosen])


def _shares(
    model: GMRM,
    params: Params,
    movie: Movie,
    t: int,
    rate: float | None,
    rng: np.random.Generator,
) -> Float[np.ndarray, " K"]:
    frame = movie.frame(t)
    spots = np.flatnonzero(movie.usable(t, frame))
    count = min(MOST_PIXELS, round((rate or 1.0) * spots.size))
    if count < MIN_PIXELS:
        return np.full(model.n_classes, np.nan)
    spots = np.sort(rng.choice(spots, count, replace=False))
    rows, cols = np.divmod(spots, movie.shape[2])
    pixels = Pixels(
        jnp.asarray(frame.ravel()[spots]),
        jnp.asarray(rows),
        jnp.asarray(cols),
        jnp.ones(count),
        jnp.asarray(float(spots.size)),
        movie.shape[1:],
    )
    joint = jnp.stack(model.log_joint(params, pixels.values, model.design(pixels)))
    log_density = np.asarray(joint, float) - np.log(np.asarray(params.weights, float))[:, None]
    density = np.exp(log_density - log_density.max(axis=0))
    share = np.full(model.n_classes, 1 / model.n_classes)
    for _ in range(STEPS):
        joint_density = share[:, None] * density
        share = (joint_density / joint_density.sum(axis=0)).mean(axis=1)
    return share
