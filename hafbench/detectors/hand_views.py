"""One hand out of its views through the nets: its median points, and how far the nets and the views agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.detectors.nets import MIDDLE_MCP, WRIST, Floats, Roi

if TYPE_CHECKING:
    import supervision as sv

# The 20 bones of a hand as pairs of its 21 points, thumb to little finger, each from the wrist to the tip.
BONES = tuple((0 if k % 4 == 0 else k, k + 1) for k in range(20))


def summarize(full: sv.KeyPoints, lite: sv.KeyPoints, palms: Sequence[float], roi: Roi) -> sv.KeyPoints:
    """One hand (a single row) out of its views through both nets, its palm scores and its square.

    The confidence of a keypoint falls from 1 with its movement between views, to 1/e at 5 % of the square's side.
    Columns of `data`: mean logits `presence_lite`, `presence_full`, `palm` and `handedness` (of the likelier side);
    `spread` and `disagreement`, the log shares of the palm's length by which points move between views and between
    nets; `log_bones` (1, 20); `roi` (1, 4), the square as x, y, side and rotation.
    """
    import supervision as sv

    middle, moved = np.median(full.xy, axis=0), spread(full.xy)
    apart = np.hypot(*(middle - np.median(lite.xy, axis=0)).T)
    right = float(np.mean([*full.data["handedness"], *lite.data["handedness"]]))
    columns: dict[str, Any] = {
        "presence_lite": mean_logit(lite.detection_confidence),
        "presence_full": mean_logit(full.detection_confidence),
        "palm": mean_logit(palms),
        "handedness": mean_logit([max(right, 1 - right)]),
        "spread": log_share(moved, middle, roi.side),
        "disagreement": log_share(apart, middle, roi.side),
        "log_bones": np.median([log_bones(world) for world in full.data["world"]], axis=0),
        "roi": astuple(roi),
    }
    return sv.KeyPoints(
        xy=middle[None],
        keypoint_confidence=np.array([[math.exp(-distance / (0.05 * roi.side)) for distance in moved]]),
        data={name: np.array([value]) for name, value in columns.items()},
    )


def hand_boxes(hands: sv.KeyPoints) -> Floats:
    """Boxes (n, 4) of the points with a tenth of the longer side around, since the points lie inside of the hand."""
    low, high = hands.xy.min(1), hands.xy.max(1)
    margin = 0.1 * (high - low).max(1, keepdims=True)
    return np.hstack([low - margin, high + margin])


def hand_lengths(hands: sv.KeyPoints) -> Floats:
    """The longer sides (n,) of the boxes in pixels."""
    boxes = hand_boxes(hands)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(1))


def mean_logit(probabilities: Sequence[float] | Floats) -> float:
    """The mean of the logits, each probability held to [0.001, 0.999] so that no single view decides."""
    clipped = np.clip(probabilities, 0.001, 0.999)
    return float(np.log(clipped / (1 - clipped)).mean())


def spread(views: Floats) -> Floats:
    """How far each point moves between views, in pixels: the median distance (n,) to its median, of (views, n, 2)."""
    return np.asarray(np.median(np.hypot(*np.moveaxis(views - np.median(views, axis=0), -1, 0)), axis=0))


def log_share(distances: Floats, points: Floats, side: float) -> float:
    """The log of the mean distance as a share of the palm's length, of points (21, 2) and distances (n,) in pixels.

    A twentieth of the crop's side is added to the palm, lest one that points at the camera have no length.
    """
    palm = float(np.hypot(*(points[MIDDLE_MCP] - points[WRIST]))) + 0.05 * side
    return math.log(float(np.mean(distances)) / palm + 0.01)


def log_bones(world: Floats) -> Floats:
    """The log lengths (20,) of the bones of a hand (21, 3), about their own mean: its proportions without its size."""
    ends = np.array(BONES)
    logs = np.log(np.linalg.norm(world[ends[:, 1]] - world[ends[:, 0]], axis=1) + 1e-4)
    return np.asarray(logs - logs.mean())
