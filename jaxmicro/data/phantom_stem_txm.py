"""Sections of battery cathode particles, seen by two instruments, with the truth.

Cracked, porous, polycrystalline particles in a carbon and binder matrix. A STEM section is sharp
and clean; TXM slices show *other* sections of the same material, blurred, coarser and noisy. The
noise is that of a filtered back-projection: little at low and at the highest frequencies, so that
neighbouring pixels are correlated.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxmicro.data.movie import Image
from jaxmicro.errors import UsageError

FWHM_PER_SD = 2.0 * math.sqrt(2.0 * math.log(2.0))
STEM_PIXEL_NM = 15.0  # of STEM and truth
STEM_FWHM_NM = 15.0  # resolution of STEM
DECIMATION = 2  # STEM pixels along a TXM pixel
NOISE_CUTOFF = 0.28  # cycles per pixel: where the reconstruction filter rolls off


@dataclasses.dataclass(frozen=True)
class Sections:
    """What the two instruments recorded, and what was there.

    Attributes:
      stem: (y, x) clean sections at `stem.pixel_size_nm`.
      slices: (y, x) TXM slices of other sections, at a coarser pixel size.
      truth: what STEM would have shown of each TXM slice, on the STEM's grid.
      noise: the noise that was added to each slice.
      psf_fwhm_nm, train_fwhm_nm: resolution of the TXM slices and of the STEM sections.
      noise_sd: of the noise, where the greys of the material run from 0 to 1.
      spacing_nm: of slices that are neighbours in one volume; None where they are unrelated.
    """

    stem: tuple[Image, ...]
    slices: tuple[Image, ...]
    truth: tuple[Image, ...]
    noise: tuple[np.ndarray, ...]
    psf_fwhm_nm: float
    train_fwhm_nm: float
    noise_sd: float
    spacing_nm: float | None = None


def stem_txm(
    seed: int,
    *,
    shape: tuple[int, int] = (320, 320),
    noise_sd: float = 0.05,
    n_stem: int = 2,
    n_slices: int = 1,
    psf_fwhm_nm: float = 60.0,
) -> Sections:
    """Draw a scene; equal seeds give equal scenes.

    Args:
      seed: of the material, the sections and the noise.
      shape: rows and columns of a TXM slice; every section covers the same field.
      noise_sd: standard deviation of the noise of a TXM slice.
      n_stem, n_slices: sections for each instrument, all different.
      psf_fwhm_nm: Gaussian blur of the slices, full width at half maximum, where that of STEM is
        STEM_FWHM_NM; a TXM pixel also averages over its own area.

    Raises:
      UsageError: a scene too small, or a blur of the slices that is not above that of STEM.
    """
    if min(shape) < 32 or n_stem < 1 or n_slices < 1:
        raise UsageError(
            f"shape {shape}, {n_stem} STEM sections, {n_slices} slices: "
            "give 32 rows and columns or more and at least one of each other"
        )
    if not psf_fwhm_nm > STEM_FWHM_NM or noise_sd < 0:
        raise UsageError(
            f"blur of {psf_fwhm_nm:g} nm, noise {noise_sd:g}: the slices' blur must be above that "
            f"of STEM, {STEM_FWHM_NM:g} nm, and the noise 0 or more"
        )
    streams = np.random.SeedSequence(seed).spawn(n_stem + n_slices)
    fine = (shape[0] * DECIMATION, shape[1] * DECIMATION)
    sharp = STEM_FWHM_NM / FWHM_PER_SD / STEM_PIXEL_NM
    extra = math.sqrt(psf_fwhm_nm**2 - STEM_FWHM_NM**2) / FWHM_PER_SD / STEM_PIXEL_NM
    stem, slices, truth, noises = [], [], [], []
    for number, stream in enumerate(streams):
        rng = np.random.default_rng(stream)
        clean = np.clip(_blur(_section(rng, fine, STEM_PIXEL_NM), sharp), 0.0, 1.0)
        pitch = (STEM_PIXEL_NM, STEM_PIXEL_NM)
        if number < n_stem:
            stem.append(Image(clean, pitch, name=f"STEM section {number}, seed {seed}"))
            continue
        name = f"TXM slice {number - n_stem}, seed {seed}"
        coarse = _blur(clean, extra).reshape(shape[0], DECIMATION, shape[1], DECIMATION)
        noise = (noise_sd * correlated_noise(rng, shape)).astype(np.float32)
        pitch = (STEM_PIXEL_NM * DECIMATION,) * 2
        slices.append(Image(coarse.mean(axis=(1, 3)) + noise, pitch, name=name))
        truth.append(Image(clean, (STEM_PIXEL_NM, STEM_PIXEL_NM), name=f"truth of {name}"))
        noises.append(noise)
    return Sections(
        tuple(stem),
        tuple(slices),
        tuple(truth),
        tuple(noises),
        psf_fwhm_nm,
        STEM_FWHM_NM,
        noise_sd,
    )


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Gaussian noise of standard deviation 1 with the spectrum of a filtered back-projection."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    power = (frequency + 0.01) * np.exp(-((frequency / NOISE_CUTOFF) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * np.sqrt(power), shape)
    return noise / noise.std()


def _blur(image: np.ndarray, sd: float) -> np.ndarray:
    """Gaussian blur with mirrored borders; `sd` in pixels."""
    pad = math.ceil(4 * sd) + 1
    wide = np.pad(image, pad, mode="reflect")
    fy, fx = np.fft.fftfreq(wide.shape[0])[:, None], np.fft.rfftfreq(wide.shape[1])[None, :]
    transfer = np.exp(-2 * (math.pi * sd) ** 2 * (fy**2 + fx**2))
    out = np.fft.irfft2(np.fft.rfft2(wide) * transfer, wide.shape)
    return out[pad:-pad, pad:-pad].astype(np.float32)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sd: float) -> np.ndarray:
    """A smooth random field of mean 0 and standard deviation 1; `sd` in pixels."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    transfer = np.exp(-2 * (math.pi * sd) ** 2 * (fy**2 + fx**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * transfer, shape)
    return (field - field.mean()) / field.std()


def _grains(rng, rows, cols, pitch):
    """Nearest cell of a jittered lattice: (index of the cell, gap to its border, cell beyond)."""
    height, width = (int(a.max() // pitch) + 4 for a in (rows, cols))
    seed_row = np.arange(-2, height)[:, None] + rng.uniform(0.05, 0.95, (height + 2, width + 2))
    seed_col = np.arange(-2, width)[None, :] + rng.uniform(0.05, 0.95, (height + 2, width + 2))
    row, col = rows / pitch, cols / pitch
    cell_row, cell_col = np.floor(row).astype(int), np.floor(col).astype(int)
    best = np.full(rows.shape, np.inf)
    second, owner, other = best.copy(), np.zeros(rows.shape, int), np.zeros(rows.shape, int)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            r = np.clip(cell_row + dy + 2, 0, height + 1)
            c = np.clip(cell_col + dx + 2, 0, width + 1)
            distance = np.hypot(row - seed_row[r, c], col - seed_col[r, c])
            index = r * (width + 2) + c
            nearer = distance < best
            between = ~nearer & (distance < second)
            second = np.where(nearer, best, np.where(between, distance, second))
            other = np.where(nearer, owner, np.where(between, index, other))
            best, owner = np.where(nearer, distance, best), np.where(nearer, index, owner)
    return owner, 0.5 * (second - best) * pitch, other


def _section(rng: np.random.Generator, shape: tuple[int, int], pixel_nm: float) -> np.ndarray:
    """One section in grey values from about 0 (void) to 1 (dense grain)."""
    rows, cols = np.meshgrid(*(np.arange(n) * pixel_nm for n in shape), indexing="ij")
    warp = [90.0 * _smooth(rng, shape, 220.0 / pixel_nm) for _ in range(2)]
    image = 0.20 + 0.05 * _smooth(rng, shape, 45.0 / pixel_nm)
    image -= 0.14 * (_smooth(rng, shape, 60.0 / pixel_nm) > 1.3)

    inside = np.full(shape, -np.inf)  # distance to the particles' surface, positive inside
    extent = np.array(shape) * pixel_nm
    for _ in range(max(2, round(extent.prod() / 9e6))):
        centre = rng.uniform(0, 1, 2) * extent
        radius = rng.uniform(900.0, 2300.0)
        inside = np.maximum(inside, radius - np.hypot(rows - centre[0], cols - centre[1]))
    inside += 50.0 * _smooth(rng, shape, 150.0 / pixel_nm) + 12.0 * _smooth(
        rng, shape, 35.0 / pixel_nm
    )

    owner, edge, other = _grains(rng, rows + warp[0], cols + warp[1], rng.uniform(260.0, 380.0))
    edge = edge + 4.0 * _smooth(rng, shape, 40.0 / pixel_nm)
    grey = rng.uniform(0.68, 0.98, owner.max() + 1)[owner]
    # each pair of grains shares one crack, half of the pairs none
    pair = np.minimum(owner, other) * 7919 + np.maximum(owner, other) * 104729
    opening = rng.uniform(-40.0, 45.0, 65536)[pair % 65536]
    depth = rng.uniform(0.35, 0.9, 65536)[pair % 65536]
    crack = np.clip((0.5 * np.maximum(opening, 0.0) - edge) / pixel_nm + 0.5, 0.0, 1.0)
    grey = grey * (1 - depth * crack)
    # a few long cracks and round pores
    for _ in range(3):
        field = _smooth(rng, shape, 350.0 / pixel_nm)
        slope = np.hypot(*np.gradient(field, pixel_nm))
        line = np.abs(field) / np.maximum(slope, 1e-9)
        wide = np.clip((rng.uniform(12.0, 30.0) - line) / pixel_nm + 0.5, 0.0, 1.0)
        grey = grey * (1 - 0.85 * wide)
    for _ in range(round(extent.prod() / 2.5e5)):
        centre, radius = rng.uniform(0, 1, 2) * extent, rng.uniform(18.0, 75.0)
        box = tuple(
            slice(max(0, int((c - radius) / pixel_nm) - 2), int((c + radius) / pixel_nm) + 3)
            for c in centre
        )
        distance = np.hypot(rows[box] - centre[0], cols[box] - centre[1])
        pore = np.clip((radius - distance) / pixel_nm + 0.5, 0.0, 1.0)
        grey[box] *= 1 - 0.85 * pore
    solid = np.clip(inside / pixel_nm + 0.5, 0.0, 1.0)
    return np.clip(image * (1 - solid) + grey * solid, 0.0, 1.0)
