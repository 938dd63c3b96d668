"""Draw from the posterior of a GMRM over a movie: each frame on its own, or the movie as one.

The model is that of the fit with priors, classes summed out and means in order. Where nothing is
shared, frames are independent. Where means and sds are shared, log odds of the classes and trend
coefficients are random walks over frames, so that a frame of few pixels is informed by its
neighbours.

With local proportions (see `spacetime.local`) the neighbours' proportions m of each pixel are held
at those of the fit. They are data to the posterior: m is made of the *other* pixels' classes, and
given m the strength of the interaction and the frames' fields (random walks in the place of the log
odds) are parameters like the others. The likelihood is then a pseudo-likelihood, and the widths of
the draws are corrected for what neighbours share: see `sandwich`. What is left out is that m would
move with the parameters, and that the other pixels' classes were found from neighbours which
include the pixel itself; how far the intervals hold the truth even so is measured by
experiments/posterior_coverage.py.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxmicro.data.sampling import Pixels, as_key
from jaxmicro.errors import DataError, NumericalError, UsageError
from jaxmicro.mixture.batch import Item
from jaxmicro.mixture.ecm import Fit, fit, grey_step
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.inputs import check_inputs, check_untraced
from jaxmicro.posterior import laplace, nuts, svi
from jaxmicro.posterior.coordinates import Coordinates, find_mode
from jaxmicro.posterior.dataset import Groups, Inputs, ItemDraws, assemble
from jaxmicro.posterior.likelihood import Noise
from jaxmicro.posterior.model import Priors, Problem
from jaxmicro.posterior.predict import (
    areas,
    in_grey,
    local_areas,
    log_likelihoods,
    predicted_histograms,
    thinned,
)
from jaxmicro.posterior.result import Posterior
from jaxmicro.posterior.sampler import Draws, Progress, Sampler
from jaxmicro.posterior.sandwich import corrected, tiles_of
from jaxmicro.posterior.scaling import Scaling, histogram_edges, problem_of
from jaxmicro.posterior.start import start_values
from jaxmicro.spacetime.local import Local
from jaxmicro.spacetime.neighbour_proportions import Neighbours

PIXELS_PER_CLASS = 25  # visited pixels needed for each class
AREA_DRAWS = 250  # draws of areas per chain
PREDICTIVE_DRAWS = 25  # predicted histograms per chain

_METHODS = {"nuts": nuts.draw, "svi": svi.draw, "laplace": laplace.draw}


def check(model: GMRM, pixels: Pixels) -> None:
    """Refuse models and pixels that the posterior does not support.

    Raises:
      UsageError: gains, only one of means and sds shared, or replicate samplings.
      DataError: fewer than 25 visited pixels for each class, or values that are not finite.
    """
    if model.gain:
        raise UsageError(
            "gain = true is not supported by the posterior (gain and trend trade off); set "
            "gain = false"
        )
    if set(model.share) not in (set(), {"means", "sds"}):
        raise UsageError(
            f"share = {list(model.share)} is not supported by the posterior; share both means "
            "and sds (a movie), or nothing (frames on their own)"
        )
    if pixels.values.ndim != 2:
        raise UsageError("a posterior takes one sampling of a movie; leave replicates out")
    _check_enough(model, pixels)
    weight = np.broadcast_to(np.asarray(pixels.weight), pixels.values.shape)
    if not np.all(np.isfinite(np.asarray(pixels.values)[weight > 0])):
        raise DataError("the pixels hold NaN or infinity; exclude those pixels")


def check_local(model: GMRM, local: Local | None = None) -> None:
    """Refuse models of which the posterior does not support local proportions.

    Raises:
      UsageError: means and sds that are not shared by the frames, or a given interaction.
    """
    if local is not None and local.interaction is not None:
        raise UsageError(
            f"interaction = {local.interaction:g} is not supported by the posterior, which "
            "estimates it; leave it out"
        )
    if not model.share:
        raise UsageError(
            "proportions = 'local' with share = [] is not supported by the posterior; share both "
            "means and sds, or use proportions = 'global'"
        )


def check_censoring(model: GMRM, noise: Noise) -> None:
    """Refuse saturated pixels where the family has no probability for them.

    Raises:
      UsageError: saturation with heavy-tailed classes.
    """
    if noise.saturation is not None and model.family.heavy_tailed:
        raise UsageError(
            "censoring of saturated pixels is not supported by the posterior with family "
            f"{model.family.name!r}; use 'gaussian' or 'poisson-gaussian', or leave the "
            "saturation out"
        )


def _check_enough(model: GMRM, pixels: Pixels) -> None:
    need = PIXELS_PER_CLASS * model.n_classes
    visited = np.asarray(pixels.n_pixels)
    if model.share:
        visited = visited.sum(keepdims=True)
    if visited.min() < need:
        where = "the movie" if model.share else f"frame {int(visited.argmin())}"
        raise DataError(
            f"{where} has {int(visited.min())} visited pixels, too few for a posterior of "
            f"{model.n_classes} classes ({need} are needed); raise the rate or use fewer classes"
        )


def posterior(
    key: jax.Array | int,
    model: GMRM,
    pixels: Pixels,
    start: Fit | Neighbours | None = None,
    *,
    priors: Priors | None = None,
    noise: Noise | None = None,
    sampler: Sampler | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """Draw from the posterior of `model` given the pixels.

    Args:
      key: JAX PRNG key, or a whole number as a seed.
      model: share = ("means", "sds") is one posterior over the movie, share = () one per frame.
      pixels: batch axis (frames,).
      start: a fit of the same model to the same pixels, where chains start; default: made here,
        with the frames' own weights. Proportions are local where `neighbours_of` a local fit are
        given.
      priors, noise, sampler: see there; the defaults are weakly informative priors, no censored
        pixel, and NUTS with 4 chains of 1000 draws without areas.
      progress: called with (steps done, steps in all).

    Returns:
      `Posterior`. An interruption (KeyboardInterrupt) keeps what was drawn, with `complete` False;
      of frames on their own it keeps the frames that were finished.

    Raises:
      UsageError, DataError: see `check` and `check_censoring`; a fit of another family.
      NumericalError: the fit to start from is not finite, or no mode of the posterior was found.
      KeyboardInterrupt: interrupted before a draw was kept.
    """
    check_inputs("posterior", model, pixels)
    check_untraced("posterior", pixels)
    key = as_key(key)
    check(model, pixels)
    check_censoring(model, noise or Noise())
    inputs = _inputs(model, pixels, start, priors or Priors(), noise or Noise(), sampler)
    items: list[ItemDraws] = []
    for i in range(len(inputs.items)):
        report = _share_of(progress, i, len(inputs.items))
        item = _draw_item(jax.random.fold_in(key, i), inputs, i, report)
        # An interrupted frame has fewer draws than the finished ones beside it: it is left out.
        if item is not None and (item.complete or not items):
            items.append(item)
        if item is None or not item.complete:
            return assemble(inputs, items, complete=False)
    return assemble(inputs, items, complete=True)


def _inputs(
    model: GMRM,
    pixels: Pixels,
    start: Fit | Neighbours | None,
    priors: Priors,
    noise: Noise,
    sampler: Sampler | None,
) -> Inputs:
    """The inputs with a start and with the step between grey levels."""
    if noise.grey_step is None:
        noise = dataclasses.replace(noise, grey_step=float(grey_step(np.asarray(pixels.values))))
    step = noise.grey_step or 0.0
    neighbours = start if isinstance(start, Neighbours) and model.n_classes > 1 else None
    start = start.fit if isinstance(start, Neighbours) else start
    if start is None:
        start = fit(model, pixels, quantum=step)
    if neighbours is not None:
        check_local(model)
    if (start.params.law is None) != (not model.family.columns):
        raise UsageError(
            f"the fit to start from is not one of family {model.family.name!r}; fit the same model"
        )
    if not np.all(np.isfinite(np.asarray(start.params.means))):
        raise NumericalError("the fit to start from is not finite; check the pixels' values")
    if priors.reference is not None and not 0 <= priors.reference < model.n_classes:
        raise UsageError(
            f"prior reference = {priors.reference} is not a class; use 0 to {model.n_classes - 1}"
        )
    edges = histogram_edges(pixels, step)
    sampler = sampler or Sampler()
    return Inputs(model, pixels, start, priors, noise, sampler, edges, neighbours)


def _share_of(progress: Progress | None, item: int, n_items: int) -> Progress:
    """Progress of one batch item as a part of the whole run's."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(item * total + done, n_items * total)

    return report


def _draw_item(key: jax.Array, inputs: Inputs, index: int, progress: Progress) -> ItemDraws | None:
    """Draws of one batch item; None: interrupted before a draw of a later item was kept."""
    first, stop = inputs.items[index]
    pixels = inputs.pixels[first:stop]
    near = inputs.neighbours
    problem, every, scaling = problem_of(inputs.model, pixels, inputs.noise, inputs.priors, near)
    params = jax.tree.map(lambda leaf: leaf[first:stop], inputs.start.params)
    field = None if near is None else near.coupling.field
    problem, values = start_values(problem, params, scaling, field)
    problem, coordinates = find_mode(problem, values)
    if not np.all(np.isfinite(np.asarray(coordinates.root))):
        raise NumericalError(
            f"no mode of the posterior was found from frame {first} on; use fewer classes or "
            "tighter priors"
        )
    if near is not None:
        coordinates = corrected(problem, coordinates, tiles_of(pixels, near.reach))
    keys = jax.random.split(key, 3)
    draws = _draw(keys[0], problem, coordinates, inputs.sampler, progress, first > 0)
    if draws is None:
        return None
    groups = _groups((keys[1], keys[2]), inputs, problem, every, draws, scaling, pixels)
    return ItemDraws(groups, draws.loss, scaling, draws.complete)


def _draw(
    key: jax.Array,
    problem: Problem,
    coordinates: Coordinates,
    sampler: Sampler,
    progress: Progress,
    later: bool,
) -> Draws | None:
    """Draws by the sampler's method; None where a later item is interrupted before its first."""
    try:
        return _METHODS[sampler.method](key, problem, coordinates, sampler, progress)
    except KeyboardInterrupt:
        if later:
            return None
        raise


def _groups(
    keys: tuple[jax.Array, jax.Array],
    inputs: Inputs,
    problem: Problem,
    pixels: Item,
    draws: Draws,
    scaling: Scaling,
    visited: Pixels,
) -> Groups:
    """What is reported of one batch item, in grey levels; keys for areas and for histograms."""
    sampler = inputs.sampler
    n_chains, n_draws = draws.sites["means"].shape[:2]

    def by_chain(a: np.ndarray) -> np.ndarray:
        return a.reshape(n_chains, -1, *a.shape[1:])

    out: Groups = {"posterior": in_grey(problem, draws, scaling)}
    if draws.stats:
        out["sample_stats"] = draws.stats
    if sampler.foreground:
        few = thinned(draws, max(1, n_draws // AREA_DRAWS))
        if inputs.neighbours is not None:
            together = np.asarray(inputs.neighbours.covariance)
            front = sampler.foreground
            found = local_areas(keys[0], problem, pixels, few, front, visited, together)
        else:
            domain = np.asarray(visited.n_domain)
            found = areas(keys[0], problem, pixels, few, sampler.foreground, domain)
        out["growth"] = {"area_px": by_chain(found)}
    few = thinned(draws, max(1, n_draws // PREDICTIVE_DRAWS))
    edges = (inputs.edges - scaling.centre) / scaling.scale
    counts = predicted_histograms(keys[1], problem, pixels, few, edges)
    out["posterior_predictive"] = {"histogram": by_chain(counts)}
    if sampler.log_likelihood_every is not None:
        few = thinned(draws, sampler.log_likelihood_every)
        every = log_likelihoods(problem, pixels, few, scaling.scale)
        out["log_likelihood"] = {"values": by_chain(every)}
    return out
