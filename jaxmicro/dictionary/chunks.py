"""Patches in chunks of few compiled shapes, on the threads of the host."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np

CHUNK = 512  # patches a call of a compiled program
FEW = 64  # and of the small one, for the last patches
MOST_THREADS = 8


def _cores() -> int:
    """Cores this process may use; fewer than the machine's under a batch system."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


THREADS = min(_cores(), MOST_THREADS)  # XLA runs the fused loops on one core each

Task = TypeVar("Task")
Done = TypeVar("Done")


def rows_up_to(n: int) -> int:
    """Padded batch size, one of two: compiling a third costs more than its padding saves."""
    return FEW if n <= FEW else CHUNK


def split(rows: np.ndarray) -> list[np.ndarray]:
    """Pieces of at most CHUNK rows; none of no rows."""
    return [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]


def shares(n: int, most: int) -> list[slice]:
    """n rows in pieces of at most `most`, a multiple of the threads; fewer where rows are few."""
    rounds = max(1, -(-n // (THREADS * most)))
    count = max(1, min(rounds * THREADS, -(-n // CHUNK)))
    edges = [n * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def on_threads(work: Callable[[Task], Done], tasks: Sequence[Task]) -> list[Done]:
    """Run tasks on host threads: XLA runs the fused loops of each on one core."""
    if len(tasks) < 2 or jax.default_backend() != "cpu":
        return [work(task) for task in tasks]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, tasks))
