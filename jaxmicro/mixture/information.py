"""Information of the mixture's parameters: complete, and what is lost with the labels.

Source: Louis (1982), J. R. Statist. Soc. B 44:226. The observed information is the complete-data
information less the missing information, the posterior covariance of the complete-data score.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmicro.mixture.gmrm import (
    GMRM,
    Params,
    Stats,
    moment_table,
    pair_columns,
    posterior,
    product,
)
from jaxmicro.mixture.lanes import Lane, over_frames
from jaxmicro.mixture.maximise import recentred


def coordinates(model: GMRM) -> list[tuple[str, int]]:
    """The free coordinates of a frame: (name, count), weights as logits and sds as logarithms."""
    k, p = model.n_classes, model.trend.n_terms
    out = [("weights", k), ("means", k), ("sds", k), ("trend", p)]
    return [*out, ("gain", k)] if model.gain else out


def move(model: GMRM, params: Params, step: Float[Array, "T q"]) -> Params:
    """Parameters moved by `step`, always legal."""
    k, p = model.n_classes, model.trend.n_terms
    tiny = jnp.finfo(step.dtype).tiny
    weights = jax.nn.softmax(jnp.log(jnp.maximum(params.weights, tiny)) + step[:, :k], axis=-1)
    means = params.means + step[:, k : 2 * k]
    sds = params.sds * jnp.exp(jnp.clip(step[:, 2 * k : 3 * k], -2, 2))
    trend, gain = params.trend + step[:, 3 * k : 3 * k + p], params.gain
    if model.gain:
        gain = gain + step[:, 3 * k + p :]
    return Params(weights, means, sds, trend, gain)


def gradient_and_information(model: GMRM, params: Params, stats: Stats) -> tuple[Array, Array]:
    """Score (T, q) by Fisher's identity and expected complete-data information (T, q, q).

    Both are derivatives of the expected complete-data log-likelihood, a function of the
    sufficient statistics alone.
    """
    k, q = model.n_classes, sum(count for _, count in coordinates(model))

    def expected(step: Float[Array, " q"], at: Params, of: Stats) -> Float[Array, ""]:
        new = move(model, jax.tree.map(lambda a: a[None], at), step[None])
        shift = new.means - at.means[None]
        slope = new.gain[..., None] * new.trend[..., None, :]
        slope = slope - (at.gain[:, None] * at.trend[None, :])[None]
        rss = recentred(jax.tree.map(lambda a: a[None], of), shift, slope).suu
        # log of a softmax has derivatives that hold for a class of no weight at all
        logits = jnp.log(jnp.maximum(at.weights, jnp.finfo(step.dtype).tiny)) + step[:k]
        gain = jax.nn.log_softmax(logits)[None] - jnp.log(new.sds)
        return jnp.sum(of.s0[None] * gain) - jnp.sum(0.5 * rss / new.sds**2)

    zero = jnp.zeros(q, stats.s0.dtype)
    score = jax.vmap(jax.grad(expected), (None, 0, 0))(zero, params, stats)
    hessian = jax.vmap(jax.hessian(expected), (None, 0, 0))(zero, params, stats)
    return score, -hessian


def missing_information(
    model: GMRM,
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
) -> Float[Array, "q q"]:
    """Information lost with the labels: the posterior covariance of the complete-data score."""
    resp, u, _ = posterior(params, values, design, weight)
    k, p = resp.shape[0], design.shape[0]
    inverse = 1 / params.sds
    gain = params.gain * inverse
    powers = [resp]
    for _ in range(4):
        powers.append(powers[-1] * u)
    # sums of r u^a and of r u^a f, a = 0..4, and of r u^2 f f': every block is made of these
    sums = product(jnp.concatenate(powers), moment_table(design, order=1)).reshape(5, k, 1 + p)
    m0, m1, m2, m3, m4 = sums[:, :, 0]
    f1, f2, f3 = sums[1:4, :, 1:]
    along = params.trend
    own = [slice(i * k, (i + 1) * k) for i in range(3)] + [slice(3 * k + p, 4 * k + p)]
    trend = slice(3 * k, 3 * k + p)
    # scores of a class's own parameters: 1 (weight), u/s (mean), u^2 - 1 (sd), u/s f.beta (gain)
    blocks = {
        (0, 0): m0,
        (0, 1): inverse * m1,
        (0, 2): m2 - m0,
        (1, 1): inverse**2 * m2,
        (1, 2): inverse * (m3 - m1),
        (2, 2): m4 - 2 * m2 + m0,
    }
    crosses = [f1, inverse[:, None] * f2, f3 - f1]
    mean = [resp, powers[1] * inverse[:, None], powers[2] - resp]
    q = (4 if model.gain else 3) * k + p
    second = jnp.zeros((q, q), u.dtype)
    if p:
        pairs = product(powers[2], moment_table(design))[:, pair_columns(p)]
        for a, cross in enumerate(crosses):
            block = gain[:, None] * cross
            second = second.at[own[a], trend].set(block).at[trend, own[a]].set(block.T)
        second = second.at[trend, trend].set(jnp.einsum("k,kij->ij", gain**2, pairs))
        slope = jnp.sum(powers[1] * gain[:, None], axis=0)
        mean.append(slope[None] * design)
    if model.gain:
        turned = (inverse * gain)[:, None] * jnp.einsum("kij,j->ki", pairs, along)
        second = second.at[own[3], trend].set(turned).at[trend, own[3]].set(turned.T)
        for a, cross in enumerate(crosses):
            blocks[a, 3] = inverse * (cross @ along)
        blocks[3, 3] = inverse**2 * jnp.einsum("kij,i,j->k", pairs, along, along)
        mean.append(mean[1] * (along @ design)[None])
    for (a, b), block in blocks.items():
        second = second.at[own[a], own[b]].set(jnp.diag(block))
        second = second.at[own[b], own[a]].set(jnp.diag(block))
    # resp holds the pixel's weight once; the outer product of two means would hold it twice
    root = jnp.where(weight > 0, jax.lax.rsqrt(jnp.where(weight > 0, weight, 1)), 0)
    rows = jnp.concatenate(mean) * root[None]
    return second - product(rows, rows)


def missing_of_frames(model: GMRM, params: Params, lane: Lane) -> Float[Array, "T q q"]:
    """Missing information of every frame of a lane."""

    def one(frame_params, z, design, weight):
        return missing_information(model, frame_params, z, design, weight)

    return over_frames(one, params, lane)
