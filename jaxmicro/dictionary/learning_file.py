"""learning.npz: the state of a learning, as plain arrays; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import zipfile
from typing import Any

import numpy as np

from jaxmicro.data.read.arrays import failures
from jaxmicro.dictionary.learn import LearningState
from jaxmicro.errors import DataError

STATE_FORMAT = "jaxmicro-learning-1"


def save_learning(path: str | pathlib.Path, learned: LearningState) -> None:
    """Write a learning state, from which `learn(start=...)` goes on."""
    fields = {f.name: getattr(learned, f.name) for f in dataclasses.fields(learned)}
    with open(path, "wb") as file:
        np.savez(file, format=np.array(STATE_FORMAT), **fields)


def load_learning(path: str | pathlib.Path) -> LearningState:
    """Read a learning state; nothing in the file is executed.

    Raises:
      DataError: the file is not one of ours.
    """
    arrays = read_arrays(path, STATE_FORMAT)
    try:
        fields: dict[str, Any] = {f.name: arrays[f.name] for f in dataclasses.fields(LearningState)}
    except KeyError as err:
        raise DataError(f"{path}: the learning state lacks {err}; learn it anew") from err
    fields["minibatches"] = int(fields["minibatches"])
    fields["stopped_early"] = bool(fields["stopped_early"])
    return LearningState(**fields)


def read_arrays(path: str | pathlib.Path, kind: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz file of a given kind, read without unpickling.

    Raises:
      DataError: the file is missing, not an .npz, holds objects or is of another kind.
    """
    try:
        content = pathlib.Path(path).read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(content)):
            # numpy would take it for a pickle and say how to load it unsafely
            raise ValueError("it is no .npz archive")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except failures() as err:
        raise DataError(f"{path}: not a dictionary of this program ({err})") from err
    if "format" not in arrays or str(arrays["format"]) != kind:
        raise DataError(f"{path}: not a file of kind {kind}; give one that jaxmicro wrote")
    return arrays
