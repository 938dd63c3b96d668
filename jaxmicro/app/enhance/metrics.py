"""One row of metrics.csv: what is measured on a slice, before and after."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxmicro.app.enhance.images import on_grid
from jaxmicro.data.movie import Image
from jaxmicro.dictionary.enhance import Dictionary, Enhanced, usable_pixels
from jaxmicro.dictionary.evidence import residual_statistics
from jaxmicro.dictionary.resolution import edge_width, psnr, ssim

RESIDUAL_LIMIT = 1.5  # residual over noise, either way; good results stay within 1.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """The columns of metrics.csv, in their order; None where a figure is not known.

    Attributes:
      usable_share: share of the slice's pixels that are used.
      noise_sd, noise_neighbour_correlation: of the slice's own noise, in its grey values.
      penalty: of the first pass; None where patches are coded to the noise level.
      mean_nonzeros: atoms per patch in the first pass, as are the three that follow: share of
        patches with zero codes, share that missed the tolerance, worst relative duality gap.
      residual_*: standard deviation over that of the noise, correlation of neighbouring pixels, and
        share of pixels beyond three noise standard deviations.
      uncertainty_median: of the pixels' uncertainties (sd of overlapping estimates).
      edge_*_nm: 10 to 90 % width of the strongest edges.
      half_data_*_nm: resolution at which two halves of the data agree; first slice only.
      control_*: agreement with the result of a dictionary of scrambled images; first slice only.
        The last is the period below which they differ, empty where they agree throughout.
      psnr_*_db, ssim*: against the reference.
      seconds: wall time, without the evidence.
    """

    slice: str
    pixel_size_nm: float
    result_pixel_size_nm: float
    usable_share: float
    noise_sd: float
    noise_neighbour_correlation: float
    penalty: float | None
    mean_nonzeros: float
    zero_code_share: float
    unfinished_share: float
    worst_gap: float
    residual_sd_over_noise: float | None
    residual_neighbour_correlation: float | None
    residual_share_above_3_sd: float | None
    uncertainty_median: float | None
    edge_before_nm: float | None
    edge_after_nm: float | None
    half_data_before_nm: float | None = None
    half_data_after_nm: float | None = None
    control_correlation: float | None = None
    control_rms_over_noise: float | None = None
    control_agrees_to_nm: float | None = None
    psnr_before_db: float | None = None
    psnr_db: float | None = None
    ssim_before: float | None = None
    ssim: float | None = None
    seconds: float | None = None


def measure(
    image: Image,
    result: Enhanced,
    dictionary: Dictionary,
    reference: np.ndarray | None,
    mask: np.ndarray | None,
) -> Metrics:
    """The metrics of one slice, without evidence and time; `reference` is on the result's grid."""
    good = usable_pixels(image, mask)
    codes = result.code_statistics[0]
    patches = max(1, codes.patches)
    residual = residual_statistics(result.residual, result.noise)
    fine = np.kron(good, np.ones((dictionary.upscale,) * 2, bool))
    against = {} if reference is None else against_reference(image, result, reference)
    return Metrics(
        slice=image.name,
        pixel_size_nm=dictionary.pixel_size_nm,
        result_pixel_size_nm=dictionary.result_pixel_nm,
        usable_share=float(good.mean()),
        noise_sd=result.noise.sd,
        noise_neighbour_correlation=result.noise.neighbour_correlation,
        penalty=dictionary.stages[0].penalty or None,
        mean_nonzeros=codes.nonzeros / patches,
        zero_code_share=codes.zero_patches / patches,
        unfinished_share=codes.unfinished / patches,
        worst_gap=codes.worst_gap,
        residual_sd_over_noise=known(residual.sd_over_noise),
        residual_neighbour_correlation=known(residual.neighbour_correlation),
        residual_share_above_3_sd=known(residual.share_above_3),
        uncertainty_median=known(float(np.nanmedian(result.uncertainty))),
        edge_before_nm=known(edge_width(image.values, dictionary.pixel_size_nm, good)),
        edge_after_nm=known(edge_width(result.values, dictionary.result_pixel_nm, fine)),
        **against,
    )


def against_reference(image: Image, result: Enhanced, truth: np.ndarray) -> dict[str, float | None]:
    """PSNR and SSIM before and after; the data range is that of the reference."""
    before = on_grid(image, result.values.shape)
    usable = np.isfinite(result.values) & np.isfinite(truth)
    after = np.where(usable, result.values, truth)
    before = np.where(usable, before, truth)
    extent = float(np.ptp(truth[usable]))
    return {
        "psnr_before_db": known(psnr(before[usable], truth[usable], extent)),
        "psnr_db": known(psnr(after[usable], truth[usable], extent)),
        "ssim_before": known(ssim(before, truth, extent)),
        "ssim": known(ssim(after, truth, extent)),
    }


def known(value: float) -> float | None:
    """The value, or None where it is NaN."""
    return None if math.isnan(value) else value


def doubts(slice_name: str, residual_sd_over_noise: float | None) -> tuple[str, ...]:
    """Sentences for a slice whose residual does not look like its noise; none where it does."""
    ratio = residual_sd_over_noise
    if ratio is None or 1 / RESIDUAL_LIMIT <= ratio <= RESIDUAL_LIMIT:
        return ()
    if ratio > RESIDUAL_LIMIT:
        return (
            f"{slice_name}: the residual is {ratio:.2g} times the noise, so the result leaves "
            "out structure of the slice (artefacts of the scan, a wrong blur, or training images "
            "of another material); look at figures/residual.png before you trust it",
        )
    return (
        f"{slice_name}: the residual is {ratio:.2g} of the noise, so the result kept noise; "
        "raise --penalty or learn a dictionary for this slice",
    )
