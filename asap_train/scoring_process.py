"""A checkpoint that is scored while training goes on: by a process of its own, which has an engine's machines do it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

import hafbench
from hafbench.processes import WorkerProcesses, worker_ended
from hafbench.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import SynchronizedArray
    from pathlib import Path

    from hafbench.specs import RunSpec

    Counts = SynchronizedArray[int]

SECONDS = 2.0
"""Between two looks at how far it is."""


class ScoringProcess:
    """Makes one run at a time. It ends when it is closed, and when the process that has it ends.

    Not a thread: what the client of a cluster does in the background would hold up training.
    """

    def __init__(self) -> None:
        self._counts: Counts = multiprocessing.get_context("spawn").Array("q", 2)
        self._process: WorkerProcesses | None = None
        self._run: Future[None] | None = None
        self.step: int | None = None

    @property
    def done(self) -> bool:
        """Whether the run that was started has ended, well or not."""
        return self._run is not None and self._run.done()

    def start(self, step: int, spec: RunSpec, out: Path) -> None:
        """Begin with the run of a step's checkpoint, or resume it."""
        if self._process is None:
            self._process = WorkerProcesses(1, _begin, self._counts)
        self._counts[:] = [0, 0]
        self.step, self._run = step, self._process.submit(_score, spec, out)

    def wait(self, progress: Progress) -> None:
        """Until the run has ended, if there is one, whose images are reported; raises what it raised."""
        if self._run is None:
            return
        shown = False
        while not wait([self._run], SECONDS).done:
            total, images = self._counts[:]
            if total and not shown:
                progress.start("images", total, images)
            shown = shown or total > 0
            if shown:
                progress.update("images", images)
        if shown:
            progress.update("images", self._counts[1])
        ended, self._run, self.step = self._run, None, None
        try:
            ended.result()
        except BrokenProcessPool as error:
            raise worker_ended("with another score.engine if it does so again") from error

    def close(self) -> None:
        """End the process at once; an unfinished run can be resumed."""
        if self._process is not None:
            self._process.stop()
            self._process.close()


class _Counted:
    """A Progress that another process reads."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        _COUNTS[0][:] = [total, done]

    def update(self, task: str, done: int, note: str = "") -> None:
        _COUNTS[0][1] = done


_COUNTS: list[Counts] = []
"""In the process: images of the run, and how many of them are done."""


def _begin(counts: Counts) -> None:
    _COUNTS[:] = [counts]


def _score(spec: RunSpec, out: Path) -> None:
    hafbench.run(spec, out=out, progress=_Counted())
