"""Sections of battery particles drawn by other rules than the package's phantom, by seed.

Secondary particles of radial needles (Voronoi cells in a radial metric) with twin lamellae, a
bright rim, cracks between needles, pores from a thresholded field, and a binder with carbon black.
Truth at 15 nm; slices at 30 nm, blurred to 60 nm, with the noise of a filtered back-projection,
whose grey values run from 0 to 1. Slices of one volume are `SPACING_NM` apart.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from jaxmicro.data.movie import Image
from jaxmicro.data.phantom_stem_txm import correlated_noise

PIXEL_NM, DECIMATION, FWHM_PER_SD = 15.0, 2, 2.3548
SPACING_NM = 30.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """`train` sections and `truth` (Y, X) at 15 nm, `slices` (y, x) at 30 nm, in calibrated images.

    The last two have one image for each slice of the volume.
    """

    train: list[Image]
    truth: list[Image]
    slices: list[Image]


def scene(seed, *, size=160, noise=0.05, n_train=3, train_size=256, n_slices=1, psf=60.0) -> Scene:
    """Training sections and a volume of `n_slices`, all of different material of one kind."""
    streams = [np.random.default_rng([77, seed, i]) for i in range(n_train + 1)]
    own = PIXEL_NM / FWHM_PER_SD / PIXEL_NM
    train = [sections(rng, (1, 2 * train_size, 2 * train_size))[0] for rng in streams[1:]]
    volume = sections(streams[0], (n_slices, 2 * size, 2 * size))
    truth = [gaussian_filter(s, own, mode="reflect") for s in volume]
    extra = np.sqrt(psf**2 - PIXEL_NM**2) / FWHM_PER_SD
    blurred = gaussian_filter(
        np.stack(truth), (extra / SPACING_NM if n_slices > 1 else 0, *[extra / PIXEL_NM] * 2)
    )
    coarse = blurred.reshape(n_slices, size, 2, size, 2).mean(axis=(2, 4))
    noisy = [s + noise * correlated_noise(streams[0], s.shape) for s in coarse]
    return Scene(
        [_image(gaussian_filter(s, own, mode="reflect"), 1, f"section {seed}") for s in train],
        [_image(s, 1, f"truth {seed}") for s in truth],
        [_image(s, DECIMATION, f"slice {seed}") for s in noisy],
    )


def _image(values, pixels, name):
    return Image(values.astype(np.float32), (PIXEL_NM * pixels,) * 2, name=name)


def _field(rng, shape, scale_nm):
    """A smooth random field of mean 0 and sd 1, equally smooth along all axes in nm."""
    spacing = (SPACING_NM, PIXEL_NM, PIXEL_NM)
    sd = [scale_nm / s for s in spacing]
    step = [max(1, int(s / 2)) for s in sd]
    coarse = tuple(n // k + 12 for n, k in zip(shape, step, strict=True))
    values = gaussian_filter(
        rng.standard_normal(coarse), [s / k for s, k in zip(sd, step, strict=True)]
    )
    grid = np.meshgrid(
        *(6 + np.arange(n) / k for n, k in zip(shape, step, strict=True)), indexing="ij"
    )
    out = map_coordinates(values / values.std(), grid, order=1)
    return out


def sections(rng, shape):
    """(z, y, x) sharp sections in grey values from 0 (void) to 1 (dense)."""
    z, y, x = np.meshgrid(
        np.arange(shape[0]) * SPACING_NM,
        *(np.arange(n) * PIXEL_NM for n in shape[1:]),
        indexing="ij",
    )
    image = _binder(rng, shape, (z, y, x))
    extent = np.array(shape[1:]) * PIXEL_NM
    for _ in range(max(2, round(extent.prod() / 8e6))):
        centre = (rng.uniform(-400, 400), *(rng.uniform(0, 1, 2) * extent))
        image = _with_particle(rng, image, (z, y, x), centre, rng.uniform(1100, 2400))
    pores = _field(rng, shape, 50.0) > rng.uniform(1.9, 2.3)
    return np.clip(np.where(pores, 0.05, image), 0.0, 1.0)


def _binder(rng, shape, grid):
    """Carbon black: grey spheres of 25 to 60 nm in clusters, with fibres."""
    image = 0.12 + 0.03 * _field(rng, shape, 30.0)
    cluster = _field(rng, shape, 250.0)
    extent = np.array(shape[1:]) * PIXEL_NM
    count = round(extent.prod() / 2.5e4)
    places = np.stack([rng.uniform(-60, 60 + shape[0] * SPACING_NM, count),
                       *(rng.uniform(0, e, count) for e in extent)], axis=1)  # fmt: skip
    distance, index = cKDTree(places).query(np.stack([g.ravel() for g in grid], axis=1))
    radius = rng.uniform(25.0, 60.0, count)[index]
    black = np.clip((radius - distance) / PIXEL_NM + 0.5, 0, 1).reshape(shape) * (cluster > -0.3)
    image = image + rng.uniform(0.12, 0.3, count)[index].reshape(shape) * black
    return np.clip(image, 0.0, 0.5)


def _with_particle(rng, image, grid, centre, radius):
    """The image with one secondary particle of radial needles in it."""
    offset = np.stack([g - c for g, c in zip(grid, centre, strict=True)], axis=-1)
    distance = np.sqrt((offset**2).sum(axis=-1)) + 1e-6
    depth = radius - distance + 60.0 * _field(rng, image.shape, 180.0)
    near = depth > -40.0
    if not near.any():
        return image
    wobble = np.stack([_field(rng, image.shape, 120.0)[near] for _ in range(3)], axis=-1)
    unit = offset[near] / distance[near][:, None]
    width = rng.uniform(150.0, 260.0)
    place = np.concatenate([unit * 1200.0 + 25.0 * wobble, 0.35 * distance[near][:, None]], axis=1)
    count = max(40, round(4 * np.pi * 1200.0**2 / width**2 * 0.35 * radius / width))
    seeds = rng.standard_normal((count, 3))
    seeds = np.concatenate(
        [1200.0 * seeds / np.linalg.norm(seeds, axis=1, keepdims=True),
         rng.uniform(0, 0.35 * radius, (count, 1))], axis=1)  # fmt: skip
    gaps, owners = cKDTree(seeds).query(place, 2)
    grey = _needles(rng, owners, count, offset[near])
    pair = owners.min(axis=1) * 7919 + owners.max(axis=1) * 104729
    opening = np.maximum(rng.uniform(-60.0, 45.0, 65536)[pair % 65536], 0)
    crack = np.clip((opening / 2 - (gaps[:, 1] - gaps[:, 0]) / 2) / PIXEL_NM + 0.5, 0, 1)
    grey = grey * (1 - rng.uniform(0.4, 0.9, 65536)[pair % 65536] * crack * (opening > 0))
    rim = np.exp(-(((depth[near] - 25.0) / 18.0) ** 2))
    grey = grey + (0.97 - grey) * 0.6 * rim * (rng.uniform() > 0.3)
    solid = np.clip(depth[near] / PIXEL_NM + 0.5, 0, 1)
    out = image.copy()
    out[near] = out[near] * (1 - solid) + grey * solid
    return out


def _needles(rng, owners, count, offset):
    """Grey value of each needle, some with twin lamellae of 70 to 140 nm."""
    grey = rng.uniform(0.55, 0.92, count)[owners[:, 0]]
    normal = rng.standard_normal((count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    phase = np.einsum("ni,ni->n", offset, normal[owners[:, 0]])
    wave = np.sin(2 * np.pi * phase / rng.uniform(70.0, 140.0, count)[owners[:, 0]])
    twinned = rng.uniform(0, 1, count)[owners[:, 0]] < 0.4
    return grey + np.where(twinned, 0.08 * np.sign(wave), 0.0)
