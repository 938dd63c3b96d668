"""A zoo of simulated movies: many layouts, class contrasts, trends and kinds of noise.

Where `phantom` makes one carefully chosen setting, the zoo draws everything by the seed, so that
a method is judged on scenes that nobody has tuned it to.
"""

from __future__ import annotations

import zlib

import numpy as np

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import Scene
from jaxmicro.data.zoo_camera import TRENDS, Camera, Greys, draw_camera, draw_greys, overexpose
from jaxmicro.data.zoo_layouts import LAYOUTS, Layout, Specimen
from jaxmicro.data.zoo_parts import log_uniform
from jaxmicro.errors import UsageError

FAMILIES: tuple[str, ...] = tuple(LAYOUTS)
SHAPES = ((157, 211), (200, 200), (219, 262), (256, 256), (183, 301))
NEAR_NOTHING = 0.25  # of the peak: an object that starts below it is seen to grow
APART = 4.3  # contrast at which two equal Gaussians overlap by a Bhattacharyya coefficient of 0.1


def zoo(
    family: str, seed: int, *, n_frames: int = 4, shape: tuple[int, int] | None = None
) -> Scene:
    """A movie of one of `FAMILIES` with its truth; everything is drawn by the seed.

    The specimen may drift by whole pixels, up to 2 a frame; trend and noise stay with the camera.
    Labels are those of the specimen before any blur. The record:

    - `truth`: per frame `weights` (t, K), `means` (t, K), `sds` (t, K), `trend` (t, P) as in
      `Scene`; also `blur_px` (t,), `correlation_px` () and `contrast` (), the smallest difference
      of a foreground mean from that of a class that is not foreground, over the rms of their sds.
      Means and sds are those of the specimen: in an overexposed scene ("clipped at 255" in the
      description) the recorded greys of the brightest class are lower and narrower.
    - `hint`: the least that a person would have to say of the foreground. "auto": it grows from
      near nothing, or is the brightest class by far; "grows": that, at a brightness between those
      of other classes; "brightest", "darkest"; or ranks, such as "2,3".
    - `description`: what was drawn, in words.

    Args:
      n_frames: at least 2.
      shape: (rows, columns) of a frame, at least 64 each; drawn where not given.

    Raises:
      UsageError: a family that is not known; a movie too small.
    """
    _check(family, n_frames, shape)
    draws = np.random.SeedSequence([seed, zlib.crc32(family.encode())])
    rng, noise = (np.random.default_rng(s) for s in draws.spawn(2))
    size = SHAPES[int(rng.integers(len(SHAPES)))]
    specimen = _specimen(rng, size if shape is None else shape, n_frames)
    layout = LAYOUTS[family](specimen)
    labels = np.argsort(layout.order).astype(np.uint8)[specimen.cropped(layout.regions)]
    camera = draw_camera(rng, n_frames)
    greys = draw_greys(rng, len(layout.order), layout.ranks, n_frames, specimen.frame)
    if camera.overexposed:
        greys = overexpose(rng, greys)
    images = camera.record(noise, labels, greys)
    movie = _movie(rng, images, f"{family}, seed {seed}")
    return _scene(movie, labels, layout, greys, camera, float(rng.uniform(0.1, 1.0)))


def _specimen(rng: np.random.Generator, size: tuple[int, int], n_frames: int) -> Specimen:
    """A canvas with room for a drift of up to 2 pixels a frame, in half of the scenes."""
    pace = rng.uniform(-2, 2, 2) if rng.random() < 0.5 else np.zeros(2)
    way = np.rint(np.arange(n_frames)[:, None] * pace).astype(int)
    way -= way.min(axis=0)
    height, width = size[0] + way[:, 0].max(), size[1] + way[:, 1].max()
    windows = tuple((slice(y, y + size[0]), slice(x, x + size[1])) for y, x in way.tolist())
    return Specimen(rng, (int(height), int(width)), windows)


def _movie(rng: np.random.Generator, images: np.ndarray, name: str) -> Movie:
    pixel, interval = float(log_uniform(rng, 2.0, 60.0)), float(log_uniform(rng, 0.1, 10.0))
    return Movie(
        images=images,
        pixel_size_nm=(pixel, pixel),
        times_s=np.arange(len(images)) * interval,
        saturation=255.0,
        name=name,
        axes=("t", "y", "x"),
    )


def _scene(
    movie: Movie,
    labels: np.ndarray,
    layout: Layout,
    greys: Greys,
    camera: Camera,
    thickness_um: float,
) -> Scene:
    n_frames, n_classes = len(labels), len(layout.order)
    foreground = layout.ranks
    weights = np.stack([np.bincount(f.ravel(), minlength=n_classes) / f.size for f in labels])
    contrast = _contrast(greys, foreground)
    area = np.isin(labels, foreground).sum(axis=(1, 2)) * movie.pixel_area_um2
    return Scene(
        movie=movie,
        labels=labels,
        foreground=foreground,
        truth={
            "weights": weights,
            "means": np.tile(greys.means, (n_frames, 1)),
            "sds": np.tile(greys.sds, (n_frames, 1)),
            "trend": greys.trend,
            "blur_px": camera.blur,
            "correlation_px": np.asarray(camera.correlation),
            "contrast": np.asarray(contrast),
        },
        terms=TRENDS[greys.kind],
        classes=tuple(layout.names[r] for r in layout.order),
        area_um2=area,
        volume_um3=area * thickness_um,
        thickness_um=thickness_um,
        hint=_hint(weights, foreground, contrast),
        description=_describe(camera, greys, contrast),
    )


def _contrast(greys: Greys, foreground: tuple[int, ...]) -> float:
    """Smallest difference between foreground and other classes, over the rms of their sds."""
    inside = np.isin(np.arange(greys.means.size), foreground)
    gap = np.abs(greys.means[inside][:, None] - greys.means[~inside])
    variance = greys.sds[inside][:, None] ** 2 + greys.sds[~inside] ** 2
    return float(np.min(gap / np.sqrt(variance / 2)))


def _hint(weights: np.ndarray, foreground: tuple[int, ...], contrast: float) -> str:
    last = weights.shape[1] - 1
    rising = np.flatnonzero(weights[0] < NEAR_NOTHING * weights.max(axis=0))
    extreme = 0 in foreground or last in foreground
    if tuple(rising) == foreground and weights.shape[0] > 2:
        return "auto" if extreme else "grows"
    if foreground == (last,):
        return "auto" if contrast > APART and rising.size == 0 else "brightest"
    return "darkest" if foreground == (0,) else ",".join(str(k) for k in foreground)


def _describe(camera: Camera, greys: Greys, contrast: float) -> str:
    parts = [f"{greys.means.size} classes", f"contrast {contrast:.2f} sds"]
    parts.append(f"trend {greys.kind}")
    parts.append(f"noise {camera.noise}")
    if camera.correlation > 0:
        parts.append(f"correlation sigma {camera.correlation:.2f} px")
    if camera.blur.max() > 0:
        parts.append(f"blur sigma {camera.blur[0]:.2f} to {camera.blur[-1]:.2f} px")
    if camera.overexposed:
        parts.append("clipped at 255")
    return ", ".join(parts)


def _check(family: str, n_frames: int, shape: tuple[int, int] | None) -> None:
    if family not in LAYOUTS:
        raise UsageError(f"family {family!r} is not known; use one of {', '.join(FAMILIES)}")
    if n_frames < 2 or (shape is not None and (len(shape) != 2 or min(shape) < 64)):
        raise UsageError(
            f"{n_frames} frames of shape {shape} are too few or too small; "
            "use at least 2 frames of 64 rows and columns"
        )
