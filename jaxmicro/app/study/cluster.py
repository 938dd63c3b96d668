"""The blocks of a study on Dask: workers of this machine, or those of a scheduler.

The only module that imports Dask, and only when it is asked for. Tasks are importable functions
with plain arguments; they return a number, and futures are released, so that a worker that dies
takes no finished block with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from jaxmicro.app.study.engine import Done, measure_tasks
from jaxmicro.app.study.spec import wide_floats
from jaxmicro.app.study.store import Store, Task
from jaxmicro.errors import DataError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

CONNECT_S = 10  # for a scheduler to answer
START_S = 180  # for the first worker of this machine
DEATHS = 20  # of workers under one block, before it is taken for the cause


def on_cluster(
    store: Store,
    tasks: Sequence[Task],
    done: Done,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure all blocks on `workers` processes of this machine, or on those of a scheduler.

    Args:
      scheduler: address of a running one, such as tcp://10.0.0.1:8786; workers may come and go.
      done: called with the number of blocks finished.
      say: told when there is nothing to do but wait.

    Raises:
      DataError: the scheduler does not answer; a block ended every worker that tried it; or what
        a block itself raises.
    """
    with _client(workers, scheduler) as client:
        _run(client, store, tasks, done, say)


def check(scheduler: str) -> None:
    """Raises DataError where no scheduler answers, before any work is done."""
    with _connected(scheduler):
        pass


def _run(
    client: Client, store: Store, tasks: Sequence[Task], done: Done, say: Callable[[str], None]
) -> None:
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    _await_workers(client, say)
    size = max([1, *client.run(jax.local_device_count, on_error="ignore").values()])
    groups = [tasks[i : i + size] for i in range(0, len(tasks), size)]
    plain = [[(t.plan, t.rate, t.block) for t in group] for group in groups]
    futures = [
        client.submit(measure_tasks, str(store.folder), store.request.identity, group, pure=False)
        for group in plain
    ]
    try:
        for future in as_completed(futures):
            done(future.result())
            future.release()
    except KilledWorker as problem:
        raise DataError(
            f"a block ended {DEATHS} workers, most likely because memory ran out: use fewer "
            "--workers, --crop or fewer frames; finished blocks are kept"
        ) from problem
    except (CancelledError, CommClosedError) as problem:
        raise DataError(
            "the scheduler is gone; finished blocks are kept: start one, then repeat the command"
        ) from problem
    finally:
        client.cancel(futures)


def _await_workers(client: Client, say: Callable[[str], None]) -> None:
    """Wait for the first worker: on a cluster jobs may stand in a queue for hours."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(TimeoutError):
            return client.wait_for_workers(1, timeout=5)
        if client.cluster is not None and time.monotonic() - began > START_S:
            raise DataError(
                f"no worker process could be started in {START_S} s; leave out --workers"
            )
        say("waiting for the scheduler's first worker")


@contextlib.contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster, Security

    if scheduler is not None:
        with _connected(scheduler) as client:
            yield client
        return
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)  # of workers that died
    security = Security.temporary()
    with (
        dask.config.set(_settings()),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=security,
            dashboard_address=None,
            worker_dashboard_address=None,
            memory_limit=0,  # of the system's memory, not an equal share each
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, security=security) as client,
    ):
        assert workers is not None  # or there is a scheduler
        for number in range(workers):
            options = cluster.new_spec["options"] | {"env": _device_of(number)}
            cluster.worker_spec[number] = cluster.new_spec | {"options": options}
        cluster.loop.add_callback(_keep_alive, cluster, workers)
        yield client


def _device_of(number: int) -> dict[str, str]:
    """What a worker must be told to take a GPU of its own, in turn."""
    if jax.default_backend() != "gpu":
        return {}
    known = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(
        str(device.id) for device in jax.local_devices()
    )
    devices = known.split(",")
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}


def _keep_alive(cluster: LocalCluster, workers: int) -> None:
    """Start workers now, and again where one died before it had started."""
    from distributed.core import Status
    from tornado.ioloop import PeriodicCallback

    def heal() -> None:
        if cluster.status != Status.running:
            return again.stop()
        for name, worker in list(cluster.workers.items()):
            if worker.status in (Status.failed, Status.closed):
                del cluster.workers[name]
        cluster.scale(workers)

    again = PeriodicCallback(heal, 2000)
    again.start()
    heal()


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError) as problem:
        raise DataError(
            f"--scheduler {scheduler} does not answer ({problem}); check the address, and that "
            "`dask scheduler` runs there"
        ) from problem
    with client:
        yield client


def _settings() -> dict[str, Any]:
    """Of Dask, for workers of this machine.

    JAX reads its flags when it is imported, so they must be there before a worker starts. Workers
    share no cache of compiled programs: an entry that a kill cuts off is never repaired.
    """
    environment = {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_ENABLE_X64": str(wide_floats()).lower(),
    }
    return {
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.worker.multiprocessing-method": "spawn",
        **{f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in environment.items()},
    }
