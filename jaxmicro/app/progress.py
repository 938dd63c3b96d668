"""Progress of long work: a bar with a rate on a terminal, plain lines elsewhere, times kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxmicro import activity


class Stages:
    """Reports the stages of a run to a console (None: silently) and keeps their wall times."""

    def __init__(self, console: Console | None = None):
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "frames"
    ) -> Iterator[Callable[[int], None]]:
        """Time a stage; the yielded function says how many more units are done."""
        began = time.perf_counter()
        done = 0
        bar = None
        if self._console is not None and self._console.is_terminal:
            bar = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn() if total else TimeElapsedColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn() if total else TextColumn(""),
                console=self._console,
                transient=True,
            )
            task = bar.add_task(name, total=total, rate="")

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            if bar is not None:
                rate = done / max(time.perf_counter() - began, 1e-9)
                bar.update(task, completed=done, rate=f"{rate:.3g} {unit}/s")

        shown = bar if bar is not None else contextlib.nullcontext()
        with activity.doing(f"the stage {name!r}"), shown:
            yield advance
        seconds = time.perf_counter() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if self._console is not None:
            rate = f", {done / seconds:.3g} {unit}/s" if done else ""
            self._console.print(f"{name:<10} {seconds:7.2f} s{rate}", highlight=False)
