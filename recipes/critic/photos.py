"""A table of photographs of hands, and of the same with local errors made in their pixels.

    python recipes/critic/photos.py FOLDER --out photos/NAME --copies 3

The errors are those of `asap-train synth`'s image family for digits, and local ones of shape (melting.py), one to three
at once. Photos in which no hand is found are left out. Run it again to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from melting import MELTS, window_of

from asap_train.degrade.cutout import VISIBLE
from asap_train.degrade.digits import Hand, cut_hand
from asap_train.degrade.image import degraded
from hafbench.detectors.hands import HandDetector
from hafbench.detectors.nets import HandNet, Net, Roi
from hafbench.weights import locate

KINDS = {
    "extra_digit": "extra",
    "missing_digit": "missing",
    "fused_digits": "fused",
    "bent_digit": "bent",
    "long_digit": "proportion",
    "short_digit": "proportion",
}
WEIGHTS = {
    "extra_digit": 3,
    "missing_digit": 2,
    "fused_digits": 2,
    "bent_digit": 1.5,
    "long_digit": 1,
    "short_digit": 1,
}
MELTED = 0.5  # how often an error is one of shape, as most of generators are
LEAST_CHANGE = 0.004  # of the hand's square


def melted(image: np.ndarray, hand: Hand, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The image with one error of shape, and where it differs."""
    cutout = hand.cutout
    window = window_of(cutout.points[:21], cutout.matte, cutout.thickness, rng)
    made = MELTS[int(rng.integers(len(MELTS)))](cutout.pixels, window, cutout.thickness, rng)
    out = image.copy()
    height, width = cutout.matte.shape
    x, y = cutout.corner
    out[y : y + height, x : x + width] = np.clip(made, 0, 255).round().astype(np.uint8)
    return out, cv2.absdiff(out, image).max(2) >= VISIBLE


def damaged(
    image: np.ndarray, points: np.ndarray, side: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str | None] | None:
    """An image with one to three errors, its mask, and the kind if all are of one."""
    now, kinds = image, set()
    for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.25, 0.15)))):
        hand = cut_hand(now, points)
        if hand is None:
            return None
        made = None
        if rng.random() > MELTED:
            names = list(WEIGHTS)
            shares = np.array([WEIGHTS[name] for name in names])
            for name in rng.permutation(rng.choice(names, 3, replace=False, p=shares / shares.sum())):
                made = degraded(now, hand, str(name), int(rng.integers(2**31)))
                if made is not None:
                    kinds.add(KINDS[str(name)])
                    break
        if made is None:
            made = melted(now, hand, rng)
            kinds.add("shape")
        now = made[0]
    mask = cv2.absdiff(now, image).max(2) >= VISIBLE
    if mask.sum() < LEAST_CHANGE * side * side:
        return None
    return now, mask, kinds.pop() if len(kinds) == 1 else None


def main() -> None:
    """Write pictures, masks and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=3, help="degraded copies of a photo")
    parser.add_argument("--every", type=int, default=1, help="take every N-th photo")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    table = asked.out / "table.jsonl"
    done = {json.loads(line)["group"] for line in table.read_text().splitlines()} if table.exists() else set()
    detector, net = HandDetector(), HandNet(Net(locate("hand_landmark_full.tflite")))
    for path in sorted(p for p in asked.folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})[
        :: asked.every
    ]:
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        found = cv2.imread(str(path))
        if name in done or found is None:
            continue
        image = np.ascontiguousarray(found[..., ::-1])
        hands = detector.find(image)
        hand = max(hands, key=lambda one: one.presence, default=None)
        if hand is None or hand.presence < 0.8 or hand.roi.side < 100:
            continue
        points = net(image, [(hand.roi, False)]).xy[0]
        rng = np.random.default_rng(int(name, 16))
        lines = [row(asked.out, f"{name}-good", image, hand.roi, "good", name)]
        for copy in range(asked.copies):
            made = damaged(image, points, hand.roi.side, rng)
            if made is not None:
                lines.append(row(asked.out, f"{name}-{copy}", made[0], hand.roi, "bad", name, made[2], made[1]))
        with table.open("a") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)


def row(
    out: Path,
    name: str,
    image: np.ndarray,
    roi: Roi,
    label: str,
    group: str,
    kind: str | None = None,
    mask: np.ndarray | None = None,
) -> dict[str, object]:
    """Write a picture, with its mask, and describe it as a line of a table."""
    cv2.imwrite(str(out / f"{name}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 96])
    line: dict[str, object] = {
        "id": name,
        "image": f"{name}.jpg",
        "roi": [float(value) for value in (roi.x, roi.y, roi.side, roi.rotation)],
        "label": label,
        "kind": kind,
        "group": group,
    }
    if mask is not None:
        cv2.imwrite(str(out / f"{name}_mask.png"), mask.astype(np.uint8) * 255)
        line["mask"] = f"{name}_mask.png"
    return line


if __name__ == "__main__":
    main()
