"""What speaks against a fitted model, whatever its foreground: see `jaxmicro.growth.check`."""

from __future__ import annotations

import numpy as np

from jaxmicro.growth.check import HISTOGRAM, OK, STRUCTURE, STRUCTURE_Z
from jaxmicro.growth.fitted import Fitted
from jaxmicro.growth.residuals import left_over


def looks(
    fitted: Fitted, frames: np.ndarray, independent_share: float, quantum: float
) -> dict[int, str]:
    """For each of these frames "ok", or "structure", "histogram" or both.

    Args:
      frames: numbers of frames.
      independent_share: independent pixels per pixel of a full frame.
    """
    out = {}
    for t in frames.tolist():
        one = Fitted(fitted.model, fitted.pixels[t : t + 1], fitted.fit[t : t + 1], None)
        if not np.isfinite(np.asarray(one.fit.params.means)).all():
            continue
        if fitted.local is None:
            chance = np.asarray(one.responsibilities())[0]
        else:
            chance = np.asarray(fitted.local.responsibilities[t])
        left = left_over(fitted, t, chance, independent_share, quantum)
        size, z = left.structure()
        distance, error = left.histogram()
        words = ["structure"] if size > STRUCTURE and z > STRUCTURE_Z else []
        words += ["histogram"] if distance - 2 * error > HISTOGRAM else []
        out[t] = " ".join(words) or OK
    return out
