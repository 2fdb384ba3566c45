"""Pictures drawn on several devices of this machine, by a process for each, in order."""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.devices import pick_devices
from hafbench.engines import Batch, Made
from hafbench.engines.drawing import ENCODERS, Encoders, Saved, missing
from hafbench.generators import load_generator
from hafbench.manifest import GeneratorFacts
from hafbench.processes import WorkerProcesses, worker_ended

if TYPE_CHECKING:
    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.specs import GeneratorSpec
    from hafbench.types import Described, Generator


@contextmanager
def devices_engine(model: GeneratorSpec, devices: str) -> Iterator[tuple[Devices, GeneratorFacts]]:
    """Processes that have loaded the model, and what one of them says of it.

    Raises HafError for devices that are not there, and whatever loading the model raises.
    """
    names = pick_devices(devices)
    asked = model.model_dump(mode="json")
    processes = [WorkerProcesses(1, _begin, asked, name, share=len(names)) for name in names]
    try:
        try:
            facts = processes[0].submit(_facts).result()
        except BrokenProcessPool as error:
            raise worker_ended("with fewer --devices") from error
        yield Devices(processes), facts
    except BaseException:
        for process in processes:
            process.stop()
        raise
    finally:
        for process in processes:
            process.close()


@dataclass
class _Drawing:
    """A batch that a process draws, then encodes while it draws the next one, and saves; `drawn` ends before that."""

    process: WorkerProcesses
    number: int
    drawn: Future[None]
    _problems: Future[list[str | None]] | None = field(default=None, init=False)

    def ask(self) -> Future[list[str | None]]:
        """Ask for the problems of its pictures: the process answers when all are saved, and does nothing else until."""
        self._problems = self._problems or self.process.submit(_problems, self.number)
        return self._problems

    def problems(self) -> list[str | None]:
        """Of each picture why there is none, once all are saved."""
        self.drawn.result()
        return self.ask().result()


class Devices:
    """The engine of several devices: the same pictures as by one, since each has noise of its own."""

    scorers: Mapping[str, Described] = {}
    only_reads = False

    def __init__(self, processes: Sequence[WorkerProcesses]) -> None:
        self._processes = processes
        self._numbers = count()

    def make(self, run: RunFolder, batches: Iterable[Batch]) -> abc.Generator[Made]:
        """Whole batches, a few ahead; what is on disk already is not saved again.

        Of each process: those that it encodes, one that it draws, and one for when that is done.
        """
        ahead: deque[tuple[Batch, _Drawing | None]] = deque()
        try:
            for batch in batches:
                wanted = missing(run, batch.samples)
                ahead.append((batch, self._draw(run, batch, wanted, ahead) if wanted else None))
                if len(ahead) >= (_encoded(batch) + 2) * len(self._processes):
                    yield from _first(ahead)
            while ahead:
                yield from _first(ahead)
        except BrokenProcessPool as error:
            raise worker_ended("with fewer --devices") from error

    def _draw(
        self, run: RunFolder, batch: Batch, wanted: Sequence[str], ahead: Iterable[tuple[Batch, _Drawing | None]]
    ) -> _Drawing:
        """Have the process draw a batch that has the least to draw, and then tell of one that it was given before."""
        given = {process: [one for _, one in ahead if one and one.process is process] for process in self._processes}
        process = min(given, key=lambda process: sum(not one.drawn.done() for one in given[process]))
        number = next(self._numbers)
        drawing = _Drawing(process, number, process.submit(_draw, number, run.folder, batch.samples, wanted))
        if len(given[process]) >= _encoded(batch):
            given[process][-_encoded(batch)].ask()
        return drawing


def _encoded(batch: Batch) -> int:
    """Batches that a process encodes at a time, to keep its threads busy."""
    return -(-ENCODERS // len(batch.samples))


def _first(ahead: deque[tuple[Batch, _Drawing | None]]) -> Iterator[Made]:
    batch, drawing = ahead.popleft()
    problems = drawing.problems() if drawing else [None] * len(batch.samples)
    for sample, problem in zip(batch.samples, problems, strict=True):
        if sample in batch.todo:
            yield Made(sample, problem)


_ASKED: list[tuple[Mapping[str, Any], str]] = []
"""In a worker process: the spec of its model, and its device."""
_DRAWN: dict[int, list[Future[Saved]]] = {}
"""In a worker process: batches that are drawn, by their numbers."""


def _begin(model: Mapping[str, Any], device: str) -> None:
    _ASKED[:] = [(model, device)]


@cache
def _generator() -> Generator:
    from hafbench.specs import GeneratorSpec

    model, device = _ASKED[0]
    return load_generator(GeneratorSpec.model_validate(model), device)


@cache
def _encoders(folder: Path) -> Encoders:
    return Encoders(folder)


def _facts() -> GeneratorFacts:
    return GeneratorFacts.of(_generator())


def _draw(number: int, folder: Path, samples: Sequence[Sample], wanted: Sequence[str]) -> None:
    """Draw a batch, and begin to save it."""
    _DRAWN[number] = list(_encoders(folder).draw(_generator(), samples, wanted))


def _problems(number: int) -> list[str | None]:
    """Wait until a batch is saved; why there is no picture, where there is none."""
    saved = [one.result() for one in _DRAWN.pop(number)]
    return [one if isinstance(one, str) else None for one in saved]
