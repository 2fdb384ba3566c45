"""Worker processes that share the cores, are not reached by Ctrl-C, and end when the process that started them ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from hafbench.errors import RunStopped

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")


class WorkerProcesses:
    """So many processes; each begins with `begin(*given)`. It ends when it is told to stop, and when this one ends.

    `share`: of so many processes in all, which share the cores, where that is more than `count`.
    """

    def __init__(self, count: int, begin: Callable[..., None], *given: Any, share: int = 1) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")
        reader, self._writer = context.Pipe(duplex=False)
        threads = max(1, cores() // max(count, share))
        self._pool = ProcessPoolExecutor(count, context, _begin, (reader, threads, begin, given))

    def submit(self, work: Callable[..., T], *given: Any) -> Future[T]:
        """Have one of the processes do it; raises BrokenProcessPool if one ended."""
        with _without_interrupts():
            return self._pool.submit(work, *given)

    def stop(self) -> None:
        """End them at once, each when it reads the end of the pipe."""
        self._writer.close()

    def close(self) -> None:
        """End them when what they do is done."""
        self._pool.shutdown(cancel_futures=True)
        self._writer.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_ended(remedy: str) -> RunStopped:
    """What to raise for BrokenProcessPool."""
    return RunStopped(
        "A worker process ended before its time, most likely for lack of memory; run the same command again to resume, "
        f"{remedy}."
    )


@contextmanager
def stderr_closed() -> Iterator[None]:
    """What C++ code writes to stderr goes nowhere: of notices that have no switch."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (only its number is wanted)
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile are not reached by Ctrl-C, which would print a traceback for each."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(end: Connection, threads: int, begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # which torch reads when it is loaded
    import cv2

    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):  # a script that was started may have imported it
        torch.set_num_threads(threads)
    # The main process loads the same and passes on what libraries warn of.
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.ERROR)
    begin(*given)


def _end_with(end: Connection) -> None:
    end.poll(None)
    os._exit(1)
