"""What judging would cost, before it is done: questions, how many of them have answers already, and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafbench.errors import BadImage
from hafbench.judges.questions import Picture
from hafbench.judges.replies import Verdict

if TYPE_CHECKING:
    from hafbench.scorers.judge import JudgeScorer
    from hafbench.sources import Place
    from hafbench.suites import Prompt

LETTERS_PER_TOKEN, PIXELS_PER_TOKEN, REPLY_TOKENS = 4, 28 * 28, 120
"""Of English texts, and of a picture with Qwen's models; other models take from a quarter to twice as many."""


@dataclass(frozen=True)
class Estimate:
    """`made` of the `images` are there and were looked at, and `unreadable` are there and ask nothing.

    The other images are taken to be like those looked at. `questions` are for all judges together, of which `known`
    have answers in the store. `tokens` are of the others. Samples of replies, for a judge without log-probabilities,
    are counted.
    """

    images: int
    made: int
    unreadable: int
    questions: int
    known: int
    tokens: int

    def __str__(self) -> str:
        """One sentence."""
        unseen = self.images - self.made - self.unreadable
        apart = [f"{unseen} of them are not made yet: a guess"] if unseen else []
        apart += [f"{self.unreadable} of them cannot be read"] if self.unreadable else []
        said = f" ({'; '.join(apart)})" if apart else ""
        return (
            f"{self.images} images{said}: {self.questions} questions, {self.known} of them answered already; about "
            f"{self.tokens:,} tokens for the others. Nothing was asked."
        )


def estimate(scorer: JudgeScorer, images: Sequence[tuple[Place | None, Prompt | None]]) -> Estimate:
    """What a judge would be asked about images; those without a place are not made yet. One that breaks is free."""
    import numpy as np

    from hafbench.images import load_image

    made = unreadable = questions = known = 0
    tokens, every = 0.0, 0.0
    unseen = [prompt for place, prompt in images if place is None]
    for place, prompt in images:
        if place is None:
            continue
        try:
            pixels = np.asarray(load_image(place))
        except (BadImage, OSError):
            unreadable += 1
            continue
        made += 1
        asked = scorer.questions(scorer.parts(pixels), prompt)
        for asker in scorer.askers:
            for _, parts in asked:
                there = asker.known(Verdict, parts)
                questions, known = questions + len(there), known + sum(there)
                cost = tokens_of(asker.protocol.system, parts)
                every += cost * len(there)
                tokens += cost * there.count(False)
    if unseen:
        blank = np.zeros((512, 512, 3), np.uint8)
        asked = scorer.questions(scorer.unseen(blank), unseen[0])
        first = [one.known(Verdict, parts) for one in scorer.askers for _, parts in asked]
        each = questions / made if made else float(sum(map(len, first)))
        cost = every / questions if questions else sum(tokens_of("", parts) for _, parts in asked) / len(asked)
        questions += round(each * len(unseen))
        tokens += each * len(unseen) * cost
    return Estimate(len(images), made, unreadable, questions, known, round(tokens))


def tokens_of(system: str, parts: Sequence[str | Picture]) -> float:
    """About how many tokens a question and its reply have."""
    texts = sum(len(part) for part in parts if isinstance(part, str)) + len(system)
    pixels = sum(part.pixels.shape[0] * part.pixels.shape[1] for part in parts if isinstance(part, Picture))
    return float(texts / LETTERS_PER_TOKEN + pixels / PIXELS_PER_TOKEN + REPLY_TOKENS)
