"""A contact sheet of what a critic sees: each square, its heat map, and the box of the worst place.

python recipes/critic/sheet.py hands TABLE.jsonl --label bad --count 12 --out sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tables import LABELS, picture, read_table

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


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=list(SETUPS))
    parser.add_argument("table", type=Path)
    parser.add_argument("--label", choices=list(LABELS), default="bad")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    critic = Critic(asked.subject, asked.heads)
    squares = [square for square in read_table(asked.table) if square.label == LABELS[asked.label]]
    chosen = np.random.default_rng(asked.seed).permutation(len(squares))[: asked.count]
    tiles = [
        drawn(picture(squares[n].image), critic.look(picture(squares[n].image), [squares[n].roi])[0]) for n in chosen
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % PAIRS)
    rows = [np.hstack(tiles[start : start + PAIRS]) for start in range(0, len(tiles), PAIRS)]
    cv2.imwrite(str(asked.out), np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    main()
