"""A zoo of simulated movies: many layouts, class contrasts, trends and kinds of noise.

Where `phantom` makes one carefully chosen setting, the zoo draws everything by the seed, so that
a method is judged on scenes that nobody has tuned it to.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom import ROUNDING_VARIANCE, Scene, scaled_coordinates
from jaxmicro.data.phantom_growth import smooth_field
from jaxmicro.data.zoo_layouts import LAYOUTS, Layout, Specimen, log_uniform
from jaxmicro.errors import UsageError

FAMILIES: tuple[str, ...] = tuple(LAYOUTS)
SHAPES = ((157, 211), (200, 200), (219, 262), (256, 256), (183, 301))
CONTRAST = (1.5, 8.0)  # between neighbouring classes, in units of their rms sd
SD_RATIO = 1.6  # of the widest class to the narrowest, at most
TOP = 250.0  # the brightest greys of a scene that is not overexposed
NEAR_NOTHING = 0.25  # of the peak: an object that starts below it is seen to grow
APART = 4.3  # contrast at which two equal Gaussians overlap by a Bhattacharyya coefficient of 0.1
TRENDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "x": ("x",),
    "y": ("y",),
    "x+y": ("x", "y"),
    "quadratic": ("x", "y", "x**2", "y**2", "x:y"),
    "vignette": ("x**2", "y**2"),
}


@dataclasses.dataclass(frozen=True)
class _Classes:
    """(K,) means and sds in grey, and how far grey levels depend on place: (t, P) trend."""

    means: np.ndarray
    sds: np.ndarray
    trend: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Camera:
    """Noise by name, grey per quantum, (t,) blur sigma and correlation sigma in pixels."""

    noise: str
    gain: float
    blur: np.ndarray
    correlation: float
    overexposed: bool


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
    foreground = tuple(sorted(layout.order.index(r) for r in layout.foreground))

    kind = list(TRENDS)[int(rng.integers(len(TRENDS)))]
    camera = _camera(rng, n_frames)
    classes = _classes(rng, len(layout.order), foreground, kind, n_frames, labels.shape[1:])
    camera, classes = _exposed(rng, camera, classes)
    images = np.stack([_record(noise, labels[t], t, classes, camera, kind) for t in range(n_frames)])
    return _scene(rng, family, seed, layout, labels, images, foreground, classes, camera, kind)


def _specimen(rng: np.random.Generator, size: tuple[int, int], n_frames: int) -> Specimen:
    """A canvas with room for a drift of up to 2 pixels a frame, in half of the scenes."""
    pace = rng.uniform(-2, 2, 2) if rng.random() < 0.5 else np.zeros(2)
    way = np.rint(np.arange(n_frames)[:, None] * pace).astype(int)
    way -= way.min(axis=0)
    height, width = size[0] + way[:, 0].max(), size[1] + way[:, 1].max()
    windows = tuple((slice(y, y + size[0]), slice(x, x + size[1])) for y, x in way)
    return Specimen(rng, (int(height), int(width)), windows)


def _camera(rng: np.random.Generator, n_frames: int) -> _Camera:
    kind = ("gaussian", "poisson-gaussian", "correlated gaussian")[int(rng.integers(3))]
    blurred = rng.random() < 1 / 3
    blur = np.linspace(*rng.uniform(0, 1, 2), n_frames) if blurred else np.zeros(n_frames)
    correlation = float(rng.uniform(0.7, 1.5)) if kind.startswith("correlated") else 0.0
    return _Camera(kind, 0.0, blur, correlation, bool(rng.random() < 1 / 8))


def _classes(rng, n_classes, foreground, kind, n_frames, shape) -> _Classes:
    """Contrasts and trend in units of an sd first, then the sd that fits them into 8 bits."""
    sds = SD_RATIO ** rng.uniform(0, 1, n_classes)
    gaps = log_uniform(rng, *CONTRAST, n_classes - 1) * np.sqrt((sds[1:] ** 2 + sds[:-1] ** 2) / 2)
    edges = {k - 1 for k in foreground} ^ set(foreground)  # gaps between foreground and other
    contrast = min(gaps[g] for g in edges if 0 <= g < n_classes - 1)
    trend = contrast * _trend(rng, kind, n_frames)
    surface = np.stack([_surface(b, kind, shape) for b in trend])
    margin = 3.5 * sds.max()
    span = gaps.sum() + np.ptp(surface) + 2 * margin
    sd = min(11.0, TOP / span) * rng.uniform(0.8, 1.0)
    low = margin - surface.min() + rng.uniform(0.2, 0.8) * (TOP / sd - span)
    means = low + np.concatenate([[0.0], np.cumsum(gaps)])
    return _Classes(sd * means, sd * sds, sd * trend)


def _trend(rng: np.random.Generator, kind: str, n_frames: int) -> np.ndarray:
    """(t, P) coefficients of up to about half a contrast, with a slow drift."""
    n_terms = len(TRENDS[kind])
    size = 0.5 * min(1.0, np.sqrt(2 / max(n_terms, 1)))
    start = size * rng.uniform(-1, 1, n_terms)
    if kind == "vignette":
        start = np.full(2, -rng.uniform(0.3, 1) * size)
    time = np.linspace(0, 1, n_frames)[:, None]
    return np.clip(start + 0.25 * size * time * rng.uniform(-1, 1, n_terms), -0.5, 0.5)


def _surface(trend: np.ndarray, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """(y, x) sum of the trend's terms."""
    y, x = scaled_coordinates(shape)
    terms = {"x": x + 0 * y, "y": y + 0 * x, "x**2": x**2 + 0 * y, "y**2": y**2 + 0 * x}
    terms["x:y"] = x * y
    return sum((b * terms[n] for b, n in zip(trend, TRENDS[kind], strict=True)), np.zeros(shape))


def _exposed(rng: np.random.Generator, camera: _Camera, c: _Classes) -> tuple[_Camera, _Classes]:
    """Overexpose where drawn; then the gain, such that counting noise is a part of every sd."""
    if camera.overexposed:
        mean = 255.0 - rng.uniform(0.2, 1.2) * c.sds[-1]
        c = dataclasses.replace(c, means=c.means + mean - c.means[-1])
    gain = rng.uniform(0.2, 0.7) * np.min((c.sds**2 - ROUNDING_VARIANCE) / c.means)
    return dataclasses.replace(camera, gain=float(gain)), c


def _record(rng, labels, t, c: _Classes, camera: _Camera, kind: str) -> np.ndarray:
    """One 8-bit frame (y, x) from its labels."""
    grey = blurred(c.means[labels], camera.blur[t]) + _surface(c.trend[t], kind, labels.shape)
    variance = c.sds**2 - ROUNDING_VARIANCE
    if camera.noise == "poisson-gaussian":
        variance = variance - camera.gain * c.means
        grey = camera.gain * rng.poisson(np.maximum(grey, 0.0) / camera.gain)
    if camera.correlation > 0:
        unit = smooth_field(rng, labels.shape, camera.correlation)
    else:
        unit = rng.standard_normal(labels.shape)
    return np.clip(np.rint(grey + np.sqrt(variance)[labels] * unit), 0, 255).astype(np.uint8)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """(y, x) image after a Gaussian filter of `sigma` pixels, reflected at the rim."""
    reach = int(np.ceil(4 * sigma))
    if reach == 0:
        return image
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    padded = np.pad(image, reach, mode="symmetric")
    for axis in (0, 1):
        view = np.lib.stride_tricks.sliding_window_view(padded, offset.size, axis=axis)
        padded = view @ (kernel / kernel.sum())
    return padded


def _scene(
    rng, family, seed, layout: Layout, labels, images, foreground, c: _Classes, camera, kind
) -> Scene:
    n_frames, n_classes = labels.shape[0], len(layout.order)
    weights = np.stack([np.bincount(f.ravel(), minlength=n_classes) / f.size for f in labels])
    pixel, interval = float(log_uniform(rng, 2, 60)), float(log_uniform(rng, 0.1, 10))
    thickness = float(rng.uniform(0.1, 1.0))
    contrast = _contrast(c, foreground)
    area = np.isin(labels, foreground).sum(axis=(1, 2)) * (pixel * 1e-3) ** 2
    movie = Movie(
        images=images,
        pixel_size_nm=(pixel, pixel),
        times_s=np.arange(n_frames) * interval,
        saturation=255.0,
        name=f"{family}, seed {seed}",
        axes=("t", "y", "x"),
    )
    truth = {
        "weights": weights,
        "means": np.tile(c.means, (n_frames, 1)),
        "sds": np.tile(c.sds, (n_frames, 1)),
        "trend": c.trend,
        "blur_px": camera.blur,
        "correlation_px": np.asarray(camera.correlation),
        "contrast": np.asarray(contrast),
    }
    return Scene(
        movie=movie,
        labels=labels,
        foreground=foreground,
        truth=truth,
        terms=TRENDS[kind],
        classes=tuple(layout.names[r] for r in layout.order),
        area_um2=area,
        volume_um3=area * thickness,
        thickness_um=thickness,
        hint=_hint(weights, foreground, contrast),
        description=_describe(camera, kind, contrast, n_classes),
    )


def _contrast(c: _Classes, foreground: tuple[int, ...]) -> float:
    """Smallest difference between foreground and other classes, over the rms of their sds."""
    others = [k for k in range(c.means.size) if k not in foreground]
    pairs = [(i, j) for i in foreground for j in others]
    return float(
        min(
            abs(c.means[i] - c.means[j]) / np.sqrt((c.sds[i] ** 2 + c.sds[j] ** 2) / 2)
            for i, j in pairs
        )
    )


def _hint(weights: np.ndarray, foreground: tuple[int, ...], contrast: float) -> str:
    last = weights.shape[1] - 1
    rising = np.flatnonzero(weights[0] < NEAR_NOTHING * weights.max(axis=0))
    extreme = 0 in foreground or last in foreground
    if tuple(rising) == foreground and weights.shape[0] > 2:
        return "auto" if extreme else "grows"
    if foreground == (last,):
        return "auto" if contrast > APART and rising.size == 0 else "brightest"
    return "darkest" if foreground == (0,) else ",".join(str(k) for k in foreground)


def _describe(camera: _Camera, kind: str, contrast: float, n_classes: int) -> str:
    parts = [f"{n_classes} classes", f"contrast {contrast:.2f} sds", f"trend {kind}"]
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
