"""Whether a file can hold what its header claims, asked before anything is allocated.

A damaged header may claim a petabyte; a file made to do harm may unpack to one.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.errors import DataError

# Deflate packs at most 1032 to 1; stronger codecs, and chunks that are not stored because they
# hold one value only, go further. A small file may unpack to 64 MiB whatever it is.
LARGEST_RATIO = 10_000
ALWAYS_ALLOWED = 64 * 2**20

# What Python and NumPy raise where a tag, a key or bytes are missing, or not what they should be:
# libraries that check little let it through.
BROKEN = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError)


def refuse_impossible(
    path: Path, shape: Sequence[int], dtype: Any, allowed: int = ALWAYS_ALLOWED
) -> None:
    """DataError if an array of this shape cannot come out of the file or folder `path`."""
    claimed = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize
    if claimed <= allowed:
        return
    stored = sum(f.stat().st_size for f in belonging_to(path))
    if claimed > allowed + LARGEST_RATIO * stored:
        raise DataError(
            f"{path}: its header claims an array of {' x '.join(str(int(n)) for n in shape)}, "
            f"{claimed:.3g} bytes, but it has {stored} bytes; it is damaged, copy it again"
        )


def belonging_to(path: Path) -> list[Path]:
    """The files that hold what is read from a file or folder `path`, in order."""
    if path.is_dir():
        return sorted(f for f in path.rglob("*") if f.is_file())
    suffix = path.suffix.lower()
    if suffix == ".emi":
        return [path, *sorted(path.parent.glob(f"{glob.escape(path.stem)}_*.ser"))]
    if suffix == ".tvips" and path.stem[-4:-3] == "_":
        parts = f"{glob.escape(path.stem[:-3])}[0-9][0-9][0-9]{path.suffix}"
        return sorted(path.parent.glob(parts)) or [path]
    return [path]
