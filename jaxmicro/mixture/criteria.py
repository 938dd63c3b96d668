"""AIC, BIC and ICL of a fit, from a log-likelihood summed in double precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import DataError
from jaxmicro.mixture.ecm import Fit, Result, fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend


@dataclasses.dataclass(frozen=True)
class Criteria:
    """Information criteria of a movie's fit; smaller is better. `n_pixels` were visited."""

    log_likelihood: float
    n_parameters: int
    n_pixels: int
    entropy: float

    @property
    def aic(self) -> float:
        """Akaike (1974)."""
        return -2 * self.log_likelihood + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """Schwarz (1978), n the number of visited pixels."""
        return -2 * self.log_likelihood + self.n_parameters * float(np.log(self.n_pixels))

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy of the classification (Biernacki et al. 2000)."""
        return self.bic + 2 * self.entropy


def criteria(model: GMRM, fitted: Fit, pixels: Pixels) -> Criteria:
    """Criteria of a fit with batch axes (frames,); sums are float64, frame by frame."""
    by_row, by_col = model.trend.factors(pixels.shape)
    total = entropy = 0.0
    for t in range(pixels.n_frames):
        rows, cols, weight = (
            np.asarray(a if a.ndim == 1 else a[t])
            for a in (pixels.rows, pixels.cols, pixels.weight)
        )
        seen = weight > 0
        z = np.asarray(pixels.values[t], np.float64)[seen]
        p = {k: np.asarray(v[t], np.float64) for k, v in vars(fitted.params).items()}
        slope = np.zeros_like(z)
        for j, beta in enumerate(p["trend"]):
            slope += beta * by_row[j][rows[seen]] * by_col[j][cols[seen]]
        with np.errstate(divide="ignore"):
            constant = np.log(p["weights"]) - np.log(p["sds"]) - 0.5 * np.log(2 * np.pi)
        joint = np.stack(
            [
                c - 0.5 * ((z - g * slope - m) / s) ** 2
                for c, g, m, s in zip(constant, p["gain"], p["means"], p["sds"], strict=True)
            ]
        )
        top = joint.max(axis=0)
        log_density = top + np.log(np.exp(joint - top).sum(axis=0))
        resp = np.exp(joint - log_density)
        total += float(log_density.sum())
        entropy -= float(np.sum(resp * np.log(np.maximum(resp, 1e-300))))
    n = int(np.sum(np.asarray(pixels.n_pixels)))
    return Criteria(total, model.n_parameters(pixels.n_frames), n, entropy)


def choose_classes(
    pixels: Pixels, classes: Sequence[int], trend: Trend, frames: Sequence[int]
) -> tuple[int, dict[int, Criteria]]:
    """The number of classes with the best BIC on a few frames, means and sds shared.

    Fits with an empty, degenerate or non-finite class do not count.

    Raises:
      DataError: no candidate gave a usable fit.
    """
    some = jnp.asarray(list(frames))
    shared = pixels.rows.ndim < pixels.values.ndim

    def cut(a):
        return a if shared else a[some]

    few = Pixels(
        pixels.values[some],
        cut(pixels.rows),
        cut(pixels.cols),
        cut(pixels.weight),
        pixels.n_domain[some],
        pixels.shape,
        pixels.pattern,
    )
    table = {}
    for k in classes:
        model = GMRM(k, trend, ("means", "sds"))
        fitted = fit(model, few)
        if np.all(np.isin(np.asarray(fitted.result), (Result.converged, Result.max_steps))):
            table[k] = criteria(model, fitted, few)
    if not table:
        raise DataError(
            f"no model with {min(classes)} to {max(classes)} classes fits these frames "
            "without an empty or spike-like class; give --model with fewer classes"
        )
    return min(table, key=lambda k: table[k].bic), table
