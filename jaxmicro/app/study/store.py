"""The folder of a study at work: what is asked, the movie, the plans, and a chunk for each block.

`OUT.unfinished` is kept beside the output folder until the study is whole. Whoever knows its path
can measure a block: nothing else is needed. A block is finished exactly when its chunk is there,
and its chunk is one file that Zarr writes whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import socket
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import zarr
from jaxtyping import Float

from jaxmicro.app.quantify import spec as model_spec
from jaxmicro.app.quantify.spec import Variant
from jaxmicro.app.study.folder import (
    PLANS,
    REQUEST,
    TABLES,
    disk,
    empty,
    has_blocks,
    save_array,
    whole,
    write_text,
)
from jaxmicro.app.study.spec import Request
from jaxmicro.data.movie import Movie
from jaxmicro.errors import DataError, UsageError
from jaxmicro.growth.plan import Plan, Sampling
from jaxmicro.growth.study import QUANTITIES
from jaxmicro.mixture.gmrm import Params

MOVIE, REGION = "movie.npy", "region.npy"
REFERENCE = "all_pixels"
_RESULT = QUANTITIES.index("result")  # known of every fit: a chunk that has it is finished


@dataclasses.dataclass(frozen=True)
class Task:
    """One block: of a plan at a rate, or its reference where `rate` is None."""

    plan: str
    rate: float | None
    block: int

    @property
    def array(self) -> str:
        return f"{self.plan}/{REFERENCE if self.rate is None else f'rate_{self.rate}'}"


@dataclasses.dataclass(frozen=True)
class Store:
    """A study's folder and what is asked of it."""

    folder: pathlib.Path
    request: Request

    @classmethod
    def create(cls, folder: pathlib.Path, request: Request, movie: Movie) -> Store:
        """Write what is asked and the movie, where they are not there already."""
        with disk(folder):
            if not (folder / MOVIE).exists():
                if movie.valid is not None:
                    save_array(folder / REGION, [movie.valid], movie.valid.shape)
                frames = (np.asarray(movie.images[t]) for t in range(movie.n_frames))
                save_array(folder / MOVIE, frames, movie.shape)
            write_text(folder / REQUEST, request.to_json())
        return cls(folder, request)

    @classmethod
    def open(cls, folder: pathlib.Path) -> Store:
        """The store that another process made.

        Raises:
          DataError: there is none that this machine can see.
        """
        try:
            return cls(folder, Request.parse((folder / REQUEST).read_text(encoding="utf-8")))
        except OSError as problem:
            raise DataError(
                f"{socket.gethostname()} cannot read {folder / REQUEST} ({problem.strerror}); give "
                "an --out that all machines of the study share"
            ) from None

    def movie(self) -> Movie:
        """The movie as it is studied, in its own frames and pixels, read from disk as needed."""
        images = np.load(self.folder / MOVIE, mmap_mode="r")
        region = self.folder / REGION
        return Movie(images, valid=np.load(region) if region.exists() else None)

    # -- plans -------------------------------------------------------------------------------

    def save_plan(
        self, name: str, variant: Variant, start: Params | None, notes: Sequence[str]
    ) -> None:
        """Keep a plan; its model file is written last and says that all of it is there."""
        with disk(self.folder):
            (self.folder / PLANS).mkdir(exist_ok=True)
            if start is not None:
                arrays: dict[str, Any] = {
                    k: np.asarray(v) for k, v in vars(start).items() if v is not None
                }
                with whole(self._plan_file(name, ".npz")) as part, open(part, "wb") as file:
                    np.savez(file, **arrays)
            write_text(self._plan_file(name, ".json"), json.dumps(list(notes), indent=1) + "\n")
            write_text(self._plan_file(name, ".toml"), variant.to_toml())

    def notes(self, name: str) -> tuple[str, ...]:
        """What was said to the user when the plan was prepared."""
        return tuple(json.loads(self._plan_file(name, ".json").read_text(encoding="utf-8")))

    def has_plan(self, name: str) -> bool:
        return self._plan_file(name, ".toml").exists()

    def variant(self, name: str) -> Variant:
        return model_spec.load(self._plan_file(name, ".toml"))

    def plan(self, name: str) -> Plan:
        """The plan with the start that all its replicates have in common."""
        plan = self.variant(name).plan(Sampling(None, self.request.pattern))
        path = self._plan_file(name, ".npz")
        if not path.exists():
            return plan
        with np.load(path, allow_pickle=False) as file:
            start = Params(**{key: jnp.asarray(file[key]) for key in file.files})
        return dataclasses.replace(plan, start=start)

    def _plan_file(self, name: str, suffix: str) -> pathlib.Path:
        return self.folder / PLANS / f"{name}{suffix}"

    # -- blocks ------------------------------------------------------------------------------

    def create_arrays(self, n_frames: int) -> None:
        """An array for the reference and for each rate of each plan, one chunk a block."""
        with disk(self.folder):
            group = zarr.open_group(self.folder / TABLES, mode="a")
            for plan in self.request.plans:
                for rate in (None, *self.request.rates):
                    name = Task(plan, None if rate is None else rate.rate, 0).array
                    if name in group:
                        continue
                    replicates, size = (1, 1) if rate is None else (rate.replicates, rate.size)
                    group.create_array(
                        name,
                        shape=(len(QUANTITIES), n_frames, replicates),
                        chunks=(len(QUANTITIES), n_frames, size),
                        dtype="float64",
                        fill_value=np.nan,
                        dimension_names=("quantity", "frame", "replicate"),
                        attributes={
                            "quantities": list(QUANTITIES),
                            "rate": 1.0 if rate is None else rate.rate,
                        },
                    )

    def tasks(self) -> list[Task]:
        """Every block: references first, then all rates and plans side by side, so that what is
        done is a fair sample of what is left."""
        references = [Task(plan, None, 0) for plan in self.request.plans]
        shares = [
            ((block + 0.5) / rate.count, Task(plan, rate.rate, block))
            for plan in self.request.plans
            for rate in self.request.rates
            for block in range(rate.count)
        ]
        return references + [task for _, task in sorted(shares, key=lambda pair: pair[0])]

    def left(self) -> list[Task]:
        """The blocks that are not finished."""
        known: dict[str, np.ndarray] = {}
        for task in self.tasks():
            if task.array not in known:
                known[task.array] = np.isfinite(self.read(task.array)[_RESULT, 0])
        return [task for task in self.tasks() if not known[task.array][self._span(task)].all()]

    def has(self, task: Task) -> bool:
        found = self._array(task.array)[_RESULT, :1, self._span(task)]
        return bool(np.isfinite(np.asarray(found)).all())

    def write(self, task: Task, values: Float[np.ndarray, "Q T R"]) -> None:
        """Keep a finished block, whole or not at all."""
        with disk(self.folder):
            self._array(task.array)[:, :, self._span(task)] = values

    def read(self, array: str) -> Float[np.ndarray, "Q T R"]:
        """`QUANTITIES` of every frame and replicate; NaN where a block is not finished."""
        return np.asarray(self._array(array)[:])

    def _span(self, task: Task) -> slice:
        if task.rate is None:
            return slice(0, 1)
        (rate,) = (r for r in self.request.rates if r.rate == task.rate)
        return rate.span(task.block)

    def _array(self, name: str) -> zarr.Array:
        found = zarr.open_array(self.folder / TABLES, path=name, mode="r+")
        assert isinstance(found, zarr.Array)
        return found

    def copy(self, target: pathlib.Path) -> None:
        """Blocks, plans and what was asked, elsewhere; not what a kill left half written."""
        for name in (TABLES, PLANS):
            ignored = shutil.ignore_patterns("*.partial", "*.part")
            shutil.copytree(self.folder / name, target / name, ignore=ignored)
        shutil.copy(self.folder / REQUEST, target / REQUEST)

    def remove(self) -> None:
        """Called when all of it stands in the output folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def begun(folder: pathlib.Path) -> Request | None:
    """What is asked of the study in a folder, or None where there is none."""
    try:
        return Request.parse((folder / REQUEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as problem:
        raise UsageError(
            f"{folder / REQUEST} is not of this version of jaxmicro; add --force to begin anew"
        ) from problem


def go_on(out: pathlib.Path, folder: pathlib.Path, request: Request, force: bool) -> str:
    """Make `folder` ready for a study: what a former run finished is kept where it belongs to it.

    Returns:
      A sentence for the user; empty where the study begins anew.

    Raises:
      UsageError: `folder` or `out` holds a study of something else; `force` begins anew.
    """
    for place in (folder, out):
        old = None if force else begun(place)
        if old is None:
            continue
        if not request.extends(old):
            if place == folder and not has_blocks(folder):
                continue  # nothing is lost
            raise UsageError(
                f"{place} holds a study of {request.differences(old)}; repeat its command to go "
                "on with it, give another --out, or add --force to begin anew"
            )
        if place == out:
            with disk(folder):
                empty(folder)
                Store(out, old).copy(folder)
        return f"going on with the study in {place}"
    empty(folder)
    return ""
