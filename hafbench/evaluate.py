"""The loop: samples -> images -> scores -> records. Generation goes on while the images before are scored."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

from hafbench.engines import Batch, Made
from hafbench.engines.local import Here
from hafbench.errors import HafError, Unavailable
from hafbench.images import ENCODINGS, ImageFormat
from hafbench.manifest import ScorerFacts
from hafbench.pools import Pending, Pools, Workers, known
from hafbench.progress import SILENT, Progress
from hafbench.records import Record, Sample
from hafbench.scorers import SCORERS
from hafbench.scoring import Job, Scored, make_records
from hafbench.sources import read_ahead, read_place
from hafbench.types import Described, Generator, Scorer

if TYPE_CHECKING:
    from hafbench.engines import Engine
    from hafbench.runs import Run, RunFolder
    from hafbench.suites import Prompt

SECONDS = 2.0
"""How long an image may take before it is told again how far the scorers are that wait."""


@dataclass(frozen=True)
class Planned(Sequence[Sample]):
    """Every prompt with every seed, each made when it is asked for: of a million there is none in memory."""

    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    suffix: str

    def __len__(self) -> int:
        return len(self.prompts) * len(self.seeds)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        prompt, seed = divmod(range(len(self))[place], len(self.seeds))
        return self._sample(self.prompts[prompt], self.seeds[seed])

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(prompt, seed) for prompt in self.prompts for seed in self.seeds)

    def _sample(self, prompt: Prompt, seed: int) -> Sample:
        return Sample(f"{prompt.id}/{seed}{self.suffix}", prompt, seed)


def plan(prompts: Sequence[Prompt], seeds: Sequence[int], image_format: ImageFormat = "png") -> Planned:
    """Every prompt with every seed, as images/PROMPT_ID/SEED.png, or with another suffix by the format."""
    return Planned(prompts, seeds, ENCODINGS[image_format].suffix)


def spread(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """At most `limit` prompts, taken from every category in turn, in the suite's order."""
    if limit is None or limit >= len(prompts):
        return list(prompts)
    turns: dict[str, int] = {}
    rank = {}
    for prompt in prompts:
        rank[prompt.id] = turns[prompt.category] = turns.get(prompt.category, 0) + 1
    chosen = {prompt.id for prompt in sorted(prompts, key=lambda prompt: rank[prompt.id])[:limit]}
    return [prompt for prompt in prompts if prompt.id in chosen]


def describe(scorers: Mapping[str, Described | Unavailable]) -> dict[str, ScorerFacts]:
    """What run.json says of the scorers."""
    described = {}
    for name, scorer in scorers.items():
        if isinstance(scorer, Unavailable):
            row = SCORERS.get(name)
            described[name] = ScorerFacts(role=row.role, about=row.about, unavailable=str(scorer))
            continue
        settings = dict(scorer.settings)
        described[name] = ScorerFacts(
            role=scorer.role,
            about=scorer.about,
            version=scorer.version,
            higher_is_better=scorer.higher_is_better,
            weights=settings.pop("weights", {}),
            settings=settings,
            left_out=getattr(scorer, "left_out", None),
        )
    return described


def evaluate(
    run: RunFolder,
    samples: Sequence[Sample],
    scorers: Mapping[str, Scorer | Unavailable],
    generator: Generator | None = None,
    *,
    engine: Engine | None = None,
    batch_size: int = 1,
    workers: Workers | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Make (unless they are there) and score every sample that the run does not hold yet, then finish the run.

    `engine` makes the images, by default with `generator` in this process, and asks its own scorers about them; the
    others are `scorers`. An image that cannot be made or read, and a scorer that breaks, are recorded as `failed`; the
    run goes on. Records reach the disk one image at a time, in the order of `samples`. `workers` are processes that
    share in the scoring, and change no record. Where generator or scorer raises RunStopped, or a worker process ends,
    what is complete is kept, and RunStopped is raised.
    """
    run.check_samples(samples)
    engine = engine or Here(generator)
    finished = run.finished_images
    progress.start("images", len(samples), len(finished))
    with Pools(scorers, workers) as pools:
        everyone = {name: scorers[name] if name in scorers else engine.scorers[name] for name in run.manifest.scorers}
        queue = _Queue(run, everyone, pools, _Counter(len(finished), progress, pools.note))
        # So few images wait at a time that memory stays flat.
        most = max(batch_size, pools.depth)
        try:
            # What was drawn is saved before the run is left.
            with closing(engine.make(run, _batches(samples, batch_size, finished))) as making:
                made = ((one, _job(run, one)) for one in making)
                # Images of others may be far away; our own are in memory, when they have just been made.
                for one, job in read_ahead(made, _read, most if engine.only_reads else 0):
                    queue.write(most - 1)
                    queue.add(one, job)
            queue.write(0)
        except BaseException:
            pools.stop()
            queue.write_complete()
            raise
    return run.finish([sample.image for sample in samples])


def _batches(samples: Sequence[Sample], size: int, finished: Collection[str]) -> Iterator[Batch]:
    """Cut from all samples, done or not: an image is drawn in the same batch when a run is resumed."""
    for start in range(0, len(samples), size):
        batch = tuple(samples[start : start + size])
        if todo := tuple(sample for sample in batch if sample.image not in finished):
            yield Batch(batch, todo)


def _job(run: RunFolder, made: Made) -> Job | None:
    """What is left to score of an image by this process; None where there is none."""
    sample = made.sample
    if made.problem is not None or (made.scored is not None and made.scored.problem is not None):
        return None
    return Job(sample.image, made.content or sample.place or run.source.place(sample.image), sample.prompt)


def _read(made: tuple[Made, Job | None]) -> tuple[Made, Job | None]:
    """With the image read: once, whoever scores it."""
    one, job = made
    return one, replace(job, place=read_place(job.place)) if job and one.scored is None else job


class _Queue:
    """The images that are being scored, in order. Records are written when those of the images before have been."""

    def __init__(
        self, run: RunFolder, scorers: Mapping[str, Described | Unavailable], pools: Pools, counter: _Counter
    ) -> None:
        self._run, self._scorers, self._pools, self._counter = run, scorers, pools, counter
        self._scoring: deque[tuple[Sample, Pending]] = deque()

    def add(self, made: Made, job: Job | None) -> None:
        """One more image, and what is left to score of it."""
        self._scoring.append((made.sample, self._scores(made, job)))

    def _scores(self, made: Made, job: Job | None) -> Pending:
        """What the engine's scorers said, and what the others will say."""
        before = Scored(problem=made.problem) if made.problem is not None else made.scored
        if before is not None and (job is None or not self._pools.scorers):
            return known(before)
        assert job is not None  # noqa: S101 (there is an image, and nothing is known of it)
        others = self._pools.submit(job)
        return others if before is None else Pending((*known(before).parts, *others.parts))

    def write(self, most: int) -> None:
        """Write what is complete, and wait until at most so many images are left."""
        while self._scoring and (len(self._scoring) > most or self._scoring[0][1].complete):
            while not self._scoring[0][1].wait(SECONDS):
                if self._pools.note():
                    self._counter.tell()
            self._write_first()

    def write_complete(self) -> None:
        """Write what is complete when a run ends before its time, whose error is the one to be told."""
        with suppress(HafError):
            while self._scoring and self._scoring[0][1].complete:
                self._write_first()

    def _write_first(self) -> None:
        sample, pending = self._scoring[0]
        records = make_records(sample, self._scorers, pending.result())
        try:
            self._run.append(records)
        except BaseException:
            self._scoring.clear()  # nothing may follow a line that is perhaps not whole
            raise
        self._scoring.popleft()
        self._counter.add(records)


class _Counter:
    """Images done, of each scorer's verdicts so far how many are errors, and what the scorers say that wait."""

    def __init__(self, done: int, progress: Progress, note: Callable[[], str]) -> None:
        self._done, self._progress, self._note = done, progress, note
        self._verdicts: dict[str, Counter[bool]] = {}

    def add(self, records: Sequence[Record]) -> None:
        """One more image."""
        self._done += 1
        for record in records:
            if record.is_error is not None:
                self._verdicts.setdefault(record.scorer, Counter())[record.is_error] += 1
        self.tell()

    def tell(self) -> None:
        """Report how far it is."""
        notes = [f"{name} {own[True]}/{own.total()} errors" for name, own in self._verdicts.items()]
        self._progress.update("images", self._done, ", ".join(filter(None, [*notes, self._note()])))
