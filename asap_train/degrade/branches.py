"""A digit or a limb that grows from a cut-out part: taken away, or laid along another line."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from asap_train.degrade.cutout import Crop, Cutout, Matte, box_about, laid, over, sample
from asap_train.degrade.fill import fill, grown
from asap_train.degrade.lines import Box, Floats, Line


@dataclass(frozen=True)
class Branch:
    """Its line from the first joint to the end of its flesh, a box about that, its own matte, and that of the `rest`.

    `root` is how far along the line, in pixels, it leaves what it grows from.
    """

    line: Line
    box: Box
    matte: Matte
    rest: Matte
    root: float


def freedom_of(cutout: Cutout, line: Line, root: float, body: Floats | None = None) -> float:
    """The share of a branch's outline, in [0, 1], that has something else than the part beside it.

    0 if the cut-out does not cover its line, or the line's colours are not those at the point `body` (a palm's middle):
    then the keypoints, or the cut, missed it.
    """
    along = np.linspace(root + cutout.thickness, line.length - cutout.thickness, 12)
    around = [
        sample(cutout.matte, *line.locate(along, np.full(12, side * cutout.thickness))) for side in (-1.9, 0, 1.9)
    ]
    left, on, right = (values.ravel() for values in around)
    if on.mean() < 0.8 or (body is not None and _chroma_apart(cutout, line, along, body) > 22):
        return 0.0
    return float((np.concatenate([left, right]) < 0.3).mean())


def _chroma_apart(cutout: Cutout, line: Line, along: Floats, body: Floats) -> float:
    """How far the line's colours are from those at a point, in CIELAB's a and b at most."""
    x, y = line.locate(along, np.zeros_like(along))
    places = np.append(x, np.float32(body[0])), np.append(y, np.float32(body[1]))
    size = max(1, round(0.5 * cutout.thickness))
    blurred = sample(cv2.blur(cutout.pixels, (size, size)), *(place[None] for place in places)) / 255
    lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2LAB)[0, :, 1:]
    return float(np.hypot(*(lab[:-1] - lab[-1]).T).max())


def without(cutout: Cutout, branch: Branch, root: float | None = None) -> Crop:
    """The crop with the branch taken away from its root on, and what is left there made round."""
    thickness = cutout.thickness
    x1, y1, x2, y2 = box_about(branch.line.points, 8 * thickness, cutout.matte.shape)
    place = np.s_[y1:y2, x1:x2]
    along, beside = branch.line.place_box((x1, y1, x2, y2))
    rounding = 0.5 * thickness * (1 - np.minimum(1, beside / thickness) ** 2)
    beyond = np.clip(along - (branch.root if root is None else root) - rounding + 0.5, 0, 1)
    reach = max(2.0, 0.45 * thickness)
    flesh = grown(branch.matte[place] > 0.1, reach)
    hole = cv2.blur(flesh.astype(np.float32), (3, 3)) * beyond * (1 - branch.rest[place])
    filled = fill(cutout.pixels[place], hole > 0.02, grown(cutout.matte[place] > 0.05, reach))
    return over(cutout.pixels, (x1, y1, x2, y2), filled, np.asarray(hole, np.float32))


def replaced(cutout: Cutout, branch: Branch, line: Line) -> Crop | None:
    """The crop with the branch along another line in place of its own; None if that leaves the crop."""
    if not within(cutout, line):
        return None
    return over(without(cutout, branch), *laid(cutout, branch.matte, branch.line, line, keep=2 * cutout.thickness))


def within(cutout: Cutout, line: Line) -> bool:
    """Whether a line lies inside the crop."""
    height, width = cutout.matte.shape
    return bool(((line.points > 1) & (line.points < (width - 1, height - 1))).all())
