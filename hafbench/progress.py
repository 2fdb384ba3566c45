"""How far a long task is: one protocol for runs, data sets, downloads and fits, and its bars on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Bars on stderr, or nothing if `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")),
        *(TimeRemainingColumn(), TextColumn("{task.fields[note]}")),
    )
    with RichProgress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        yield SILENT if quiet else Bars(bars)
