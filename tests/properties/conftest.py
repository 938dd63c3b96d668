"""Every example of a property has a time limit: a loop that never ends fails with its example."""

import functools
import pathlib
import signal

import pytest

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 100  # of processor time, which a busy machine does not stretch; compiling takes some 15


def _bounded(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        def stop(*_):
            raise TimeoutError(f"an example ran for more than {LIMIT_S} s of processor time")

        before = signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        try:
            return test(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen = set()
    for item in items:
        handle = getattr(getattr(item, "obj", None), "hypothesis", None)
        if handle is not None and item.path.is_relative_to(HERE) and id(handle) not in seen:
            seen.add(id(handle))  # the cases of a parametrised test share one function
            handle.inner_test = _bounded(handle.inner_test)
