"""Work in items: where pairs come from, and its items processed in order, by several processes or by a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hafbench.errors import HafError
from hafbench.processes import WorkerProcesses, cores, worker_ended

if TYPE_CHECKING:
    from asap_train.hap import Rejection
    from asap_train.hap.columns import Row
    from hafbench.specs import EngineSpec


@dataclass(frozen=True)
class ItemResult:
    """What one item gave: rows that passed every gate but that of near-duplicates, and what was rejected and why."""

    item: str
    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...]


class PairSource(Protocol):
    """Where pairs come from. It can be sent to a worker process, which loads what it needs when it first needs it."""

    def items(self, round_: int) -> Iterable[str]:
        """The names of the work of one round; every round is new work on the same photos, or on further seeds."""
        ...

    def process(self, item: str) -> ItemResult:
        """Do the work of one item; the same item gives the same."""
        ...


Run = Callable[[Iterable[str]], Iterator[ItemResult]]


@contextmanager
def processes(source: PairSource, workers: int) -> Iterator[Run]:
    """A function that gives what items give, in their order, by so many processes; one is this process itself.

    Only a few results wait at a time, so that memory stays flat.
    """
    if workers <= 1:
        yield lambda items: map(source.process, items)
        return
    pool = WorkerProcesses(workers, _start, source, share=cores())

    def run(items: Iterable[str]) -> Iterator[ItemResult]:
        waiting: deque[Future[ItemResult]] = deque()
        for item in items:
            waiting.append(pool.submit(_process, item))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    except BrokenProcessPool as error:
        raise worker_ended("with --workers 1 if it does so again") from error
    except BaseException:
        pool.stop()  # what they are at is made again
        raise
    finally:
        pool.close()


@contextmanager
def cluster(source: PairSource, engine: EngineSpec) -> Iterator[Run]:
    """As `processes`, by actors of a Ray cluster: one a core, or as many as `engine.generators` says."""
    from hafbench.engines.ray_data import Stage, connected, in_parts, stream
    from hafbench.engines.units import from_row, to_row
    from hafbench.provenance import versions

    with connected(engine.address):
        import ray

        actors = engine.generators or max(1, int(ray.cluster_resources().get("CPU", 1)))
        stage = Stage(RemoteWorker, (source, versions()), actors, 1.0)

        def run(items: Iterable[str]) -> Iterator[ItemResult]:
            for part in in_parts(map(to_row, items)):
                for row in stream(part, [stage], engine.in_flight_mb):
                    result: ItemResult | HafError = from_row(row)
                    if isinstance(result, HafError):
                        raise result
                    yield result

        yield run


class RemoteWorker:
    """An actor of Ray: does the work of items. `wanted` are the versions of packages that it must have."""

    def __init__(self, source: PairSource, wanted: Mapping[str, str]) -> None:
        self.source, self.wanted = source, wanted

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with an item; gives one with its result, or with the HafError that ends the work."""
        from hafbench.engines.units import check_versions, from_row, to_row

        try:
            check_versions(self.wanted)
            return to_row(self.source.process(from_row(row)))
        except HafError as error:
            return to_row(error)


_SOURCE: list[PairSource] = []


def begin_worker() -> None:
    """What every worker process begins with: one thread of its own, whatever OMP_NUM_THREADS says."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _start(source: PairSource) -> None:
    begin_worker()
    _SOURCE[:] = [source]


def _process(item: str) -> ItemResult:
    return _SOURCE[0].process(item)
