"""Images to scores, and scores to records: what is done for each image, whichever thread or process does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hafbench.errors import BadImage, HafError, RunStopped, Unavailable, one_line
from hafbench.images import RENEW, decode_image
from hafbench.records import FileFacts, Record, Sample, make_record
from hafbench.types import BatchScorer, Described, Role, Score, Scorer

if TYPE_CHECKING:
    from hafbench.sources.places import Place
    from hafbench.suites import Prompt
    from hafbench.types import Pixels


@dataclass(frozen=True)
class Job:
    """An image to score: its name in the records, where its bytes are, its prompt."""

    image: str
    place: Place
    prompt: Prompt | None = None


@dataclass(frozen=True)
class Scored:
    """What some scorers say of one image, by their names; `problem` says why there was no image to score."""

    facts: FileFacts = field(default_factory=FileFacts)
    scores: Mapping[str, Score] = field(default_factory=dict)
    problem: str | None = None


def score_images(jobs: Sequence[Job], scorers: Mapping[str, Scorer]) -> Iterator[Scored]:
    """Score images by all scorers, in the order of `jobs`; a BatchScorer is given all of them at once.

    A scorer that breaks gives the score `failed`; RunStopped is raised.
    """
    images = [_read(job) for job in jobs]
    batch = [(image, job.prompt) for image, job in zip(images, jobs, strict=True) if not isinstance(image, str)]
    together = {
        name: iter(_score_together(scorer, [image.pixels for image, _ in batch], [prompt for _, prompt in batch]))
        for name, scorer in scorers.items()
        if isinstance(scorer, BatchScorer)
    }
    for image, job in zip(images, jobs, strict=True):
        if isinstance(image, str):
            yield Scored(problem=image)
            continue
        scores = {
            name: next(together[name]) if name in together else _score_safely(scorer, image.pixels, job.prompt)
            for name, scorer in scorers.items()
        }
        yield Scored(image.facts, scores)


@dataclass(frozen=True)
class _Image:
    facts: FileFacts
    pixels: Pixels


def _read(job: Job) -> _Image | str:
    """The image, or why it cannot be read."""
    import numpy as np

    from hafbench.sources.places import Unreadable, read_place

    found = read_place(job.place)
    if isinstance(found, Unreadable):
        return f"{job.image}: the image cannot be read ({found.reason}); {RENEW}"
    try:
        image = decode_image(found.content, job.image)
    except BadImage as error:
        return str(error)
    return _Image(FileFacts(found.sha256, image.width, image.height), np.asarray(image))


def _score_together(scorer: BatchScorer, images: Sequence[Pixels], prompts: Sequence[Prompt | None]) -> list[Score]:
    try:
        scores = scorer.score_batch(images, prompts) if len(images) > 1 else []
    except RunStopped:
        raise
    except Exception:
        scores = []
    if len(scores) == len(images):
        return scores
    # One image must not cost the others their score.
    return [_score_safely(scorer, image, prompt) for image, prompt in zip(images, prompts, strict=True)]


def _score_safely(scorer: Scorer, image: Pixels, prompt: Prompt | None) -> Score:
    # Whatever breaks in a scorer, be it ours or a library's, costs this one score and not the run.
    try:
        return scorer.score(image, prompt)
    except RunStopped:
        raise
    except Exception as error:
        return Score("failed", reason=f"{scorer.name}: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """What broke, on one line."""
    text = one_line(error, 300) or "no message"
    return text if isinstance(error, HafError) else f"{type(error).__name__}: {text}"


def make_records(
    sample: Sample, scorers: Mapping[str, Described | Unavailable], parts: Sequence[Scored]
) -> list[Record]:
    """The records of one image in the order of `scorers`, from what some of them said and what the others said."""
    problem = next((part.problem for part in parts if part.problem is not None), None)
    facts = parts[0].facts if problem is None else FileFacts()
    scores = {name: score for part in parts for name, score in part.scores.items()}
    records = []
    for name, scorer in scorers.items():
        version = None if isinstance(scorer, Unavailable) else scorer.version
        role: Role = "quality" if isinstance(scorer, Unavailable) else scorer.role
        if problem is not None:
            score = Score("failed", reason=problem)
        elif isinstance(scorer, Unavailable):
            score = Score("unscored", reason=str(scorer))
        else:
            score = scores[name]
        try:
            records.append(make_record(sample, facts, name, version, score, role))
        except ValueError as error:
            failed = Score("failed", reason=f"{name}: {error}")
            records.append(make_record(sample, facts, name, version, failed, role))
    return records
