"""Where the blocks of a study are measured: in this process, a thread for each core or device.

`measure` is what a Dask worker runs too. Numbers do not depend on where: a block is one compiled
batch on one device, and follows from the study and the block's number alone.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import pathlib
import socket
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float

from jaxmicro.app.study.spec import program
from jaxmicro.app.study.store import Store, Task
from jaxmicro.data.movie import Movie
from jaxmicro.errors import DataError, JaxmicroError
from jaxmicro.growth.plan import Plan
from jaxmicro.growth.study import measure_all_pixels, measure_block

Done = Callable[[int], None]


def measure_tasks(
    folder: str, identity: str, tasks: Sequence[tuple[str, float | None, int]]
) -> int:
    """Measure some blocks of a study, side by side where there are several devices.

    Args:
      folder: of the study, as every machine sees it.
      identity: of the study that is meant: a folder may hold another one by now.
      tasks: (plan, rate, block) of each.

    Returns:
      How many blocks there were. What was measured is in the folder.

    Raises:
      DataError: the folder cannot be seen or written, or the study was begun with another program.
    """
    asked = [Task(*task) for task in tasks]
    for _ in _side_by_side(folder, identity, asked, jax.local_device_count()):
        pass
    return len(tasks)


def in_process(store: Store, tasks: Sequence[Task], done: Done) -> None:
    """Measure all blocks here, a block for each device or core; `done` is called with 1 after each.

    XLA runs the loops of a fit on one core each, so that a core is worth a device.
    """
    cores = os.cpu_count() if jax.default_backend() == "cpu" else 1
    at_once = max(jax.local_device_count(), cores or 1)
    for _ in _side_by_side(str(store.folder), store.request.identity, tasks, at_once):
        done(1)


def _side_by_side(
    folder: str, identity: str, tasks: Sequence[Task], at_once: int
) -> Iterator[None]:
    """Measure blocks in so many threads; yields after each."""
    devices = itertools.cycle(jax.local_devices())
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        jobs = [
            pool.submit(_measure, folder, identity, task, device)
            for task, device in zip(tasks, devices, strict=False)
        ]
        try:
            for job in concurrent.futures.as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _measure(folder: str, identity: str, task: Task, device: jax.Device) -> None:
    store, movie = _opened(folder, identity)
    if store.has(task):
        return
    plan = _plan(folder, identity, task.plan)
    try:
        with jax.default_device(device):
            values = _values(store, movie, plan, task)
    except JaxmicroError as problem:
        raise type(problem)(f"plan {task.plan}: {problem}") from problem
    store.write(task, values)


def _values(store: Store, movie: Movie, plan: Plan, task: Task) -> Float[np.ndarray, "Q T R"]:
    if task.rate is None:
        return measure_all_pixels(movie, plan)
    (blocks,) = (r for r in store.request.rates if r.rate == task.rate)
    return measure_block(movie, plan, blocks, store.request.seed, task.block)


@functools.lru_cache(maxsize=2)
def _opened(folder: str, identity: str) -> tuple[Store, Movie]:
    """The study and its movie, once for a process."""
    store = Store.open(pathlib.Path(folder))
    here = socket.gethostname()
    if store.request.identity != identity:
        raise DataError(f"{folder} on {here} holds another study; give an --out that is shared")
    if store.request.program != program():
        raise DataError(
            f"{here} has {program()}, but the study was begun with {store.request.program}; give "
            "all workers the same installation and the same JAX_ENABLE_X64"
        )
    return store, store.movie()


@functools.lru_cache(maxsize=64)
def _plan(folder: str, identity: str, name: str) -> Plan:
    return _opened(folder, identity)[0].plan(name)
