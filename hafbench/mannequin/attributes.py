"""What a mannequin picture shows, in words: the closed lists that renderer, captions and suite share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Framing = Literal["hand", "two_hands", "upper_body", "full_body", "open_hand"]
Skin = Literal["very_light", "light", "tan", "brown", "dark", "very_dark"]
Side = Literal["left", "right"]
View = Literal["palm", "back"]
Gesture = Literal["open", "fist", "one", "two", "three", "four", "thumb_up", "gun", "horns", "call", "grip"]
"""open: five digits spread. one ... four: that many fingers raised, from the index on, the thumb folded.
gun: thumb and index. horns: index and little finger. call: thumb and little finger. grip: fingers around a rod."""
Arms = Literal["down", "out", "up", "wave", "hips", "forward"]
"""wave: one arm up, one down. hips: hands on the hips. forward: elbows bent, hands before the body."""
Legs = Literal["standing", "apart", "walking"]
Held = Literal["nothing", "ball", "rod"]
Hair = Literal["bald", "short", "long"]
Bottom = Literal["trousers", "shorts", "skirt"]
Sleeves = Literal["long", "short"]
Setting = Literal["plain", "gradient", "noise", "indoor", "outdoor"]
Colour = Literal["white", "grey", "black", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"]

FRAMINGS: tuple[Framing, ...] = get_args(Framing)
ONE_HAND: tuple[Framing, ...] = ("hand", "open_hand")
HANDS: tuple[Framing, ...] = (*ONE_HAND, "two_hands")
SKINS: tuple[Skin, ...] = get_args(Skin)
SIDES: tuple[Side, ...] = get_args(Side)
VIEWS: tuple[View, ...] = get_args(View)
GESTURES: tuple[Gesture, ...] = get_args(Gesture)
ARMS: tuple[Arms, ...] = get_args(Arms)
LEGS: tuple[Legs, ...] = get_args(Legs)
HELD: tuple[Held, ...] = get_args(Held)
HAIRS: tuple[Hair, ...] = get_args(Hair)
BOTTOMS: tuple[Bottom, ...] = get_args(Bottom)
SLEEVES: tuple[Sleeves, ...] = get_args(Sleeves)
SETTINGS: tuple[Setting, ...] = get_args(Setting)
WALLS: tuple[Setting, ...] = ("plain", "gradient")
COLOURS: tuple[Colour, ...] = get_args(Colour)

# Thumb, index, middle, ring, little: which are raised.
RAISED: dict[Gesture, tuple[bool, bool, bool, bool, bool]] = {
    "open": (True, True, True, True, True),
    "fist": (False, False, False, False, False),
    "one": (False, True, False, False, False),
    "two": (False, True, True, False, False),
    "three": (False, True, True, True, False),
    "four": (False, True, True, True, True),
    "thumb_up": (True, False, False, False, False),
    "gun": (True, True, False, False, False),
    "horns": (False, True, False, False, True),
    "call": (True, False, False, False, True),
    "grip": (False, False, False, False, False),
}


@dataclass(frozen=True)
class Attributes:
    """What the caption of a picture may say. Fields that a framing does not show are None.

    hand: side, view, gesture (and `held` = "rod" exactly for the gesture grip).
    open_hand: side and view; the gesture is open. It fills the picture, before a plain wall.
    two_hands: view and gesture, which both hands share.
    upper_body: arms, held, hair, top, sleeves. full_body: these and legs, bottom, bottom_colour.
    All: framing, skin, setting, setting_colour (the colour of walls in indoor, None for outdoor).
    """

    framing: Framing
    skin: Skin
    setting: Setting
    setting_colour: Colour | None = None
    side: Side | None = None
    view: View | None = None
    gesture: Gesture | None = None
    arms: Arms | None = None
    legs: Legs | None = None
    held: Held | None = None
    held_colour: Colour | None = None
    hair: Hair | None = None
    hair_colour: Colour | None = None
    top: Colour | None = None
    sleeves: Sleeves | None = None
    bottom: Bottom | None = None
    bottom_colour: Colour | None = None
