"""Anatomical errors, one at a time, put into a correct scene: the published taxonomy, made exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hafbench.mannequin.figure import Limb, place_hand
from hafbench.mannequin.hand import Digit, Hand
from hafbench.mannequin.scene import Scene
from hafbench.mannequin.skeleton import Array, rotation, unit
from hafbench.mannequin.taxonomy import Error

Range = tuple[float, float]


@dataclass(frozen=True)
class ErrorSettings:
    """How strong errors are, and how often each is drawn.

    Angles in degrees; lengths as factors; the gap of a detached limb in body heights; a stump as a share of the bone.
    `floating`: the share of the short digits whose tip floats where a sound digit has it, apart from the rest.
    """

    name: str
    long: Range
    short: Range
    long_limb: Range
    short_limb: Range
    bend: Range
    bend_back: Range
    fork: Range
    turn: Range
    gap: Range
    stump: Range
    weights: Mapping[str, float] = field(default_factory=dict)
    floating: float = 0.0

    def weight(self, detail: str) -> float:
        """The relative frequency of a detail."""
        return self.weights.get(detail, 1.0)


# What a model learns from, and what preference pairs are made with.
TUNING = ErrorSettings(
    name="tuning",
    long=(1.5, 1.85),
    short=(0.42, 0.58),
    long_limb=(1.35, 1.6),
    short_limb=(0.45, 0.6),
    bend=(48, 80),
    bend_back=(10, 45),
    fork=(22, 34),
    turn=(70, 115),
    gap=(0.03, 0.06),
    stump=(0.1, 0.3),
    weights={"extra_digit": 2.5, "missing_digit": 2.0, "fused_digits": 1.5, "extra_arm": 1.5, "missing_arm": 1.5},
)
# What detectors that judge learn from: weaker and stronger ones, all about as often.
JUDGING = ErrorSettings(
    name="judging",
    long=(1.42, 2.0),
    short=(0.35, 0.62),
    long_limb=(1.3, 1.75),
    short_limb=(0.4, 0.64),
    bend=(40, 90),
    bend_back=(0, 60),
    fork=(18, 40),
    turn=(60, 130),
    gap=(0.022, 0.085),
    stump=(0.05, 0.4),
)

# What the base of the controlled experiment learns: only errors that can be counted.
COUNTING = replace(
    TUNING,
    name="counting",
    weights={
        "extra_digit": 3.0, "missing_digit": 2.0, "forked_digit": 1.0, "fused_digits": 1.0, "two_thumbs": 1.0,
        "bent_digit": 0.0, "long_digit": 0.0, "short_digit": 0.0, "turned_hand": 0.0,
    },
)  # fmt: skip

# What the judge of the controlled experiment learns: errors as samples of its base have them, stumps and pieces among
# them, but not the kinds that the base never learnt.
SAMPLED = replace(
    JUDGING,
    name="sampled",
    short=(0.1, 0.5),
    floating=0.5,
    weights={"extra_digit": 1.5, "short_digit": 2.0, "bent_digit": 0.0, "long_digit": 0.0, "turned_hand": 0.0},
)


def _moved(digit: Digit, dx: float, degrees: float) -> Digit:
    base = digit.points[0]
    points = (digit.points - base) @ rotation(2, degrees).T + base + np.array([dx, 0.0, 0.0])
    return replace(digit, points=points)


def _fingers(hand: Hand, raised: bool = True) -> list[int]:
    return [i for i, digit in enumerate(hand.digits) if digit.name != "thumb" and (digit.raised or not raised)]


def _raised(hand: Hand) -> list[int]:
    return [i for i, digit in enumerate(hand.digits) if digit.raised]


def _put(hand: Hand, number: int, digit: Digit) -> Hand:
    return replace(hand, digits=(*hand.digits[:number], digit, *hand.digits[number + 1 :]))


def _extra_digit(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    folded_too = not _raised(hand)
    fingers = _fingers(hand, not folded_too)
    if not fingers:
        return None
    source = int(rng.choice(fingers))
    digits = list(hand.digits)
    # Room beside it: the digits on its two sides move apart.
    for i in range(1, len(digits)):
        dx, degrees = (0.038, -4.0) if i <= source else (-0.038, 4.0)
        digits[i] = _moved(digits[i], dx, degrees)
    old = digits[source]
    toward = -0.092 if source < 4 or rng.random() < 0.5 else -0.10
    new = _moved(replace(old, name="extra", defect="extra_digit"), toward, 7.0)
    base = new.points[0]
    new = replace(new, points=(new.points - base) * rng.uniform(0.86, 0.98) + base)
    return replace(hand, digits=(*digits[: source + 1], new, *digits[source + 1 :]))


def _missing_digit(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    there = _raised(hand) or _fingers(hand, raised=False)
    gone = int(rng.choice(there))
    return replace(hand, digits=tuple(digit for i, digit in enumerate(hand.digits) if i != gone))


def _fused_digits(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    fingers = _fingers(hand)
    pairs = [i for i in fingers if i + 1 in fingers]
    if not pairs:
        return None
    i = int(rng.choice(pairs))
    first, second = hand.digits[i], hand.digits[i + 1]
    offset = np.array([-1.35 * first.radii[1], -0.02, 0.0])
    twin = first.points + offset * np.array([1, rng.uniform(0.2, 2.5), 1])
    towards = (second.points[0] - first.points[0]) * 0.2
    whole = replace(first, points=first.points + towards, twin=twin + towards, defect="fused_digits")
    return replace(hand, digits=(*hand.digits[:i], whole, *hand.digits[i + 2 :]))


def _forked_digit(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    raised = _raised(hand)
    if not raised:
        return None
    i = int(rng.choice(raised))
    digit, angle = hand.digits[i], float(rng.uniform(*s.fork))
    joint = 1 if rng.random() < 0.5 and digit.name != "thumb" else 2
    pivot = digit.points[joint]
    stretch = 1.0 if joint == 1 else 1.7
    tail = (digit.points[joint:] - pivot) * stretch
    one, two = (tail @ rotation(2, sign * angle).T + pivot for sign in (1, -1))
    return _put(hand, i, replace(digit, points=np.vstack([digit.points[:joint], one]), twin=two, defect="forked_digit"))


def _bent_digit(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    raised = _raised(hand)
    if not raised:
        return None
    i = int(rng.choice(raised))
    digit = hand.digits[i]
    pivot = digit.points[1]
    aside, back = float(rng.uniform(*s.bend) * rng.choice([-1, 1])), float(rng.uniform(*s.bend_back))
    tail = (digit.points[1:] - pivot) @ (rotation(2, aside) @ rotation(0, -back)).T + pivot
    return _put(hand, i, replace(digit, points=np.vstack([digit.points[:1], tail]), defect="bent_digit"))


def _resized_digit(detail: str) -> Callable[[Hand, np.random.Generator, ErrorSettings], Hand | None]:
    def change(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
        raised = _raised(hand)
        if not raised:
            return None
        i = int(rng.choice(raised))
        digit = hand.digits[i]
        start = 1 if digit.name == "thumb" else 0
        factor = float(rng.uniform(*(s.long if detail == "long_digit" else s.short)))
        tail = (digit.points[start:] - digit.points[start]) * factor + digit.points[start]
        changed = replace(digit, points=np.vstack([digit.points[:start], tail]), defect=detail)
        # Without floating tips no chance is drawn, so that a seed gives the error that it always gave.
        if detail == "short_digit" and s.floating and rng.random() < s.floating:
            changed = replace(changed, twin=digit.points[2:])
        return _put(hand, i, changed)

    return change


def _two_thumbs(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    thumb = hand.digits[0]
    if thumb.name != "thumb" or not thumb.raised:
        return None
    second = replace(thumb, points=thumb.points * np.array([-1.0, 1.0, 1.0]), defect="two_thumbs")
    kept = hand.digits if rng.random() < 0.6 else hand.digits[:-1]
    return replace(hand, digits=(*kept, second))


def _turned_hand(hand: Hand, rng: np.random.Generator, s: ErrorSettings) -> Hand | None:
    aside = float(rng.uniform(*s.turn) * rng.choice([-1, 1]))
    return replace(hand, wrist=(aside, hand.wrist[1]), defect="turned_hand")


HandError = Callable[[Hand, np.random.Generator, ErrorSettings], Hand | None]
_HAND_ERRORS: dict[str, HandError] = {
    "extra_digit": _extra_digit,
    "missing_digit": _missing_digit,
    "fused_digits": _fused_digits,
    "forked_digit": _forked_digit,
    "bent_digit": _bent_digit,
    "long_digit": _resized_digit("long_digit"),
    "short_digit": _resized_digit("short_digit"),
    "two_thumbs": _two_thumbs,
    "turned_hand": _turned_hand,
}


def _about(points: Array, pivot: Array, turn: Array) -> Array:
    return (points - pivot) @ turn.T + pivot


def _change_limb(limb: Limb, what: str, rng: np.random.Generator, s: ErrorSettings) -> tuple[Limb, ...]:
    """What stands in the place of a limb when `what` has befallen it; the first keeps its name."""
    detail = f"{what}_{limb.kind}"
    if what == "missing":
        return (replace(limb, hand=None, defect=detail, stump=float(rng.uniform(*s.stump))),)
    if what in ("long", "short"):
        factor = float(rng.uniform(*(s.long_limb if what == "long" else s.short_limb)))
        points = (limb.points - limb.points[0]) * factor + limb.points[0]
        hand = None if limb.hand is None else replace(limb.hand, place=points[2])
        return (replace(limb, points=points, hand=hand, defect=detail),)
    if what == "detached":
        along = unit(limb.points[2] - limb.points[1])
        aside = np.array([limb.side * 0.5, 0.0, 0.0])
        return (
            replace(
                limb, shift=unit(along + aside) * (2.2 * limb.radii[1] + float(rng.uniform(*s.gap))), defect=detail
            ),
        )
    turn = rotation(2, float(rng.uniform(38, 75) * rng.choice([-1, 1])))
    points = _about(limb.points, limb.points[0], turn)
    hand = limb.hand
    if hand is not None:
        palm = hand.turn[:, 2]
        hand = place_hand(hand, points[2], points[2] - points[1], turn @ palm)
    return limb, replace(limb, name=f"extra_{limb.kind}", points=points, hand=hand, defect=detail)


def possible(scene: Scene) -> list[str]:
    """The details that this scene's framing can show."""
    if scene.hands:
        return list(_HAND_ERRORS)
    kinds = ("arm", "leg") if scene.attributes.framing == "full_body" else ("arm",)
    return [f"{what}_{kind}" for kind in kinds for what in ("extra", "missing", "detached", "long", "short")]


def malform(scene: Scene, rng: np.random.Generator, settings: ErrorSettings, detail: str | None = None) -> Scene | None:
    """The scene with one error (of this detail, or drawn by the settings' weights); None where it does not go."""
    if detail is None:
        options = possible(scene)
        weights = np.array([settings.weight(option) for option in options])
        detail = str(rng.choice(options, p=weights / weights.sum()))
    if scene.hands:
        if detail not in _HAND_ERRORS:
            return None
        # From the back, folded digits are hidden: one less or one more of them could not be told.
        hidden = scene.attributes.view == "back" and scene.attributes.gesture != "open"
        if hidden and (detail == "missing_digit" or (detail == "extra_digit" and not _raised(scene.hands[0]))):
            return None
        number = int(rng.integers(len(scene.hands)))
        changed = _HAND_ERRORS[detail](scene.hands[number], rng, settings)
        if changed is None:
            return None
        hands = (*scene.hands[:number], changed, *scene.hands[number + 1 :])
        return replace(scene, hands=hands, error=Error(detail, f"hand{number}"))
    what, kind = detail.split("_")
    if scene.figure is None or detail not in possible(scene):
        return None
    numbers = [i for i, limb in enumerate(scene.figure.limbs) if limb.kind == kind]
    number = int(rng.choice(numbers))
    limbs = scene.figure.limbs
    changed_limbs = _change_limb(limbs[number], what, rng, settings)
    figure = replace(scene.figure, limbs=(*limbs[:number], *changed_limbs, *limbs[number + 1 :]))
    return replace(scene, figure=figure, error=Error(detail, limbs[number].name))
