"""A table of rendered figures: a good one and the same with one error in its mesh, from recipes/people/render_pairs.py.

    python recipes/critic/rendered_figures.py pairs/figure --out pairs/figure/table.jsonl

The square is that of the person whom the detector finds in the good picture. Run it again for new pairs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tables import picture

from hafbench.detectors import nets
from hafbench.weights import locate

KINDS = {
    "extra": "extra",
    "missing": "missing",
    "proportion": "proportion",
    "configuration": "bent",
    "orientation": "orientation",
}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    person = nets.Detector(nets.Net(locate("pose_detection.tflite")), 224, nets.POSE_STRIDES)
    known = {json.loads(line)["group"] for line in asked.out.read_text().splitlines()} if asked.out.exists() else set()
    with asked.out.open("a") as out:
        for line in (asked.pairs / "pairs.jsonl").read_text().splitlines():
            made = json.loads(line)
            group = str(made["seed"])
            if group in known:
                continue
            image = picture(asked.pairs / made["good"])
            people = person.detect(image, nets.whole(image), 0.4)
            if not len(people):
                continue
            best = int(np.argmax(people.confidence))
            roi = nets.roi_of_person(np.asarray(people.data["keypoints"][best], np.float64))
            for label in ("good", "bad"):
                row = {"id": f"{group}-0-{label}", "image": made[label], "label": label, "group": group}
                row["roi"] = [roi.x, roi.y, roi.side, roi.rotation]
                if label == "bad":
                    row |= {"kind": KINDS[made["kind"]], "detail": made["detail"], "mask": made["mask"]}
                out.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
