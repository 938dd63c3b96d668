"""A model fitted to pixels, with the frames' own class weights or with local proportions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.data.sampling import Pixels
from jaxmicro.mixture.criteria import Criteria, criteria
from jaxmicro.mixture.ecm import Fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.local import LocalFit, local_criteria


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The fit of a plan's model to pixels with batch axes (frames,) or (frames, replicates).

    `local` holds the local proportions where the plan asks for them.
    """

    model: GMRM
    pixels: Pixels
    fit: Fit
    local: LocalFit | None = None

    def classify(self) -> Int[np.ndarray, "*batch n"]:
        """The most probable class of each visited pixel (0 is the darkest)."""
        if self.local is not None:
            return np.asarray(self.local.classify())
        return np.asarray(self.model.classify(self.fit.params, self.pixels))

    def responsibilities(self) -> Float[Array, "*batch K n"]:
        """Posterior class probabilities of each visited pixel."""
        if self.local is not None:
            return self.local.responsibilities
        return self.model.responsibilities(self.fit.params, self.pixels)

    def replicates(self) -> Iterator[Fitted]:
        """The fit of each replicate, on pixels with the one batch axis (frames,)."""
        for b in range(self.pixels.values.shape[1]):
            fit = jax.tree.map(lambda a, b=b: a[:, b], self.fit)
            local = None if self.local is None else _replicate(self.local, b)
            yield Fitted(self.model, self.pixels.replicate(b), fit, local)

    def criteria(self) -> Criteria:
        """AIC, BIC and ICL; with local proportions those of the pseudo-likelihood."""
        if self.local is not None:
            return local_criteria(self.model, self.local, self.pixels)
        return criteria(self.model, self.fit.params, self.pixels)


def _replicate(fitted: LocalFit, number: int) -> LocalFit:
    """The local fit of one replicate."""
    fit, resp, neighbours = jax.tree.map(
        lambda a: a[:, number], (fitted.fit, fitted.responsibilities, fitted.neighbours)
    )
    coupling = jax.tree.map(lambda a: a[number], fitted.coupling)
    return LocalFit(fit, resp, neighbours, coupling, None, fitted.kernel, fitted.learned)
