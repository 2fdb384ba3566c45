"""Pictures drawn on several devices of this machine, by a process for each, in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from hafbench.devices import pick_devices
from hafbench.engines import Batch, Made
from hafbench.engines.drawing import draw_files, save
from hafbench.generators import load_generator
from hafbench.manifest import GeneratorFacts
from hafbench.processes import WorkerProcesses, worker_ended

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.specs import GeneratorSpec
    from hafbench.types import Described, Generator

AHEAD = 2
"""Batches a process that are drawn or wait to be: one that it draws, and one for when that is done."""


@contextmanager
def devices_engine(model: GeneratorSpec, devices: str) -> Iterator[tuple[Devices, GeneratorFacts]]:
    """Processes that have loaded the model, and what one of them says of it.

    Raises HafError for devices that are not there, and whatever loading the model raises.
    """
    names = pick_devices(devices)
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    for name in names:
        queue.put(name)
    pool = WorkerProcesses(len(names), _begin, model.model_dump(mode="json"), queue)
    try:
        try:
            facts = pool.submit(_facts).result()
        except BrokenProcessPool as error:
            raise worker_ended("with fewer --devices") from error
        yield Devices(pool), facts
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.close()


class Devices:
    """The engine of several devices: the same pictures as by one, since each has noise of its own."""

    scorers: Mapping[str, Described] = {}
    only_reads = False

    def __init__(self, pool: WorkerProcesses) -> None:
        self._pool = pool

    def make(self, run: RunFolder, batches: Iterable[Batch]) -> Iterator[Made]:
        """Whole batches, a few ahead; what is on disk already is not saved again."""
        drawn: deque[tuple[Batch, Future[list[bytes | str]] | None]] = deque()
        try:
            for batch in batches:
                there = run.has_images(batch.samples)
                drawn.append((batch, None if there else self._pool.submit(_draw, batch.samples)))
                if len(drawn) >= AHEAD * self._pool.count:
                    yield from _save_first(run, drawn)
            while drawn:
                yield from _save_first(run, drawn)
        except BrokenProcessPool as error:
            raise worker_ended("with fewer --devices") from error


def _save_first(run: RunFolder, drawn: deque[tuple[Batch, Future[list[bytes | str]] | None]]) -> Iterator[Made]:
    batch, files = drawn.popleft()
    return save(run, batch, files.result() if files else None)


_ASKED: list[tuple[Mapping[str, Any], str]] = []
"""In a worker process: the spec of its model, and its device."""


def _begin(model: Mapping[str, Any], devices: SimpleQueue[str]) -> None:
    _ASKED[:] = [(model, devices.get())]


@cache
def _generator() -> Generator:
    from hafbench.specs import GeneratorSpec

    model, device = _ASKED[0]
    return load_generator(GeneratorSpec.model_validate(model), device)


def _facts() -> GeneratorFacts:
    return GeneratorFacts.of(_generator())


def _draw(samples: tuple[Sample, ...]) -> list[bytes | str]:
    return list(draw_files(_generator(), samples))
