"""What a scorer says of labelled images: by looking at them now, or by the records of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from hafbench.errors import HafError
from hafbench.progress import SILENT, Progress
from hafbench.record_checks import problem_of
from hafbench.record_tables import read_measures
from hafbench.types import ConcurrentScorer

if TYPE_CHECKING:
    from hafbench.labelled import Labelled
    from hafbench.runs import Run
    from hafbench.types import Kind, Pixels, Region, Scorer

PIXELS = "pixels"
"""The measure of a scorer that says how large what it judged is."""
Look = Callable[["Labelled"], "Judged | None"]


@dataclass(frozen=True)
class Judged:
    """A labelled image and what the scorer says; `value` and `flagged` are None if it could not judge it, for `reason`.

    `size` is the image's shorter side in pixels, `sharpness` the log variance of its Laplacian at 512 pixels. `pixels`
    is the longer side of what the scorer judged in it, such as a hand, in pixels of the image, where it says so (its
    measure `pixels`).
    """

    name: str
    bad: bool
    source: str | None
    prompt: str | None
    value: float | None
    flagged: bool | None
    size: float
    sharpness: float
    region: Region | None = None
    kind: Kind | None = None
    reason: str | None = None
    pixels: float | None = None


def judge(images: Iterable[Labelled], scorer: Scorer, count: int = 0, progress: Progress = SILENT) -> list[Judged]:
    """Score every clearly labelled image of `count`, in their order.

    A scorer that waits looks at several at once. Raises HafError for an image that cannot be read or scored.
    """
    judged = []
    progress.start("images", count)
    with _looked_at(images, scorer) as found:
        for number, one in enumerate(found, 1):
            progress.update("images", number, scorer.note() if isinstance(scorer, ConcurrentScorer) else "")
            judged += [one] if one else []
    return judged


@contextmanager
def _looked_at(images: Iterable[Labelled], scorer: Scorer) -> Iterator[Iterator[Judged | None]]:
    """What the scorer says of each image, in their order; whatever goes wrong meanwhile ends all that it waits for."""
    look = partial(_look, scorer)
    if not isinstance(scorer, ConcurrentScorer):
        yield map(look, images)
        return
    with ThreadPoolExecutor(scorer.concurrency, "scorer") as pool:
        try:
            yield _ahead(pool, look, images, 2 * scorer.concurrency)
        finally:
            scorer.stop()
            pool.shutdown(wait=False, cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, look: Look, images: Iterable[Labelled], most: int) -> Iterator[Judged | None]:
    """The results in the images' order, with at most so many asked for ahead: renders are made as they are needed."""
    waiting: deque[Future[Judged | None]] = deque()
    for one in images:
        waiting.append(pool.submit(look, one))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _look(scorer: Scorer, one: Labelled) -> Judged | None:
    if one.bad is None:
        return None
    pixels = one.read()
    score = scorer.score(pixels, None)
    if problem := problem_of(score, scorer.role):
        raise HafError(f"{scorer.name} gives no score of {one.name}: {problem}.")
    verdict = score.value, score.is_error
    why, seen = score.reason, score.measures.get(PIXELS)
    return Judged(one.name, one.bad, one.source, one.prompt, *verdict, *_cues(pixels), one.region, one.kind, why, seen)


def judged_by_run(images: Iterable[Labelled], run: Run, scorer: str) -> list[Judged]:
    """What a run's records say of the labelled images, whose names and prompts they have; HafError for other images."""
    if scorer not in run.manifest.scorers:
        raise HafError(f"{run.address} was not scored by {scorer}; it has {', '.join(run.manifest.scorers)}.")
    if run.manifest.scorers[scorer].role != "anatomy":
        raise HafError(f"{scorer} is a quality score: only anatomy scorers have verdicts to calibrate.")
    measured = run.records.assign(pixels=read_measures(run.table, [PIXELS])[PIXELS].to_numpy())
    own = measured[measured["scorer"] == scorer]
    rows = {str(row["image"]): row for row in own.to_dict("records")}
    judged = []
    for one in images:
        if one.name not in rows:
            raise HafError(f"{run.address} has no image {one.name}: the labels are of another run.")
        row = rows[one.name]
        if one.sha256 is not None and one.sha256 != row["sha256"]:
            raise HafError(f"{run.address} has another image of the name {one.name}: the labels are of another run.")
        if one.bad is None:
            continue
        known = row["status"] == "scored"
        prompt = row["prompt_id"] if isinstance(row["prompt_id"], str) else one.prompt
        value, flagged = (float(row["value"]), bool(row["is_error"])) if known else (None, None)
        reason = None if known else str(row["reason"])
        cues, seen = _cues(one.read()), None if isnan(row["pixels"]) else float(row["pixels"])
        judged.append(
            Judged(one.name, one.bad, one.source, prompt, value, flagged, *cues, one.region, one.kind, reason, seen)
        )
    return judged


def _cues(pixels: Pixels) -> tuple[float, float]:
    from PIL import Image
    from scipy.ndimage import laplace

    height, width = pixels.shape[:2]
    grey = Image.fromarray(pixels).convert("L")
    grey.thumbnail((512, 512))
    return float(min(height, width)), float(np.log(laplace(np.asarray(grey, dtype=np.float64)).var() + 1e-6))
