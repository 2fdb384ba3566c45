"""A table of labelled hands or figures in AI-made pictures, from a file of labels and the pictures that it names.

    python recipes/critic/labelled.py recipes/critic/labels.csv --pictures CLONES --out labelled/

labels.csv (hands) and figure_labels.csv hold our own labels and no pictures: repository and path of each picture (of a
frame in an animation: path#frameNUMBER), `crop` of a tile in a grid, `scale` to which the picture was reduced before x,
y, side and rotation were measured, the generator, and the label (good, bad, none), its kind, and whether we were sure.
--pictures is a folder with a clone of each repository in OWNER/NAME; pictures that are not there are left out. Pictures
that share a generator or a repository, also by way of others, are one group: none of it is on both sides of a split.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def groups_of(repositories: Sequence[str], generators: Sequence[str]) -> list[str]:
    """The group of each square, named after the first of its generators in the alphabet."""
    _, repository = np.unique(repositories, return_inverse=True)
    names, generator = np.unique(generators, return_inverse=True)
    size = len(names) + repository.max() + 1
    edges = coo_array((np.ones(len(generator)), (generator, len(names) + repository)), shape=(size, size))
    part = connected_components(edges, directed=False)[1]
    first = {number: str(name) for name, number in reversed(list(zip(names, part[: len(names)].tolist(), strict=True)))}
    return [first[number] for number in part[generator].tolist()]


def read(path: str) -> np.ndarray | None:
    """A picture, or a frame (path#frameNUMBER) of an animation, as OpenCV reads them; None where there is none."""
    name, mark, number = path.rpartition("#frame")
    if not mark:
        return cv2.imread(path)
    if name.lower().endswith(".gif"):
        if not Path(name).is_file():
            return None
        with Image.open(name) as animation:
            animation.seek(int(number))
            return np.asarray(animation.convert("RGB"))[..., ::-1]
    video = cv2.VideoCapture(name)
    video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
    found, frame = video.read()
    return frame if found else None


def main() -> None:
    """Write the pictures, reduced, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    (asked.out / "images").mkdir(parents=True, exist_ok=True)
    lines, sources, missing = [], [], set()
    with asked.labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = f"images/{row['id'].rpartition('-')[0]}.jpg"
            if not (asked.out / name).exists():
                image = read(str(asked.pictures / row["repository"] / row["path"]))
                if image is None:
                    missing.add((row["repository"], row["path"]))
                    continue
                if row["crop"]:
                    x1, y1, x2, y2 = map(int, row["crop"].split())
                    image = image[y1:y2, x1:x2]
                scale = float(row["scale"])
                if scale < 1:
                    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(asked.out / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            roi = [float(row[key]) for key in ("x", "y", "side", "rotation")]
            line = {"id": row["id"], "image": name, "roi": roi, "label": row["label"], "kind": row["kind"] or None}
            lines.append({**line, "sure": row["sure"] == "yes"})
            sources.append((row["repository"], row["generator"]))
    groups = groups_of(*zip(*sources, strict=True)) if sources else []
    rows = ({**line, "group": group} for line, group in zip(lines, groups, strict=True))
    (asked.out / "table.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    print(f"{len(lines)} labelled squares; {len(missing)} pictures are not in {asked.pictures}.")


if __name__ == "__main__":
    main()
