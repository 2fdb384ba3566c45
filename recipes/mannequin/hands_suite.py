"""Write the prompts of the second experiment: one hand each, in two suites that share no combination of attributes.

    python recipes/mannequin/hands_suite.py

A combination is gesture, side, view and skin; each is in one prompt of one suite. No text trains anything, or
is in prompts/mannequin.jsonl. The same seed writes the same files, research/experiment/prompts/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Literal

from suite import OUT as SUITE
from suite import deal, expected, says_enough, tags

from hafbench.mannequin.attributes import COLOURS, GESTURES, SETTINGS, SIDES, SKINS, VIEWS, Attributes, Gesture
from hafbench.mannequin.captions import draw, is_held_out
from hafbench.suites import Category, Prompt, load_suite

SEED = 20261130
HERE = Path(__file__).parents[2] / "research" / "experiment" / "prompts"
COUNTS = {"selection": 64, "held-out": 160}
"""By suite the number of prompts."""


def combinations(rng: Random) -> list[Attributes]:
    """All of one hand, a gesture in turn, with nothing said of the surroundings yet."""
    decks = {gesture: list(product(SIDES, VIEWS, SKINS)) for gesture in GESTURES}
    for deck in decks.values():
        rng.shuffle(deck)
    found = []
    for round_ in range(len(next(iter(decks.values())))):
        order = list(GESTURES)
        rng.shuffle(order)
        for gesture in order:
            side, view, skin = decks[gesture][round_]
            found.append(Attributes("hand", skin, "plain", side=side, view=view, gesture=gesture, held=_held(gesture)))
    return found


def _held(gesture: Gesture) -> Literal["rod"] | None:
    return "rod" if gesture == "grip" else None


def prompts() -> Iterator[tuple[str, Prompt]]:
    """All prompts with the suite that each is of."""
    rng = Random(SEED)  # noqa: S311
    settings, walls, things = deal(SETTINGS, rng), deal(COLOURS, rng), deal(COLOURS, rng)
    deck = iter(combinations(rng))
    seen = {prompt.text for prompt in load_suite(str(SUITE)).prompts}
    for part, count in COUNTS.items():
        for number in range(1, count + 1):
            plain, setting = next(deck), next(settings)
            attributes = replace(
                plain,
                setting=setting,
                setting_colour=None if setting == "outdoor" else next(walls),
                held_colour=next(things) if plain.held else None,
            )
            text = ""
            while not text or text in seen or not is_held_out(text) or not says_enough(text, attributes):
                text = draw(attributes, rng)
            seen.add(text)
            category: Category = "basic_anatomy" if plain.gesture == "open" else "semantic_gestures"
            expect = expected(attributes)
            name = f"{part}-{number:03d}"
            yield part, Prompt(id=name, text=text, category=category, tags=tags(attributes), expect=expect)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {part: [] for part in COUNTS}
    for part, prompt in prompts():
        found[part].append(json.dumps(prompt.model_dump(exclude_none=True)) + "\n")
    for part, lines in found.items():
        (out / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
