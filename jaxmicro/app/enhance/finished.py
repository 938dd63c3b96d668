"""Finished slices of a volume, kept beside the output folder until the run is whole.

A run that is stopped, or killed, leaves `OUT.unfinished`; the same command goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmicro.app.enhance.metrics import Metrics
from jaxmicro.errors import UsageError

SETTINGS, NOTES = "settings.json", "notes.json"


@dataclasses.dataclass(frozen=True)
class Slice:
    """What is kept of a finished slice: result and uncertainty (y, x), its metrics and notes."""

    values: np.ndarray
    uncertainty: np.ndarray
    metrics: Metrics
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Finished:
    """A folder of finished slices, a file each, numbered over all volumes of the run."""

    folder: pathlib.Path

    @classmethod
    def open(cls, out: pathlib.Path, settings: Mapping[str, Any], force: bool) -> Finished:
        """The folder beside `out`, with the slices of a former run of these settings, if any.

        Raises:
          UsageError: it holds slices of a run with other settings; `force` removes those.
        """
        folder = out.with_name(f"{out.name}.unfinished")
        told = json.dumps(settings, sort_keys=True, indent=1)
        page = folder / SETTINGS
        if folder.exists() and (not page.exists() or page.read_text(encoding="utf-8") != told):
            found = cls(folder)
            if not (force or found.empty):
                raise UsageError(
                    f"{folder} holds {found.content} of a run with other settings or inputs; "
                    "repeat that command to go on with it, or add --force to start anew"
                )
            found.remove()
        folder.mkdir(parents=True, exist_ok=True)
        _write(page, told)
        return cls(folder)

    @property
    def count(self) -> int:
        return len(list(self.folder.glob("slice_*.npz")))

    @property
    def empty(self) -> bool:
        return not self.count and self.notes is None

    @property
    def content(self) -> str:
        """What there is, in words."""
        learned = [] if self.notes is None else ["the dictionary"]
        slices = [f"{self.count} finished slice{'s' * (self.count > 1)}"] if self.count else []
        return " and ".join([*learned, *slices]) or "nothing"

    def has(self, number: int) -> bool:
        return self._file(number).exists()

    def save(self, number: int, result: Slice) -> None:
        """Whole or absent: a file that is cut short never has the name that counts."""
        told = json.dumps({"metrics": dataclasses.asdict(result.metrics), "notes": result.notes})
        part = self._file(number).with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(
                file,
                values=result.values.astype(np.float32),
                uncertainty=result.uncertainty.astype(np.float32),
                told=np.frombuffer(told.encode(), np.uint8),
            )
        part.replace(self._file(number))

    def load(self, number: int) -> Slice:
        with np.load(self._file(number), allow_pickle=False) as file:
            told = json.loads(file["told"].tobytes().decode())
            values, uncertainty = file["values"], file["uncertainty"]
        return Slice(values, uncertainty, Metrics(**told["metrics"]), tuple(told["notes"]))

    def keep_notes(self, notes: tuple[str, ...]) -> None:
        """What learning said: the last that is written, once the dictionary is in the folder."""
        _write(self.folder / NOTES, json.dumps(notes))

    @property
    def notes(self) -> tuple[str, ...] | None:
        """What learning said, or None where no dictionary was kept."""
        page = self.folder / NOTES
        return tuple(json.loads(page.read_text(encoding="utf-8"))) if page.exists() else None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> pathlib.Path:
        return self.folder / f"slice_{number:06d}.npz"


def _write(path: pathlib.Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
