"""The `digits` scorer of the built-in world: the count and the shape of the digits of each hand that can be judged.

A surplus digit is one beyond five; a missing one counts only on a hand whose digits are all in view, for a folded
digit may hide. A figure's hands are too small for their digits to be told apart, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hafbench.detectors.mannequin import SeenHand, Thing
from hafbench.registry import Options
from hafbench.scorers.mannequin import load_scorer
from hafbench.scorers.mannequin_card import MannequinCard
from hafbench.types import Finding, Kind, Score

if TYPE_CHECKING:
    from hafbench.types import Scorer

ABOUT = (
    "How surely a hand has a digit too many or too few, or a malformed one, by the detector of the built-in world. "
    "Hands of whole figures are too small for it, and of photographs it knows nothing."
)
DIGITS = 5
_SHAPES: Mapping[str, tuple[Kind, str]] = {
    "digit_fused": ("configuration", "fused_digits"),
    "digit_forked": ("extra", "forked_digit"),
    "digit_bent": ("configuration", "bent_digit"),
    "digit_long": ("proportion", "long_digit"),
    "digit_short": ("proportion", "short_digit"),
}


def _finding(kind: Kind, detail: str, suspicion: float, thing: Thing) -> Finding:
    return Finding("hands", kind, detail, suspicion, thing.box, thing.points)


def suspect(seen: SeenHand) -> Iterator[Finding]:
    """What may be wrong with one hand, with the detector's confidence in it."""
    if len(seen.digits) > DIGITS:
        yield _finding("extra", "extra_digit", seen.digits[DIGITS].confidence, seen.digits[DIGITS])
    fifth = seen.digits[DIGITS - 1].confidence if len(seen.digits) >= DIGITS else 0.0
    yield _finding("missing", "missing_digit", seen.hand.share("hand_countable") * (1 - fifth), seen.hand)
    yield _finding("orientation", "turned_hand", seen.hand.chances.get("hand_turned", 0.0), seen.hand)
    thumbs = sorted(seen.digits, key=lambda digit: -digit.chances.get("thumb", 0.0))
    if len(thumbs) > 1:
        yield _finding("extra", "two_thumbs", thumbs[1].chances.get("thumb", 0.0), thumbs[1])
    for digit in seen.digits:
        for name, (kind, detail) in _SHAPES.items():
            if name in digit.chances:
                yield _finding(kind, detail, digit.chances[name], digit)


def large_enough(hands: tuple[SeenHand, ...]) -> tuple[SeenHand, ...]:
    """The hands whose digits can be told apart."""
    return tuple(seen for seen in hands if seen.hand.name != "hand_small")


def judge(hands: tuple[SeenHand, ...], card: MannequinCard) -> Score:
    """The score of a picture in which these hands are seen."""
    if not hands:
        return Score("unknown", reason="no hand was found")
    judged = large_enough(hands)
    if not judged:
        return Score("unknown", reason="every hand is too small for its digits to be told apart")
    counted = sum(digit.confidence >= card.counted for seen in judged for digit in seen.digits)
    measures = {"hands": float(len(judged)), "digits": float(counted)}
    return card.score((finding for seen in judged for finding in suspect(seen)), measures)


def load(options: Options, device: str) -> Scorer:
    """The scorer; raises Unavailable if the detector is not in this installation."""
    return load_scorer("digits", ABOUT, "4", lambda sight, card: judge(sight.hands, card), device)
