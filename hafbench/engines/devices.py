"""Pictures drawn on several devices of this machine, by a process for each, in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hafbench.devices import pick_devices
from hafbench.engines import Batch, Made
from hafbench.engines.drawing import draw
from hafbench.generators import load_generator
from hafbench.images import encode_image
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
                    yield from _saved(run, *drawn.popleft())
            while drawn:
                yield from _saved(run, *drawn.popleft())
        except BrokenProcessPool as error:
            raise worker_ended("with fewer --devices") from error


def _saved(run: RunFolder, batch: Batch, drawn: Future[list[bytes | str]] | None) -> Iterator[Made]:
    problems: dict[str, str] = {}
    for sample, made in zip(batch.samples, drawn.result(), strict=True) if drawn else ():
        if isinstance(made, str):
            problems[sample.image] = made
        elif not run.has_images([sample]):
            run.save_bytes(sample.image, made)
    for sample in batch.todo:
        yield Made(sample, problems.get(sample.image))


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
    generator = _generator()
    return GeneratorFacts(name=generator.name, settings=generator.settings)


def _draw(samples: tuple[Sample, ...]) -> list[bytes | str]:
    """The pictures as files, or why one cannot be made."""
    drawn = zip(samples, draw(_generator(), samples), strict=True)
    return [
        made if isinstance(made, str) else encode_image(made, PurePosixPath(sample.image).suffix)
        for sample, made in drawn
    ]
