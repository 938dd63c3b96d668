"""Whether a file can hold what its header claims, asked before anything is allocated.

A damaged header may claim a petabyte; a file made to do harm may unpack to one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.errors import DataError

# Deflate packs at most 1032 to 1; stronger codecs, and chunks that are not stored because they
# hold one value only, go further. A small file may unpack to 64 MiB whatever it is.
LARGEST_RATIO = 10_000
ALWAYS_ALLOWED = 64 * 2**20


def refuse_impossible(
    path: Path, shape: Sequence[int], dtype: Any, allowed: int = ALWAYS_ALLOWED
) -> None:
    """DataError if an array of this shape cannot come out of the file or folder `path`."""
    claimed = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize
    if claimed <= allowed:
        return
    stored = sum(f.stat().st_size for f in _files(path))
    if claimed > allowed + LARGEST_RATIO * stored:
        raise DataError(
            f"{path}: its header claims an array of {' x '.join(str(int(n)) for n in shape)}, "
            f"{claimed:.3g} bytes, but it has {stored} bytes; it is damaged, copy it again"
        )


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return (f for f in path.rglob("*") if f.is_file())
    return [path, *(path.parent.glob(f"{path.stem}_*.ser") if path.suffix == ".emi" else ())]
