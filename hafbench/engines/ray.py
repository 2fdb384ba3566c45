"""The engine `ray`: pictures are drawn and scored by processes of a Ray cluster, and come back in order.

Ray Data moves them: blocks go to a pool of actors that draw, then to one of actors that score, and stream to this
process, which alone writes the run. Ray starts what was killed again, and holds back whoever is ahead.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hafbench.engines import Batch, Made, Started
from hafbench.engines.ray_data import Stage, connected, in_parts, stream
from hafbench.engines.units import (
    Asked,
    Draws,
    Found,
    RemoteScorer,
    Scores,
    Unit,
    from_row,
    look,
    read_images,
    to_row,
)
from hafbench.errors import HafError, RunStopped, Unavailable
from hafbench.pools import Workers
from hafbench.scorers import SCORERS
from hafbench.scorers.loading import load_scorers
from hafbench.sources import Content
from hafbench.sources.addresses import is_remote
from hafbench.specs import RunSpec

if TYPE_CHECKING:
    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.specs import EngineSpec, ScoreSpec
    from hafbench.types import Described, Generator

TOGETHER = 8
"""Pictures of a folder that go through the cluster together."""
CORES = 0.5
"""That an actor on the CPU reserves: though it computes on one, what a lost node held must find room on the others."""


@contextmanager
def start(spec: RunSpec | ScoreSpec, generator: Generator | None = None) -> Iterator[Started]:
    """Connect to Ray and have one worker load the model and the scorers; raises HafError for what it cannot do.

    Scorers that wait for an answer, such as a judge, are asked by this process.
    """
    if generator:
        raise HafError("A model that is loaded already is drawn from by --engine local; Ray's workers load their own.")
    if isinstance(spec, RunSpec) and spec.devices is not None:
        raise HafError(f"--devices {spec.devices} is for --engine local; Ray uses all GPUs that it has.")
    if spec.workers > 1:
        raise HafError("--workers is for --engine local; Ray's processes are set by engine.generators and .scorers.")
    specs = spec.scorers or ()
    here = [one for one in specs if SCORERS.get(one.name).waits]
    away = {one.name: one.options.model_dump(mode="json", exclude_unset=True) for one in specs if one not in here}
    with connected(spec.engine.address):
        pools = PoolSizes.of(spec.engine, spec.device, draws=isinstance(spec, RunSpec))
        asked = Asked(
            spec.model.model_dump(mode="json") if isinstance(spec, RunSpec) else None,
            away,
            tuple(name for name in spec.require if name in away),
            pools.device(spec.device, pools.generator_gpus),
            pools.device(spec.device, pools.scorer_gpus),
        )
        found = pools.look(asked)
        waiting = load_scorers(here, spec.device, [name for name in spec.require if name not in away])
        missing = {name: one for name, one in found.scorers.items() if isinstance(one, Unavailable)}
        everyone: dict[str, Described | Unavailable] = {**waiting, **found.scorers}
        yield Started(
            Cluster(asked, found, pools, spec.engine.in_flight_mb),
            found.generator,
            {one.name: everyone[one.name] for one in specs},
            {**waiting, **missing},
            Workers(1, here, spec.device),
        )


@dataclass(frozen=True)
class PoolSizes:
    """How many processes draw and score, and what each takes of the cluster."""

    generators: int
    scorers: int
    generator_gpus: float
    generator_cpus: float
    scorer_gpus: float
    scorer_cpus: float

    @classmethod
    def of(cls, engine: EngineSpec, device: str, draws: bool) -> PoolSizes:
        """What was asked for, else what fills the cluster; raises HafError for a GPU where there is none."""
        import ray

        there = ray.cluster_resources()
        cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
        on_gpu = device != "cpu" and engine.gpus_per_generator > 0 and gpus > 0
        if not gpus and (device.startswith("cuda") or engine.gpus_per_scorer):
            raise HafError("The Ray cluster has no GPU; use --device cpu, or start Ray on machines that have some.")
        scorer_gpus = engine.gpus_per_scorer if device != "cpu" else 0.0
        left = gpus - scorer_gpus * (engine.scorers or 1)
        fit = int(max(left, 0) / engine.gpus_per_generator) if on_gpu else int(cpus / 2)
        generators = (engine.generators or max(1, fit)) if draws else 0
        taken = 0 if on_gpu else generators
        room = int((gpus - generators * engine.gpus_per_generator * on_gpu) / scorer_gpus) if scorer_gpus else cpus
        scorers = engine.scorers or max(1, int(min(room, cpus - taken)))
        generator_gpus = engine.gpus_per_generator if on_gpu else 0.0
        return cls(generators, scorers, generator_gpus, 0.0 if on_gpu else CORES, scorer_gpus, CORES)

    @staticmethod
    def device(wanted: str, gpus: float) -> str:
        """On which device a process computes: Ray shows each only the GPUs that it was given."""
        return wanted.split(":")[0] if gpus else "cpu"

    def look(self, asked: Asked) -> Found:
        """What one worker finds; raises HafError for what it cannot load, and where it cannot run hafbench."""
        import ray

        gpus = max(self.generator_gpus if asked.model else 0.0, self.scorer_gpus)
        # A process of its own, so that the memory of what it loads is free again.
        once = ray.remote(num_cpus=self.scorer_cpus, num_gpus=gpus, max_calls=1)(look)
        try:
            found: Found | HafError = ray.get(once.remote(asked))
        except ray.exceptions.RayError as error:
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            raise HafError(
                f"A worker of the Ray cluster cannot run hafbench ({' '.join(last)[:200].strip()}); install the same "
                "hafbench on all nodes."
            ) from error
        if isinstance(found, HafError):
            raise found
        return found


@dataclass
class Cluster:
    """The engine: units of pictures through two pools of actors."""

    asked: Asked
    found: Found
    pools: PoolSizes
    in_flight_mb: int
    scorers: Mapping[str, Described] = field(init=False)
    only_reads = False

    def __post_init__(self) -> None:
        self.scorers = {name: one for name, one in self.found.scorers.items() if isinstance(one, RemoteScorer)}

    def make(self, run: RunFolder, batches: Iterable[Batch]) -> abc.Generator[Made]:
        """Pictures in order, saved as they come; what is lost on the way is made again by Ray."""
        for planned in in_parts(self._units(run, batches)):
            stages = self._stages(run, [unit for unit, _ in planned])
            rows = stream([to_row(unit) for unit, _ in planned], stages, self.in_flight_mb)
            for row, (_, todo) in zip(rows, planned, strict=True):
                yield from _made(run, from_row(row), todo)

    def _units(self, run: RunFolder, batches: Iterable[Batch]) -> Iterator[tuple[Unit, tuple[Sample, ...]]]:
        """Whole batches to draw, and of pictures that are there those to score; with each what is to do of it."""
        waiting: list[Sample] = []
        for batch in batches:
            there = self.asked.model is None or run.has_images(batch.samples)
            if there:
                waiting += batch.todo
                if len(waiting) < max(TOGETHER, self.found.batch):
                    continue
            if waiting:
                yield _there(run, waiting)
                waiting = []
            if not there:
                yield Unit(batch.samples), batch.todo
        if waiting:
            yield _there(run, waiting)

    def _stages(self, run: RunFolder, units: Sequence[Unit]) -> list[Stage]:
        """Those that these units need."""
        pools, given = self.pools, (self.asked, self.found)
        stages = []
        if any(unit.images for unit in units) and not is_remote(run.manifest.image_root):
            stages.append(Stage(read_images))
        if not all(unit.images for unit in units):
            stages.append(Stage(Draws, given, pools.generators, pools.generator_cpus, pools.generator_gpus))
        return [*stages, Stage(Scores, given, pools.scorers, pools.scorer_cpus, pools.scorer_gpus)]


def _made(run: RunFolder, unit: Unit, todo: Collection[Sample]) -> Iterator[Made]:
    """What is to do of a unit that has come back, whose pictures are saved unless they are there and recorded."""
    if unit.stopped is not None:
        raise RunStopped(unit.stopped)
    for number, (sample, scored) in enumerate(zip(unit.samples, unit.scored, strict=True)):
        image = unit.images[number] if unit.drawn else None
        file = image if isinstance(image, Content) else None
        # A picture that has records stays the one that was scored.
        if file and (sample in todo or not run.has_images([sample])):
            run.save_bytes(sample.image, file.content)
        if sample in todo:
            yield Made(sample, scored=scored, content=file)


def _there(run: RunFolder, samples: Sequence[Sample]) -> tuple[Unit, tuple[Sample, ...]]:
    own = tuple(samples)
    return Unit(own, tuple(sample.place or run.source.place(sample.image) for sample in own)), own
