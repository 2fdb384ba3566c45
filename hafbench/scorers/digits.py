"""The `digits` scorer of the built-in world: the count and the shape of the digits of each hand that can be judged.

A surplus digit is one beyond five; a missing one counts only on a hand whose digits are all in view, for a folded
digit may hide. A figure's hands are too small for their digits to be told apart, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hafbench.detectors.mannequin import DetectedHand, chance, share
from hafbench.scorers.absence import unseen
from hafbench.scorers.mannequin import Options, finding, load_scorer
from hafbench.scorers.mannequin_card import MannequinCard
from hafbench.types import Cause, Finding, Kind, Score

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Scorer

ABOUT = (
    "How surely a hand has a digit too many or too few, or a malformed one, by the detector of the built-in world. "
    "Hands of whole figures are too small for it, and it cannot judge photographs."
)
DIGITS = 5
_SHAPES: Mapping[str, tuple[Kind, str]] = {
    "digit_fused": ("configuration", "fused_digits"),
    "digit_forked": ("extra", "forked_digit"),
    "digit_bent": ("configuration", "bent_digit"),
    "digit_long": ("proportion", "long_digit"),
    "digit_short": ("proportion", "short_digit"),
}


def suspect(seen: DetectedHand) -> Iterator[Finding]:
    """What may be wrong with one hand, with the detector's confidence in it.

    A hand of five fingers has as many digits as it should, but no thumb; the shipped card does not judge that kind,
    since a thumb may be folded.
    """
    hand, digits, thumb = seen.hand, seen.digits, chance(seen.digits, "thumb")
    if len(digits) > DIGITS:
        yield finding("hands", "extra", "extra_digit", digits.confidence[DIGITS], digits[DIGITS])
    fifth = digits.confidence[DIGITS - 1] if len(digits) >= DIGITS else 0.0
    whole = share(hand, "hand_countable")[0]
    yield finding("hands", "missing", "missing_digit", whole * (1 - fifth), hand)
    yield finding("hands", "missing", "missing_thumb", whole * max(0.0, 1 - thumb.max(initial=0)), hand)
    yield finding("hands", "orientation", "turned_hand", chance(hand, "hand_turned")[0], hand)
    if len(digits) > 1:
        second = np.argsort(-thumb, kind="stable")[1]
        yield finding("hands", "extra", "two_thumbs", thumb[second], digits[second])
    for row in range(len(digits)):
        for name, (kind, detail) in _SHAPES.items():
            suspicion = chance(digits, name)[row]
            if suspicion > 0:
                yield finding("hands", kind, detail, suspicion, digits[row])


def large_enough(hands: tuple[DetectedHand, ...]) -> tuple[DetectedHand, ...]:
    """The hands whose digits can be told apart."""
    return tuple(seen for seen in hands if seen.hand.data["class_name"][0] != "hand_small")


def judge(hands: tuple[DetectedHand, ...], card: MannequinCard, prompt: Prompt | None = None) -> Score:
    """The score of a picture in which these hands are detected; a figure is drawn without digits to be seen."""
    cause: Cause = "absent" if prompt and prompt.expect.arms else unseen(prompt, "hands")
    judged = large_enough(hands)
    if not judged:
        reason = "every hand is too small for its digits to be told apart" if hands else "no hand was found"
        return Score("unknown", reason=reason, measures={"hands": float(len(hands))}, cause=cause)
    counted = sum(int((seen.digits.confidence >= card.counted).sum()) for seen in judged)
    measures = {"hands": float(len(hands)), "digits": float(counted)}
    return card.score((finding for seen in judged for finding in suspect(seen)), measures)


def load(options: Options, device: str) -> Scorer:
    """The scorer; raises what `load_scorer` raises."""
    return load_scorer("digits", ABOUT, "4", lambda sight, *rest: judge(sight.hands, *rest), options, device)
