"""The loop: samples -> images -> scores -> records. Generation goes on while the images before are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import BadImage, HafError, Unavailable, one_line
from hafbench.images import load_image, sha256_of
from hafbench.manifest import ScorerFacts
from hafbench.progress import SILENT, Progress
from hafbench.records import FileFacts, Record, Sample, make_record
from hafbench.scorers import SCORERS, load_scorer
from hafbench.types import Generator, Role, Score, Scorer

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.runs import Run, RunFolder
    from hafbench.specs import ScorerSpec
    from hafbench.suites import Prompt


def plan(prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Sample]:
    """Every prompt with every seed, as images/PROMPT_ID/SEED.png."""
    return [Sample(f"{prompt.id}/{seed}.png", prompt, seed) for prompt in prompts for seed in seeds]


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
        )
    return described


def evaluate(
    run: RunFolder,
    samples: Sequence[Sample],
    scorers: Mapping[str, Scorer | Unavailable],
    generator: Generator | None = None,
    *,
    batch_size: int = 1,
    progress: Progress = SILENT,
) -> Run:
    """Make (unless `generator` is None) and score every sample that the run does not hold yet, then finish the run.

    An image that cannot be made or read, and a scorer that breaks, are recorded as `failed`; the run goes on.
    Records reach the disk one image at a time, in the order of `samples`.
    """
    run.check_samples(samples)
    finished = run.finished_images
    counter = _Counter(len(finished), progress)
    progress.start("images", len(samples), len(finished))
    # Batches are cut from all samples, done or not: an image is drawn in the same batch when a run is resumed.
    batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer") as pool:
        waiting: list[Future[list[Record]]] = []
        try:
            for batch in [*batches, ()]:
                todo = [sample for sample in batch if sample.image not in finished]
                problems = make_images(run, generator, batch) if generator and todo else {}
                # What was handed over before this batch was made has been scored meanwhile.
                for future in waiting:
                    run.append(future.result())
                    counter.add(future.result())
                waiting = [
                    pool.submit(score_sample, one, run.image_root / one.image, scorers, problems.get(one.image))
                    for one in todo
                ]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return run.finish([sample.image for sample in samples])


class _Counter:
    """Images done, and of each scorer's verdicts so far how many are errors."""

    def __init__(self, done: int, progress: Progress) -> None:
        self._done, self._progress = done, progress
        self._verdicts: dict[str, list[bool]] = {}

    def add(self, records: Sequence[Record]) -> None:
        """One more image."""
        self._done += 1
        for record in records:
            if record.is_error is not None:
                self._verdicts.setdefault(record.scorer, []).append(record.is_error)
        note = ", ".join(f"{name} {sum(own)}/{len(own)} errors" for name, own in self._verdicts.items())
        self._progress.update("images", self._done, note)


def score_sample(
    sample: Sample, path: Path, scorers: Mapping[str, Scorer | Unavailable], problem: str | None = None
) -> list[Record]:
    """The records of one image; `problem` says why there is no image to score."""
    import numpy as np

    facts, pixels = FileFacts(), None
    if problem is None:
        try:
            image = load_image(path)
            facts = FileFacts(sha256_of(path), image.width, image.height)
            pixels = np.asarray(image)
        except (BadImage, OSError) as error:
            problem = str(error).replace(str(path), sample.image)  # records are shared, and paths name people
    records = []
    for name, scorer in scorers.items():
        version = None if isinstance(scorer, Unavailable) else scorer.version
        role: Role = "quality" if isinstance(scorer, Unavailable) else scorer.role
        if problem is not None:
            score = Score("failed", reason=problem)
        elif isinstance(scorer, Unavailable):
            score = Score("unscored", reason=str(scorer))
        else:
            assert pixels is not None  # noqa: S101 (no problem means that the image was read)
            score = _score_safely(scorer, pixels, sample.prompt)
        try:
            records.append(make_record(sample, facts, name, version, score, role))
        except ValueError as error:
            failed = Score("failed", reason=f"{name}: {error}")
            records.append(make_record(sample, facts, name, version, failed, role))
    return records


def _score_safely(scorer: Scorer, pixels: Any, prompt: Prompt | None) -> Score:
    # Whatever breaks in a scorer, be it ours or a library's, costs this one score and not the run.
    try:
        return scorer.score(pixels, prompt)
    except Exception as error:
        return Score("failed", reason=f"{scorer.name}: {_reason(error)}")


def _reason(error: Exception) -> str:
    text = one_line(error, 300) or "no message"
    return text if isinstance(error, HafError) else f"{type(error).__name__}: {text}"


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
    except Exception as error:
        if len(samples) == 1:
            yield f"generator: {_reason(error)}"
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
