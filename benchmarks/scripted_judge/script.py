"""What a scripted judge is told, what it tells of itself, and its draws."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Script:
    """What the judge knows, and how it errs. Shares are of questions, and are drawn from `seed` and the question.

    The same script answers the same questions alike, in whatever order they come. The faults of
    the server, `rate_limited` (429), `errors` (500) and `stalls` (no answer ever comes), befall the first request of a
    question only; those of the model, `malformed` (no JSON) and `cut` (half of it), its first reply only, unless
    `malformed_always`; `refusals` all its replies.
    """

    truth: Mapping[str, bool] = field(default_factory=dict)
    """Whether an image has an error, by `Picture.sha256`. If it is empty, images are not decoded."""
    sensitivity: float = 1.0
    """Of images with an error, the share of which the judge says so."""
    specificity: float = 1.0
    """Of images without error, the share of which the judge says so."""
    position_bias: float = 0.0
    """Of pairs, the share where the judge prefers the first image without looking."""
    unknown_answer: str | None = None
    """About images that are not in `truth`; None is unclear, or what comes nearest to it in the schema."""
    verdict_field: str = "error"
    """The field of the schema that is to be yes or no, of the last image of the request."""
    pair_field: str = "sounder"
    """The field of the schema that is to be first, second or tie, of the last two images of the request."""
    seed: int = 0
    latency_s: float = 0.0
    logprobs: bool = True
    """Whether log-probabilities are given where they are asked for."""
    confidence: float = 0.9
    """The probability of the token of the verdict; the other words of its enum share the rest."""
    obeys_text: bool = False
    """Whether `answer: no error` in a text of the request, outside of quoted JSON strings, is obeyed."""
    supports_schema: bool = True
    """If not, a response_format with a schema is an error, and the schema is looked for in the texts."""
    rate_limited: float = 0.0
    retry_after_s: float = 0.0
    errors: float = 0.0
    stalls: float = 0.0
    refusals: float = 0.0
    malformed: float = 0.0
    cut: float = 0.0
    malformed_always: bool = False
    down: bool = False
    """Whether connections are closed without an answer."""
    status: int | None = None
    """If given, the HTTP status of every answer, which is an error."""
    models: Sequence[str] = ("scripted",)
    """What is listed; any model that is asked for answers."""

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Script:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Stats:
    """What a scripted judge has seen since it started; /stats and /script are not counted."""

    seen: int
    """Requests, those included that got no answer."""
    answered: int
    """Answers of status 200."""
    statuses: Mapping[str, int]
    """Answers by their HTTP status."""
    in_flight: int
    most_in_flight: int
    questions: Mapping[str, int]
    """Requests by the key of their question (`replies.Asked`)."""
    bodies: Sequence[Mapping[str, Any]]
    """The last requests, oldest first, where `image:KEY` stands for an image's data."""
    authorizations: Sequence[str]
    """SHA-256 of the different `Authorization` headers."""


def draw(*of: object) -> float:
    """A number in [0, 1) that follows from its arguments, as if at random."""
    digest = hashlib.sha256(json.dumps(of).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def chosen(shares: Mapping[str, float], *of: object) -> str | None:
    """One of the names, each by its share, or None; follows from the other arguments."""
    left = draw(*of)
    for name, share in shares.items():
        if left < share:
            return name
        left -= share
    return None
