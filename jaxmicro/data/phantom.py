"""Operando movies whose truth is known: labels, class parameters, trend, area and volume.

The setting is that of the operando STEM papers: a dark hemispherical electrode at one edge of
the frame, electrolyte, a brighter interphase (SEI) around the electrode and a bright deposit
that grows in it, is stripped to a quarter of its peak and leaves dead islands behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxmicro.data.movie import Movie
from jaxmicro.data.phantom_growth import SHAPES, smooth_field
from jaxmicro.errors import UsageError

CLASSES = ("electrode", "electrolyte", "SEI", "deposit")
TERMS = ("x", "y", "x:y")
NOISES = ("poisson-gaussian", "gaussian", "student-t")
TAILS = 4.0  # degrees of freedom of the heavy-tailed noise
ROUNDING_VARIANCE = 1.0 / 12.0  # of rounding to whole greys, exact to 1e-9 for sds above 1
PIXEL_SIZE_NM, FRAME_INTERVAL_S, THICKNESS_UM = 28.2, 0.6, 0.5  # the calibration of every phantom


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Grey values of the classes of a phantom: electrode, electrolyte, SEI and deposit.

    `sds` are the total standard deviations of a class's recorded greys where the trend is 0,
    rounding to whole greys included. With `noise = "gaussian"` they hold at every pixel (clipping
    to 0..255 apart, which touches about 1 pixel in 10^4). With "poisson-gaussian" the grey is
    `gain` times a Poisson count plus a Gaussian part that fills the variance up to sds^2 at the
    class mean; a pixel whose trend is b then has variance sds^2 + gain * b. With "student-t" the
    tails are those of 4 degrees of freedom (outliers such as hot pixels): the scale of a class is
    sds / sqrt(2).

    Attributes:
      means, sds: in grey, four each.
      noise: "poisson-gaussian", "gaussian" or "student-t".
      gain: grey per detected quantum; `gain * means + 1/12` must stay below `sds**2`.

    Raises:
      UsageError: an unknown noise, or classes that cannot be made.
    """

    means: Sequence[float] = (40.0, 95.0, 140.0, 190.0)
    sds: Sequence[float] = (10.0, 11.0, 12.0, 14.0)
    noise: str = "poisson-gaussian"
    gain: float = 0.5

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise UsageError(f"noise {self.noise!r} is not known; use one of {', '.join(NOISES)}")
        means, sds = tuple(self.means), tuple(self.sds)
        if len(means) != 4 or len(sds) != 4 or list(means) != sorted(means):
            raise UsageError(
                f"means {means} and sds {sds}: give four of each, the means in increasing order"
            )
        counted = self.gain * np.asarray(means) if self.noise == "poisson-gaussian" else 0.0
        if self.gain <= 0 or np.any(np.asarray(sds) ** 2 <= ROUNDING_VARIANCE + counted):
            raise UsageError(
                f"sds {sds} leave no room for the Poisson part at gain {self.gain}; "
                "raise the sds or lower the gain so that gain * means + 1/12 < sds**2"
            )

    def record(self, rng: np.random.Generator, labels: np.ndarray, trend: np.ndarray) -> np.ndarray:
        """One 8-bit frame (y, x) from its labels."""
        y, x = scaled_coordinates(labels.shape)
        bx, by, bxy = (np.float32(b) for b in trend)
        means = np.asarray(self.means, float)
        grey = means.astype(np.float32)[labels] + (bx * x + by * y + bxy * x * y)
        variance = np.asarray(self.sds, float) ** 2 - ROUNDING_VARIANCE
        if self.noise == "poisson-gaussian":
            variance = variance - self.gain * means
            counts = rng.poisson(np.maximum(grey, 0.0) / self.gain)
            grey = self.gain * counts.astype(np.float32)
        width = np.sqrt(variance).astype(np.float32)[labels]
        if self.noise == "student-t":
            unit = rng.standard_t(TAILS, labels.shape).astype(np.float32)
            grey += width * unit * np.float32(np.sqrt(1 - 2 / TAILS))
        else:
            grey += width * rng.standard_normal(labels.shape, dtype=np.float32)
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


CONTRAST = Contrast()


@dataclasses.dataclass(frozen=True)
class Scene:
    """A movie with everything that an analysis of it should find.

    Attributes:
      movie: (t, y, x) uint8, calibrated in space and time.
      labels: (t, y, x) uint8 class index, classes in order of increasing mean.
      foreground: indices of the classes whose area is wanted.
      truth: `weights` (t, K) shares of the frame's pixels, `means` (K,), `sds` (K,) in grey,
        `trend` (t, P) in grey per unit of the scaled coordinate: y from -1 (row 0) to 1 (last
        row), x from -1 (column 0) to 1 (last column); no intercept, it is in `means`.
      terms: the P names of the trend's terms, as in a formula.
      classes: the K names of the classes.
      area_um2, volume_um3: (t,) of the foreground; the volume is area times `thickness_um`.
      hint: the foreground option with which a person would run the scene, "auto" for none.
      description: what was drawn at random, in words.
    """

    movie: Movie
    labels: np.ndarray
    foreground: tuple[int, ...]
    truth: dict[str, np.ndarray]
    terms: tuple[str, ...]
    classes: tuple[str, ...]
    area_um2: np.ndarray
    volume_um3: np.ndarray
    thickness_um: float
    hint: str = "auto"
    description: str = ""

    @property
    def formula(self) -> str:
        """The trend as a formula, e.g. `x + y + x:y`."""
        return " + ".join(self.terms)

    @property
    def foreground_mask(self) -> np.ndarray:
        """(t, y, x) bool."""
        return np.isin(self.labels, self.foreground)


def operando(
    seed: int,
    *,
    shape: tuple[int, int, int] = (60, 512, 512),
    scene: str = "dendrite",
    scatter: bool = False,
    contrast: Contrast = CONTRAST,
    trend_scale: float = 1.0,
) -> Scene:
    """A movie of a deposit that grows and is stripped, with its truth; repeats for equal `seed`.

    Args:
      seed: of everything: geometry, drift of the trend, noise.
      shape: frames, rows, columns; at least 4 frames and 32 rows and columns.
      scene: "dendrite", "rods" (2 to 4 pixels wide), "islands" or "front" (a layer that retreats).
      scatter: shuffle each frame's labels over its pixels: same weights, no spatial
        arrangement, so that the plain mixture model is exactly true.
      contrast: grey values of the classes and their noise.
      trend_scale: factor on the trend; 0 for none.

    Raises:
      UsageError: an unknown scene, or a shape too small.
    """
    _check(shape, scene)
    n_frames = shape[0]
    streams = np.random.SeedSequence(seed).spawn(3)
    geometry, drift = (np.random.default_rng(s) for s in streams[:2])
    labels = _labels(geometry, shape, scene)
    trend = trend_scale * _trend(drift, n_frames)
    images = np.empty(shape, np.uint8)
    for t, stream in enumerate(streams[2].spawn(n_frames)):
        rng = np.random.default_rng(stream)
        if scatter:
            labels[t] = rng.permutation(labels[t].ravel()).reshape(shape[1:])
        images[t] = contrast.record(rng, labels[t], trend[t])

    counts = np.stack([np.bincount(f.ravel(), minlength=len(CLASSES)) for f in labels])
    share, foreground = counts / float(shape[1] * shape[2]), (len(CLASSES) - 1,)
    area = counts[:, foreground].sum(axis=1) * (PIXEL_SIZE_NM * 1e-3) ** 2
    means, sds = np.asarray(contrast.means, float), np.asarray(contrast.sds, float)
    movie = Movie(
        images=images,
        pixel_size_nm=(PIXEL_SIZE_NM, PIXEL_SIZE_NM),
        times_s=np.arange(n_frames) * FRAME_INTERVAL_S,
        saturation=255.0,
        name=f"{scene} phantom, seed {seed}",
        axes=("t", "y", "x"),
    )
    return Scene(
        movie=movie,
        labels=labels,
        foreground=foreground,
        truth={"weights": share, "means": means, "sds": sds, "trend": trend},
        terms=TERMS,
        classes=CLASSES,
        area_um2=area,
        volume_um3=area * THICKNESS_UM,
        thickness_um=THICKNESS_UM,
    )


def scaled_coordinates(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(y, 1) and (1, x) float32 coordinates in [-1, 1] over the frame."""
    height, width = shape
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    return y, x


def stages(n_frames: int) -> tuple[int, int, int]:
    """First frame with deposit, frame of its peak, first frame after stripping."""
    first = max(1, round(0.07 * n_frames))
    peak = max(first + 1, round(0.6 * n_frames))
    stripped = max(peak + 1, round(0.9 * n_frames))
    return first, peak, min(stripped, n_frames - 1)


def _labels(rng: np.random.Generator, shape: tuple[int, int, int], scene: str) -> np.ndarray:
    n_frames, height, width = shape
    unit = min(height, width) / 512.0
    centre = (height + 0.06 * height, 0.5 * width + rng.uniform(-0.08, 0.08) * width)
    radius = 0.24 * min(height, width) * rng.uniform(0.92, 1.08)
    rows, cols = np.arange(height)[:, None], np.arange(width)[None, :]
    distance = np.hypot(rows - centre[0], cols - centre[1])
    distance += 1.5 * unit * smooth_field(rng, (height, width), 7.0 * unit)
    shell = unit * (16.0 + 3.0 * smooth_field(rng, (height, width), 25.0 * unit))
    still = np.ones((height, width), np.uint8)
    still[distance < radius + shell] = 2
    still[distance < radius] = 0

    arrival, persistence = SHAPES[scene](rng, still, centre, radius)
    grown = np.isfinite(arrival)
    # order of stripping among the deposit's pixels, as a share of its peak area in (0, 1]
    order = np.zeros((height, width))
    order[grown] = (np.argsort(np.argsort(persistence[grown])) + 1.0) / grown.sum()

    first, peak, stripped = stages(n_frames)
    labels = np.empty(shape, np.uint8)
    for t in range(n_frames):
        growth = (t - first + 1) / (peak - first + 1) if t >= first else -1.0
        gone = 0.75 * np.clip((t - peak) / (stripped - peak), 0.0, 1.0)
        labels[t] = np.where((arrival <= growth) & (order > gone), 3, still)
    return labels


def _trend(rng: np.random.Generator, n_frames: int) -> np.ndarray:
    """(t, P) drift of charging and focus, with one jump as when the operator refocuses."""
    time = np.linspace(0.0, 1.0, n_frames)[:, None]
    start = np.array([6.0, 9.0, 3.0]) * rng.uniform(0.8, 1.2, 3)
    drift = np.array([3.0, -3.0, 1.5]) * rng.uniform(0.5, 1.5, 3)
    sway = 0.8 * np.sin(2 * np.pi * (time * rng.uniform(1, 2, 3) + rng.uniform(0, 1, 3)))
    jump = np.array([-4.0, -3.0, -3.0]) * rng.uniform(0.8, 1.2, 3)
    return start + drift * time + sway + jump * (np.arange(n_frames)[:, None] >= 0.45 * n_frames)


def _check(shape: tuple[int, ...], scene: str) -> None:
    if scene not in SHAPES:
        raise UsageError(f"scene {scene!r} is not known; use one of {', '.join(SHAPES)}")
    if len(shape) != 3 or shape[0] < 4 or min(shape[1:]) < 32:
        raise UsageError(
            f"phantom shape {tuple(shape)} is too small; use at least 4 frames, 32 rows, 32 columns"
        )
