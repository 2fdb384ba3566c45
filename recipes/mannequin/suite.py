"""Write prompts/mannequin.jsonl: 100 prompts in the grammar of the captions, none of which trains anything.

    python recipes/mannequin/suite.py

The same seed writes the same file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from hafbench.mannequin import phrases
from hafbench.mannequin.attributes import (
    ARMS,
    BOTTOMS,
    COLOURS,
    GESTURES,
    HAIRS,
    LEGS,
    SETTINGS,
    SIDES,
    SKINS,
    SLEEVES,
    VIEWS,
    Arms,
    Attributes,
    Framing,
    Gesture,
    Held,
)
from hafbench.mannequin.captions import draw, is_held_out, raised
from hafbench.suites import Category, Expect, Prompt

SEED = 20261123
EACH = 20
OUT = Path(__file__).parents[2] / "prompts" / "mannequin.jsonl"

Shape = tuple[Framing, Gesture | None, Arms | None, Held | None]
Value = TypeVar("Value")

_SIGNS: tuple[Gesture, ...] = tuple(gesture for gesture in GESTURES if gesture not in ("open", "grip"))
NAMES: dict[Category, str] = {
    "basic_anatomy": "basic",
    "semantic_gestures": "gesture",
    "self_interaction": "self",
    "object_interaction": "object",
    "full_body": "full",
}


def shapes(category: Category) -> list[Shape]:
    """What the 20 prompts of a category show; all else is dealt out."""
    found: Iterable[Shape]
    match category:
        case "basic_anatomy":
            plain: tuple[Arms, ...] = ("down", "out")
            found = [
                *(("hand", "open", None, None) for _ in range(9)),
                *(("two_hands", "open", None, None) for _ in range(3)),
                *(("upper_body", None, plain[i % 2], "nothing") for i in range(8)),
            ]
        case "semantic_gestures":
            found = [
                *(("hand", sign, None, None) for sign in _SIGNS),
                *(("hand", sign, None, None) for sign in ("two", "three", "four", "thumb_up", "horns")),
                *(("upper_body", None, "wave", "nothing") for _ in range(4)),
                *(("upper_body", None, "up", "nothing") for _ in range(2)),
            ]
        case "self_interaction":
            found = [
                *(("upper_body", None, "hips", "nothing") for _ in range(4)),
                *(("full_body", None, "hips", "nothing") for _ in range(3)),
                *(("upper_body", None, "forward", "nothing") for _ in range(4)),
                *(("two_hands", sign, None, None) for sign in _SIGNS),
            ]
        case "object_interaction":
            reach: tuple[Arms, ...] = ("down", "out", "forward", "wave", "up", "forward")
            found = [
                *(("hand", "grip", None, "rod") for _ in range(8)),
                *(("upper_body", None, arms, "ball") for arms in reach),
                *(("upper_body", None, arms, "rod") for arms in reach),
            ]
        case _:
            found = [("full_body", None, ARMS[i % len(ARMS)], "nothing" if i % 4 else "ball") for i in range(EACH)]
    return list(found)


def deal(values: Sequence[Value], rng: Random) -> Iterator[Value]:
    """The values in turn, each round in an order of its own: balanced however many are taken."""
    while True:
        deck = list(values)
        rng.shuffle(deck)
        yield from deck


class Dealer:
    """Draws all that a shape leaves open, balanced over the whole suite."""

    def __init__(self, rng: Random) -> None:
        self._skins, self._sides, self._views = deal(SKINS, rng), deal(SIDES, rng), deal(VIEWS, rng)
        self._settings, self._legs, self._hairs = deal(SETTINGS, rng), deal(LEGS, rng), deal(HAIRS, rng)
        self._bottoms, self._sleeves = deal(BOTTOMS, rng), deal(SLEEVES, rng)
        self._walls, self._things, self._tops = deal(COLOURS, rng), deal(COLOURS, rng), deal(COLOURS, rng)
        self._below, self._hues = deal(COLOURS, rng), deal(COLOURS, rng)

    def attributes(self, shape: Shape) -> Attributes:
        """A whole picture of that shape."""
        framing, gesture, arms, held = shape
        figure, full = framing in ("upper_body", "full_body"), framing == "full_body"
        setting = next(self._settings)
        hair = next(self._hairs) if figure else None
        return Attributes(
            framing,
            next(self._skins),
            setting,
            None if setting == "outdoor" else next(self._walls),
            side=next(self._sides) if framing == "hand" else None,
            view=None if figure else next(self._views),
            gesture=gesture,
            arms=arms,
            legs=next(self._legs) if full else None,
            held=held,
            held_colour=next(self._things) if held in ("ball", "rod") else None,
            hair=hair,
            hair_colour=next(self._hues) if hair not in (None, "bald") else None,
            top=next(self._tops) if figure else None,
            sleeves=next(self._sleeves) if figure else None,
            bottom=next(self._bottoms) if full else None,
            bottom_colour=next(self._below) if full else None,
        )


def says_enough(text: str, attributes: Attributes) -> bool:
    """Does the text itself settle framing and gesture, so that what is expected can be expected of it?"""
    if attributes.gesture is not None:
        said = (*phrases.DOING[attributes.gesture], *phrases.NAMES[attributes.gesture])
        plurals = phrases.PLURALS.get(attributes.gesture, ())
        # Sides and colours fill the gaps of a phrase, so that its parts are looked for.
        parts = [[part.strip() for part in phrase.replace("{rod}", "{}").split("{}")] for phrase in (*said, *plurals)]
        return any(all(part in text for part in phrase) and phrase != ["a", "hand"] for phrase in parts)
    framings = phrases.FULL if attributes.framing == "full_body" else phrases.UPPER
    poses = phrases.ARMS[attributes.arms] if attributes.arms else ()
    return any(framing in text for framing in framings) and any(pose in text for pose in poses)


def expected(attributes: Attributes) -> Expect:
    """People, hands, digits and arms of a correct picture, where the text makes them certain."""
    if attributes.gesture is not None:
        two = attributes.framing == "two_hands"
        # Two hands can be two people's, and a text about holding says nothing of fingers that stand up.
        digits = None if attributes.gesture == "grip" else raised(attributes)
        return Expect(people=None if two else 1, hands=2 if two else 1, digits=digits)
    # Hanging hands may leave a picture that ends at the waist.
    whole = attributes.framing == "full_body" or attributes.arms in ("out", "up", "forward")
    return Expect(people=1, hands=2 if whole else None, arms=2)


def tags(attributes: Attributes) -> tuple[str, ...]:
    """The framing, then the gesture or what the arms do, then what is held."""
    held = attributes.held if attributes.held in ("ball", "rod") else None
    found = (attributes.framing, attributes.gesture, f"arms_{attributes.arms}" if attributes.arms else None, held)
    return tuple(str(tag) for tag in found if tag)


def prompts() -> Iterator[Prompt]:
    """All prompts, category by category."""
    rng = Random(SEED)  # noqa: S311
    dealer, seen = Dealer(rng), set[str]()
    for category, name in NAMES.items():
        for number, shape in enumerate(shapes(category), 1):
            attributes = dealer.attributes(shape)
            text = ""
            while not text or text in seen or not is_held_out(text) or not says_enough(text, attributes):
                text = draw(attributes, rng)
            seen.add(text)
            yield Prompt(
                id=f"mannequin-{name}-{number:03d}",
                text=text,
                category=category,
                tags=tags(attributes),
                expect=expected(attributes),
            )


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    path = parser.parse_args().out
    rows = (prompt.model_dump(exclude_none=True) for prompt in prompts())
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
