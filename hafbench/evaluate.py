"""The loop: samples -> images -> scores -> records. Generation goes on while the images before are scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hafbench.errors import HafError, RunStopped, Unavailable
from hafbench.images import ENCODINGS, ImageFormat
from hafbench.manifest import ScorerFacts
from hafbench.pools import Pending, Pools, Workers, no_image
from hafbench.progress import SILENT, Progress
from hafbench.records import Record, Sample
from hafbench.scorers import SCORERS, load_scorer
from hafbench.scoring import Job, make_records, reason_of
from hafbench.sources import read_ahead, read_place
from hafbench.types import Generator, Scorer

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.runs import Run, RunFolder
    from hafbench.specs import ScorerSpec
    from hafbench.suites import Prompt

SECONDS = 2.0
"""How long an image may take before it is told again how far the scorers are that wait."""


def plan(prompts: Sequence[Prompt], seeds: Sequence[int], image_format: ImageFormat = "png") -> list[Sample]:
    """Every prompt with every seed, as images/PROMPT_ID/SEED.png, or with another suffix by the format."""
    suffix = ENCODINGS[image_format].suffix
    return [Sample(f"{prompt.id}/{seed}{suffix}", prompt, seed) for prompt in prompts for seed in seeds]


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


def load_scorers(
    specs: Sequence[ScorerSpec], device: str = "auto", require: Sequence[str] = ()
) -> dict[str, Scorer | Unavailable]:
    """The scorers by name, or why one is unavailable; a required one that is unavailable raises HafError."""
    loaded: dict[str, Scorer | Unavailable] = {}
    for spec in specs:
        try:
            loaded[spec.name] = load_scorer(spec.name, spec.options, device)
        except Unavailable as error:
            if spec.name in require:
                raise HafError(f"The scorer '{spec.name}' is required, but: {error}") from error
            loaded[spec.name] = error
    return loaded


def describe(scorers: Mapping[str, Scorer | Unavailable]) -> dict[str, ScorerFacts]:
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
    batch_size: int = 1,
    workers: Workers | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Make (unless `generator` is None) and score every sample that the run does not hold yet, then finish the run.

    An image that cannot be made or read, and a scorer that breaks, are recorded as `failed`; the run goes on. Records
    reach the disk one image at a time, in the order of `samples`. `workers` are processes that share in the scoring,
    and change no record. Where generator or scorer raises RunStopped, or a worker process ends, what is complete is
    kept, and RunStopped is raised.
    """
    run.check_samples(samples)
    finished = run.finished_images
    progress.start("images", len(samples), len(finished))
    # Batches are cut from all samples, done or not: an image is drawn in the same batch when a run is resumed.
    batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    with Pools(scorers, workers) as pools:
        queue = _Queue(run, scorers, pools, _Counter(len(finished), progress, pools.note))
        # So few images wait at a time that memory stays flat.
        most = max(batch_size, pools.depth)
        todo = _jobs(run, generator, batches, finished)
        try:
            # Images of others may be far away; our own are read from memory, when they have just been made.
            for sample, job in read_ahead(todo, _read, 0 if generator else most):
                queue.write(most - 1)
                queue.add(sample, job)
            queue.write(0)
        except BaseException:
            pools.stop()
            queue.write_complete()
            raise
    return run.finish([sample.image for sample in samples])


def _jobs(
    run: RunFolder, generator: Generator | None, batches: Iterable[Sequence[Sample]], finished: Set[str]
) -> Iterator[tuple[Sample, Job | str]]:
    """What is left to score, made batch by batch if there is a generator; or why there is no image."""
    for batch in batches:
        todo = [sample for sample in batch if sample.image not in finished]
        problems = make_images(run, generator, batch) if generator and todo else {}
        for sample in todo:
            place = sample.place or run.source.place(sample.image)
            yield sample, problems.get(sample.image) or Job(sample.image, place, sample.prompt)


def _read(todo: tuple[Sample, Job | str]) -> tuple[Sample, Job | str]:
    """With the image read: once, whoever scores it."""
    sample, job = todo
    return sample, job if isinstance(job, str) else replace(job, place=read_place(job.place))


class _Queue:
    """The images that are being scored, in order. Records are written when those of the images before have been."""

    def __init__(
        self, run: RunFolder, scorers: Mapping[str, Scorer | Unavailable], pools: Pools, counter: _Counter
    ) -> None:
        self._run, self._scorers, self._pools, self._counter = run, scorers, pools, counter
        self._scoring: deque[tuple[Sample, Pending]] = deque()

    def add(self, sample: Sample, job: Job | str) -> None:
        """One more image, or why there is none to score."""
        self._scoring.append((sample, no_image(job) if isinstance(job, str) else self._pools.submit(job)))

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
        self._verdicts: dict[str, list[bool]] = {}

    def add(self, records: Sequence[Record]) -> None:
        """One more image."""
        self._done += 1
        for record in records:
            if record.is_error is not None:
                self._verdicts.setdefault(record.scorer, []).append(record.is_error)
        self.tell()

    def tell(self) -> None:
        """Report how far it is."""
        notes = [f"{name} {sum(own)}/{len(own)} errors" for name, own in self._verdicts.items()]
        self._progress.update("images", self._done, ", ".join(filter(None, [*notes, self._note()])))


def make_images(run: RunFolder, generator: Generator, batch: Sequence[Sample]) -> dict[str, str]:
    """Generate a batch and save what is not on disk yet; returns, by image, why one could not be made.

    A batch that breaks or does not fit into memory is halved until the images that cannot be made stand alone.
    """
    if all((run.folder / "images" / sample.image).exists() for sample in batch):
        return {}
    problems: dict[str, str] = {}
    for sample, made in zip(batch, _generate(generator, batch), strict=True):
        if isinstance(made, str):
            problems[sample.image] = made
        elif not (run.folder / "images" / sample.image).exists():
            run.save_image(sample.image, made)
    return problems


def _generate(generator: Generator, samples: Sequence[Sample]) -> Iterator[Image | str]:
    prompts = [sample.prompt for sample in samples if sample.prompt is not None]
    seeds = [sample.seed for sample in samples if sample.seed is not None]
    try:
        images = generator.generate(prompts, seeds)
    except RunStopped:
        raise
    except Exception as error:
        if len(samples) == 1:
            yield f"generator: {reason_of(error)}"
            return
        _free_memory()
        half = len(samples) // 2
        yield from _generate(generator, samples[:half])
        yield from _generate(generator, samples[half:])
    else:
        yield from images


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
