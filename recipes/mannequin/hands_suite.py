"""Write the prompts of the second experiment: an open hand each, in suites that share no combination of attributes.

    python recipes/mannequin/hands_suite.py

A combination is side, view, skin and wall; each is in one prompt of one suite. No text trains anything, or
is in prompts/mannequin.jsonl. The same seed writes the same files, research/experiment/prompts/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random

from suite import OUT as SUITE
from suite import expected, says_enough, tags

from hafbench.mannequin.attributes import COLOURS, SIDES, SKINS, VIEWS, WALLS, Attributes
from hafbench.mannequin.captions import draw, is_held_out
from hafbench.mannequin.scene import legible
from hafbench.suites import Prompt, load_suite

SEED = 20261130
HERE = Path(__file__).parents[2] / "research" / "experiment" / "prompts"
COUNTS = {"selection": 64, "held-out": 160, "confirmation": 160}
"""By suite the number of prompts. What held-out ones suggest is confirmed on those of the last."""


def combinations(rng: Random) -> list[Attributes]:
    """All whose hand stands out from its wall, in random order."""
    kinds = product(SIDES, VIEWS, SKINS, WALLS, COLOURS)
    found = [
        Attributes("open_hand", skin, wall, colour, side=side, view=view, gesture="open", held="nothing")
        for side, view, skin, wall, colour in kinds
    ]
    found = [attributes for attributes in found if legible(attributes)]
    rng.shuffle(found)
    return found


def prompts() -> Iterator[tuple[str, Prompt]]:
    """All prompts with the suite that each is of."""
    rng = Random(SEED)  # noqa: S311
    deck = iter(combinations(rng))
    seen = {prompt.text for prompt in load_suite(str(SUITE)).prompts}
    for part, count in COUNTS.items():
        for number in range(1, count + 1):
            attributes = next(deck)
            text = ""
            while not text or text in seen or not is_held_out(text) or not says_enough(text, attributes):
                text = draw(attributes, rng)
            seen.add(text)
            name, expect = f"{part}-{number:03d}", expected(attributes)
            yield part, Prompt(id=name, text=text, category="basic_anatomy", tags=tags(attributes), expect=expect)


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
