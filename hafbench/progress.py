"""How far a long task is: one protocol for runs, data sets, downloads and fits; bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress(Protocol):
    """Where a long task reports how far it is. One task may run within another: images of a checkpoint within a fit."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """A task begins, such as `images`, of which so many are done already."""
        ...

    def update(self, task: str, done: int, note: str = "") -> None:
        """So many are done; `note` says what came out so far."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        """Nothing."""


SILENT: Progress = Silent()


class Bars:
    """A bar for each task that is not finished, with speed, time left and note."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[TaskID, int]] = {}

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Draw a bar, in place of the last one of that task."""
        if task in self._tasks:
            self._bars.remove_task(self._tasks[task][0])
        added = self._bars.add_task(task, total=total, completed=done, speed="", note="", visible=done < total)
        self._tasks[task] = added, done

    def update(self, task: str, done: int, note: str = "") -> None:
        """Move the bar; a full one disappears if another task goes on."""
        added, first = self._tasks[task]
        bar = self._bars.tasks[self._bars.task_ids.index(added)]
        speed = f"{(done - first) / bar.elapsed:.2f} {task}/s" if bar.elapsed else ""
        full = bar.total is not None and done >= bar.total and len(self._bars.tasks) > 1
        self._bars.update(added, completed=done, speed=speed, note=note, visible=not full)


class Lines:
    """A line every so often, and one at the end of a task: for logs, which have no place for bars."""

    def __init__(
        self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic, every: float = 30.0
    ) -> None:
        self._write, self._clock, self._every = write, clock, every
        self._tasks: dict[str, tuple[int, int, float]] = {}
        self._last = clock()

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Remember what there is to do."""
        self._tasks[task] = total, done, self._clock()

    def update(self, task: str, done: int, note: str = "") -> None:
        """Write a line if the last one is long ago, or the task is done."""
        total, first, began = self._tasks[task]
        now = self._clock()
        if done != total and now - self._last < self._every:
            return
        self._last = now
        parts = [f"{done}/{total} {task}"]
        if now > began and done > first:
            speed = (done - first) / (now - began)
            parts.append(f"{speed:.2f} {task}/s")
            if done < total:
                parts.append(f"{timedelta(seconds=round((total - done) / speed))} left")
        self._write(", ".join([*parts, *([note] if note else [])]) + "\n")


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Bars on stderr, lines where that is not a terminal, or nothing if `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")),
        *(TimeRemainingColumn(), TextColumn("{task.fields[note]}")),
    )
    console = Console(stderr=True)
    if quiet or not console.is_interactive:
        yield SILENT if quiet else Lines(_to_stderr)
        return
    with RichProgress(*columns, console=console) as bars:
        yield Bars(bars)
