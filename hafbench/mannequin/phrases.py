"""The words of captions: how each attribute can be said. `{}` is where a side or a colour goes, `{rod}` the rod."""

from __future__ import annotations

from typing import Literal

from hafbench.mannequin.attributes import Arms, Bottom, Gesture, Hair, Legs, Setting, Skin, Sleeves, View

PREFIX = ("", "", "", "a photo of ", "a picture of ", "an image of ", "photo of ", "a render of ")
CLOSE = ("", "", "a close-up of ", "close-up of ", "a close-up photo of ", "a photo of ", "a picture of ", "photo of ")

SKIN: dict[Skin, tuple[str, ...]] = {
    "very_light": ("very light", "very pale", "very fair", "porcelain"),
    "light": ("light", "fair", "pale"),
    "tan": ("tan", "tanned", "olive", "medium"),
    "brown": ("brown", "medium brown", "light brown"),
    "dark": ("dark", "dark brown", "deep brown"),
    "very_dark": ("very dark", "deep dark", "black", "ebony"),
}
SKIN_FORMS = ("with {} skin", "with {} skin", "{} skin", "{} skin tone", "with a {} skin tone")

VIEW: dict[View, tuple[str, ...]] = {
    "palm": (
        *("palm facing us", "palm facing the camera", "palm to the camera", "palm forward", "showing the palm"),
        *("seen from the palm side", "palm side", "palm towards the viewer", "palm view", "with the palm visible"),
    ),
    "back": (
        *("seen from the back", "back of the hand", "back of the hand facing us", "showing the back", "from behind"),
        *("knuckles facing us", "palm facing away", "the back towards the viewer", "back view", "knuckles visible"),
    ),
}

# What a hand is called when the gesture is its name, and what is said of a hand that makes it.
NAMES: dict[Gesture, tuple[str, ...]] = {
    "open": (
        "an open {}hand",
        "an open {}hand",
        "a spread {}hand",
        "a high five with the {}hand",
        "a flat open {}hand",
    ),
    "fist": ("a {}fist", "a closed {}hand", "a clenched {}fist", "a closed {}fist"),
    "one": ("a {}hand pointing up", "a pointing {}hand", "a {}hand with the index finger up"),
    "two": ("a peace sign with the {}hand", "a V sign with the {}hand", "a {}hand making a victory sign"),
    "three": ("a {}hand showing three", "a {}hand counting to three"),
    "four": ("a {}hand showing four", "a {}hand counting to four"),
    "thumb_up": ("a thumbs up with the {}hand", "a {}hand giving a thumbs up", "a {}thumb up"),
    "gun": ("a finger gun with the {}hand", "an L sign with the {}hand", "a {}hand shaped like a gun"),
    "horns": ("a rock sign with the {}hand", "the sign of the horns with the {}hand", "a {}hand throwing horns"),
    "call": ("a call me sign with the {}hand", "a shaka sign with the {}hand", "a hang loose sign with the {}hand"),
    "grip": ("a {}hand holding a {rod}", "a {}hand gripping a {rod}", "a {}hand around a {rod}"),
}
DOING: dict[Gesture, tuple[str, ...]] = {
    "open": (
        *("five fingers spread", "all five fingers spread", "fingers spread wide", "five fingers raised", "wide open"),
        *(
            "all fingers extended",
            "showing five fingers",
            "with open fingers",
            "five digits spread",
            "giving a high five",
        ),
    ),
    "fist": (
        *("making a fist", "all fingers closed", "no fingers raised", "clenched", "clenched into a fist", "in a fist"),
        *("fingers folded", "zero fingers raised"),
    ),
    "one": (
        *("pointing up", "one finger raised", "index finger raised", "one finger up", "index finger extended"),
        *("holding up one finger", "showing one finger", "pointing", "only the index finger up"),
    ),
    "two": (
        *("two fingers raised", "making a peace sign", "peace sign", "two fingers up", "showing two fingers"),
        *("making a V sign", "holding up two fingers", "index and middle finger raised", "victory sign"),
    ),
    "three": (
        *("three fingers raised", "three fingers up", "showing three fingers", "holding up three fingers"),
        *("counting to three", "three fingers extended", "index, middle and ring finger raised"),
    ),
    "four": (
        *("four fingers raised", "four fingers up", "showing four fingers", "holding up four fingers"),
        *(
            "four fingers raised, thumb folded",
            "counting to four",
            "four fingers extended",
            "four fingers, thumb tucked in",
        ),
    ),
    "thumb_up": (
        *("thumbs up", "giving a thumbs up", "thumb up", "thumb raised", "only the thumb raised", "making a thumbs up"),
        *("thumb up, fingers closed", "showing a thumbs up"),
    ),
    "gun": (
        *("making a finger gun", "thumb and index finger extended", "making an L", "finger gun", "thumb and index up"),
        *("shaped like a gun", "thumb and index finger raised", "L sign"),
    ),
    "horns": (
        *("making the rock sign", "rock sign", "index and little finger raised", "making horns", "horns sign"),
        *("index finger and pinky up", "rock and roll sign", "sign of the horns"),
    ),
    "call": (
        *("making a call me sign", "call me sign", "thumb and little finger extended", "shaka sign", "hang loose sign"),
        *("thumb and pinky up", "call me gesture", "thumb and little finger raised"),
    ),
    "grip": (
        "holding a {rod}",
        "gripping a {rod}",
        "fingers around a {rod}",
        "grasping a {rod}",
        "fist around a {rod}",
    ),
}
RODS = ("rod", "stick", "pole", "bar")
BALLS = ("ball", "ball", "sphere")

WHO = ("a person", "a person", "someone", "a figure", "a human figure", "one person", "a mannequin")
UPPER = (
    *("from the waist up", "upper body", "half-length", "half-body portrait", "waist up", "upper body view"),
    *("portrait from the waist up", "half-length portrait"),
)
FULL = (
    *("full body", "whole body", "from head to toe", "full-length", "full figure", "full body view", "entire body"),
    *("head to feet visible",),
)
ARMS: dict[Arms, tuple[str, ...]] = {
    "down": ("arms down", "arms at the sides", "arms hanging down", "with arms by the sides", "arms lowered"),
    "out": ("arms out", "arms spread", "arms stretched out", "with arms outstretched", "arms held out to the sides"),
    "up": ("arms up", "both arms raised", "arms raised", "hands up", "with both hands in the air", "arms overhead"),
    "wave": (
        "waving",
        "waving a hand",
        "one arm raised",
        "waving hello",
        "one hand up, one down",
        "waving with one arm",
    ),
    "hips": ("hands on hips", "hands on the hips", "arms akimbo", "with both hands on the hips", "hands at the waist"),
    "forward": (
        *("hands in front of the body", "elbows bent, hands in front", "holding both hands forward"),
        *("hands before the chest", "both hands in front", "forearms forward"),
    ),
}
LEGS: dict[Legs, tuple[str, ...]] = {
    "standing": ("standing", "standing straight", "standing still", "standing upright", "legs together"),
    "apart": ("legs apart", "feet apart", "standing with legs apart", "standing wide", "with legs spread"),
    "walking": ("walking", "taking a step", "mid-step", "in stride", "striding"),
}
HAIR: dict[Hair, tuple[str, ...]] = {
    "bald": ("bald", "with a bald head", "bald head", "without hair", "shaved head"),
    "short": ("short {}hair", "with short {}hair", "short-haired", "with a short {}haircut"),
    "long": ("long {}hair", "with long {}hair", "long-haired", "with long flowing {}hair"),
}
TOP: dict[Sleeves | Literal["any"], tuple[str, ...]] = {
    "any": ("shirt", "top", "shirt", "sweater"),
    "short": ("t-shirt", "tee", "short-sleeved shirt", "shirt", "top", "top with short sleeves"),
    "long": ("long-sleeved shirt", "sweater", "shirt", "top", "long-sleeved top", "top with long sleeves"),
}
WEARING = ("wearing ", "in ", "wearing ", "dressed in ")
HOLDING = ("holding a {}", "with a {} in hand", "holding a {} in one hand", "carrying a {}")
BOTTOM: dict[Bottom, tuple[str, ...]] = {
    "trousers": ("trousers", "pants", "long trousers"),
    "shorts": ("shorts", "short pants"),
    "skirt": ("skirt", "skirt", "knee skirt"),
}
SETTING: dict[Setting, tuple[str, ...]] = {
    "plain": (
        *("{} background", "plain {} background", "on a {} background", "on {}", "in front of a {} background"),
        *("{} backdrop", "against a {} background", "against plain {}", "solid {} background"),
    ),
    "gradient": (
        *("{} gradient background", "soft {} gradient", "{} gradient backdrop", "against a {} gradient"),
        *("fading {} background", "smooth {} gradient background"),
    ),
    "noise": (
        *("textured {} background", "{} noise background", "grainy {} background", "rough {} backdrop"),
        *("speckled {} background", "on a noisy {} background"),
    ),
    "indoor": (
        *("indoors", "in a room", "in a room with {} walls", "indoors, {} wall", "inside, {} walls", "in a {} room"),
        *("{} room", "inside a {} room"),
    ),
    "outdoor": (
        "outdoors",
        "outside",
        "in the open air",
        "outdoor scene",
        "under the sky",
        "in nature",
        "out in the open",
    ),
}

PAIRS = ("two hands", "two hands", "both hands", "a pair of hands", "two hands side by side", "hands of one person")
PLURALS: dict[Gesture, tuple[str, ...]] = {
    "open": ("two open hands", "ten fingers spread", "both hands wide open", "a pair of open hands"),
    "fist": ("two fists", "a pair of fists", "two closed hands", "two clenched fists"),
    "one": ("two pointing hands", "two hands pointing up"),
    "two": ("two peace signs", "two V signs", "a double peace sign"),
    "thumb_up": ("two thumbs up", "a double thumbs up", "both thumbs up"),
    "gun": ("two finger guns", "two L signs"),
    "horns": ("two rock signs", "two horns signs"),
    "call": ("two shaka signs", "two call me signs"),
}
VIEW_OF_TWO: dict[View, tuple[str, ...]] = {
    "palm": ("palms facing us", "palms facing the camera", "palms forward", "showing the palms", "palm side"),
    "back": ("seen from the back", "backs of the hands", "palms facing away", "from behind", "knuckles facing us"),
}
JOINING = frozenset({"with", "on", "in", "against", "wearing", "holding", "dressed", "outdoors", "indoors", "outside"})
"""First words of details that need no comma before them."""
