"""Progress of long work: a bar with a rate on a terminal, plain lines elsewhere, times kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

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

LINE_S = 10.0  # elsewhere than on a terminal, long work says a line this often


def duration(seconds: float) -> str:
    """A time to wait, in the unit that a person would use: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Advance:
    """Says how far a stage has come: call it with the number of units that are done."""

    def __init__(
        self,
        name: str,
        unit: str,
        total: int | None,
        console: Console | None,
        bar: Progress | None,
    ):
        self._name, self._unit, self._total = name, unit, total
        self._console, self._bar = console, bar
        self._began = self._spoke = time.perf_counter()
        self.done = 0

    def of(self, total: int) -> None:
        """How many units there are, where that is known only now."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total)

    def __call__(self, count: int = 1) -> None:
        self.done += count
        if self._bar is not None:
            rate = self.done / max(time.perf_counter() - self._began, 1e-9)
            text = f"{rate:.3g} {self._unit}/s"
            self._bar.update(self._bar.task_ids[0], completed=self.done, text=text)
        elif self._total and self.done < self._total:
            seconds = time.perf_counter() - self._began
            left = seconds * (self._total - self.done) / max(self.done, 1)
            self.say(f"{self.done} of {self._total} {self._unit}, about {duration(left)} left")

    def say(self, text: str) -> None:
        """A sentence on work that has no units: beside the bar, or now and then a line."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], text=text)
        elif self._console is not None and time.perf_counter() - self._spoke > LINE_S:
            self._spoke = time.perf_counter()
            seconds = self._spoke - self._began
            self._console.print(f"{self._name:<10} {seconds:7.0f} s  {text}", highlight=False)


class Stages:
    """Reports the stages of a run to a console (None: silently) and keeps their wall times."""

    def __init__(self, console: Console | None = None):
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Advance]:
        """Time a stage; what is yielded says how far it has come."""
        bar = self._bar(total)
        if bar is not None:
            bar.add_task(name, total=total, text="")
        advance = Advance(name, unit, total, self._console, bar)
        began = time.perf_counter()
        shown = bar if bar is not None else contextlib.nullcontext()
        with activity.doing(f"the stage {name!r}"), shown:
            yield advance
        seconds = time.perf_counter() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if self._console is not None:
            rate = f", {advance.done / seconds:.3g} {unit}/s" if advance.done else ""
            self._console.print(f"{name:<10} {seconds:7.2f} s{rate}", highlight=False)

    def _bar(self, total: int | None) -> Progress | None:
        if self._console is None or not self._console.is_terminal:
            return None
        return Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn() if total else TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn() if total else TextColumn(""),
            console=self._console,
            transient=True,
        )
