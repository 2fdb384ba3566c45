"""Who makes the pictures of a run and scores them: this process, processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from hafbench.errors import Unavailable
from hafbench.pools import Workers
from hafbench.registry import Entry, Registry

if TYPE_CHECKING:
    from hafbench.manifest import GeneratorFacts
    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.scoring import Scored
    from hafbench.sources import Content
    from hafbench.specs import RunSpec, ScoreSpec
    from hafbench.types import Described, Generator, Scorer


@dataclass(frozen=True)
class Batch:
    """Pictures that are drawn together, and those of them that have no records yet."""

    samples: tuple[Sample, ...]
    todo: tuple[Sample, ...]


@dataclass(frozen=True)
class Made:
    """A picture that lies in the run's folder of images, or `problem`, which says why there is none.

    `scored` is what those scorers say that the engine asks; None where it asks none. `content` is the file of a picture
    that was just made, where this process has it.
    """

    sample: Sample
    problem: str | None = None
    scored: Scored | None = None
    content: Content | None = None


class Engine(Protocol):
    """Makes the pictures of a run, and may ask scorers about them where it makes them."""

    scorers: Mapping[str, Described]
    """The scorers that it asks; the others are asked by the process that writes the run."""
    only_reads: bool
    """Nothing is drawn, and nothing scored: images of others, which may be far away, are better read ahead."""

    def make(self, run: RunFolder, batches: Iterable[Batch]) -> abc.Generator[Made]:
        """What is to do of each batch, in order, when it is asked for: a few pictures ahead at most.

        Closed before its time, it saves what is drawn. Raises RunStopped where nothing more can be made.
        """
        ...


@dataclass(frozen=True)
class Started:
    """An engine that is ready, with the facts for run.json.

    `described` are all scorers, in the order of the spec, `scorers` those that the engine does not ask; `workers` are
    processes for these.
    """

    engine: Engine
    generator: GeneratorFacts | None
    described: Mapping[str, Described | Unavailable]
    scorers: Mapping[str, Scorer | Unavailable]
    workers: Workers


ENGINES: Registry[Entry] = Registry(
    "engine",
    "hafbench.engines",
    Entry,
    (
        Entry("local", "this machine", "hafbench.engines.local:start"),
        Entry("ray", "a Ray cluster, or Ray on this machine", "hafbench.engines.ray:start"),
    ),
)


def start(spec: RunSpec | ScoreSpec, generator: Generator | None = None) -> AbstractContextManager[Started]:
    """The engine that a resolved spec names, ended with the context; raises HafError for what it cannot do.

    `generator` is the model of the spec where this process has loaded it already. A row's loader is a function of the
    same arguments that returns such a context manager.
    """
    return cast("AbstractContextManager[Started]", ENGINES.get(spec.engine.engine).load()(spec, generator))
