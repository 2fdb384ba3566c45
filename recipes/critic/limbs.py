"""A table of figures that are labelled good, and of the same with local errors made in their pixels.

    python recipes/critic/limbs.py labelled/table.jsonl --out limbs --copies 3

The errors are those of `asap-train synth`'s image family for limbs and feet, and local ones of shape (melting.py), one
to three at once. A degraded figure stays in the group of its picture. Run it again to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from melting import MELTS, window_of
from tables import LABELS, picture, read_table

from asap_train.degrade.cutout import VISIBLE, Bones, cut
from asap_train.degrade.image import degraded
from asap_train.degrade.limbs import EXTREMITY, THICKNESS, cut_limb
from asap_train.degrade.wholes import cut_foot
from hafbench.detectors.nets import BodyNet, Net
from hafbench.weights import locate

LIMBS = ((11, 13, 15), (12, 14, 16), (23, 25, 27), (24, 26, 28))
FEET = ((27, 29, 31), (28, 30, 32))
KINDS = {
    "extra_limb": "extra",
    "missing_limb": "missing",
    "short_limb": "proportion",
    "bent_limb": "bent",
    "mirrored_foot": "orientation",
    "turned_foot": "orientation",
    "large_foot": "proportion",
    "extra_foot": "extra",
    "missing_foot": "missing",
}
OF_LIMBS = {"extra_limb": 3.0, "missing_limb": 2.0, "short_limb": 1.0, "bent_limb": 2.0}
MELTED, FOOT = 0.5, 0.15  # how often an error is one of shape, and how often one of a foot
SEEN, LEAST_CHANGE = 0.5, 0.002  # confidence of the joints; share of the figure's square
TRIES = 6


def melted(image: np.ndarray, joints: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """The image with one error of shape in a limb with these joints (3, 2), and where it differs."""
    thickness = THICKNESS * float(np.hypot(*np.diff(joints, axis=0).T).max())
    whole = np.array([*joints, joints[2] + EXTREMITY * (joints[2] - joints[1])])
    cutout = cut(image, whole, Bones((whole,), (), thickness), 2.5 * thickness)
    if cutout is None:
        return None
    along = np.linspace(0, 3, 21)
    points = np.stack([np.interp(along, range(4), axis) for axis in cutout.points[:4].T], 1)
    thickness = cutout.thickness * rng.uniform(0.5, 1.0)
    made = MELTS[int(rng.integers(len(MELTS)))](
        cutout.pixels, window_of(points, cutout.matte, thickness, rng), thickness, rng
    )
    out = image.copy()
    (x, y), (height, width) = cutout.corner, cutout.matte.shape
    out[y : y + height, x : x + width] = np.clip(made, 0, 255).round().astype(np.uint8)
    return out, cv2.absdiff(out, image).max(2) >= VISIBLE


def wrong(
    image: np.ndarray, points: np.ndarray, seen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, str] | None:
    """The image with one error in a limb or foot whose points (33, 2) are `seen` (33,), and its kind."""
    limbs = [limb for limb in LIMBS if seen[list(limb)].all()]
    feet = [foot for foot in FEET if seen[list(foot)].all()]
    if feet and rng.random() < FOOT:
        foot = cut_foot(image, points[list(feet[int(rng.integers(len(feet)))])])
        name = str(rng.choice([name for name in KINDS if name.endswith("foot")]))
        made = degraded(image, foot, name, int(rng.integers(2**31)))
        return None if made is None else (made[0], KINDS[name])
    if not limbs:
        return None
    joints = points[list(limbs[int(rng.integers(len(limbs)))])]
    if rng.random() < MELTED:
        made = melted(image, joints, rng)
        return None if made is None else (made[0], "shape")
    shares = np.array(list(OF_LIMBS.values()))
    name = str(rng.choice(list(OF_LIMBS), p=shares / shares.sum()))
    made = degraded(image, cut_limb(image, joints), name, int(rng.integers(2**31)))
    return None if made is None else (made[0], KINDS[name])


def damaged(
    image: np.ndarray, points: np.ndarray, seen: np.ndarray, side: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str | None] | None:
    """An image with one to three errors, its mask, and the kind if all are of one."""
    now, kinds, wanted = image, [], int(rng.choice((1, 2, 3), p=(0.6, 0.25, 0.15)))
    for _ in range(TRIES):
        made = wrong(now, points, seen, rng)
        if made is not None:
            now = made[0]
            kinds.append(made[1])
        if len(kinds) == wanted:
            break
    mask = cv2.absdiff(now, image).max(2) >= VISIBLE
    if mask.sum() < LEAST_CHANGE * side * side:
        return None
    return now, mask, kinds[0] if len(set(kinds)) == 1 else None


def main() -> None:
    """Write the degraded pictures, their masks and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--copies", type=int, default=3, help="degraded copies of a figure")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    table, seen_file = asked.out / "table.jsonl", asked.out / "seen.txt"
    done = set(seen_file.read_text().split()) if seen_file.exists() else set()
    net = BodyNet(Net(locate("pose_landmark_full.tflite")))
    for square in read_table(asked.table):
        if square.label != LABELS["good"] or square.id in done:
            continue
        image = picture(square.image)
        body = net(image, [square.roi])
        points, seen = np.asarray(body.xy[0], float), body.keypoint_confidence[0] >= SEEN
        seen &= ((points >= 0) & (points < image.shape[1::-1])).all(1)
        rng = np.random.default_rng(int(hashlib.sha256(square.id.encode()).hexdigest()[:12], 16))
        lines = []
        roi = [square.roi.x, square.roi.y, square.roi.side, square.roi.rotation]
        for copy in range(asked.copies):
            made = damaged(image, points, seen, square.roi.side, rng)
            if made is None:
                continue
            name = f"{square.id}-{copy}"
            cv2.imwrite(str(asked.out / f"{name}.jpg"), made[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 96])
            cv2.imwrite(str(asked.out / f"{name}_mask.png"), made[1].astype(np.uint8) * 255)
            line = {"id": name, "image": f"{name}.jpg", "roi": roi, "label": "bad", "kind": made[2]}
            lines.append({**line, "group": square.group, "mask": f"{name}_mask.png"})
        with table.open("a") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)
        with seen_file.open("a") as file:
            file.write(f"{square.id}\n")


if __name__ == "__main__":
    main()
