"""The main job: a movie's growth curve, by a model file or by a model chosen for the movie."""

from __future__ import annotations

import dataclasses
import html
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from jaxmicro.app.progress import Stages
from jaxmicro.app.quantify.choose import Asked, choose
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.data.movie import Movie
from jaxmicro.data.sampling import Pixels
from jaxmicro.errors import NumericalError
from jaxmicro.growth.analyse import Analysis, analyse, visit
from jaxmicro.growth.check import Check, check
from jaxmicro.growth.choose import Choice
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.notes import notes as notes_on
from jaxmicro.growth.partition import Partition
from jaxmicro.growth.plan import EVERY_PIXEL, Sampling
from jaxmicro.mixture.ecm import Fit, Result
from jaxmicro.mixture.gmrm import GMRM
from jaxmicro.spacetime.dense import dense_maps, entropy_bits
from jaxmicro.spacetime.local import Local

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

UNSEEN, BACKGROUND, FOREGROUND = 0, 127, 255  # greys of labels.tif
NO_PIXEL_SIZE = "the pixel size is not known, so areas are in pixels; give --pixel-size"


@dataclasses.dataclass(frozen=True)
class Quantified:
    """Everything a run found; `files` writes it and `report` shows it.

    `growth` is calibrated and holds usable areas only, `check` says what speaks against the fit,
    `notes` are for the user.
    """

    movie: Movie
    variant: Variant
    analysis: Analysis
    growth: Growth
    check: Check
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        ok, ranks = self.check.ok, ", ".join(map(str, self.partition.foreground))
        return (
            f"Quantified({self.movie.name}: {self.model.n_classes} classes, trend "
            f"{self.model.trend.formula or 'none'}, foreground class {ranks}; {self.growth!r}; "
            f"check {int(np.sum(ok))} of {ok.size} frames ok; {len(self.notes)} notes)"
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<p>{html.escape(repr(self))}</p>{self.growth._repr_html_()}<ul>{notes}</ul>"

    def to_pandas(self) -> pd.DataFrame:
        """The growth curve, one row a frame, columns as in growth.csv."""
        return self.growth.to_pandas()

    def to_xarray(self) -> xr.Dataset:
        """Every parameter of the fit with names and units, as in fit.nc."""
        from jaxmicro.app.quantify.files import fit_dataset

        return fit_dataset(self)

    def write(self, folder: str | pathlib.Path, *, force: bool = False) -> pathlib.Path:
        """Write the folder that `jaxmicro quantify --out` does; returns its path.

        Args:
          force: replace a folder that a former run wrote.

        Raises:
          UsageError: a folder that holds anything else, or cannot be written.
          DataError: the disk is full.
        """
        from jaxmicro.app.quantify.report import write_folder

        return write_folder(pathlib.Path(folder), self, force)

    @property
    def pixels(self) -> Pixels:
        return self.analysis.fitted.pixels

    @property
    def model(self) -> GMRM:
        return self.analysis.plan.model

    @property
    def fit(self) -> Fit:
        return self.analysis.fitted.fit

    @property
    def partition(self) -> Partition:
        return self.analysis.partition

    @property
    def failure(self) -> str | None:
        """Why no frame has an area that may be used, or None where one has."""
        if np.any(self.analysis.usable):
            return None
        codes, counts = np.unique(np.asarray(self.fit.result), return_counts=True)
        most = Result(int(codes[np.argmax(counts)]))
        return f"no frame has an area that may be used ({most.name}). {most.sentence}"

    def labels(self, t: int) -> np.ndarray:
        """Frame `t` as (y, x) uint8: 0 not visited, 127 background, 255 foreground."""
        frame = self.pixels.at(t)
        rows, cols, weight = (np.asarray(a) for a in (frame.rows, frame.cols, frame.weight))
        out = np.full(self.pixels.shape, UNSEEN, np.uint8)
        seen, foreground = weight > 0, self.analysis.foreground[t]
        out[rows[seen], cols[seen]] = np.where(foreground[seen], FOREGROUND, BACKGROUND)
        return out

    def classes(self, t: int) -> np.ndarray:
        """Frame `t` as (y, x) uint8: class rank + 1 as fitted, before any correction; 0 unseen."""
        frame = self.pixels.at(t)
        rows, cols, weight = (np.asarray(a) for a in (frame.rows, frame.cols, frame.weight))
        out = np.zeros(self.pixels.shape, np.uint8)
        seen = weight > 0
        out[rows[seen], cols[seen]] = np.asarray(self.analysis.classes)[t][seen] + 1
        return out

    def dense_labels(self) -> Iterator[np.ndarray]:
        """Frames as (3, y, x) uint8: 255 foreground, class rank + 1, and entropy, by the dense map.

        An estimate wherever nothing was visited; entropy 255 is 1 bit: it could be either.
        """
        fitted, settings = self.analysis.fitted, self.analysis.plan.local or Local()
        coupling = None if fitted.local is None else fitted.local.coupling
        maps = dense_maps(
            fitted.responsibilities(), self.pixels, self.fit.params.weights, settings, coupling
        )
        for frame in maps:
            chance = frame[list(self.partition.foreground)].sum(axis=0)
            labels = np.where(chance > 0.5, FOREGROUND, BACKGROUND)
            entropy = np.rint(255 * entropy_bits(chance))
            yield np.stack([labels, np.argmax(frame, axis=0) + 1, entropy]).astype(np.uint8)


def quantify(
    movie: Movie,
    variant: Variant | None = None,
    sampling: Sampling = EVERY_PIXEL,
    *,
    asked: Asked | None = None,
    thickness_um: float | None = None,
    baseline: bool = False,
    smooth: str = "none",
    stages: Stages | None = None,
) -> Quantified:
    """Fit the movie and measure its foreground, frame by frame.

    Args:
      movie: see `jaxmicro.app.options` for crops and masks.
      variant: the model; default is one with local proportions, whose classes and trend the movie
        chooses: see `jaxmicro.growth.choose.choose`.
      sampling: how to sub-sample; the default uses every visited pixel.
      asked: what the user says of the model, in the place of what the variant or the movie would.
      thickness_um: thickness along the beam, for volumes.
      baseline: subtract the first frame's area.
      smooth: "linear" or "log" for a curve smoothed over time beside the areas.

    Raises:
      UsageError, DataError: see `visit`, `partition` and `jaxmicro.growth.smoothed.smooth`.
      NumericalError: no frame could be fitted, or the first frame's area is to be subtracted and
        may not be used.
    """
    stages = stages or Stages()
    asked = asked or Asked()
    variant = variant if variant is None else asked.over(variant)
    numbers = asked.numbers if variant is None else (variant.mixture.classes,)
    n_classes = None if numbers is None else max(numbers)
    visited = visit(movie, sampling, n_classes=n_classes, stage=stages.stage)
    notes, start = list(visited.notes), None
    choice: Choice | None = None
    if variant is None:
        with stages.stage("choose") as advance:
            variant, choice, note = choose(visited.pixels, asked, progress=advance.say)
            start = choice.start
            notes += [note, choice.noise.sentence]
    plan = dataclasses.replace(variant.plan(sampling), start=start)
    analysis = analyse(
        visited.pixels, plan, movie=movie, thickness_um=thickness_um, stage=stages.stage
    )
    with stages.stage("verify"):
        checked = check(analysis, choice)
    notes += [*notes_on(analysis), *checked.sentences]
    growth = analysis.growth.of_movie(movie, analysis.partition.foreground, thickness_um)
    growth = growth.only(analysis.usable)
    growth = dataclasses.replace(growth, check=checked.words)
    if movie.pixel_size_nm is None:
        notes.append(NO_PIXEL_SIZE)
    growth = _since_first(growth) if baseline else growth
    growth = growth if smooth == "none" else growth.smooth(smooth)
    return Quantified(movie, variant, analysis, growth, checked, tuple(notes))


def _since_first(growth: Growth) -> Growth:
    if not np.isfinite(growth.area_px[0]):
        raise NumericalError(
            "--baseline first subtracts the area of frame 0, which may not be used: its fit did "
            "not reach the optimum; leave the frame out with --frames or use --baseline none"
        )
    return growth.minus_first()
