"""The camera of `zoo`: grey levels of the classes, trend, blur and noise, and 8-bit frames."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxmicro.data.phantom import ROUNDING_VARIANCE, scaled_coordinates
from jaxmicro.data.phantom_growth import smooth_field
from jaxmicro.data.zoo_parts import log_uniform

CONTRAST = (1.5, 8.0)  # between neighbouring classes, in units of their rms sd
SD_RATIO = 1.6  # of the widest class to the narrowest, at most
TOP = 250.0  # the brightest greys of a scene that is not overexposed
NOISES = ("gaussian", "poisson-gaussian", "correlated gaussian")
TRENDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "x": ("x",),
    "y": ("y",),
    "x+y": ("x", "y"),
    "quadratic": ("x", "y", "x**2", "y**2", "x:y"),
    "vignette": ("x**2", "y**2"),
}


@dataclasses.dataclass(frozen=True)
class Greys:
    """(K,) means and sds, and (t, P) coefficients of the trend, one of `TRENDS`."""

    means: np.ndarray
    sds: np.ndarray
    kind: str
    trend: np.ndarray


@dataclasses.dataclass(frozen=True)
class Camera:
    """Noise, one of `NOISES`, with its correlation sigma, and (t,) blur sigma, in pixels."""

    noise: str
    blur: np.ndarray
    correlation: float
    overexposed: bool

    def record(self, rng: np.random.Generator, labels: np.ndarray, greys: Greys) -> np.ndarray:
        """(t, y, x) uint8 from (t, y, x) labels."""
        gain = rng.uniform(0.2, 0.7) * np.min((greys.sds**2 - ROUNDING_VARIANCE) / greys.means)
        frames = []
        for one, blur, trend in zip(labels, self.blur, greys.trend, strict=True):
            clean = blurred(greys.means[one], blur) + surface(trend, greys.kind, one.shape)
            frames.append(self._frame(rng, one, clean, greys, float(gain)))
        return np.stack(frames)

    def _frame(self, rng, labels, clean, greys: Greys, gain: float) -> np.ndarray:
        variance = greys.sds**2 - ROUNDING_VARIANCE
        if self.noise == "poisson-gaussian":
            variance = variance - gain * greys.means
            clean = gain * rng.poisson(np.maximum(clean, 0.0) / gain)
        if self.correlation > 0:
            unit = smooth_field(rng, labels.shape, self.correlation)
        else:
            unit = rng.standard_normal(labels.shape)
        return np.clip(np.rint(clean + np.sqrt(variance)[labels] * unit), 0, 255).astype(np.uint8)


def draw_camera(rng: np.random.Generator, n_frames: int) -> Camera:
    noise = NOISES[int(rng.integers(3))]
    refocus = rng.random() < 1 / 3
    first, last = rng.uniform(0, 1, 2) * refocus
    blur = np.linspace(first, last, n_frames)
    correlation = float(rng.uniform(0.7, 1.5)) if noise == "correlated gaussian" else 0.0
    return Camera(noise, blur, correlation, bool(rng.random() < 1 / 8))


def draw_greys(
    rng: np.random.Generator,
    n_classes: int,
    foreground: tuple[int, ...],
    n_frames: int,
    shape: tuple[int, int],
) -> Greys:
    """Contrasts and trend in units of an sd first, then the sd that fits them into 8 bits."""
    kind = list(TRENDS)[int(rng.integers(len(TRENDS)))]
    sds = SD_RATIO ** rng.uniform(0, 1, n_classes)
    gaps = log_uniform(rng, *CONTRAST, n_classes - 1) * np.sqrt((sds[1:] ** 2 + sds[:-1] ** 2) / 2)
    inside = np.isin(np.arange(n_classes), foreground)
    trend = gaps[inside[1:] != inside[:-1]].min() * _trend(rng, kind, n_frames)
    shade = np.stack([surface(b, kind, shape) for b in trend])
    margin = 3.5 * sds.max()
    span = gaps.sum() + np.ptp(shade) + 2 * margin
    sd = min(11.0, TOP / span) * rng.uniform(0.8, 1.0)
    low = margin - shade.min() + rng.uniform(0.2, 0.8) * (TOP / sd - span)
    means = low + np.concatenate([[0.0], np.cumsum(gaps)])
    return Greys(sd * means, sd * sds, kind, sd * trend)


def overexpose(rng: np.random.Generator, greys: Greys) -> Greys:
    """The same with an offset that saturates a part of the brightest class."""
    offset = 255.0 - rng.uniform(0.2, 1.2) * greys.sds[-1] - greys.means[-1]
    return dataclasses.replace(greys, means=greys.means + offset)


def _trend(rng: np.random.Generator, kind: str, n_frames: int) -> np.ndarray:
    """(t, P) coefficients of up to about half a contrast, with a slow drift."""
    n_terms = len(TRENDS[kind])
    size = 0.5 * min(1.0, np.sqrt(2 / max(n_terms, 1)))
    start = size * rng.uniform(-1, 1, n_terms)
    if kind == "vignette":
        start = np.full(2, -rng.uniform(0.3, 1) * size)
    time = np.linspace(0, 1, n_frames)[:, None]
    return np.clip(start + 0.25 * size * time * rng.uniform(-1, 1, n_terms), -0.5, 0.5)


def surface(trend: np.ndarray, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """(y, x) sum of the trend's terms."""
    y, x = scaled_coordinates(shape)
    terms = {"x": x, "y": y, "x**2": x**2, "y**2": y**2, "x:y": x * y}
    out = np.zeros(shape)
    for coefficient, name in zip(trend, TRENDS[kind], strict=True):
        out += coefficient * terms[name]
    return out


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
