"""Render exact pairs of people into a folder: a good picture, the same with one error, and the error's mask.

    python recipes/people/render_pairs.py --view hand --first-seed 0 --count 500 --size 256 --out pairs/hand

Seeds S .. S + N - 1 are tried, one pair a seed; a seed whose scene has no room for an error that can be seen gives
none. Run it again to resume: seeds that pairs.jsonl or skipped.txt know are left out. One process a call; for more,
give each its own --first-seed and its own --out. --detail makes only errors of one kind (see
hafbench/people/defects.py). --format jpeg writes JPEG of quality 95 in place of PNG; masks are always PNG.

Files: SEED_good.png, SEED_bad.png, SEED_mask.png (255 where the two differ), and a line of pairs.jsonl for each pair:

    seed, view, detail, kind, region   the error, in the published taxonomy
    good, bad, mask                    names of the files
    box                                x1, y1, x2, y2 round the mask, in pixels
    side                               left or right: the hand or limb with the error
    gesture, pose                      names of what the person does
    hand_good, hand_bad                the hand concerned: box, side, keypoints (21 x column, row, seen 0 or 1, in
                                       MediaPipe's order), digits (their names), countable; null where none is seen
    truth_good, truth_bad              everything that is known: hands and people, as in the first built-in world
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hafbench.mannequin.truth import as_json
from hafbench.people.defects import DEFECTS
from hafbench.people.pairs import SIZE, Pair, pair

if TYPE_CHECKING:
    from hafbench.mannequin.truth import Truth

SIDES = {"L": "left", "R": "right"}


def hand_of(truth: Truth, side: str) -> dict[str, Any] | None:
    """The box, keypoints and digits of a side's hand; None if it is not seen."""
    for hand in truth.hands:
        if hand.part == f"{side}_arm.hand":
            return {
                "box": hand.box,
                "side": hand.side,
                "keypoints": [[round(value, 2) for value in point] for point in hand.keypoints],
                "digits": [digit.name for digit in hand.digits],
                "countable": hand.countable,
            }
    return None


def describe(made: Pair, names: dict[str, str]) -> dict[str, Any]:
    """A line of pairs.jsonl."""
    side = SIDES[made.side]
    return {
        "seed": made.scene.seed,
        "view": made.scene.view,
        "detail": made.defect.detail,
        "kind": made.defect.kind,
        "region": made.defect.region,
        **names,
        "box": made.box,
        "side": side,
        "gesture": made.scene.gesture,
        "pose": made.scene.pose,
        "hand_good": hand_of(made.truth_good, side),
        "hand_bad": hand_of(made.truth_bad, side),
        "truth_good": as_json(made.truth_good),
        "truth_bad": as_json(made.truth_bad),
    }


def save(made: Pair, out: Path, suffix: str) -> dict[str, str]:
    """Write the three files; their names."""
    arrays = {"good": made.good.image, "bad": made.bad.image, "mask": made.mask.astype(np.uint8) * 255}
    names = {}
    for what, array in arrays.items():
        jpeg = suffix == "jpeg" and what != "mask"
        names[what] = f"{made.scene.seed}_{what}.{'jpg' if jpeg else 'png'}"
        image = Image.fromarray(array)
        if jpeg:
            image.save(out / names[what], quality=95, subsampling=0)
        else:
            image.save(out / names[what])
    return names


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--view", choices=("hand", "figure"), default="hand")
    parser.add_argument("--detail", choices=sorted(DEFECTS), help="only errors of this kind")
    parser.add_argument("--first-seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True, help="how many seeds are tried")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--format", choices=("png", "jpeg"), default="png")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    lines, skipped = asked.out / "pairs.jsonl", asked.out / "skipped.txt"
    done = set()
    if lines.exists():
        text = lines.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a line that was cut off is made again
            lines.write_text(whole, encoding="utf-8")
        done |= {int(json.loads(line)["seed"]) for line in whole.splitlines()}
    if skipped.exists():
        done |= {int(line) for line in skipped.read_text().split()}
    for seed in range(asked.first_seed, asked.first_seed + asked.count):
        if seed in done:
            continue
        made = pair(seed, asked.detail, asked.view, asked.size)
        if made is None:
            with skipped.open("a") as file:
                file.write(f"{seed}\n")
            continue
        names = save(made, asked.out, asked.format)
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(describe(made, names)) + "\n")
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
