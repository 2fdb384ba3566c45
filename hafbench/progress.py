"""The progress bar of a run: images per second, time left, and the error rate so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hafbench.bench import Begin
    from hafbench.evaluate import Progress


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Begin]:
    """Yields the `begin` that `run_model` and `score_folder` call; draws on stderr, or nothing if `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[errors]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        yield lambda total, done: _start(bar, total, done)


def _start(bar: Any, total: int, done: int) -> Progress:
    task_id = bar.add_task("images", total=total, completed=done, rate="", errors="")
    task = bar.tasks[task_id]
    verdicts: dict[str, list[bool]] = {}

    def progress(rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if row["is_error"] is not None:
                verdicts.setdefault(row["scorer"], []).append(row["is_error"])
        speed = (task.completed + 1 - done) / task.elapsed if task.elapsed else 0.0
        errors = ", ".join(f"{name} {sum(v)}/{len(v)} errors" for name, v in verdicts.items())
        bar.update(task_id, advance=1, rate=f"{speed:.2f} images/s", errors=errors)

    return progress
