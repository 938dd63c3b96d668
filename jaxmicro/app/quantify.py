"""The main job: movie -> sample -> fit -> partition -> correct -> estimate, one call each."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.app.spec import Variant
from jaxmicro.data.movie import Box, Movie
from jaxmicro.data.read import read_mask
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import NumericalError
from jaxmicro.growth.analyse import visit
from jaxmicro.growth.estimate import Growth, estimate
from jaxmicro.growth.partition import Partition, partition
from jaxmicro.growth.usable import usable
from jaxmicro.mixture.criteria import choose_classes
from jaxmicro.mixture.ecm import Fit, Progress, Result, fit
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.mixture.trend import Trend
from jaxmicro.spacetime.correct import Vote, vote
from jaxmicro.spacetime.dense import dense_maps, entropy_bits
from jaxmicro.spacetime.local import Local, LocalFit, fit_local

DEFAULT_TREND = "x + y"
DEFAULT_CLASSES = (2, 3, 4, 5)
UNSEEN, BACKGROUND, FOREGROUND = 0, 127, 255  # greys of labels.tif


@dataclasses.dataclass(frozen=True)
class Quantified:
    """Everything a run found; `app.files` writes it and `app.report` shows it.

    `foreground` is (frames, n) bool, one entry per visited pixel, after correction;
    `changed` and `alone` count pixels per frame that the vote changed or found no neighbour for.
    """

    movie: Movie
    variant: Variant
    model: GMRM
    pixels: Pixels
    fit: Fit
    partition: Partition
    foreground: np.ndarray
    growth: Growth
    changed: np.ndarray | None
    alone: np.ndarray | None
    rate: float | None
    notes: tuple[str, ...]
    local: LocalFit | None = None

    @property
    def results(self) -> list[str]:
        return [Result(int(r)).name for r in np.asarray(self.fit.result)]

    @property
    def failure(self) -> str | None:
        """Why no frame has an area that may be used, or None where one has."""
        if self.growth.usable is None or np.any(self.growth.usable == "yes"):
            return None
        codes, counts = np.unique(np.asarray(self.fit.result), return_counts=True)
        most = Result(int(codes[np.argmax(counts)]))
        return f"no frame has an area that may be used ({most.name}). {most.sentence}"

    def labels(self, t: int) -> np.ndarray:
        """Frame `t` as (y, x) uint8: 0 not visited, 127 background, 255 foreground."""
        frame = self.pixels.at(t)
        rows, cols, weight = (np.asarray(a) for a in (frame.rows, frame.cols, frame.weight))
        out = np.full(self.pixels.shape, UNSEEN, np.uint8)
        seen = weight > 0
        out[rows[seen], cols[seen]] = np.where(self.foreground[t][seen], FOREGROUND, BACKGROUND)
        return out

    def dense_labels(self) -> Iterator[np.ndarray]:
        """Frames as (2, y, x) uint8: 255 foreground by the dense map, and its entropy.

        An estimate wherever nothing was visited; entropy 255 is 1 bit: it could be either.
        """
        settings = self.variant.neighbours or Local()
        if self.local is None:
            responsibilities = self.model.responsibilities(self.fit.params, self.pixels)
            strength = 1.0
        else:
            responsibilities, strength = self.local.responsibilities, float(self.local.interaction)
        maps = dense_maps(
            responsibilities, self.pixels, self.fit.params.weights, settings, strength
        )
        for frame in maps:
            chance = frame[list(self.partition.foreground)].sum(axis=0)
            labels = np.where(chance > 0.5, FOREGROUND, BACKGROUND)
            entropy = np.rint(255 * entropy_bits(chance))
            yield np.stack([labels, entropy]).astype(np.uint8)


def narrow(
    movie: Movie,
    *,
    frames: tuple[int, int] | None = None,
    crop: Box | None = None,
    exclude: Sequence[Box] = (),
    mask: str | pathlib.Path | None = None,
    missing: float | None = None,
) -> Movie:
    """The part of the movie to work on; `exclude` boxes are in the coordinates of the crop."""
    if mask is not None:
        movie = movie.replace(sampled=read_mask(mask, movie.shape))
    if missing is not None:
        movie = movie.replace(missing=missing)
    if frames is not None:
        movie = movie.select_frames(*frames)
    if crop is not None:
        movie = movie.crop(crop)
    return movie.exclude(exclude)


def quantify(
    movie: Movie,
    variant: Variant | None = None,
    *,
    rate: float | None = None,
    pattern: str = "random",
    seed: int = 0,
    thickness_um: float | None = None,
    baseline: bool = False,
    stages: Stages | None = None,
) -> Quantified:
    """Fit the movie and measure its foreground, frame by frame.

    Args:
      movie: see `narrow` for crops and masks.
      variant: the model; default is classes and sds shared by all frames, trend x + y, and the
        number of classes from 2 to 5 by BIC.
      rate, pattern, seed: how to sub-sample; rate None uses every visited pixel.
      thickness_um: thickness along the beam, for volumes.
      baseline: subtract the first frame's area.

    Raises:
      UsageError, DataError: see `visit` and `partition`.
      NumericalError: no frame could be fitted, or the first frame's area is to be subtracted and
        may not be used.
    """
    stages = stages or Stages()
    n_classes = None if variant is None else variant.mixture.classes
    visited = visit(
        movie, rate=rate, pattern=pattern, seed=seed, n_classes=n_classes, stage=stages.stage
    )
    pixels, notes = visited.pixels, list(visited.notes)
    if variant is None:
        with stages.stage("choose") as advance:
            variant, note = choose(pixels, progress=advance.say)
            notes.append(note)
    model = variant.mixture.model()
    local = None
    with stages.stage("fit") as advance:
        options, neighbours = variant.stopping, variant.neighbours
        if neighbours is None:
            fitted = fit(model, pixels, **options, progress=advance.say)
        else:
            local = fit_local(model, pixels, neighbours, **options, progress=advance.say)
            fitted = local.fit
            notes += _local_notes(local, pixels)
        fitted = jax.block_until_ready(fitted)
        advance(movie.n_frames)
    _refuse_failure(fitted)
    notes += _result_notes(fitted)
    rule = variant.foreground
    parts = partition(fitted.params, rule.rule, tuple(rule.ranks), rule.overlap, model.family)
    with stages.stage("correct") as advance:
        classes = model.classify(fitted.params, pixels) if local is None else local.classify()
        labels = parts.is_foreground(np.asarray(classes))
        voted = _corrected(labels, pixels, variant)
        if voted is not None:
            labels = np.asarray(voted.labels)
            notes += _vote_notes(voted, pixels)
        advance(movie.n_frames)
    growth = estimate(
        labels,
        pixels,
        pixel_area_um2=movie.pixel_area_um2,
        thickness_um=thickness_um,
        times_s=movie.times_s,
        result=np.array([Result(int(r)).name for r in np.asarray(fitted.result)]),
    )
    good = usable(fitted, np.asarray(classes), pixels, growth)
    growth = growth.only(good)
    notes += _usable_notes(good)
    if movie.pixel_size_nm is None:
        notes.append("the pixel size is not known, so areas are in pixels; give --pixel-size")
    return Quantified(
        movie=movie,
        variant=variant,
        model=model,
        pixels=pixels,
        fit=fitted,
        partition=parts,
        foreground=labels,
        growth=_since_first(growth) if baseline else growth,
        changed=None if voted is None else np.asarray(voted.n_changed),
        alone=None if voted is None else np.asarray(voted.n_alone),
        rate=rate,
        notes=tuple(notes),
        local=local,
    )


def _since_first(growth: Growth) -> Growth:
    if not np.isfinite(growth.area_px[0]):
        raise NumericalError(
            "--baseline first subtracts the area of frame 0, which may not be used: its fit did "
            "not reach the optimum; leave the frame out with --frames or use --baseline none"
        )
    return growth.minus_first()


def choose(pixels: Pixels, progress: Progress | None = None) -> tuple[Variant, str]:
    """The default model for a movie, and the sentence that says so."""
    model, tried = choose_classes(
        pixels, Trend(DEFAULT_TREND), candidates=DEFAULT_CLASSES, progress=progress
    )
    chosen = model.n_classes
    variant = Variant.model_validate(
        {
            "description": "chosen by BIC",
            "mixture": {"classes": chosen, "trend": DEFAULT_TREND, "share": ["means", "sds"]},
        }
    )
    scores = {c.n_classes: c.criteria.bic for c in tried if c.criteria is not None}
    listed = ", ".join(
        f"{c.n_classes}: {scores[c.n_classes] - scores[chosen]:.0f}"
        if c.n_classes in scores
        else f"{c.n_classes}: {c.result.name}"
        for c in tried
    )
    note = (
        f"model: {chosen} classes, means and sds shared by all frames, trend {DEFAULT_TREND}; "
        f"taken by BIC on a few frames (classes: BIC above the best: {listed}). "
        "To pin it, pass --model with the model.toml of this run"
    )
    return variant, note


def _corrected(labels: np.ndarray, pixels: Pixels, variant: Variant) -> Vote | None:
    if variant.correction is None:
        return None
    return vote(
        jnp.asarray(labels),
        pixels.rows,
        pixels.cols,
        pixels.weight,
        pixels.shape,
        variant.correction.neighbourhood(),
        variant.correction.threshold,
    )


def _local_notes(local: LocalFit, pixels: Pixels) -> list[str]:
    kernel = local.kernel
    notes = [
        f"local proportions: kernel of sd {kernel.width:.3g} pixels and {kernel.memory:.3g} frames"
        f"{' of the past' if kernel.causal else ''}, interaction {float(local.interaction):.3g}"
    ]
    alone, total = int(np.sum(local.n_alone)), int(np.sum(pixels.n_pixels))
    if alone > 0.05 * total:
        notes.append(
            f"{100 * alone / total:.0f} % of the visited pixels have no visited neighbour within "
            "the local kernel and use their frame's weights; widen the kernel ([local] width)"
        )
    return notes


def _vote_notes(voted: Vote, pixels: Pixels) -> list[str]:
    alone, total = int(np.sum(voted.n_alone)), int(np.sum(pixels.n_pixels))
    if alone <= 0.05 * total:
        return []
    return [
        f"{100 * alone / total:.0f} % of the visited pixels have no visited neighbour within the "
        "correction's radius and kept their class; use a larger radius or a higher rate"
    ]


def _result_notes(fitted: Fit) -> list[str]:
    codes, counts = np.unique(np.asarray(fitted.result), return_counts=True)
    return [
        f"fit: {Result(int(c)).name} in {n} of {fitted.result.size} frames. "
        f"{Result(int(c)).sentence}"
        for c, n in zip(codes, counts, strict=True)
        if c != Result.converged
    ]


def _refuse_failure(fitted: Fit) -> None:
    """Without a single frame that has numbers there is nothing to write."""
    if not np.isfinite(np.asarray(fitted.params.means)).any():
        code = Result(int(np.asarray(fitted.result)[0]))
        raise NumericalError(f"no frame could be fitted ({code.name}). {code.sentence}")


def _usable_notes(good: np.ndarray) -> list[str]:
    if good.all():
        return []
    bad = np.flatnonzero(~good)
    named = ", ".join(map(str, bad[:8])) + (f" and {bad.size - 8} more" if bad.size > 8 else "")
    return [f"the area of {bad.size} of {good.size} frames may not be used (frame {named})"]
