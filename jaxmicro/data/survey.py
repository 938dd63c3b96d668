"""One pass over a movie before any statistics: what cannot be used, and what to warn about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxmicro.data.movie import Movie
from jaxmicro.errors import DataError

_MANY = 64  # distinct values are counted up to here; no model has more classes


@dataclasses.dataclass(frozen=True)
class Survey:
    """Figures of a movie's usable region; arrays are (t,).

    `n_nonfinite` counts NaN and infinite pixels that no mask and no missing value explains.
    `n_distinct` counts distinct values over the movie, up to 64.
    """

    n_usable: np.ndarray
    n_nonfinite: np.ndarray
    n_saturated: np.ndarray
    n_distinct: int

    @property
    def warnings(self) -> tuple[str, ...]:
        out = []
        bad = int(self.n_nonfinite.sum())
        if bad:
            frames = int(np.count_nonzero(self.n_nonfinite))
            out.append(f"{bad} NaN or infinite pixels in {frames} frame(s) were left out")
        share = self.n_saturated / np.maximum(self.n_usable, 1)
        if np.any(share > 0.02):
            t = int(np.argmax(share))
            out.append(
                f"up to {100 * share[t]:.0f} % of a frame (frame {t}) is saturated: "
                "the class means there are too low"
            )
        return tuple(out)


def survey(
    movie: Movie, n_classes: int | None = None, done: Callable[[int], None] | None = None
) -> Survey:
    """Look at every frame once; `done` is called with 1 after each.

    Raises:
      DataError: a frame without a single usable pixel, a constant frame, a frame that is
        saturated everywhere, or a movie with fewer distinct values than `n_classes`.
    """
    usable, nonfinite, saturated = (np.zeros(movie.n_frames, np.int64) for _ in range(3))
    distinct: np.ndarray = np.zeros(0, np.float32)
    for t, frame in enumerate(movie):
        inside = movie.domain(t)
        if movie.sampled is not None:
            inside = inside & (movie.sampled if movie.sampled.ndim == 2 else movie.sampled[t])
        values = frame[inside & np.isfinite(frame)]
        usable[t] = values.size
        raw_gaps = (
            0
            if movie.missing is None
            else np.count_nonzero(np.asarray(movie.images[t])[inside] == movie.missing)
        )
        nonfinite[t] = np.count_nonzero(inside) - values.size - raw_gaps
        where = f"frame {t} of {movie.name}"
        advice = "leave it out with --frames, or check --crop and --exclude"
        if not values.size:
            raise DataError(f"{where} has no usable pixel; {advice}")
        low, high = float(values.min()), float(values.max())
        if movie.saturation is not None:
            saturated[t] = np.count_nonzero(values >= movie.saturation)
            if saturated[t] == values.size:
                raise DataError(f"{where} is saturated everywhere ({high:g}); {advice}")
        if low == high:
            raise DataError(f"{where} is constant (every pixel is {low:g}); {advice}")
        if distinct.size < _MANY:
            distinct = np.union1d(distinct, np.unique(values)[: 4 * _MANY])
        if done is not None:
            done(1)
    if n_classes is not None and n_classes > distinct.size:
        raise DataError(
            f"{movie.name} holds {distinct.size} distinct grey values, too few for "
            f"{n_classes} classes; use a model with at most {distinct.size}"
        )
    return Survey(usable, nonfinite, saturated, min(int(distinct.size), _MANY))
