"""From a movie to the pixels the statistics see: scan patterns, gathered arrays, padding."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmicro.arguments import expect, refuse_traced, whole
from jaxmicro.data.movie import Movie
from jaxmicro.errors import DataError, UsageError

PATTERNS = ("random", "stratified", "lines")
MIN_PIXELS = 50  # fewer visited pixels a frame than this cannot carry a mixture


class Pixels(eqx.Module):
    """The visited pixels of a movie, gathered: a 1 % sample costs 1 % of the work.

    Leading batch axes are (frames,) or (frames, replicates). Where every frame was visited at the
    same places, `rows`, `cols` and `weight` have the one axis n and are shared.

    Attributes:
      values: grey values.
      rows, cols: integer pixel coordinates within the frame.
      weight: 1 for a visited pixel, 0 for padding.
      n_domain: number of pixels of the frame that the sample stands for, per frame.
      shape: (rows, columns) of the frame.
      pattern: how the places were chosen, which decides the standard error of an area.
    """

    values: Float[Array, "*batch n"]
    rows: Int[Array, "*#batch n"]
    cols: Int[Array, "*#batch n"]
    weight: Float[Array, "*#batch n"]
    n_domain: Float[Array, "*frames"]
    shape: tuple[int, int] = eqx.field(static=True)
    pattern: str = eqx.field(static=True, default="random")

    @property
    def n_frames(self) -> int:
        return self.values.shape[0]

    @property
    def n_pixels(self) -> Float[Array, "*batch"]:
        """Visited pixels per frame (and replicate), padding not counted."""
        count = jnp.sum(self.weight, axis=-1)
        return jnp.broadcast_to(count, self.values.shape[:-1])

    @property
    def shared(self) -> bool:
        """Whether all frames (and replicates) were visited at the same places."""
        return self.rows.ndim < self.values.ndim

    def __getitem__(self, frames: slice | int | Sequence[int] | np.ndarray) -> Pixels:
        """The pixels of some frames, as a slice or a list of frame numbers picks them."""
        if isinstance(frames, int):
            raise UsageError(f"pixels[{frames}] would lose the frame axis; use .at({frames})")
        pick = frames if isinstance(frames, slice) else np.asarray(frames)
        return self._with_places(pick)

    def at(self, frame: int) -> Pixels:
        """One frame without the frame axis; places and weights are always its own."""
        return self._with_places(frame)

    def replicate(self, number: int) -> Pixels:
        """One replicate of pixels with batch axes (frames, replicates)."""
        rows, cols, weight = (
            a[:, number] if a.ndim == 3 else a for a in (self.rows, self.cols, self.weight)
        )
        values = self.values[:, number]
        return Pixels(values, rows, cols, weight, self.n_domain, self.shape, self.pattern)

    def _with_places(self, pick: Any) -> Pixels:
        places = (self.rows, self.cols, self.weight)
        rows, cols, weight = (a if self.shared else a[pick] for a in places)
        domain = self.n_domain[pick]
        return Pixels(self.values[pick], rows, cols, weight, domain, self.shape, self.pattern)

    def __repr__(self) -> str:
        batch = " x ".join(str(s) for s in self.values.shape[:-1])
        return (
            f"Pixels({batch} frames of {self.shape[0]} x {self.shape[1]}, "
            f"{self.values.shape[-1]} visited each, {self.pattern})"
        )


def sample(
    key: jax.Array | int | None,
    movie: Movie,
    rate: float | None = None,
    pattern: str = "random",
    replicates: int | None = None,
    done: Callable[[int], None] | None = None,
) -> Pixels:
    """Visit a share of each frame's usable pixels.

    Args:
      key: JAX PRNG key, or a whole number as a seed; may be None where nothing is drawn (rate None
        or 1).
      movie: pixels that are excluded, not visited or not finite are never drawn.
      rate: share of a frame's usable pixels to visit; None or 1 takes them all.
      pattern: "random" visits exactly round(rate * n) distinct pixels; "stratified" one pixel in
        each of round(rate * n) compact blocks of equal size; "lines" hops along scan lines, one
        line in each band of about 1/rate rows, every column once (line-hop, Kovarik et al. 2016).
      replicates: number of independent samplings; adds a second batch axis.
      done: called with 1 after each frame, for a progress bar.

    Returns:
      `Pixels` with batch axes (frames,) or (frames, replicates).

    Raises:
      UsageError: rate outside (0, 1], unknown pattern, fewer than 50 pixels a frame.
      DataError: the movie itself has a frame with fewer than 50 usable pixels.
    """
    _check_kinds(key, movie)
    _check(rate, pattern, replicates)
    everything = rate is None or rate == 1.0
    if not everything and key is None:
        raise UsageError("sampling below rate 1 draws pixels: give a PRNG key or a seed")
    key = None if key is None else as_key(key)
    rng = None if key is None else np.random.default_rng(np.asarray(jax.random.key_data(key)))
    n_rep = 1 if replicates is None else replicates
    picks: list[list[np.ndarray]] = []
    values: list[list[np.ndarray]] = []
    domain = np.zeros(movie.n_frames)
    shared = everything
    for t in range(movie.n_frames):
        frame = movie.frame(t)
        usable = movie.usable(t, frame)
        domain[t] = np.count_nonzero(movie.domain(t))
        spots = _usable_spots(usable, t)
        if everything:
            frame_picks = [spots] * n_rep
        else:
            assert rate is not None
            assert rng is not None
            frame_picks = _draw_replicates(rng, usable, rate, pattern, n_rep, t)
        shared = shared and (t == 0 or np.array_equal(spots, picks[0][0]))
        picks.append([picks[0][0]] * n_rep if shared and t else frame_picks)
        flat = frame.ravel()
        values.append([flat[p] for p in frame_picks])
        if done is not None:
            done(1)
    pixels = _gathered(picks, values, domain, movie.shape[1:], pattern, shared)
    return pixels if replicates is not None else _drop_replicates(pixels)


def _check_kinds(key: Any, movie: Any) -> None:
    refuse_traced(key, "sample", "it reads the movie; sample outside, and pass the Pixels in")
    if isinstance(key, Movie):
        raise UsageError("sample: the seed comes first; use sample(0, movie, rate=0.1)")
    expect(movie, Movie, "sample: movie")


def as_key(key: Any) -> jax.Array:
    """A JAX PRNG key, from one or from a whole number as a seed; UsageError for anything else."""
    if isinstance(key, jax.Array):
        return key
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return jax.random.key(int(key))
    raise UsageError(
        f"key = {key!r} is not allowed; give a whole number as a seed, such as 0, or "
        "jax.random.key(0)"
    )


def _check(rate: float | None, pattern: str, replicates: int | None) -> None:
    if pattern not in PATTERNS:
        raise UsageError(f"pattern {pattern!r} is not known; use one of {', '.join(PATTERNS)}")
    known = rate is None or (isinstance(rate, numbers.Real) and not isinstance(rate, bool))
    if not known or (rate is not None and not 0.0 < rate <= 1.0):
        percent = known and rate is not None and 1 < rate <= 100
        meant = f"; for {rate:g} % give {rate / 100:g}" if percent and rate is not None else ""
        raise UsageError(
            f"rate {rate:g} is not allowed; it is the share of pixels visited: "
            f"use a number above 0 and up to 1{meant}"
            if known
            else f"rate {rate!r} is not a number; it is the share of pixels visited, such as 0.1"
        )
    if replicates is not None:
        whole(replicates, "replicates", 1)


def _usable_spots(usable: np.ndarray, t: int) -> np.ndarray:
    """Flat indices of the usable pixels of frame `t`; too few are refused."""
    spots = np.flatnonzero(usable)
    if spots.size < MIN_PIXELS:
        raise DataError(
            f"frame {t} has {spots.size} usable pixels (finite, visited, not excluded) and "
            f"at least {MIN_PIXELS} are needed; leave the frame out with --frames or check "
            "the mask and the missing value"
        )
    return spots


def _draw_replicates(
    rng: np.random.Generator, usable: np.ndarray, rate: float, pattern: str, n_rep: int, t: int
) -> list[np.ndarray]:
    """Visited pixels of frame `t`, drawn anew for each replicate; too few are refused."""
    spots = np.flatnonzero(usable)
    if round(rate * spots.size) < MIN_PIXELS:
        raise UsageError(
            f"rate {rate:g} leaves {round(rate * spots.size)} of {spots.size} pixels in "
            f"frame {t} and at least {MIN_PIXELS} are needed; use --rate "
            f"{MIN_PIXELS / spots.size:.2g} or more"
        )
    picks = [_draw(rng, usable, spots, rate, pattern) for _ in range(n_rep)]
    fewest = min(p.size for p in picks)
    if fewest < MIN_PIXELS:  # lines that cross few usable pixels
        raise UsageError(
            f"pattern {pattern!r} at rate {rate:g} met {fewest} usable pixels in frame {t} "
            f"and at least {MIN_PIXELS} are needed; use a higher --rate or "
            "--pattern stratified"
        )
    return picks


def _draw(
    rng: np.random.Generator, usable: np.ndarray, spots: np.ndarray, rate: float, pattern: str
) -> np.ndarray:
    """Flat indices of the visited pixels of one frame, sorted."""
    count = round(rate * spots.size)
    width = usable.shape[1]
    if pattern == "random":
        return np.sort(spots[rng.choice(spots.size, count, replace=False, shuffle=False)])
    if pattern == "stratified":
        # Blocks are runs of equal length along bands of about sqrt(1/rate) rows, taken column by
        # column: compact, of equal size whatever the frame's size, and defined for any mask.
        band = max(1, round(rate**-0.5))
        rows, cols = np.divmod(spots, width)
        order = np.lexsort((rows, cols, rows // band))
        edges = _blocks(rng, spots.size, count)
        place = edges[:-1] + np.floor(rng.random(count) * np.diff(edges)).astype(np.int64)
        return spots[order[place % spots.size]]  # in block order
    height = usable.shape[0]
    edges = _blocks(rng, height, max(1, round(rate * height)))
    # A random walk folded back at the band's edges keeps every row of the band equally likely.
    tall = np.diff(edges)[:, None]
    walk = rng.integers(0, 2 * tall, (tall.size, 1)) + np.cumsum(
        rng.integers(-1, 2, (tall.size, width)), axis=1
    )
    walk %= 2 * tall
    row = (edges[:-1, None] + np.where(walk < tall, walk, 2 * tall - 1 - walk)) % height
    flat = (row * width + np.arange(width)[None, :]).ravel()
    return flat[usable.ravel()[flat]]


def _blocks(rng: np.random.Generator, length: int, count: int) -> np.ndarray:
    """Edges of `count` blocks around a ring of `length` places, sizes equal to within one.

    The random turn of the ring makes every place equally likely to be drawn, whether or not
    `count` divides `length`.
    """
    turn = rng.random() * length / count if length % count else 0.0
    return np.ceil(np.arange(count + 1) * length / count + turn).astype(np.int64)


def _gathered(
    picks: list[list[np.ndarray]],
    values: list[list[np.ndarray]],
    domain: np.ndarray,
    shape: tuple[int, int],
    pattern: str,
    shared: bool,
) -> Pixels:
    """Stack ragged picks into padded arrays (frames, replicates, n)."""
    width = max(p.size for frame in picks for p in frame)
    n_rep = len(picks[0])
    z = np.zeros((len(picks), n_rep, width), values[0][0].dtype)
    for t, frame_values in enumerate(values):
        for b, v in enumerate(frame_values):
            z[t, b, : v.size] = v
    if shared:
        where, weight = picks[0][0].astype(np.int32), np.ones(width, np.float32)
    else:
        where = np.zeros(z.shape, np.int32)
        weight = np.zeros(z.shape, np.float32)
        for t, frame in enumerate(picks):
            for b, p in enumerate(frame):
                where[t, b, : p.size] = p
                weight[t, b, : p.size] = 1
    rows, cols = np.divmod(where, np.int32(shape[1]))
    return Pixels(
        jnp.asarray(z),
        jnp.asarray(rows),
        jnp.asarray(cols),
        jnp.asarray(weight),
        jnp.asarray(domain.astype(np.float32)),
        (int(shape[0]), int(shape[1])),
        pattern,
    )


def _drop_replicates(pixels: Pixels) -> Pixels:
    def first(a: Array) -> Array:
        return a[:, 0] if a.ndim == 3 else a

    return Pixels(
        pixels.values[:, 0],
        first(pixels.rows),
        first(pixels.cols),
        first(pixels.weight),
        pixels.n_domain,
        pixels.shape,
        pixels.pattern,
    )
