"""Evidence that structure is not invented: residuals, half-data agreement, a control dictionary."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float

from jaxmicro.data.movie import Image
from jaxmicro.dictionary.enhance import Dictionary, Enhanced, enhance
from jaxmicro.dictionary.noise import Noise
from jaxmicro.dictionary.resolution import resolution, ring_correlation

HALF_THRESHOLD = 0.5
FIELD = 192  # pixels a side of the field that the costlier checks look at


@dataclasses.dataclass(frozen=True)
class ResidualStatistics:
    """How much a residual looks like the noise.

    Attributes:
      sd_over_noise: 1 where the residual is as strong as the noise; well above 1 where structure
        was left out, well below 1 where noise was kept.
      neighbour_correlation: of adjacent residual pixels; compare with the noise's own.
      share_above_3: share of pixels beyond three noise standard deviations (0.27 % if normal).
    """

    sd_over_noise: float
    neighbour_correlation: float
    share_above_3: float


def residual_statistics(residual: Float[np.ndarray, "y x"], noise: Noise) -> ResidualStatistics:
    """Statistics of a residual map (NaN where unknown) against the noise of its slice."""
    known = residual[np.isfinite(residual)]
    if not known.size:
        return ResidualStatistics(math.nan, math.nan, math.nan)
    centred = residual - known.mean()
    pairs = []
    for one, other in (
        (centred[1:], centred[:-1]),
        (centred[:, 1:], centred[:, :-1]),
    ):
        both = np.isfinite(one) & np.isfinite(other)
        pairs.append(float(np.mean(one[both] * other[both])))
    variance = float(known.var())
    return ResidualStatistics(
        math.sqrt(variance) / noise.sd,
        float(np.mean(pairs)) / variance if variance > 0 else math.nan,
        float(np.mean(np.abs(known - known.mean()) > 3 * noise.sd)),
    )


def central_field(
    values: Float[np.ndarray, "y x"], mask: Bool[np.ndarray, "y x"], size: int = FIELD
) -> tuple[slice, slice]:
    """The field of at most `size` pixels a side that holds most usable pixels and contrast."""
    height, width = (min(size, n) for n in values.shape)
    best, found = -1.0, (slice(0, height), slice(0, width))
    for y in np.unique(np.linspace(0, values.shape[0] - height, 5).astype(int)):
        for x in np.unique(np.linspace(0, values.shape[1] - width, 5).astype(int)):
            box = (slice(y, y + height), slice(x, x + width))
            good = mask[box]
            score = float(good.mean() ** 2 * values[box][good].std()) if good.any() else -1.0
            if score > best:
                best, found = score, box
    return found


def half_data(
    slice_: Image,
    mask: Bool[np.ndarray, "y x"],
    dictionary: Dictionary,
    noise: Noise,
    *,
    seed: int,
) -> tuple[float, float]:
    """Fourier-ring resolution in nm of two independent halves of the data, before and after.

    One slice is split by adding and subtracting a fresh sample of its noise (Gaussian thinning;
    Rasines and Young 2023): the two sums have independent noise, each of twice the variance, as
    two reconstructions from half of the projections would. Structure that a dictionary invents
    from noise differs between the halves. Threshold 0.5; period, in nm.
    """
    rng = np.random.default_rng([seed, 7])
    field = central_field(np.where(mask, slice_.values, 0.0), mask)
    values = np.where(mask, slice_.values, np.mean(slice_.values[mask]))[field]
    extra = noise.sample(rng, values.shape)
    halves = [
        dataclasses.replace(slice_, values=(values + sign * extra).astype(np.float32))
        for sign in (1, -1)
    ]
    pixel = dictionary.pixel_size_nm
    before = resolution(
        *ring_correlation(halves[0].values, halves[1].values), pixel, HALF_THRESHOLD
    )
    results = [enhance(h, dictionary, mask=mask[field], seed=seed, stride=2).values for h in halves]
    filled = [np.where(np.isfinite(r), r, np.nanmean(r)) for r in results]
    after = resolution(*ring_correlation(*filled), dictionary.result_pixel_nm, HALF_THRESHOLD)
    return before, after


def scrambled(image: Image, *, seed: int) -> Image:
    """The image with its Fourier phases drawn anew: same spectrum, no structure; a control."""
    rng = np.random.default_rng([seed, 11])
    values = np.where(np.isfinite(image.values), image.values, np.nanmean(image.values))
    phases = np.fft.rfft2(rng.standard_normal(values.shape))
    phases /= np.maximum(np.abs(phases), 1e-12)
    phases[0, 0] = 1.0
    amplitude = np.abs(np.fft.rfft2(values - values.mean()))
    out = np.fft.irfft2(amplitude * phases, values.shape) + values.mean()
    return dataclasses.replace(image, values=out.astype(np.float32), name=f"{image.name} scrambled")


def agreement(one: Enhanced, other: Enhanced) -> tuple[float, float]:
    """(correlation, rms difference in noise standard deviations) of two results of one slice.

    What two dictionaries agree on comes from the slice, the rest from the dictionary.
    """
    both = np.isfinite(one.values) & np.isfinite(other.values)
    a, b = one.values[both].astype(float), other.values[both].astype(float)
    return float(np.corrcoef(a, b)[0, 1]), float(np.sqrt(np.mean((a - b) ** 2)) / one.noise.sd)


def trained_below(
    result: Float[np.ndarray, "y x"], control: Float[np.ndarray, "y x"], pixel_size_nm: float
) -> float | None:
    """Period in nm below which a result and its control no longer agree (ring correlation 0.5).

    The control's training images hold no structure, so finer structure than this comes from the
    training images. None where the two agree at all frequencies.
    """
    filled = [np.where(np.isfinite(r), r, np.nanmean(r)) for r in (result, control)]
    frequency, curve = ring_correlation(*filled)
    found = resolution(frequency, curve, pixel_size_nm, HALF_THRESHOLD)
    return None if found == pixel_size_nm / frequency[-1] else found
