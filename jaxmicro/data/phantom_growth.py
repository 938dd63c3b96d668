"""Shapes of growing deposits: when each pixel of a frame joins the deposit, and when it leaves.

Every shape returns two (y, x) maps, so that a whole movie is a comparison per frame:
`arrival`, growth time in [0, 1] (inf where nothing ever grows), and `persistence`, whose order
is the order of stripping (low leaves first; what is left at the end are the dead islands).
`still` is the frame before any growth: 0 electrode, 1 electrolyte, 2 interphase; the electrode
is half a disc of `radius` around `centre` (row, column).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Maps = tuple[np.ndarray, np.ndarray]


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length: float) -> np.ndarray:
    """(y, x) Gaussian random field, mean 0, sd 1, correlated over `length` pixels (periodic)."""
    ky = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.rfftfreq(shape[1])[None, :]
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    spectrum *= np.exp(-2.0 * (np.pi * length) ** 2 * (ky**2 + kx**2))
    field = np.fft.irfft2(spectrum, s=shape)
    return (field - field.mean()) / field.std()


class Canvas:
    """Arrival times and local thickness, painted disc by disc; the earliest arrival wins."""

    def __init__(self, shape: tuple[int, int]):
        self.arrival = np.full(shape, np.inf)
        self.depth = np.zeros(shape)

    def disc(self, y: float, x: float, birth: float, core: float, radius: float, delay: float):
        """A disc that is `core` pixels in radius at `birth` and `radius` after `delay` more."""
        height, width = self.arrival.shape
        y0, y1 = max(0, int(y - radius)), min(height, int(y + radius) + 2)
        x0, x1 = max(0, int(x - radius)), min(width, int(x + radius) + 2)
        if y0 >= y1 or x0 >= x1:
            return
        window = np.s_[y0:y1, x0:x1]
        distance = np.hypot(np.arange(y0, y1)[:, None] - y, np.arange(x0, x1)[None, :] - x)
        wait = np.clip((distance - core) / max(radius - core, 1e-6), 0.0, 1.0)
        time = np.where(distance <= radius, birth + delay * wait, np.inf)
        np.minimum(self.arrival[window], time, out=self.arrival[window])
        np.maximum(self.depth[window], radius - distance, out=self.depth[window])

    def finish(self, allowed: np.ndarray) -> np.ndarray:
        """Arrival in [0, 1] inside `allowed`, inf elsewhere."""
        arrival = np.where(allowed, self.arrival, np.inf)
        grown = np.isfinite(arrival)
        arrival[grown] -= arrival[grown].min()
        arrival[grown] /= max(arrival[grown].max(), 1e-12)
        return arrival


def dendrite(rng: np.random.Generator, still: np.ndarray, centre, radius: float) -> Maps:
    """Branching arms that start on the electrode's rim: trunks, side arms, twigs."""
    shape, outside = still.shape, still > 0
    unit = min(shape) / 512.0
    canvas = Canvas(shape)
    n_trunks = int(rng.integers(7, 10))
    angles = np.linspace(0.12, 0.88, n_trunks) * np.pi
    angles += rng.uniform(-0.35, 0.35, n_trunks) * np.pi * 0.76 / n_trunks
    for angle in angles:
        start = (centre[0] - radius * np.sin(angle), centre[1] + radius * np.cos(angle))
        length = rng.uniform(120, 270) * unit
        _grow(rng, canvas, outside, Arm(start, angle, length, rng.uniform(5.0, 8.0) * unit))
    arrival = canvas.finish(outside)
    # thick places outlast thin ones, so arms break at their necks and leave islands
    thickness = canvas.depth / max(canvas.depth.max(), 1e-12)
    persistence = smooth_field(rng, shape, 9.0 * unit) + 1.5 * thickness
    return arrival, persistence


class Arm(NamedTuple):
    """Where an arm starts, and how it grows; `order` 0 is a trunk, 1 a side arm, 2 a twig."""

    start: tuple[float, float]
    angle: float
    length: float
    width: float
    birth: float = 0.0
    order: int = 0


def _grow(rng: np.random.Generator, canvas: Canvas, outside: np.ndarray, arm: Arm) -> None:
    """One arm as a persistent random walk of 1-pixel steps that tapers and throws side arms."""
    unit = min(outside.shape) / 512.0
    y, x = arm.start
    angle, side = arm.angle, 1.0 if rng.random() < 0.5 else -1.0
    pixels_a_birth = 300.0 * unit  # the tip advances this far in one unit of growth time
    since_branch = 0.0
    tip = max(1.2 * unit, 0.6)
    for step in range(max(2, round(arm.length))):
        along = min(1.0, step / arm.length)
        local = max(tip, arm.width * (1.0 - along) ** 0.7)
        now = arm.birth + step / pixels_a_birth
        canvas.disc(y, x, now, tip, local, 0.5)
        since_branch += 1.0
        due = arm.order < 2 and since_branch > 9.0 * unit and along > 0.06
        if due and rng.random() < 0.09 / unit:
            spread = side * np.radians(rng.uniform(38, 68))
            rest = arm.length * (1.0 - along) * rng.uniform(0.3, 0.65)
            if rest > 6.0 * unit:
                twig = Arm((y, x), angle + spread, rest, 0.72 * local, now, arm.order + 1)
                _grow(rng, canvas, outside, twig)
            side, since_branch = -side, 0.0
        if rng.random() < 0.02 / unit:  # the kinks of lithium needles
            angle += np.radians(rng.uniform(-32, 32))
        angle += 0.05 * rng.standard_normal() + 0.03 * (arm.angle - angle)
        y, x = y - np.sin(angle), x + np.cos(angle)
        row, col = round(y), round(x)
        if not (0 <= row < outside.shape[0] and 0 <= col < outside.shape[1]):
            return
        if not outside[row, col] and step > 4.0:
            return


def rods(rng: np.random.Generator, still: np.ndarray, centre, radius: float) -> Maps:
    """Straight rods 2 to 4 pixels wide, whatever the frame, that lengthen one after another."""
    shape = still.shape
    canvas = Canvas(shape)
    order = np.zeros(shape)
    for _ in range(max(6, round(0.00022 * shape[0] * shape[1]))):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.08, 0.25) * min(shape)
        half, birth, stay = rng.uniform(1.0, 2.0), rng.uniform(0, 0.6), rng.uniform(0, 1)
        fresh = Canvas(shape)
        for s in np.arange(0.0, length, 0.5):
            at = (y - s * np.sin(angle), x + s * np.cos(angle))
            fresh.disc(*at, birth + 0.4 * s / length, half, half, 0.0)
        new = fresh.arrival < canvas.arrival
        order[new] = stay - 0.3 * fresh.arrival[new]  # rods strip from their tips
        np.minimum(canvas.arrival, fresh.arrival, out=canvas.arrival)
    return canvas.finish(still > 0), order


def islands(rng: np.random.Generator, still: np.ndarray, centre, radius: float) -> Maps:
    """Separate round islands that nucleate at random places and thicken; small ones go first."""
    shape = still.shape
    unit = min(shape) / 512.0
    canvas = Canvas(shape)
    for _ in range(45):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        final = max(2.0, rng.uniform(5.0, 24.0) * unit)
        birth = rng.uniform(0.0, 0.5)
        canvas.disc(y, x, birth, 0.0, final, 1.0 - birth)
    # no island strips quite evenly
    persistence = canvas.depth / unit + 2.0 * smooth_field(rng, shape, 14.0 * unit)
    return canvas.finish(still > 0), persistence


def front(rng: np.random.Generator, still: np.ndarray, centre, radius: float) -> Maps:
    """A layer with a wavy edge that advances from the interphase and then retreats to it."""
    shape = still.shape
    unit = min(shape) / 512.0
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    height = np.hypot(rows - centre[0], cols - centre[1]) - radius
    edge = height + 14.0 * unit * smooth_field(rng, shape, 22.0 * unit)
    reach = 0.3 * min(shape)
    arrival = np.where((still == 1) & (edge < reach), np.maximum(edge, 0.0) / reach, np.inf)
    retreat = -(height + 14.0 * unit * smooth_field(rng, shape, 22.0 * unit))
    return arrival, retreat


SHAPES = {"dendrite": dendrite, "rods": rods, "islands": islands, "front": front}
