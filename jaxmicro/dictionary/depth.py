"""Neighbouring slices of a volume: each slice averaged with the one above and the one below.

Structure goes on from slice to slice and noise does not, so an average over the depth has less of
it, at the price of some blur along the depth. How much weight the neighbours deserve is read from
the spectra: that of a slice, that of its noise, and the cross-spectrum of neighbours, in which
independent noise is 0 on average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.matching import rings
from jaxmicro.dictionary.noise import Noise

WEIGHTS = (0.0, 0.25, 0.5)  # of each neighbour, where the slice itself has 1; 1 lost again
FEWEST = 3  # slices to read a weight from


def averaged(slices: Iterable[Image], weight: float) -> Iterator[Image]:
    """Each slice as the mean of itself and its neighbours, which count with `weight`.

    Three slices are in memory. Pixels that are not finite in a slice stay so; those of a neighbour
    do not count. With weight 0 the slices pass through as they are.
    """
    if weight == 0:
        yield from slices
        return
    before, present = None, None
    for after in slices:
        if present is not None:
            yield _mean(present, [before, after], weight)
        before, present = present, after
    if present is not None:
        yield _mean(present, [before], weight)


def _mean(slice_: Image, neighbours: Sequence[Image | None], weight: float) -> Image:
    total, count = slice_.values.astype(np.float32), np.ones(slice_.values.shape, np.float32)
    for other in neighbours:
        if other is not None:
            known = np.isfinite(other.values)
            total = total + weight * np.where(known, other.values, 0).astype(np.float32)
            count = count + weight * known
    return dataclasses.replace(slice_, values=(total / count).astype(np.float32))


def best_weight(
    slices: Sequence[Float[np.ndarray, "y x"]], noise: Noise
) -> tuple[float, tuple[float, ...]]:
    """(weight of the neighbours, expected error at each of WEIGHTS) for the slices of a volume.

    The error is that of the best linear estimate of the middle slice's signal from the average, in
    noise variances: sum over frequencies of S - C^2 / P, where S is the power of the signal, P that
    of the average, and C their cross-spectrum. Needs FEWEST slices or more.
    """
    height, width = slices[0].shape
    taper = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    scale = np.sqrt((taper**2).sum())
    spectra = [np.fft.fft2((s - s.mean()) * taper) / scale for s in slices]
    n_rings = min(height, width) // 2

    def cross(lag: int) -> np.ndarray:
        pairs = zip(spectra, spectra[lag:], strict=False)
        power = np.mean([(a * np.conj(b)).real for a, b in pairs], axis=0)
        return rings(power, n_rings)

    dirt = rings(noise.power((height, width)), n_rings)
    own, near, far = cross(0), cross(1), cross(2)
    signal = np.maximum(own - dirt, 0)
    modes = np.arange(n_rings) + 0.5  # frequencies in a ring
    errors = []
    for w in WEIGHTS:
        norm = 1 + 2 * w
        shared = (signal + 2 * w * near) / norm
        power = (own * (1 + 2 * w**2) + 4 * w * near + 2 * w**2 * far) / norm**2
        # the average holds no less than its own noise
        power = np.maximum(power, dirt * (1 + 2 * w**2) / norm**2)
        gained = np.minimum(np.maximum(shared, 0) ** 2 / power, signal)
        errors.append(float(np.sum(modes * (signal - gained)) / np.sum(modes * dirt)))
    return WEIGHTS[int(np.argmin(errors))], tuple(errors)
