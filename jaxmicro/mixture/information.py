"""Information of the mixture's parameters: complete, and what is lost with the labels.

Source: Louis (1982), J. R. Statist. Soc. B 44:226. The observed information is the complete-data
information less the missing information, the posterior covariance of the complete-data score.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmicro.mixture.batch import Item, over_frames
from jaxmicro.mixture.family import StudentT
from jaxmicro.mixture.gmrm import (
    GMRM,
    Params,
    Stats,
    moment_table,
    pair_columns,
    posterior,
    product,
)
from jaxmicro.mixture.m_step import recentred
from jaxmicro.mixture.student import LEAST_DOF, MOST_DOF, dof_score


def coordinates(model: GMRM) -> list[tuple[str, int]]:
    """The free coordinates of a frame: (name, count).

    Weights as logits, sds and degrees of freedom as logarithms; "law" are the free numbers of the
    family's law, which take the place of sds that follow from it.
    """
    k, p = model.n_classes, model.trend.n_terms
    sds = 0 if model.family.ties_sds else k
    out = [("weights", k), ("means", k), ("sds", sds), ("trend", p)]
    out.append(("gain", k if model.gain else 0))
    return [*out, ("law", len(model.family.free))]


def slices(model: GMRM) -> dict[str, slice]:
    """Where each kind of coordinate stands."""
    out, at = {}, 0
    for name, count in coordinates(model):
        out[name] = slice(at, at + count)
        at += count
    return out


def shared(model: GMRM) -> tuple[str, ...]:
    """Coordinates that all frames have in common; the law goes with the sds."""
    return (*model.share, "law") if "sds" in model.share else model.share


def move(model: GMRM, params: Params, step: Float[Array, "T q"]) -> Params:
    """Parameters moved by `step`, always legal."""
    part = {name: step[:, at] for name, at in slices(model).items()}
    family, law, gain = model.family, params.law, params.gain
    tiny = jnp.finfo(step.dtype).tiny
    weights = jax.nn.softmax(jnp.log(jnp.maximum(params.weights, tiny)) + part["weights"], axis=-1)
    means, trend = params.means + part["means"], params.trend + part["trend"]
    if model.gain:
        gain = gain + part["gain"]
    if law is not None and family.free:
        if family.heavy_tailed:
            law = law * jnp.exp(jnp.clip(part["law"], -1, 1))
            law = jnp.clip(law, LEAST_DOF, MOST_DOF)
        else:
            law = law.at[:, jnp.asarray(family.free)].add(part["law"])
    if family.ties_sds and law is not None:
        least = jnp.where(_at_floor(params), params.sds, jnp.finfo(step.dtype).eps)
        sds = family.sds(params.sds, law, means, least)
    else:
        sds = params.sds * jnp.exp(jnp.clip(part["sds"], -2, 2))
    return Params(weights, means, sds, trend, gain, law)


def gradient_and_information(model: GMRM, params: Params, stats: Stats) -> tuple[Array, Array]:
    """Score (T, q) by Fisher's identity and expected complete-data information (T, q, q).

    Both are derivatives of the expected complete-data log-likelihood, a function of the
    sufficient statistics alone. The weights of heavy-tailed pixels are taken as fixed, and the
    degrees of freedom have the complete-data information 1/2 a pixel; `missing_information` makes
    up for both.
    """
    hessian = jax.vmap(jax.hessian(functools.partial(_expected, model)), (None, 0, 0))
    zero = jnp.zeros(sum(count for _, count in coordinates(model)), stats.s0.dtype)
    return gradient(model, params, stats), -hessian(zero, params, stats)


def gradient(model: GMRM, params: Params, stats: Stats) -> Float[Array, "T q"]:
    """Score of every frame by Fisher's identity."""
    score = jax.vmap(jax.grad(functools.partial(_expected, model)), (None, 0, 0))
    zero = jnp.zeros(sum(count for _, count in coordinates(model)), stats.s0.dtype)
    return score(zero, params, stats)


def _expected(model: GMRM, step: Float[Array, " q"], at: Params, of: Stats) -> Float[Array, ""]:
    """Expected complete-data log-likelihood of a frame, a step away from its parameters."""
    k = model.n_classes
    new = move(model, jax.tree.map(lambda a: a[None], at), step[None])
    shift = new.means - at.means[None]
    slope = new.gain[..., None] * new.trend[..., None, :]
    slope = slope - (at.gain[:, None] * at.trend[None, :])[None]
    rss = recentred(jax.tree.map(lambda a: a[None], of), shift, slope).suu
    # log of a softmax has derivatives that hold for a class of no weight at all
    logits = jnp.log(jnp.maximum(at.weights, jnp.finfo(step.dtype).tiny)) + step[:k]
    gain = jax.nn.log_softmax(logits)[None] - jnp.log(new.sds)
    total = jnp.sum(of.class_counts[None] * gain) - jnp.sum(0.5 * rss / new.sds**2)
    if of.log_less is None or at.law is None or not model.family.free:
        return total
    count, turn = jnp.sum(of.class_counts), step[slices(model)["law"]][0]
    less = of.log_less / jnp.maximum(count, 1)
    return total + count * (dof_score(at.law[0], less) * turn - 0.25 * turn**2)


def missing_information(
    model: GMRM,
    params: Params,
    values: Float[Array, " n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
) -> Float[Array, "q q"]:
    """Information lost with the labels: the posterior covariance of the complete-data score."""
    resp, u, _ = posterior(params, values, design, weight, family=model.family)
    if isinstance(model.family, StudentT):
        return _missing_heavy_tailed(model, params, resp, u, design, weight)
    second, mean = _normal_scores(model, params, resp, u, design)
    # resp holds the pixel's weight once; the outer product of two means would hold it twice
    root = jnp.where(weight > 0, jax.lax.rsqrt(jnp.where(weight > 0, weight, 1)), 0)
    rows = mean * root[None]
    missing = second - product(rows, rows)
    if model.family.ties_sds:
        turn = _from_law(model, params)
        missing = turn.T @ missing @ turn
    return missing


def _normal_scores(
    model: GMRM,
    params: Params,
    resp: Float[Array, "K n"],
    u: Float[Array, "K n"],
    design: Float[Array, "P n"],
) -> tuple[Float[Array, "q q"], Float[Array, "q n"]]:
    """Second moments and posterior means of the scores, sds free, normal classes."""
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
    return second, jnp.concatenate(mean)


def _at_floor(params: Params) -> Bool[Array, "*b K"]:
    """Classes whose sd is not that of the detector's line: it stands at the least sd."""
    if params.law is None:
        raise ValueError("these parameters have no law")
    law = params.law
    line = law[..., :1] + law[..., 1:2] * (params.means - law[..., 2:])
    return params.sds**2 > line * (1 + 1e-4)


def _from_law(model: GMRM, params: Params) -> Float[Array, "q r"]:
    """Derivative of weights, means, log sds and trend by the coordinates of a detector's line."""
    k, p = model.n_classes, model.trend.n_terms
    at = slices(model)
    if params.law is None:
        raise ValueError(f"parameters of family {model.family.name!r} need a law")
    size = at["law"].stop
    half = jnp.where(_at_floor(params), 0, 0.5 / params.sds**2)
    columns = {0: half, 1: half * (params.means - params.law[2])}
    out = jnp.zeros((3 * k + p, size), params.means.dtype)
    out = out.at[: 2 * k, : 2 * k].set(jnp.eye(2 * k, dtype=out.dtype))
    out = out.at[3 * k :, at["trend"]].set(jnp.eye(p, dtype=out.dtype))
    out = out.at[2 * k : 3 * k, at["means"]].set(jnp.diag(half * params.law[1]))
    for i, number in enumerate(model.family.free):
        out = out.at[2 * k : 3 * k, at["law"].start + i].set(columns[number])
    return out


def _missing_heavy_tailed(
    model: GMRM,
    params: Params,
    resp: Float[Array, "K n"],
    u: Float[Array, "K n"],
    design: Float[Array, "P n"],
    weight: Float[Array, " n"],
) -> Float[Array, "q q"]:
    """Missing information of Student-t classes.

    Beside the covariance of the scores it holds what the complete information of fixed weights w
    leaves out: (w + g'') c c', with c the change of -u, and the terms of the degrees of freedom.
    """
    k, n = resp.shape
    at, dof = slices(model), jnp.squeeze(jnp.asarray(params.law))
    w = (dof + 1) / (dof + u * u)
    inverse = (1 / params.sds)[:, None]
    one, zero = jnp.ones_like(u), jnp.zeros_like(u)
    change = [zero, inverse * one, u]  # of -u: by logit, mean, log sd
    place = [jnp.arange(s.start, s.stop) for s in (at["weights"], at["means"], at["sds"])]
    if model.gain:
        change.append(inverse * (params.trend @ design)[None] * one)
        place.append(jnp.arange(at["gain"].start, at["gain"].stop))
    for j in range(design.shape[0]):
        change.append(inverse * params.gain[:, None] * design[j][None])
        place.append(jnp.full(k, at["trend"].start + j))
    c = jnp.stack(change, axis=1)
    score = (w * u)[:, None] * c
    score = score.at[:, 0].add(1.0).at[:, 2].add(-1.0)
    excess = 2 * w**2 * u**2 / (dof + 1)
    second = _weighted(resp * excess, c, c)
    if model.family.free:
        own, turn = jax.jvp(lambda a: _dof_score_at(a, u), (dof,), (jnp.ones_like(dof),))
        score = jnp.concatenate([score, own[:, None]], axis=1)
        place.append(jnp.full(k, at["law"].start))
        bent = dof * u * (u * u - 1) / (dof + u * u) ** 2
        cross = _weighted(resp * bent, c, jnp.ones((k, 1, n), u.dtype))
        corner = jnp.sum(resp * (0.5 + dof * turn), axis=1)[:, None, None]
        second = jnp.concatenate([second, cross], axis=2)
        low = jnp.concatenate([jnp.swapaxes(cross, 1, 2), corner], axis=2)
        second = jnp.concatenate([second, low], axis=1)
    second = second + _weighted(resp, score, score)
    index = jnp.stack(place, axis=1)
    q = at["law"].stop
    out = jnp.zeros((q, q), u.dtype).at[index[:, :, None], index[:, None, :]].add(second)
    mean = jnp.zeros((q, n), u.dtype).at[index].add(resp[:, None] * score)
    root = jnp.where(weight > 0, jax.lax.rsqrt(jnp.where(weight > 0, weight, 1)), 0)
    rows = mean * root[None]
    return out - product(rows, rows)


def _dof_score_at(dof: Float[Array, ""], u: Float[Array, "K n"]) -> Float[Array, "K n"]:
    """d g / d log nu at every pixel."""
    w = (dof + 1) / (dof + u * u)
    return dof_score(dof, jnp.log(w) - w + 1)


def _weighted(
    by: Float[Array, "K n"], a: Float[Array, "K A n"], b: Float[Array, "K B n"]
) -> Float[Array, "K A B"]:
    high = jax.lax.Precision.HIGHEST
    return jnp.einsum("kan,kbn->kab", a * by[:, None], b, precision=high)


def missing_of_frames(model: GMRM, params: Params, item: Item) -> Float[Array, "T q q"]:
    """Missing information of every frame of an item."""

    def one(frame_params, z, design, weight):
        return missing_information(model, frame_params, z, design, weight)

    return over_frames(one, params, item)
