"""Sections and volumes of battery particles, drawn by other rules than `phantom_stem_txm`.

Secondary particles of radial needles (Voronoi cells in a radial metric) with twin lamellae, a
bright rim, cracks between needles, pores from a thresholded field, and a binder with carbon black.
All of it is drawn in three dimensions, so that the slices of a volume show one structure, blurred
along the depth as within a slice; their noise is independent, as that of a tomograph is.
"""

from __future__ import annotations

import math

import numpy as np

from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import (
    DECIMATION,
    FWHM_PER_SD,
    STEM_FWHM_NM,
    STEM_PIXEL_NM,
    Sections,
    correlated_noise,
)
from jaxmicro.errors import UsageError

SPACING_NM = 30.0  # between slices
SHELL_NM = 1200.0  # radius of the shell on which the needles are cells
RADIAL = 0.35  # of a length along the radius in that metric: needles are three times longer


def particles(
    seed: int,
    *,
    size: int = 160,
    noise_sd: float = 0.05,
    n_stem: int = 3,
    n_slices: int = 1,
    psf_fwhm_nm: float = 60.0,
    stem_size: int = 512,
) -> Sections:
    """Draw STEM sections of some particles and a TXM volume of others; equal seeds, equal scenes.

    Args:
      size: rows and columns of a TXM slice.
      noise_sd: of a slice, where the greys of the material run from 0 to 1.
      n_stem: sharp sections, each of material of its own.
      n_slices: neighbouring slices of one volume, SPACING_NM apart.
      psf_fwhm_nm: as in `stem_txm`.
      stem_size: rows and columns of a sharp section.

    Raises:
      UsageError: a scene too small, or a blur of the slices that is not above that of STEM.
    """
    if size < 32 or n_stem < 1 or n_slices < 1 or noise_sd < 0:
        raise UsageError(
            f"size {size}, {n_stem} STEM sections, {n_slices} slices, noise {noise_sd:g}: give 32 "
            "pixels or more, at least one of each other and noise of 0 or more"
        )
    if not psf_fwhm_nm > STEM_FWHM_NM:
        raise UsageError(f"blur of {psf_fwhm_nm:g} nm: give one above STEM's, {STEM_FWHM_NM:g} nm")
    streams = [np.random.default_rng([77, seed, i]) for i in range(n_stem + 1)]
    stem = [_sharp(_sections(rng, (1, stem_size, stem_size)))[0] for rng in streams[1:]]
    rng = streams[0]
    truth = _sharp(_sections(rng, (n_slices, DECIMATION * size, DECIMATION * size)))
    clean = _seen(truth, math.sqrt(psf_fwhm_nm**2 - STEM_FWHM_NM**2) / FWHM_PER_SD)
    noise = [noise_sd * correlated_noise(rng, s.shape) for s in clean]
    return Sections(
        tuple(_image(s, 1, f"STEM section {i}, seed {seed}") for i, s in enumerate(stem)),
        tuple(
            _image(s + n, DECIMATION, f"TXM slice {i}, seed {seed}")
            for i, (s, n) in enumerate(zip(clean, noise, strict=True))
        ),
        tuple(_image(s, 1, f"truth of slice {i}, seed {seed}") for i, s in enumerate(truth)),
        tuple(n.astype(np.float32) for n in noise),
        psf_fwhm_nm,
        STEM_FWHM_NM,
        noise_sd,
        SPACING_NM if n_slices > 1 else None,
    )


def _image(values: np.ndarray, pixels: int, name: str) -> Image:
    return Image(values.astype(np.float32), (STEM_PIXEL_NM * pixels,) * 2, name=name)


def _sharp(volume: np.ndarray) -> np.ndarray:
    """(z, Y, X) as STEM shows thin sections of it."""
    from scipy import ndimage

    sd = STEM_FWHM_NM / FWHM_PER_SD / STEM_PIXEL_NM
    return ndimage.gaussian_filter(volume, (0, sd, sd))


def _seen(volume: np.ndarray, sd_nm: float) -> np.ndarray:
    """(z, y, x) as TXM shows it, noise apart; a single section has no depth to blur over."""
    from scipy import ndimage

    n_slices, height, width = volume.shape
    depth = sd_nm / SPACING_NM if n_slices > 1 else 0.0
    blurred = ndimage.gaussian_filter(volume, (depth, *[sd_nm / STEM_PIXEL_NM] * 2))
    d = DECIMATION
    return blurred.reshape(n_slices, height // d, d, width // d, d).mean(axis=(2, 4))


def _field(rng: np.random.Generator, shape: tuple[int, ...], scale_nm: float) -> np.ndarray:
    """A smooth random field of mean 0 and sd 1, equally smooth along all axes in nm."""
    from scipy import ndimage

    sd = [scale_nm / s for s in (SPACING_NM, STEM_PIXEL_NM, STEM_PIXEL_NM)]
    step = [max(1, int(s / 2)) for s in sd]  # drawn on a coarse grid, then interpolated
    white = rng.standard_normal([n // k + 12 for n, k in zip(shape, step, strict=True)])
    values = ndimage.gaussian_filter(white, [s / k for s, k in zip(sd, step, strict=True)])
    places = (6 + np.arange(n) / k for n, k in zip(shape, step, strict=True))
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    return ndimage.map_coordinates(values / values.std(), grid, order=1)


def _sections(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """(z, Y, X) sharp sections in grey values from 0 (void) to 1 (dense)."""
    spacing = (SPACING_NM, STEM_PIXEL_NM, STEM_PIXEL_NM)
    places = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    image = _binder(rng, grid)
    extent = np.array(shape[1:]) * STEM_PIXEL_NM
    for _ in range(max(2, round(extent.prod() / 8e6))):
        centre = (rng.uniform(-400, 400), *(rng.uniform(0, 1, 2) * extent))
        image = _with_particle(rng, image, grid, np.array(centre))
    pores = _field(rng, shape, 50.0) > rng.uniform(1.9, 2.3)
    return np.clip(np.where(pores, 0.05, image), 0.0, 1.0)


def _binder(rng: np.random.Generator, grid: np.ndarray) -> np.ndarray:
    """Carbon black: grey spheres of 25 to 60 nm in clusters."""
    from scipy import spatial

    shape = grid.shape[1:]
    image = 0.12 + 0.03 * _field(rng, shape, 30.0)
    cluster = _field(rng, shape, 250.0)
    extent = np.array(shape[1:]) * STEM_PIXEL_NM
    count = round(extent.prod() / 2.5e4)
    depths = rng.uniform(-60, 60 + shape[0] * SPACING_NM, count)
    places = np.stack([depths, *(rng.uniform(0, e, count) for e in extent)], axis=1)
    distance, index = spatial.cKDTree(places).query(grid.reshape(3, -1).T)
    radius = rng.uniform(25.0, 60.0, count)[index]
    inside = np.clip((radius - distance) / STEM_PIXEL_NM + 0.5, 0, 1).reshape(shape)
    grey = rng.uniform(0.12, 0.3, count)[index].reshape(shape)
    return np.clip(image + grey * inside * (cluster > -0.3), 0.0, 0.5)


def _with_particle(
    rng: np.random.Generator, image: np.ndarray, grid: np.ndarray, centre: np.ndarray
) -> np.ndarray:
    """The image with one secondary particle of radial needles in it."""
    radius = rng.uniform(1100, 2400)
    offset = np.moveaxis(grid, 0, -1) - centre
    distance = np.sqrt((offset**2).sum(axis=-1)) + 1e-6
    depth = radius - distance + 60.0 * _field(rng, image.shape, 180.0)
    near = depth > -40.0
    if not near.any():
        return image
    grey = _needles(rng, offset[near], near, radius)
    rim = np.exp(-(((depth[near] - 25.0) / 18.0) ** 2))
    grey = grey + (0.97 - grey) * 0.6 * rim * (rng.uniform() > 0.3)
    solid = np.clip(depth[near] / STEM_PIXEL_NM + 0.5, 0, 1)
    out = image.copy()
    out[near] = out[near] * (1 - solid) + grey * solid
    return out


def _needles(
    rng: np.random.Generator, offset: np.ndarray, near: np.ndarray, radius: float
) -> np.ndarray:
    """Grey values at the offsets (n, 3) from a particle's centre: cells, lamellae and cracks."""
    from scipy import spatial

    distance = np.sqrt((offset**2).sum(axis=1)) + 1e-6
    wobble = np.stack([_field(rng, near.shape, 120.0)[near] for _ in range(3)], axis=-1)
    width = rng.uniform(150.0, 260.0)
    shell = offset / distance[:, None] * SHELL_NM + 25.0 * wobble
    place = np.concatenate([shell, RADIAL * distance[:, None]], axis=1)
    count = max(40, round(4 * np.pi * SHELL_NM**2 / width**2 * RADIAL * radius / width))
    seeds = rng.standard_normal((count, 3))
    seeds = SHELL_NM * seeds / np.linalg.norm(seeds, axis=1, keepdims=True)
    seeds = np.concatenate([seeds, rng.uniform(0, RADIAL * radius, (count, 1))], axis=1)
    gaps, owners = spatial.cKDTree(seeds).query(place, 2)
    grey = _lamellae(rng, owners[:, 0], count, offset)
    pair = owners.min(axis=1) * 7919 + owners.max(axis=1) * 104729
    opening = np.maximum(rng.uniform(-60.0, 45.0, 65536)[pair % 65536], 0)
    into = (opening / 2 - (gaps[:, 1] - gaps[:, 0]) / 2) / STEM_PIXEL_NM
    crack = np.clip(into + 0.5, 0, 1) * (opening > 0)
    return grey * (1 - rng.uniform(0.4, 0.9, 65536)[pair % 65536] * crack)


def _lamellae(
    rng: np.random.Generator, owner: np.ndarray, count: int, offset: np.ndarray
) -> np.ndarray:
    """Grey value of each needle, two of five with twin lamellae of 70 to 140 nm."""
    grey = rng.uniform(0.55, 0.92, count)[owner]
    normal = rng.standard_normal((count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    phase = np.einsum("ni,ni->n", offset, normal[owner])
    wave = np.sin(2 * np.pi * phase / rng.uniform(70.0, 140.0, count)[owner])
    twinned = rng.uniform(0, 1, count)[owner] < 0.4
    return grey + np.where(twinned, 0.08 * np.sign(wave), 0.0)
