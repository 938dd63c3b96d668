"""What a user should know of an analysis, in sentences."""

from __future__ import annotations

import numpy as np

from jaxmicro.data.sampling import Pixels
from jaxmicro.growth.analyse import Analysis
from jaxmicro.growth.partition import likeness
from jaxmicro.mixture.ecm import Fit, Result
from jaxmicro.spacetime.correct import Vote
from jaxmicro.spacetime.local import LocalFit
from jaxmicro.spacetime.soft_correction import SoftCorrection

ALONE = 0.05  # share of pixels without a neighbour from which on it is said
ALIKE = 0.7  # Bhattacharyya coefficient: two classes of one sd are 1.7 sds apart


def notes(analysis: Analysis) -> list[str]:
    """Sentences on the fit, the neighbours and the areas of a movie without replicates."""
    fitted, pixels = analysis.fitted, analysis.fitted.pixels
    out = [] if fitted.local is None else _local(fitted.local, pixels)
    out += _results(fitted.fit)
    corrected = analysis.corrected
    if isinstance(corrected, SoftCorrection):
        out.append(_soft(corrected))
    if corrected is not None:
        out += _alone(corrected, pixels)
    return out + _alike(analysis) + _usable(analysis.usable)


def _local(local: LocalFit, pixels: Pixels) -> list[str]:
    kernel = local.kernel
    out = [
        f"local proportions: kernel of sd {kernel.width:.3g} pixels and {kernel.memory:.3g} frames"
        f"{' of the past' if kernel.causal else ''}, interaction {float(local.interaction):.3g}"
    ]
    alone, total = int(np.sum(local.n_alone)), int(np.sum(pixels.n_pixels))
    if alone > ALONE * total:
        out.append(
            f"{100 * alone / total:.0f} % of the visited pixels have no visited neighbour within "
            "the local kernel and use their frame's weights; widen the kernel ([local] width)"
        )
    return out


def _results(fitted: Fit) -> list[str]:
    codes, counts = np.unique(np.asarray(fitted.result), return_counts=True)
    return [
        f"fit: {Result(int(c)).name} in {n} of {fitted.result.size} frames. "
        f"{Result(int(c)).sentence}"
        for c, n in zip(codes, counts, strict=True)
        if c != Result.converged
    ]


def _soft(found: SoftCorrection) -> str:
    numbers = (
        f"radius {found.radius:.3g} pixels, threshold {found.threshold:.2g}, a frame counts for "
        f"{found.time_scale:.2g} pixels"
    )
    if found.fitted:
        return f"soft correction, fitted to the movie: {numbers}"
    return f"soft correction: {numbers}; fitting these to the movie did not improve on them"


def _alone(voted: Vote | SoftCorrection, pixels: Pixels) -> list[str]:
    alone, total = int(np.sum(voted.n_alone)), int(np.sum(pixels.n_pixels))
    if alone <= ALONE * total:
        return []
    return [
        f"{100 * alone / total:.0f} % of the visited pixels have no visited neighbour within the "
        "correction's radius and kept their class; use a larger radius or a higher rate"
    ]


def _alike(analysis: Analysis) -> list[str]:
    """A movie of noise has two classes as well, if two are looked for."""
    params, family = analysis.fitted.fit.params, analysis.fitted.model.family
    alike = likeness(params, analysis.partition.foreground, family)
    if alike <= ALIKE:
        return []
    return [
        f"foreground and background have nearly the same grey values (overlap {alike:.2f} of 1), "
        "so the areas may be those of noise, and their standard errors do not say so; look whether "
        "labels.tif shows the object, else name it with --classes and --foreground"
    ]


def _usable(good: np.ndarray) -> list[str]:
    if good.all():
        return []
    bad = np.flatnonzero(~good)
    named = ", ".join(map(str, bad[:8])) + (f" and {bad.size - 8} more" if bad.size > 8 else "")
    return [f"the area of {bad.size} of {good.size} frames may not be used (frame {named})"]
