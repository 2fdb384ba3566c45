"""What travels through a Ray cluster, and what is done with it there: pictures drawn, then scored, as plain values.

Ray is not imported: a worker is an object that is called with a row of Ray Data and returns one.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hafbench.engines.drawing import draw, to_file
from hafbench.errors import HafError, RunStopped, Unavailable, one_line
from hafbench.generators import load_generator
from hafbench.manifest import GeneratorFacts
from hafbench.provenance import versions
from hafbench.scorers.loading import load_scorers
from hafbench.scoring import Job, Scored, score_images
from hafbench.sources import Place, read_place
from hafbench.specs import GeneratorSpec, ScorerSpec
from hafbench.types import BatchScorer

if TYPE_CHECKING:
    from hafbench.records import Sample
    from hafbench.types import Role, Scorer

Row = dict[str, Any]
"""Of Ray Data: one column, `unit`, with the bytes of a pickled Unit. So blocks have one schema, and Ray has the size of
what is in flight."""


@dataclass(frozen=True)
class Unit:
    """Pictures that go through the cluster together, such as those that are drawn in one batch.

    `images` are where they are, or why there is none: the bytes themselves once they are drawn or read. `drawn`: by the
    cluster, and not saved yet. `scored` is what its scorers say. `stopped` says why nothing more can be done.
    """

    samples: tuple[Sample, ...]
    images: tuple[Place | str, ...] = ()
    drawn: bool = False
    scored: tuple[Scored, ...] = ()
    stopped: str | None = None


def to_row(unit: Any) -> Row:
    """A row of Ray Data."""
    return {"unit": pickle.dumps(unit)}


def from_row(row: Row) -> Any:
    """What `to_row` was given; Ray passes values by pickle, too."""
    return pickle.loads(row["unit"])  # noqa: S301


def check_versions(wanted: Mapping[str, str]) -> None:
    """Raises HafError where this machine has other versions of packages that shape a number than the command's."""
    here = versions()
    names = [name for name in {**wanted, **here} if wanted.get(name) != here.get(name)]
    if names:
        name = names[0]
        others = f", and {len(names) - 1} more differ" if names[1:] else ""
        raise HafError(
            f"{_node()} has {name} {here.get(name, 'missing')}, the machine of the command has "
            f"{wanted.get(name, 'none')}{others}; install the same versions on all."
        )


@dataclass
class RemoteScorer:
    """What run.json and records say of a scorer that runs on the cluster."""

    name: str
    version: str
    role: Role
    higher_is_better: bool | None
    about: str
    settings: Mapping[str, Any]
    left_out: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a worker loads: the model and the scorers as plain values, on which devices."""

    model: Mapping[str, Any] | None
    scorers: Mapping[str, Any]
    require: tuple[str, ...]
    device: str
    """Of the model."""
    scorer_device: str
    versions: Mapping[str, str] = field(default_factory=versions)
    """Of the command's process; each worker must have the same."""

    def load_generator(self) -> Any:
        """The model, None where no pictures are drawn."""
        return load_generator(GeneratorSpec.model_validate(self.model), self.device) if self.model else None

    def load_scorers(self) -> dict[str, Scorer | Unavailable]:
        """The scorers by name, or why one is unavailable."""
        specs = [ScorerSpec(name=name, options=options) for name, options in self.scorers.items()]
        return load_scorers(specs, self.scorer_device, self.require)


@dataclass(frozen=True)
class Found:
    """What a worker loaded; every other one must find the same. `batch`: images that its scorers take together."""

    generator: GeneratorFacts | None
    scorers: Mapping[str, RemoteScorer | Unavailable]
    batch: int = 1


def look(asked: Asked) -> Found | HafError:
    """Load everything once, and say what there is, or what is wrong."""
    try:
        check_versions(asked.versions)
        generator, scorers = asked.load_generator(), asked.load_scorers()
    except HafError as error:
        return error
    batch = max((one.batch_size for one in scorers.values() if isinstance(one, BatchScorer)), default=1)
    described = {name: one if isinstance(one, Unavailable) else _described(one) for name, one in scorers.items()}
    return Found(GeneratorFacts.of(generator) if generator else None, described, batch)


class Worker:
    """One process of the cluster. What it cannot load, or finds to be other than elsewhere, stops the run."""

    def __init__(self, asked: Asked, found: Found) -> None:
        self.asked, self.found = asked, found
        self.problem: str | None = None
        try:
            check_versions(asked.versions)
            self.load()
        except HafError as error:
            self.problem = one_line(error, 1000)

    def load(self) -> None:
        """What the worker needs."""
        raise NotImplementedError

    def work(self, unit: Unit) -> Unit:
        """The unit, with more of it done."""
        raise NotImplementedError

    def __call__(self, row: Row) -> Row:
        """A row with a unit, as Ray Data gives it."""
        unit: Unit = from_row(row)
        if unit.stopped is not None:
            return row
        if self.problem is not None:
            return to_row(replace(unit, stopped=self.problem))
        try:
            return to_row(self.work(unit))
        except RunStopped as error:
            return to_row(replace(unit, stopped=str(error)))


class Draws(Worker):
    """Draws the pictures that are not there yet."""

    def load(self) -> None:
        """The model, with the settings that it has elsewhere."""
        self.generator = self.asked.load_generator()
        if GeneratorFacts.of(self.generator) != self.found.generator:
            raise HafError(f"{_node()} has another model of this name, or other settings for it, than other nodes.")

    def work(self, unit: Unit) -> Unit:
        """With pictures, as files in the format of their names."""
        if unit.images:
            return unit
        pictures = zip(unit.samples, draw(self.generator, unit.samples), strict=True)
        images = tuple(one if isinstance(one, str) else to_file(sample.image, one) for sample, one in pictures)
        return replace(unit, images=images, drawn=True)


class Scores(Worker):
    """Has pictures scored by the scorers of the cluster."""

    def load(self) -> None:
        """The scorers that are available elsewhere."""
        wanted = {name for name, one in self.found.scorers.items() if not isinstance(one, Unavailable)}
        loaded = self.asked.load_scorers()
        for name in wanted:
            scorer = loaded[name]
            if isinstance(scorer, Unavailable):
                raise HafError(f"The scorer '{name}' is unavailable on {_node()}: {scorer}")
            if _described(scorer) != self.found.scorers[name]:
                raise HafError(f"{_node()} has other weights or settings of the scorer '{name}' than other nodes.")
        able = {name: one for name, one in loaded.items() if not isinstance(one, Unavailable)}
        self.scorers = {name: one for name, one in able.items() if name in wanted}

    def work(self, unit: Unit) -> Unit:
        """With scores. Images that the cluster did not draw do not travel back."""
        places = zip(unit.samples, unit.images, strict=True)
        jobs = [Job(sample.image, place, sample.prompt) for sample, place in places if not isinstance(place, str)]
        scored = iter(score_images(jobs, self.scorers))
        every = tuple(Scored(problem=one) if isinstance(one, str) else next(scored) for one in unit.images)
        return replace(unit, scored=every, images=unit.images if unit.drawn else ())


def read_images(row: Row) -> Row:
    """A unit with its images read, or why one cannot be read."""
    unit: Unit = from_row(row)
    try:
        images = tuple(one if isinstance(one, str) else read_place(one) for one in unit.images)
    except RunStopped as error:
        return to_row(replace(unit, stopped=str(error)))
    return to_row(replace(unit, images=images))


def _described(scorer: Scorer) -> RemoteScorer:
    left_out = getattr(scorer, "left_out", None)
    about = (scorer.name, scorer.version, scorer.role, scorer.higher_is_better, scorer.about)
    return RemoteScorer(*about, dict(scorer.settings), left_out)


def _node() -> str:
    import platform

    return f"the node {platform.node()}"
