"""A contact sheet of what a critic sees: each square, its heat map, and the box of the worst place.

python recipes/critic/sheet.py hands TABLE.jsonl --label bad --count 12 --out sheet.png
python recipes/critic/sheet.py hands TABLE.jsonl --pairs --count 8 --out sheet.png

With --pairs a malformed square stands above the same without the error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tables import LABELS, Square, picture, read_table

from hafbench.detectors.critic import SETUPS, Critic, Look
from hafbench.detectors.nets import Roi
from hafbench.scorers.hands import worst_place

SIDE, PAIRS = 200, 4


def drawn(image: np.ndarray, look: Look) -> np.ndarray:
    """The square, upright, beside the same with its heat (red) and the box of the worst place."""
    around = Roi(look.roi.x, look.roi.y, look.roi.side, 0.0)
    crop = (around.crop(image, SIDE, cv2.BORDER_CONSTANT) * 255).astype(np.uint8)
    cells = cv2.resize((look.heat * 255).astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), -np.degrees(look.roi.rotation), 1.0)
    heat = cv2.warpAffine(cells, turn, (SIDE, SIDE)).astype(np.float32)[..., None] / 255
    hot = np.clip(crop * (1 - 0.6 * heat) + heat * 0.6 * np.array([255, 40, 20]), 0, 255).astype(np.uint8)
    scale = SIDE / around.side
    x1, y1, x2, y2 = worst_place(look)
    corner = np.array([around.x, around.y]) - around.side / 2
    low, high = (np.array([x1, y1]) - corner) * scale, (np.array([x2, y2]) - corner) * scale
    hot = np.ascontiguousarray(hot)
    cv2.rectangle(hot, low.astype(int).tolist(), high.astype(int).tolist(), (255, 255, 0), 1)
    text = f"{look.error:.2f} {look.kind or ''}"
    cv2.putText(hot, text, (4, SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack([crop, hot])


def chosen(squares: list[Square], label: str, pairs: bool, count: int, seed: int) -> list[list[Square]]:
    """The rows of each column: one square, or a bad one and the good one of its group."""
    columns = [[square] for square in squares if square.label == LABELS[label]]
    if pairs:
        good = {square.group: square for square in squares if square.label == LABELS["good"]}
        bad = {square.group: square for square in squares if square.label == LABELS["bad"]}
        columns = [[bad[group], good[group]] for group in sorted(bad) if group in good]
    order = np.random.default_rng(seed).permutation(len(columns))[:count]
    return [columns[number] for number in order]


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=list(SETUPS))
    parser.add_argument("table", type=Path)
    parser.add_argument("--label", choices=list(LABELS), default="bad")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    critic = Critic(asked.subject, asked.heads)
    columns = chosen(list(read_table(asked.table)), asked.label, asked.pairs, asked.count, asked.seed)
    tiles = []
    for column in columns:
        looks = [critic.look(picture(square.image), [square.roi])[0] for square in column]
        drawings = [drawn(picture(square.image), look) for square, look in zip(column, looks, strict=True)]
        tiles.append(np.vstack(drawings))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % PAIRS)
    rows = [np.hstack(tiles[start : start + PAIRS]) for start in range(0, len(tiles), PAIRS)]
    line = np.full((6, rows[0].shape[1], 3), 255, np.uint8)
    lined = [part for row in rows for part in (row, line)][:-1]
    cv2.imwrite(str(asked.out), np.vstack(lined)[..., ::-1])


if __name__ == "__main__":
    main()
