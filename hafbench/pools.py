"""Who scores, all at the same time: a thread of this process, threads of each scorer that waits, worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from hafbench.errors import Unavailable
from hafbench.processes import WorkerProcesses, worker_ended
from hafbench.scorers import load_scorer
from hafbench.scoring import Job, Scored, score_images
from hafbench.types import BatchScorer, ConcurrentScorer, Scorer

if TYPE_CHECKING:
    from hafbench.specs import ScorerSpec


@dataclass(frozen=True)
class Workers:
    """So many processes that score, and what each of them loads: the scorers by their specs, on that device."""

    count: int
    specs: Sequence[ScorerSpec]
    device: str = "auto"

    def take(self, scorers: Mapping[str, Scorer | Unavailable]) -> Workers:
        """With the scorers alone that are for worker processes: those that compute rather than wait.

        On a GPU those of whole batches stay in the main process; the others have small models, or run on the CPU.
        """
        from hafbench.devices import pick_device

        stay = (ConcurrentScorer, Unavailable, *((BatchScorer,) if pick_device(self.device) != "cpu" else ()))
        chosen = tuple(spec for spec in self.specs if not isinstance(scorers[spec.name], stay))
        return Workers(self.count, chosen, self.device)


@dataclass(frozen=True)
class Pending:
    """An image that is being scored, in as many parts as there are pools."""

    parts: tuple[Future[Scored], ...]

    @property
    def complete(self) -> bool:
        """Is it scored?"""
        return all(part.done() and not part.cancelled() and part.exception() is None for part in self.parts)

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is scored, or cannot be; False if that takes longer."""
        done, undone = wait(self.parts, seconds, FIRST_EXCEPTION)
        return not undone or any(part.exception() for part in done)

    def result(self) -> list[Scored]:
        """What all scorers say; raises RunStopped where one of them, or a worker process, ended."""
        try:
            failed = [part for part in self.parts if part.done() and part.exception()]
            return [part.result() for part in failed or self.parts]
        except BrokenProcessPool as error:
            raise worker_ended("with a smaller --workers") from error


def known(scored: Scored) -> Pending:
    """An image of which it is known already what is said of it."""
    future: Future[Scored] = Future()
    future.set_result(scored)
    return Pending((future,))


class Pools:
    """All scorers at work. As a context manager it ends every thread and process, after `stop` at once.

    `depth`: so many images in progress keep all of them busy. `scorers`: the names of those that are asked.
    """

    def __init__(self, scorers: Mapping[str, Scorer | Unavailable], workers: Workers | None = None) -> None:
        self.scorers = frozenset(name for name, one in scorers.items() if not isinstance(one, Unavailable))
        waiting = {name: one for name, one in scorers.items() if isinstance(one, ConcurrentScorer)}
        self._waiting = tuple(waiting.values())
        self._pools: list[_Threads | _Processes] = [
            _Threads({name: one}, one.concurrency) for name, one in waiting.items()
        ]
        away = set(waiting)
        if workers is not None and workers.count > 1 and (workers := workers.take(scorers)).specs:
            self._pools.append(_Processes(workers))
            away |= {spec.name for spec in workers.specs}
        here = {n: one for n, one in scorers.items() if n not in away and not isinstance(one, Unavailable)}
        if here or not self._pools:
            self._pools.append(_Threads(here))
        self.depth = max(pool.depth for pool in self._pools)

    def submit(self, job: Job) -> Pending:
        """Have an image scored by all scorers; raises RunStopped if a worker process ended."""
        try:
            return Pending(tuple(pool.submit(job) for pool in self._pools))
        except BrokenProcessPool as error:
            raise worker_ended("with a smaller --workers") from error

    def note(self) -> str:
        """How far those scorers are that wait for something."""
        return ", ".join(filter(None, (scorer.note() for scorer in self._waiting)))

    def stop(self) -> None:
        """End at once what is waited for, and score nothing more."""
        for scorer in self._waiting:
            scorer.stop()
        for pool in self._pools:
            pool.stop()

    def __enter__(self) -> Pools:
        return self

    def __exit__(self, *_: object) -> None:
        for scorer in self._waiting:
            scorer.stop()
        for pool in self._pools:
            pool.close()


class _Threads:
    """Threads of this process; each takes as many waiting images as the scorers score at once."""

    def __init__(self, scorers: Mapping[str, Scorer], threads: int = 1) -> None:
        self._scorers, self._jobs = scorers, deque[tuple[Job, Future[Scored]]]()
        self._batch = max((one.batch_size for one in scorers.values() if isinstance(one, BatchScorer)), default=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scorer")
        self._stopped = False
        self.depth = 2 * threads * self._batch

    def submit(self, job: Job) -> Future[Scored]:
        future: Future[Scored] = Future()
        self._jobs.append((job, future))
        self._pool.submit(self._score)
        return future

    def _score(self) -> None:
        """Score what waits; for images that another call has taken there is nothing left to do."""
        taken = list(self._take())
        left = deque(future for _, future in taken)
        try:
            for scored in score_images([job for job, _ in taken], self._scorers):
                left.popleft().set_result(scored)
                if self._stopped:
                    return
        except BaseException as error:
            for future in left:
                future.set_exception(error)

    def _take(self) -> Iterator[tuple[Job, Future[Scored]]]:
        for _ in range(self._batch):
            try:
                yield self._jobs.popleft()
            except IndexError:
                return

    def stop(self) -> None:
        self._stopped = True
        self._jobs.clear()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Processes:
    """Worker processes."""

    def __init__(self, workers: Workers) -> None:
        # Plain values: no library is loaded in a worker before the number of its threads is set.
        specs = [spec.model_dump(mode="json") for spec in workers.specs]
        self._pool = WorkerProcesses(workers.count, _begin, specs, workers.device)
        self.depth = 4 * workers.count

    def submit(self, job: Job) -> Future[Scored]:
        return self._pool.submit(_score, job)

    def stop(self) -> None:
        self._pool.stop()

    def close(self) -> None:
        self._pool.close()


_ASKED: list[tuple[Sequence[Mapping[str, Any]], str]] = []
"""In a worker process: the specs of its scorers, and their device."""


def _begin(specs: Sequence[Mapping[str, Any]], device: str) -> None:
    _ASKED[:] = [(specs, device)]


@cache
def _scorers() -> dict[str, Scorer]:
    from hafbench.specs import ScorerSpec

    specs, device = _ASKED[0]
    asked = [ScorerSpec.model_validate(spec) for spec in specs]
    return {spec.name: load_scorer(spec.name, spec.options, device) for spec in asked}


def _score(job: Job) -> Scored:
    return next(score_images([job], _scorers()))
