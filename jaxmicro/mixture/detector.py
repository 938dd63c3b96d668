"""The M-step of classes whose variances follow the detector, r + q (mean_k - o).

A class mean moves its variance, so that means and variances cannot be maximised one given the
other as if they were free. Here each mean given the line, and the line given the means, raise the
expected log-likelihood itself: one step of Fisher scoring, cut down until it does.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmicro.mixture.family import Family

_PARTS = (1.0, 0.5, 0.25, 0.0625, 0.0)  # of a scoring step; the last leaves all as it is
_ALIVE = 1e-2  # a class with less than this many pixels says nothing about the line

Height = Callable[[Array], Array]


def mean_step(
    class_counts: Float[Array, "T K"],
    su: Float[Array, "T K"],
    rss: Float[Array, "T K"],
    line: tuple[Float[Array, "T K"], Float[Array, "T K"]],
    sd_floor: Float[Array, ""],
    pool: bool,
) -> Float[Array, "T K"]:
    """Change of the class means, given the line.

    `class_counts`, `su` and `rss` are sums of 1, u, u^2 about the present means; `line` holds the
    variances there and their rise per unit of the mean. With `pool` all frames share the means.
    """
    variance, rise = line
    rise = jnp.where(variance > sd_floor**2, rise, 0)

    def total(a: Float[Array, "T K"]) -> Float[Array, "S K"]:
        return jnp.sum(a, axis=0, keepdims=True) if pool else a

    def height(d: Float[Array, "S K"]) -> Float[Array, "S K"]:
        v = jnp.maximum(variance + rise * d, sd_floor**2)
        square = rss - 2 * d * su + d**2 * class_counts
        return total(-0.5 * class_counts * jnp.log(v) - 0.5 * square / v)

    score = total(su / variance + 0.5 * rise * (rss / variance - class_counts) / variance)
    information = total(class_counts / variance + 0.5 * class_counts * (rise / variance) ** 2)
    alive = total(class_counts) > _ALIVE
    step = jnp.where(alive, score / jnp.where(alive, information, 1), 0)
    return jnp.broadcast_to(_best_part(height, step), class_counts.shape)


def law_step(
    family: Family,
    law: Float[Array, "T 3"],
    means: Float[Array, "T K"],
    class_counts: Float[Array, "T K"],
    rss: Float[Array, "T K"],
    how: tuple[Bool[Array, ""], Float[Array, ""], bool],
) -> Float[Array, "T 3"]:
    """The line given the means; `how` is (flat, sd_floor, pool).

    While `flat` the slope stays where both numbers of the line are free. With `pool` all frames
    share the line.
    """
    flat, sd_floor, pool = how
    if not family.free:
        return law
    alive = class_counts > _ALIVE
    class_counts = jnp.where(alive, class_counts, 0)
    along = jnp.where(alive, means - law[:, 2:], 0)
    columns = {0: jnp.ones_like(along), 1: along}
    rows = jnp.stack([columns[i] for i in family.free], axis=-1)
    if len(family.free) == 2:
        rows = rows.at[..., 1].multiply(jnp.where(flat, 0, 1))
    plain = law[:, :1] + law[:, 1:2] * along
    variance = jnp.maximum(plain, sd_floor**2)

    def total(a: Array) -> Array:
        return jnp.sum(a, axis=0, keepdims=True) if pool else a

    def height(step: Float[Array, "S F"]) -> Float[Array, "S 1"]:
        v = jnp.maximum(plain + jnp.sum(rows * step[:, None, :], axis=-1), sd_floor**2)
        each = jnp.where(alive, -0.5 * class_counts * jnp.log(v) - 0.5 * rss / v, 0)
        return total(jnp.sum(each, axis=-1, keepdims=True))

    pull = jnp.where(alive, 0.5 * (rss / variance - class_counts) / variance, 0)
    score = total(jnp.sum(rows * pull[..., None], axis=1))
    information = total(jnp.einsum("tk,tkf,tkg->tfg", 0.5 * class_counts / variance**2, rows, rows))
    ridge = 1e-5 * jnp.max(jnp.abs(information), axis=(1, 2)) + jnp.finfo(law.dtype).tiny
    information = (
        information + ridge[:, None, None] * jnp.eye(rows.shape[-1], dtype=law.dtype)[None]
    )
    step = _best_part(height, _solve(information, score))
    return law.at[:, jnp.asarray(family.free)].add(
        jnp.broadcast_to(step, (law.shape[0], step.shape[1]))
    )


def _solve(matrix: Float[Array, "S F F"], right: Float[Array, "S F"]) -> Float[Array, "S F"]:
    """Solution for one or two unknowns."""
    if matrix.shape[-1] == 1:
        return right / matrix[:, 0]
    a, b, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]
    x, y = right[:, 0], right[:, 1]
    inverse = 1 / (a * d - b * b)
    return jnp.stack([(d * x - b * y) * inverse, (a * y - b * x) * inverse], axis=-1)


def _best_part(height: Height, step: Float[Array, "S C"]) -> Float[Array, "S C"]:
    """The part of the step that is highest, for each of its rows (or entries, as `height` has)."""
    heights = jnp.stack([height(part * step) for part in _PARTS])
    heights = jnp.where(jnp.isfinite(heights), heights, -jnp.inf)
    best = jnp.asarray(_PARTS, step.dtype)[jnp.argmax(heights, axis=0)]
    return jnp.where(best > 0, best * step, jnp.zeros_like(step))
