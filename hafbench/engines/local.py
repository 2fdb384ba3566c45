"""The engine `local`: pictures are drawn by this process, or by one process for each of several devices."""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hafbench.engines import Batch, Engine, Made, Started
from hafbench.engines.drawing import Encoders, Saved, known, missing
from hafbench.errors import HafError, RunStopped
from hafbench.generators import load_generator
from hafbench.manifest import GeneratorFacts
from hafbench.pools import Workers
from hafbench.scorers.loading import load_scorers
from hafbench.specs import EngineSpec, RunSpec

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.specs import ScoreSpec
    from hafbench.types import Described, Generator


@contextmanager
def start(spec: RunSpec | ScoreSpec, generator: Generator | None = None) -> Iterator[Started]:
    """Load the scorers of a resolved spec, and its model unless it is given; raises HafError or Unavailable."""
    usual = EngineSpec()
    unused = [name for name, value in spec.engine if name != "engine" and value != getattr(usual, name)]
    if unused:
        raise HafError(f"The setting engine.{unused[0]} is for --engine ray; leave it out.")
    wanted = spec.devices if isinstance(spec, RunSpec) else None
    if isinstance(spec, RunSpec) and wanted is not None:
        if generator:
            raise HafError(f"--devices {wanted}: a model that is loaded already draws on its own device; leave it out.")
        from hafbench.engines.devices import devices_engine

        with devices_engine(spec.model, wanted) as (several, facts):
            yield _started(spec, several, facts)
        return
    if isinstance(spec, RunSpec) and generator is None:
        generator = load_generator(spec.model, spec.device)
    made_by = GeneratorFacts.of(generator) if generator else None
    yield _started(spec, Here(generator), made_by)


def _started(spec: RunSpec | ScoreSpec, engine: Engine, generator: GeneratorFacts | None) -> Started:
    scorers = load_scorers(spec.scorers or (), spec.device, spec.require)
    return Started(engine, generator, scorers, scorers, Workers(spec.workers, spec.scorers or (), spec.device))


class Here:
    """Draws in this process, with `generator`; without one the pictures are there already."""

    scorers: Mapping[str, Described] = {}

    def __init__(self, generator: Generator | None) -> None:
        self._generator = generator
        self.only_reads = generator is None

    def make(self, run: RunFolder, batches: Iterable[Batch]) -> abc.Generator[Made]:
        """This thread draws one batch after the other, while other threads encode and save what it drew before.

        What is on disk already is not saved again.
        """
        with Encoders(run.folder) as encoders:
            for sample, is_todo, future in self._drawn(run, batches, encoders):
                saved = future.result()
                if is_todo:
                    yield Made(sample, saved) if isinstance(saved, str) else Made(sample, content=saved)

    def _drawn(
        self, run: RunFolder, batches: Iterable[Batch], encoders: Encoders
    ) -> Iterator[tuple[Sample, bool, Future[Saved]]]:
        """Each sample, and whether it is to do, when its picture is saved, or when too many wait for that."""
        waiting: deque[tuple[Sample, bool, Future[Saved]]] = deque()
        try:
            for batch in batches:
                for sample, saved in zip(batch.samples, self._draw(run, batch.samples, encoders), strict=True):
                    waiting.append((sample, sample in batch.todo, saved))
                while waiting and (waiting[0][2].done() or len(waiting) > len(batch.samples) + encoders.count):
                    yield waiting.popleft()
        except RunStopped:  # the model cannot go on; what it drew before is scored
            yield from waiting
            raise
        yield from waiting

    def _draw(self, run: RunFolder, samples: Sequence[Sample], encoders: Encoders) -> Iterable[Future[Saved]]:
        if self._generator and (wanted := missing(run, samples)):
            return encoders.draw(self._generator, samples, wanted)
        return [known(None)] * len(samples)
