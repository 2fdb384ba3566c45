"""Captions of mannequin pictures: a small language of phrasings, some of which are kept out of all training."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from random import Random

from hafbench.mannequin import phrases
from hafbench.mannequin.attributes import RAISED, Attributes, Skin

MAX_WORDS = 22
HELD_OUT_SHARE = 32
"""One text in so many is held out."""

# How likely each optional detail is told.
_TELL = {
    "side": 0.6,
    "view": 0.6,
    "skin": 0.45,
    "setting": 0.6,
    "hair": 0.4,
    "top": 0.6,
    "bottom": 0.6,
    "framing": 0.75,
}


def caption(attributes: Attributes, rng: Random) -> str:
    """A caption by a random template, for training: never one of those that `is_held_out` keeps for tests."""
    while True:
        text = draw(attributes, rng)
        if not is_held_out(text):
            return text


def draw(attributes: Attributes, rng: Random, tell: float = 1.0) -> str:
    """A caption by a random template, held out or not. `tell` multiplies the odds of each optional detail."""
    while True:
        text = _draw(attributes, rng, tell)
        if len(text.split()) <= MAX_WORDS:
            return text
        # Too long: the same again with fewer details.
        tell *= 0.9


def is_held_out(text: str) -> bool:
    """True for one caption in 32, by a hash of its words whatever their order, case and punctuation."""
    found = sorted(re.findall(r"[a-z0-9]+", text.lower()))
    return int.from_bytes(hashlib.sha256(" ".join(found).encode()).digest()[:4], "big") % HELD_OUT_SHARE == 0


def raised(attributes: Attributes) -> int | None:
    """How many digits the gesture holds up, over all hands of the picture; None where the framing has no gesture."""
    if attributes.gesture is None:
        return None
    return sum(RAISED[attributes.gesture]) * (2 if attributes.framing == "two_hands" else 1)


def _draw(attributes: Attributes, rng: Random, tell: float) -> str:
    match attributes.framing:
        case "hand" | "open_hand":
            parts = _hand(attributes, rng, tell)
        case "two_hands":
            parts = _two_hands(attributes, rng, tell)
        case _:
            parts = _figure(attributes, rng, tell)
    text = parts[0]
    for part in parts[1:]:
        text += (" " if _joins(part) and rng.random() < 0.6 else ", ") + part
    return text


def _joins(part: str) -> bool:
    """May it follow without a comma?"""
    return part.split()[0] in phrases.JOINING


def _told(name: str, rng: Random, tell: float) -> bool:
    return rng.random() < _TELL[name] * tell


def _skin(skin: Skin, rng: Random) -> str:
    return rng.choice(phrases.SKIN_FORMS).format(rng.choice(phrases.SKIN[skin]))


def _setting(attributes: Attributes, rng: Random) -> str:
    forms: Sequence[str] = phrases.SETTING[attributes.setting]
    if attributes.setting_colour is None:
        forms = [form for form in forms if "{}" not in form] or ["background"]
    return rng.choice(forms).format(attributes.setting_colour)


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _coloured(colour: str | None, noun: str, rng: Random, odds: float = 0.85) -> str:
    return f"{colour} {noun}" if colour and rng.random() < odds else noun


def _hand(attributes: Attributes, rng: Random, tell: float) -> list[str]:
    gesture = attributes.gesture or "open"
    side = f"{attributes.side} " if attributes.side and _told("side", rng, tell) else ""
    rod = _coloured(attributes.held_colour, rng.choice(phrases.RODS), rng)
    details = []
    if rng.random() < 0.5:
        name = rng.choice(phrases.NAMES[gesture]).format(side, rod=rod)
    else:
        whose = rng.random()
        name = (
            f"someone's {side}hand"
            if whose < 0.08
            else f"the {side}hand of a person"
            if whose < 0.14
            else f"a {side}hand"
        )
        # Somebody who asks for "a hand" alone means an open one.
        if gesture != "open" or rng.random() < 0.85:
            details.append(rng.choice(phrases.DOING[gesture]).format(rod=rod))
    if attributes.view and _told("view", rng, tell):
        details.append(rng.choice(phrases.VIEW[attributes.view]))
    return _with_common(rng.choice(phrases.CLOSE) + name, details, attributes, rng, tell)


def _two_hands(attributes: Attributes, rng: Random, tell: float) -> list[str]:
    gesture = attributes.gesture or "open"
    details = []
    if gesture in phrases.PLURALS and rng.random() < 0.4:
        name = rng.choice(phrases.PLURALS[gesture])
    else:
        name = rng.choice(phrases.PAIRS)
        if gesture != "open" or rng.random() < 0.85:
            rod = _coloured(attributes.held_colour, rng.choice(phrases.RODS), rng)
            details.append(rng.choice(("", "", "each ")) + rng.choice(phrases.DOING[gesture]).format(rod=rod))
    if attributes.view and _told("view", rng, tell):
        details.append(rng.choice(phrases.VIEW_OF_TWO[attributes.view]))
    return _with_common(rng.choice(phrases.CLOSE) + name, details, attributes, rng, tell)


def _figure(attributes: Attributes, rng: Random, tell: float) -> list[str]:
    full = attributes.framing == "full_body"
    start = rng.choice(phrases.PREFIX) + rng.choice(phrases.WHO)
    details = []
    if attributes.hair and _told("hair", rng, tell):
        colour = f"{attributes.hair_colour} " if attributes.hair_colour and rng.random() < 0.8 else ""
        details.append(rng.choice(phrases.HAIR[attributes.hair]).format(colour))
    if attributes.arms and (attributes.arms != "down" or rng.random() < 0.8):
        details.append(rng.choice(phrases.ARMS[attributes.arms]))
    if attributes.legs and (attributes.legs != "standing" or rng.random() < 0.7):
        details.append(rng.choice(phrases.LEGS[attributes.legs]))
    if attributes.held and attributes.held != "nothing":
        noun = rng.choice(phrases.BALLS if attributes.held == "ball" else phrases.RODS)
        details.append(rng.choice(phrases.HOLDING).format(_coloured(attributes.held_colour, noun, rng)))
    if clothes := _clothes(attributes, rng, tell):
        details.append(clothes)
    # The framing is told at the start or as one of the details.
    if _told("framing", rng, tell):
        framing = rng.choice(phrases.FULL if full else phrases.UPPER)
        if rng.random() < 0.5:
            details.append(framing)
        else:
            start += f", {framing}" if not framing.startswith("from") else f" {framing}"
    return _with_common(start, details, attributes, rng, tell)


def _clothes(attributes: Attributes, rng: Random, tell: float) -> str:
    worn = []
    if attributes.top and _told("top", rng, tell):
        worn.append(f"a {attributes.top} {rng.choice(phrases.TOP[attributes.sleeves or 'any'])}")
    if attributes.bottom and _told("bottom", rng, tell):
        noun = _coloured(attributes.bottom_colour, rng.choice(phrases.BOTTOM[attributes.bottom]), rng, 0.9)
        worn.append(f"a {noun}" if attributes.bottom == "skirt" else noun)
    rng.shuffle(worn)
    return rng.choice(phrases.WEARING) + " and ".join(worn) if worn else ""


def _with_common(start: str, details: list[str], attributes: Attributes, rng: Random, tell: float) -> list[str]:
    """The start, then the details in any order; the background last more often than not."""
    if _told("skin", rng, tell):
        details.append(_skin(attributes.skin, rng))
    rng.shuffle(details)
    if _told("setting", rng, tell):
        where = _setting(attributes, rng)
        details.insert(len(details) if rng.random() < 0.75 else rng.randint(0, len(details)), where)
    parts = [start, *(_tidy(detail) for detail in details)]
    # "a orange" arises wherever a colour fills a form.
    return [re.sub(r"\ba (orange|olive|ebony)\b", r"an \1", part) for part in parts]
