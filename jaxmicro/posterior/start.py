"""Where samplers start: the fit's estimate as values of the model's parameters."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmicro.mixture.gmrm import Params
from jaxmicro.posterior.density import gap_unit
from jaxmicro.posterior.model import Problem
from jaxmicro.posterior.scaling import Scaling
from jaxmicro.posterior.sites import BY_NAME, coordinate_shapes, walk_coordinates
from jaxmicro.posterior.walk_approximation import approximate_walks

_LEAST_WEIGHT = 1e-4  # log odds of the start must be finite
_DOF_RANGE = (1.5, 100.0)  # of a start: the likelihood is flat beyond
_LEAST_GAP = 0.02  # standardised grey values between neighbouring class means
_LEAST_VARIANCE = 1e-4  # standardised, of a class without rounding

Values = dict[str, Float[np.ndarray, "..."]]


def start_values(
    problem: Problem, params: Params, scaling: Scaling, field: Float[Array, "T K"] | None = None
) -> tuple[Problem, dict[str, Array]]:
    """Constrained values of all parameters, near the estimate `params` of the batch item's frames.

    With local proportions `field` is that of the fit.

    Returns the problem, for a movie with reference class and approximation of the walks, and the
    values by site.
    """
    weights = np.maximum(np.asarray(params.weights, float), _LEAST_WEIGHT)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    trend = np.asarray(params.trend, float) / scaling.scale
    means, own_sds, values = _shared_values(problem, params, scaling)
    if walk_coordinates(problem):
        odds = np.log(weights) if field is None else np.asarray(field, float)
        problem = _with_reference(problem, weights)
        shared = [means, np.log(own_sds)]
        if problem.local:
            values |= {"strength": np.asarray(problem.strength)[None]}
            shared.append(np.log(values["strength"]))
        problem, walks = _walk_values(problem, np.concatenate(shared), odds, trend)
        values |= walks
    else:
        values |= {"weights": weights[0], "trend": trend[0]}
    wanted = coordinate_shapes(problem)
    return problem, {n: jnp.asarray(values[n], problem.dtype) for n in wanted}


def _shared_values(
    problem: Problem, params: Params, scaling: Scaling
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Values]:
    """Class means, their own sds, and values of the parameters of means, sds and law."""
    means = (np.asarray(params.means, float)[0] - scaling.centre) / scaling.scale
    noise, dof, ends = problem.noise, problem.priors.dof[0], np.zeros(0)
    rounding = 0.0 if noise.family.ties_sds else float(problem.grey_step) ** 2 / 12
    variance = (np.asarray(params.sds, float)[0] / scaling.scale) ** 2 - rounding
    own_sds = np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
    gaps = np.maximum(np.diff(means), _LEAST_GAP)
    if problem.n_classes > 1:
        means = means[0] + np.concatenate([[0], np.cumsum(gaps)])
    if params.law is not None:
        law = np.asarray(noise.family.scaled(params.law[:1], *scaling), float)[0]
        if noise.family.ties_sds:
            ends = noise.end_sds(law)
        else:
            dof = float(np.clip(law[0], *_DOF_RANGE))
    return (
        means,
        own_sds,
        {
            "lowest_mean": np.asarray(means[0]),
            "scaled_gaps": gaps / gap_unit(problem),
            "own_sds": own_sds,
            "end_sds": ends,
            "common_sd": np.exp(np.mean(np.log(own_sds), keepdims=True)),
            "dof": np.full(1, dof),
        },
    )


def _with_reference(problem: Problem, weights: Float[np.ndarray, "T K"]) -> Problem:
    reference = problem.priors.reference
    if reference is None:
        reference = int(np.argmax(weights.mean(axis=0)))
    return eqx.tree_at(lambda d: d.reference, problem, jnp.asarray(reference))


def _walk_values(
    problem: Problem,
    shared: Float[np.ndarray, " S"],
    odds: Float[np.ndarray, "T K"],
    trend: Float[np.ndarray, "T P"],
) -> tuple[Problem, Values]:
    """The problem with approximated walks, and values of their parameters."""
    k, p, dtype = problem.n_classes, problem.n_terms, problem.dtype
    reference = int(problem.reference)
    odds = odds - odds[:, [reference]]
    walks = np.concatenate([np.delete(odds, reference, axis=1).T, trend.T])
    known, steps = approximate_walks(problem, jnp.asarray(shared, dtype), jnp.asarray(walks, dtype))
    problem = eqx.tree_at(lambda d: d.walks, problem, known, is_leaf=lambda x: x is None)
    return problem, {
        "walk_weights": np.asarray(steps[: k - 1]),
        "walk_trend": np.asarray(steps[k - 1 :]),
        "trend_precision": np.ones(p),
        BY_NAME["log_odds"].coordinate: np.zeros((k - 1, problem.n_frames)),
        BY_NAME["trend_walk"].coordinate: np.zeros((p, problem.n_frames)),
    }
