"""Parts of the scenes of `zoo`: shares of an object over time, backgrounds, arrival maps.

An arrival map is (rows, columns), low where the object is first.
"""

from __future__ import annotations

import numpy as np

from jaxmicro.data.phantom_growth import Canvas, smooth_field


def log_uniform(rng: np.random.Generator, low: float, high: float, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def growing(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """(n,) shares that grow from a few per cent of the last one, which is between the limits."""
    last = log_uniform(rng, low, high)
    start, power = rng.uniform(0.02, 0.2), rng.uniform(0.7, 1.6)
    return last * (start + (1 - start) * np.linspace(0, 1, n) ** power)


def slow(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """(n,) shares that grow or shrink by up to a third over the movie."""
    return log_uniform(rng, low, high) * np.linspace(rng.uniform(0.67, 1.33), 1.0, n)


def late(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """(n,) shares: nothing in the first frames, then growth."""
    empty = max(1, n // 2 - int(rng.integers(0, 2)))
    rest = log_uniform(rng, low, high) * np.linspace(rng.uniform(0.1, 0.4), 1.0, n - empty)
    return np.concatenate([np.zeros(empty), rest])


def fading(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """(n,) shares that fall to nothing in the last frame."""
    return log_uniform(rng, low, high) * np.linspace(1.0, 0.0, n) ** rng.uniform(0.7, 1.5)


def layers(rng: np.random.Generator, shape: tuple[int, int], n: int, edge: str) -> np.ndarray:
    """(rows, columns) uint8 of `n` layers with wavy interfaces; 0 lies along `edge`."""
    depth = depth_from_edge(shape, edge) / depth_from_edge(shape, edge).max()
    thick = rng.uniform(0.5, 1.5, n)
    bounds = np.cumsum(thick / thick.sum())[:-1]
    wave = rng.uniform(0.005, 0.03) * smooth_field(rng, shape, rng.uniform(12, 35))
    return np.digitize(depth + wave, bounds).astype(np.uint8)


def grains(rng: np.random.Generator, shape: tuple[int, int], n: int) -> np.ndarray:
    """(rows, columns) uint8: polycrystal of cells, each of one of `n` kinds."""
    count = int(rng.integers(3 * n, 6 * n))
    return (np.argmin(distances(rng, shape, count), axis=0) % n).astype(np.uint8)


def contours(rng: np.random.Generator, shape: tuple[int, int], n: int) -> np.ndarray:
    """(rows, columns) uint8: steps of thickness, cut from a smooth field."""
    field = smooth_field(rng, shape, rng.uniform(20, 45))
    thick = rng.uniform(0.5, 1.5, n)
    bounds = np.quantile(field, np.cumsum(thick / thick.sum())[:-1])
    return np.digitize(field, bounds).astype(np.uint8)


def any_background(rng: np.random.Generator, shape: tuple[int, int], n: int) -> np.ndarray:
    kind = rng.integers(0, 3)
    if kind == 0:
        return layers(rng, shape, n, "bottom")
    return grains(rng, shape, n) if kind == 1 else contours(rng, shape, n)


def depth_from_edge(shape: tuple[int, int], edge: str) -> np.ndarray:
    """(rows, columns) distance in pixels from the bottom, top, left or right edge."""
    rows, cols = np.indices(shape, dtype=float)
    ahead = {"top": rows, "left": cols, "bottom": shape[0] - 1 - rows, "right": shape[1] - 1 - cols}
    return ahead[edge]


def roughness(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(rows, columns) displacement in pixels of a rough edge: fine, middle and coarse."""
    amount = rng.uniform(0.5, 1.5)
    fine, middle, coarse = (smooth_field(rng, shape, length) for length in (2.5, 8.0, 25.0))
    return amount * (0.8 * fine + 2.0 * middle + 4.0 * coarse)


def distances(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """(count, rows, columns) distance in pixels from places drawn evenly."""
    y, x = rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count)
    rows, cols = np.arange(shape[0])[None, :, None], np.arange(shape[1])[None, None]
    return np.hypot(rows - y[:, None, None], cols - x[:, None, None])


def islands(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Islands that nucleate one after another and grow at speeds of their own."""
    count = int(rng.integers(8, 50))
    spacing = np.sqrt(shape[0] * shape[1] / count)
    birth = rng.uniform(0, 0.5 * spacing, count)[:, None, None]
    speed = rng.uniform(0.6, 1.4, count)[:, None, None]
    arrival = np.min(birth + distances(rng, shape, count) / speed, axis=0)
    return arrival + 0.06 * spacing * smooth_field(rng, shape, rng.uniform(3.0, 8.0))


def particles(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Distance from the centre of the nearest ellipse in units of its radius, bumpy."""
    rows, cols = np.indices(shape, dtype=float)
    out = np.full(shape, np.inf)
    for _ in range(count):
        y, x, angle = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(0, np.pi)
        radius, flat = rng.uniform(0.5, 1.5), rng.uniform(1.0, 1.5)
        u = np.cos(angle) * (rows - y) + np.sin(angle) * (cols - x)
        v = np.cos(angle) * (cols - x) - np.sin(angle) * (rows - y)
        out = np.minimum(out, np.hypot(u * flat, v / flat) / radius)
    bumps = smooth_field(rng, shape, 0.25 * np.sqrt(shape[0] * shape[1] / count))
    return out * np.clip(1 + rng.uniform(0.03, 0.12) * bumps, 0.5, 1.5)


def rods(rng: np.random.Generator, free: np.ndarray) -> np.ndarray:
    """Straight rods, 2 to 4 pixels wide, that grow from the lower rim of `free` or from a rod."""
    canvas = Canvas(free.shape)
    rim = free.shape[0] - 1 - np.argmax(free[::-1], axis=0)  # lowest free row of each column
    roots = [(float(rim[c]), float(c)) for c in rng.integers(0, free.shape[1], 45)]
    for i in range(90):
        y, x = roots[int(rng.integers(0, len(roots)))]
        angle, length = rng.uniform(0.12, 0.88) * np.pi, rng.uniform(0.12, 0.45) * min(free.shape)
        half, birth = rng.uniform(1.0, 2.0), i / 90 * rng.uniform(0.3, 1.0)
        for s in np.arange(0.0, length, 0.5):
            place = (y - s * np.sin(angle), x + s * np.cos(angle))
            canvas.disc(*place, birth + 0.4 * s / length, half, half, 0.0)
        if i % 3 == 0:
            s = rng.uniform(0.3, 0.8) * length
            roots.append((y - s * np.sin(angle), x + s * np.cos(angle)))
    return canvas.arrival


def cracks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Cracks, 1.5 to 3.5 pixels wide, that run with kinks and open behind their tips."""
    canvas = Canvas(shape)
    starts = [(*_on_the_rim(rng, shape), 0.0) for _ in range(6)]
    for i in range(18):
        y, x, birth = starts[i % len(starts)] if i < 6 else starts[int(rng.integers(len(starts)))]
        towards = rng.uniform(0.25, 0.75, 2) * shape
        angle = np.arctan2(towards[0] - y, towards[1] - x) + (i >= 6) * rng.uniform(-1.3, 1.3)
        half, length = rng.uniform(0.75, 1.75), rng.uniform(0.4, 0.9) * max(shape)
        for step in range(int(length)):
            canvas.disc(y, x, birth + step, min(half, 0.75), half, 60.0)
            angle += 0.04 * rng.standard_normal()
            if rng.random() < 0.04:
                angle += rng.uniform(-0.7, 0.7)
            if rng.random() < 0.01:
                starts.append((y, x, birth + step))
            y, x = y + np.sin(angle), x + np.cos(angle)
            if not (0 <= y < shape[0] and 0 <= x < shape[1]):
                break
    return canvas.arrival


def _on_the_rim(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[float, float]:
    place, side = rng.random(), int(rng.integers(0, 4))
    y, x = ((place, 0.0), (place, 1.0), (0.0, place), (1.0, place))[side]
    return y * (shape[0] - 1), x * (shape[1] - 1)
