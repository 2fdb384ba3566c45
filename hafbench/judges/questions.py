"""What a judge is asked, and what it replies: a request of texts and pictures, and a text that is JSON by a schema."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Picture:
    """An RGB image of shape (height, width, 3), uint8, within a question."""

    pixels: NDArray[np.uint8]
    sha256: str = field(init=False)
    """Of its shape and pixels: the same however it is encoded on its way to the judge."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.pixels.shape}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        object.__setattr__(self, "sha256", digest.hexdigest())


@dataclass(frozen=True)
class Question:
    """One request. `parts` are texts and pictures in their order; the reply is to be JSON that follows `schema`.

    `verdict` is the field of the reply whose value decides: where the judge gives log-probabilities, those of the
    tokens in which that value begins. `sample` tells apart the replies to one question that is asked several times.
    """

    system: str
    parts: tuple[str | Picture, ...]
    schema: Mapping[str, Any]
    verdict: str
    max_tokens: int = 600
    temperature: float = 0.0
    seed: int = 0
    sample: int = 0

    @property
    def pictures(self) -> list[Picture]:
        """The pictures among the parts."""
        return [part for part in self.parts if isinstance(part, Picture)]


@dataclass(frozen=True)
class Token:
    """A token of a reply as text, and the log-probabilities of what could have stood in its place, itself included."""

    text: str
    alternatives: Mapping[str, float]


@dataclass(frozen=True)
class Reply:
    """What a judge answered. `refusal` says why, if it would not; `cut` is whether it ended at `max_tokens`.

    `tokens` are empty where the judge gives no log-probabilities. `tokens_in` and `tokens_out` are what it counted, 0
    if it does not say.
    """

    text: str
    refusal: str | None = None
    cut: bool = False
    tokens: Sequence[Token] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    model: str = field(default="")


def chances_of(tokens: Sequence[Token], verdict: str, words: Sequence[str]) -> dict[str, float]:
    """The probability of each word as the value of the field `verdict` in a reply of JSON; {} if that is not to be had.

    The value begins in the first token that reaches past `"verdict": "`; an alternative stands for the word that it
    begins, or that begins it (VQAScore, Lin et al. 2024, arXiv 2404.01291, uses P("Yes") alone).
    """
    text, marker = "", f'"{verdict}"'
    for token in tokens:
        start, text = len(text), text + token.text
        place = text.rfind(marker)
        if place < 0:
            continue
        head = text[place + len(marker) :]
        value = head.lstrip().removeprefix(":").lstrip()
        if ":" not in head or not value.removeprefix('"'):
            continue
        found = dict.fromkeys(words, 0.0)
        # What precedes the value within this token also precedes it in the alternatives.
        before = token.text[: max(0, len(text) - len(value.removeprefix('"')) - start)]
        for alternative, logprob in token.alternatives.items():
            rest = alternative.removeprefix(before) if before else alternative
            begun = rest.strip().strip('"').lower()
            matches = [word for word in words if begun and (word.startswith(begun) or begun.startswith(word))]
            whole = [word for word in matches if word == begun]
            if len(whole or matches) == 1:
                found[(whole or matches)[0]] += math.exp(logprob)
        return found if sum(found.values()) > 0 else {}
    return {}
