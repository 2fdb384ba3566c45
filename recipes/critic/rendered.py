"""A table of rendered hands: a good one and the same with one error in its mesh, from recipes/people/render_pairs.py.

    python recipes/critic/rendered.py pairs/hand --out pairs/hand/table.jsonl

The square is what the detector finds about the hand's truth in the good picture, with its own points.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from hafbench.detectors import nets
from hafbench.detectors.nets import HandNet, Net, Roi
from hafbench.weights import locate

KINDS = {
    "extra": "extra",
    "missing": "missing",
    "proportion": "proportion",
    "configuration": "bent",
    "orientation": None,
}
SHAPES = {"fused_digits": "fused"}
LEAST_SIDE = 90


def square_of(image: np.ndarray, keypoints: np.ndarray, net: HandNet) -> Roi | None:
    """The square of a hand with 21 true points (21, 2), as the landmark net itself would draw it."""
    roi = nets.roi_of_hand(keypoints)
    seen = net(image, [(roi, False)])
    if seen.detection_confidence[0] >= 0.1:
        own = nets.roi_of_hand(seen.xy[0])
        if np.hypot(own.x - roi.x, own.y - roi.y) < 0.3 * roi.side:
            roi = own
    return roi if roi.side >= LEAST_SIDE else None


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    net = HandNet(Net(locate("hand_landmark_full.tflite")))
    known = {json.loads(line)["group"] for line in asked.out.read_text().splitlines()} if asked.out.exists() else set()
    with asked.out.open("a") as out:
        for line in (asked.pairs / "pairs.jsonl").read_text().splitlines():
            made = json.loads(line)
            group = str(made["seed"])
            if group in known or made["hand_good"] is None:
                continue
            points = np.array(made["hand_good"]["keypoints"], np.float64)[:, :2]
            for label in ("good", "bad"):
                found = cv2.imread(str(asked.pairs / made[label]))
                image = np.ascontiguousarray(found[..., ::-1])
                roi = square_of(image, points, net)
                if roi is None:
                    break
                row = {
                    "id": f"{group}-{label}",
                    "image": made[label],
                    "roi": [roi.x, roi.y, roi.side, roi.rotation],
                    "label": label,
                    "group": group,
                }
                if label == "bad":
                    row["kind"] = SHAPES.get(made["detail"], KINDS[made["kind"]])
                    row["mask"] = made["mask"]
                out.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
