"""The values that pass between the rooms, and the protocols of those who make them.

    suite -> generator -> images -> detector -> scorers -> records -> report

Images in memory are RGB arrays of shape (height, width, 3), uint8. Boxes are (x1, y1, x2, y2) and keypoints
(x, y, confidence), in pixels of that image, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from hafbench.judges.questions import Question, Reply
    from hafbench.suites import Prompt

    Pixels = NDArray[np.uint8]

Region = Literal["torso", "limbs", "feet", "hands", "face"]
Kind = Literal["missing", "extra", "configuration", "orientation", "proportion"]

Status = Literal["scored", "unknown", "unscored", "failed"]
"""scored: there is a value. unknown: the scorer ran and says that it cannot judge this image.
unscored: the scorer is not available in this run. failed: the image or the scorer broke."""
STATUSES: tuple[str, ...] = get_args(Status)

Cause = Literal["absent", "unjudgeable"]
"""Of a score that is unknown. absent: the image shows nothing that the scorer judges, such as no hand.
unjudgeable: it is there, or should be, but the scorer cannot judge it: too small, hidden, or not found."""

Role = Literal["anatomy", "quality"]
"""anatomy scorers say `is_error`; quality scorers (CLIP, IQA) only give a value."""

Box = tuple[float, float, float, float]
Keypoint = tuple[float, float, float]


@dataclass(frozen=True)
class Finding:
    """One suspected anatomical error, localized.

    `kind` x `region` is the published taxonomy; `detail` is what the scorer knows beyond it
    (`detectability`, `extra_digit`, ...). `score` is in [0, 1], higher is more surely an error.
    """

    region: Region
    kind: Kind
    detail: str
    score: float
    box: Box | None = None
    keypoints: tuple[Keypoint, ...] | None = None


@dataclass(frozen=True)
class Score:
    """What one scorer says of one image.

    `value` is the probability of an error for anatomy scorers, and in the metric's own units for the others.
    `reason` says why, whenever `status` is not "scored". `measures` are named numbers behind the value. `cause` is of
    "unknown" alone; without one it is recorded as "unjudgeable".
    """

    status: Status
    value: float | None = None
    is_error: bool | None = None
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    cause: Cause | None = None


class Generator(Protocol):
    """A text-to-image model."""

    name: str
    settings: Mapping[str, Any]
    """Everything that shapes the images, as JSON values: written to run.json and compared on resume."""

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        """One RGB image for each (prompt, seed) pair; the same pair gives the same image."""
        ...


class Described(Protocol):
    """What is known of a scorer, wherever it runs."""

    name: str
    version: str
    role: Role
    higher_is_better: bool | None
    about: str
    """One plain sentence for the report: what the value means, and what it does not."""
    settings: Mapping[str, Any]
    """Thresholds, cards, model names, as JSON values; `weights` maps file names to sha256.

    An anatomy scorer that is not shown to see errors also has `left_out`, a clause that says why: the rate of all
    anatomy scorers together leaves it out."""


class Scorer(Described, Protocol):
    """Judges one image at a time, so that a score cannot depend on the batch, the order or the run."""

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """Score an RGB image of shape (height, width, 3)."""
        ...


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A scorer that is faster with several images at once, and gives each the score that it has alone."""

    batch_size: int

    def score_batch(self, images: Sequence[Pixels], prompts: Sequence[Prompt | None]) -> list[Score]:
        """A score for each RGB image of shape (height, width, 3), which may differ in size."""
        ...


@runtime_checkable
class ConcurrentScorer(Scorer, Protocol):
    """A scorer that mostly waits, such as for an endpoint: `score` is called from `concurrency` threads at once."""

    concurrency: int

    def note(self) -> str:
        """How far it is, for the line of progress."""
        ...

    def stop(self) -> None:
        """End at once what is waited for, and all connections; calls of `score`, also later ones, raise RunStopped."""
        ...


class Judge(Protocol):
    """A model that is asked questions about images, such as a vision-language model."""

    name: str
    """The model's name, without which no figure of it is shown."""
    version: str
    settings: Mapping[str, Any]
    """What shapes its answers, as JSON values; no keys of services."""

    async def answer(self, question: Question) -> Reply:
        """Ask; several questions are asked at once.

        Raises HafError where this question got no answer, and RunStopped where no other one would get one either.
        """
        ...

    async def close(self) -> None:
        """Nothing more will be asked."""
        ...


@runtime_checkable
class PreparingJudge(Judge, Protocol):
    """A judge with work to do before a question is sent, such as encoding its pictures: done while others are asked."""

    async def prepare(self, question: Question) -> None:
        """Do it; `answer` does what was not done."""
        ...
