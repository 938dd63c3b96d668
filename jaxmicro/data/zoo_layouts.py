"""Layouts of the scenes of `zoo`: where each class lies, frame by frame.

A layout paints a `Specimen` that is larger than the frame and is seen through a window that may
drift. Objects come from an arrival map, low where the object is first: in each frame the object
is what lies below a threshold, chosen so that it covers a given share of the frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxmicro.data.phantom_growth import SHAPES, smooth_field
from jaxmicro.data.zoo_parts import (
    any_background,
    cracks,
    depth_from_edge,
    fading,
    growing,
    islands,
    late,
    layers,
    log_uniform,
    particles,
    rods,
    roughness,
    slow,
)

Window = tuple[slice, slice]
NEVER = np.inf


@dataclasses.dataclass(frozen=True)
class Specimen:
    """What is imaged: (rows, columns), one window of the frame's size per frame."""

    rng: np.random.Generator
    shape: tuple[int, int]
    windows: tuple[Window, ...]

    @property
    def frame(self) -> tuple[int, int]:
        """(rows, columns) of a frame."""
        rows, cols = self.windows[0]
        return rows.stop - rows.start, cols.stop - cols.start

    def masks(self, arrival: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(t, rows, columns) bool: arrived, so that each window has its share of the object."""
        return arrival[None] <= self.thresholds(arrival, shares)[:, None, None]

    def thresholds(self, arrival: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(t,) arrival up to which the object covers `shares` of each window."""
        out = np.full(len(self.windows), -np.inf)
        for t, (window, share) in enumerate(zip(self.windows, shares, strict=True)):
            seen = np.sort(arrival[window], axis=None)
            wanted = min(round(share * seen.size), np.count_nonzero(np.isfinite(seen)))
            if wanted > 0:
                out[t] = seen[wanted - 1]
        return out

    def cropped(self, regions: np.ndarray) -> np.ndarray:
        """What the frames see of (t, rows, columns)."""
        return np.stack([r[w] for r, w in zip(regions, self.windows, strict=True)])


@dataclasses.dataclass(frozen=True)
class Layout:
    """(t, rows, columns) uint8 regions of a specimen; `names` are of the regions.

    `order` lists the regions from the darkest to the brightest.
    """

    regions: np.ndarray
    foreground: tuple[int, ...]
    order: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The foreground by brightness, 0 the darkest."""
        return tuple(sorted(self.order.index(region) for region in self.foreground))


def _order(rng: np.random.Generator, n_background: int, tones: tuple[str, ...]) -> tuple[int, ...]:
    """Regions from dark to bright: the background in any order, the object as drawn from tones."""
    order = [int(i) for i in rng.permutation(n_background)]
    tone = tones[int(rng.integers(0, len(tones)))]
    if tone == "middle" and n_background > 1:
        order.insert(int(rng.integers(1, n_background)), n_background)
    else:
        order.insert(0 if tone == "dark" else n_background, n_background)
    return tuple(order)


def _layout(s: Specimen, still: np.ndarray, objects: np.ndarray, tones, name: str) -> Layout:
    """One object over a background that does not change."""
    n = int(still.max()) + 1
    regions = np.where(objects, np.uint8(n), still[None])
    names = (*(f"background {i + 1}" for i in range(n)), name)
    return Layout(regions, (n,), _order(s.rng, n, tones), names)


def _islands(s: Specimen, shares=growing, tones=("bright", "bright", "dark", "middle")) -> Layout:
    still = any_background(s.rng, s.shape, int(s.rng.integers(1, 5)))
    drawn = shares(s.rng, len(s.windows), 0.02, 0.32)
    return _layout(s, still, s.masks(islands(s.rng, s.shape), drawn), tones, "islands")


def _rods(s: Specimen) -> Layout:
    still = layers(s.rng, s.shape, int(s.rng.integers(2, 4)), "bottom")
    arrival = np.where(still > 0, rods(s.rng, still > 0), NEVER)
    objects = s.masks(arrival, growing(s.rng, len(s.windows), 0.02, 0.10))
    return _layout(s, still, objects, ("bright", "bright", "dark", "middle"), "rods")


def _front(s: Specimen) -> Layout:
    edge = ("bottom", "top", "left", "right")[int(s.rng.integers(0, 4))]
    across = {"bottom": "left", "top": "right", "left": "bottom", "right": "top"}[edge]
    n = int(s.rng.integers(2, 5))
    along = s.rng.random() < 0.5
    still = layers(s.rng, s.shape, n, edge if along else across)
    arrival = depth_from_edge(s.shape, edge) + roughness(s.rng, s.shape)
    most = 0.33
    if along:  # the electrode, nearest the edge, stays; the next layer is not used up
        arrival = np.where(still > 0, arrival, NEVER)
        most = min(most, 0.7 * float(np.mean(still == 1)))
    objects = s.masks(arrival, growing(s.rng, len(s.windows), 0.05, most))
    return _layout(s, still, objects, ("bright", "bright", "dark", "middle"), "layer")


def _dendrite(s: Specimen) -> Layout:
    rng, (height, width) = s.rng, s.shape
    centre = (1.06 * height, (0.5 + rng.uniform(-0.1, 0.1)) * width)
    radius = rng.uniform(0.25, 0.35) * min(s.shape)
    away = np.hypot(np.arange(height)[:, None] - centre[0], np.arange(width)[None] - centre[1])
    away += 1.5 * smooth_field(rng, s.shape, 5.0)
    still = np.where(away < radius, 0, 1).astype(np.uint8)
    if rng.random() < 0.5:
        still[(away >= radius) & (away < radius + rng.uniform(8, 16))] = 2
    arrival, _ = SHAPES["dendrite"](rng, still, centre, radius)
    if rng.random() < 0.5:
        still, arrival = still[::-1], arrival[::-1]
    objects = s.masks(arrival, growing(rng, len(s.windows), 0.03, 0.15))
    return _layout(s, still, objects, ("bright", "bright", "middle"), "dendrite")


def _ring(s: Specimen) -> Layout:
    n = int(s.rng.integers(1, 3))
    still = any_background(s.rng, s.shape, n)
    radius = particles(s.rng, s.shape, int(s.rng.integers(6, 20)))
    core = s.masks(radius, np.full(len(s.windows), log_uniform(s.rng, 0.03, 0.10)))
    still = np.where(core[0], np.uint8(n), still)
    shell = np.where(core[0], NEVER, radius)
    objects = s.masks(shell, growing(s.rng, len(s.windows), 0.04, 0.25))
    made = _layout(s, still, objects, ("bright", "dark", "middle"), "shell")
    return dataclasses.replace(made, names=(*made.names[:n], "core", "shell"))


def _particles(s: Specimen, shares=slow, tones=("bright",)) -> Layout:
    still = any_background(s.rng, s.shape, int(s.rng.integers(1, 4)))
    radius = particles(s.rng, s.shape, int(s.rng.integers(5, 40)))
    objects = s.masks(radius, shares(s.rng, len(s.windows), 0.02, 0.32))
    return _layout(s, still, objects, tones, "particles")


def _pores(s: Specimen) -> Layout:
    still = layers(s.rng, s.shape, int(s.rng.integers(1, 4)), "bottom")
    if s.rng.random() < 0.5:
        arrival = particles(s.rng, s.shape, int(s.rng.integers(30, 90)))
    else:
        arrival = -smooth_field(s.rng, s.shape, s.rng.uniform(3.5, 9.0))
    arrival = np.where(still == still.max(), arrival, NEVER)  # in the film only
    n = int(still.max()) + 1
    objects = s.masks(arrival, slow(s.rng, len(s.windows), 0.02, 0.6 * np.mean(still == n - 1) / 2))
    made = _layout(s, still, objects, ("dark",), "pores")
    below = [i for i in made.order if i < n - 1]
    return dataclasses.replace(
        made, order=(n, *below, n - 1), names=(*made.names[: n - 1], "film", "pores")
    )


def _film(s: Specimen) -> Layout:
    rng = s.rng
    angle, away = rng.uniform(0, np.pi), rng.uniform(-0.12, 0.12) * min(s.shape)
    rows, cols = np.arange(s.shape[0])[:, None], np.arange(s.shape[1])[None]
    across = np.cos(angle) * (rows - s.shape[0] / 2) + np.sin(angle) * (cols - s.shape[1] / 2)
    across = across - away + rng.uniform(0, 5) * smooth_field(rng, s.shape, rng.uniform(25, 45))
    upper, lower = (rng.uniform(0.4, 1.0) * roughness(rng, s.shape) for _ in range(2))
    arrival = np.where(across > 0, across + upper, -across + lower)
    bounds = [0.0, rng.uniform(0.15, 0.25) * min(s.shape)][: int(rng.integers(0, 3))]
    still = np.digitize(across, bounds).astype(np.uint8)
    grows = rng.random() < 0.4
    share = (growing if grows else slow)(rng, len(s.windows), 0.05, 0.25)
    tones = ("bright", "dark", "middle") if grows else ("bright", "dark")
    return _layout(s, still, s.masks(arrival, share), tones, "film")


def _cracks(s: Specimen) -> Layout:
    still = any_background(s.rng, s.shape, int(s.rng.integers(1, 4)))
    shares = (growing if s.rng.random() < 0.5 else slow)(s.rng, len(s.windows), 0.02, 0.06)
    return _layout(s, still, s.masks(cracks(s.rng, s.shape), shares), ("dark",), "cracks")


def _stripping(s: Specimen) -> Layout:
    kind = _islands if s.rng.random() < 0.5 else _particles
    return kind(s, shares=fading, tones=("bright", "dark"))


def _two_foregrounds(s: Specimen) -> Layout:
    n = int(s.rng.integers(1, 4))
    still = any_background(s.rng, s.shape, n)
    one = s.rng.random() < 0.5
    arrival = islands(s.rng, s.shape) if one else particles(s.rng, s.shape, 15)
    shares = (growing if s.rng.random() < 0.5 else slow)(s.rng, len(s.windows), 0.06, 0.32)
    regions = np.where(s.masks(arrival, shares), np.uint8(n + 1), still[None])
    regions[s.masks(arrival, shares * s.rng.uniform(0.35, 0.65))] = n
    names = (*(f"background {i + 1}" for i in range(n)), "core", "rim")
    return Layout(regions, (n, n + 1), (*(int(i) for i in s.rng.permutation(n)), n, n + 1), names)


def _halo(s: Specimen) -> Layout:
    n = int(s.rng.integers(1, 3))
    still = any_background(s.rng, s.shape, n)
    radius = particles(s.rng, s.shape, int(s.rng.integers(5, 25)))
    cell = s.thresholds(radius, slow(s.rng, len(s.windows), 0.03, 0.20))[:, None, None]
    regions = np.where(radius < cell * s.rng.uniform(1.2, 1.5), np.uint8(n + 1), still[None])
    regions = np.where(radius <= cell, np.uint8(n), regions)
    names = (*(f"background {i + 1}" for i in range(n)), "cell", "halo")
    return Layout(regions, (n,), (n, *(int(i) for i in s.rng.permutation(n)), n + 1), names)


LAYOUTS: dict[str, Callable[[Specimen], Layout]] = {
    "islands": _islands,
    "rods": _rods,
    "front": _front,
    "dendrite": _dendrite,
    "ring": _ring,
    "bright_particles": _particles,
    "dark_particles": lambda s: _particles(s, tones=("dark",)),
    "pores": _pores,
    "film": _film,
    "cracks": _cracks,
    "late_birth": lambda s: _islands(s, shares=late),
    "stripping": _stripping,
    "two_foregrounds": _two_foregrounds,
    "halo": _halo,
}
