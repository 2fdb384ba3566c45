"""The gestures of hands: the middle of each one's angles, in degrees.

A finger's angles are its spread (towards the thumb), then the flexion of its three joints; 0 is straight. A thumb's are
those of its metacarpal (out, in the plane of the palm; forward, out of that plane; roll about itself, which turns the
pad to the fingers) and the flexion of its two joints.
"""

from __future__ import annotations

from dataclasses import dataclass

Angles = tuple[float, float, float, float]
Raised = tuple[bool, bool, bool, bool, bool]
ALL: Raised = (True, True, True, True, True)
NONE: Raised = (False, False, False, False, False)
LAST: Raised = (False, False, True, True, True)


@dataclass(frozen=True)
class Gesture:
    """A pose's middle. raised: which digits, from the thumb on, are clearly stretched.

    touch: a finger whose pad meets the thumb's. over: a folded finger on whose middle the thumb lies. 0: none.
    """

    fingers: tuple[Angles, ...]
    thumb: tuple[float, float, float, float, float]
    raised: Raised
    touch: int = 0
    over: int = 0
    noise: float = 1.0


_UP = ((6, 4, 6, 3), (1, 2, 6, 3), (-5, 3, 6, 3), (-12, 5, 7, 3))
_DOWN = ((0, 76, 98, 30), (0, 79, 98, 30), (0, 80, 98, 30), (0, 78, 96, 28))
_SIDE = (48.0, 14.0, 0.0, 6.0, 4.0)
_OVER = (20.0, 40.0, 40.0, 30.0, 40.0)


def _mixed(up: str, thumb: tuple[float, float, float, float, float], over: int = 0, noise: float = 1.0) -> Gesture:
    """Fingers up or down by a word such as "1100", from the index on."""
    fingers = tuple(_UP[i] if c == "1" else _DOWN[i] for i, c in enumerate(up))
    a, b, c, d = (letter == "1" for letter in up)
    return Gesture(fingers, thumb, (thumb is _SIDE, a, b, c, d), over=over, noise=noise)


def _fingers(spread: Angles, mcp: Angles, pip: Angles, dip: Angles) -> tuple[Angles, ...]:
    """Fingers from the index on, from the angles of each joint."""
    return tuple(zip(spread, mcp, pip, dip, strict=True))


GESTURES: dict[str, Gesture] = {
    "open": _mixed("1111", _SIDE),
    "spread": Gesture(
        _fingers((15, 4, -10, -20), (-2, -4, -3, 0), (3, 3, 3, 4), (2, 2, 2, 2)), (66, 10, 0, 0, -4), ALL),
    "together": Gesture(
        _fingers((-2, 0, 1, 4), (5, 3, 4, 5), (6, 6, 6, 6), (4, 4, 4, 4)), (20, 16, 4, 10, 6), ALL, noise=0.4
    ),
    "relaxed": Gesture(
        _fingers((3, 0, -2, -5), (22, 28, 32, 36), (32, 36, 38, 36), (16, 18, 19, 18)), (34, 26, 10, 14, 16), ALL
    ),
    "fist": _mixed("0000", _OVER, over=2, noise=0.5),
    "one": _mixed("1000", _OVER, over=3, noise=0.6),
    "two": _mixed("1100", _OVER, over=4, noise=0.6),
    "three": _mixed("1110", _OVER, over=5, noise=0.6),
    "four": _mixed("1111", (10, 44, 32, 40, 46), noise=0.7),
    "thumb_up": Gesture(_DOWN, (58, -6, -8, -4, -8), (True, False, False, False, False), noise=0.5),
    "gun": _mixed("1000", _SIDE),
    "horns": _mixed("1001", _OVER, over=3, noise=0.6),
    "call": Gesture(
        (*_DOWN[:3], (-16, 6, 6, 4)), (64, 8, 0, -2, -6), (True, False, False, False, True), noise=0.6
    ),
    "love": _mixed("1001", _SIDE, noise=0.6),
    "pinch": Gesture(
        _fingers((2, -1, -5, -10), (48, 30, 20, 14), (46, 34, 28, 22), (22, 18, 14, 10)),
        (28, 40, 30, 18, 22), LAST, touch=2, noise=0.6,
    ),
    "ok": Gesture(
        _fingers((2, 0, -6, -13), (52, 16, 8, 6), (62, 18, 12, 10), (30, 8, 6, 5)),
        (26, 42, 30, 24, 34), LAST, touch=2, noise=0.6,
    ),
    "purse": Gesture(
        _fingers((-4, -1, 4, 10), (52, 54, 54, 52), (34, 34, 34, 34), (16, 16, 16, 16)),
        (22, 48, 34, 14, 14), NONE, touch=3, noise=0.5,
    ),
    "claw": Gesture(
        _fingers((8, 2, -6, -14), (8, 6, 8, 10), (62, 64, 62, 58), (44, 44, 44, 42)), (56, 30, 14, 24, 40), ALL
    ),
    "cup": Gesture(
        _fingers((3, 0, -3, -6), (38, 42, 44, 46), (46, 48, 48, 46), (24, 26, 26, 24)),
        (30, 46, 26, 14, 20), NONE, noise=0.6,
    ),
    "ball": Gesture(
        _fingers((13, 3, -8, -17), (26, 24, 26, 30), (38, 40, 40, 36), (24, 24, 24, 22)),
        (44, 46, 24, 12, 18), NONE, noise=0.6,
    ),
    "stick": Gesture(
        _fingers((0, 0, 0, 0), (56, 60, 64, 66), (84, 86, 86, 84), (44, 46, 46, 46)),
        (20, 46, 34, 26, 30), NONE, over=2, noise=0.4,
    ),
}  # fmt: skip
COUNTING = ("one", "two", "three", "four", "spread")
