"""Thumbnails of a run's images: plain, with what was found drawn on them, and the worst place from near."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.images import load_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.sources import ImageSource
    from hafbench.types import Box, Finding

THUMBNAIL = 512
"""The longer side in pixels."""
CLOSEUP = 200
"""The side in pixels."""
SURE = 0.5
"""Body points of a lower confidence are not drawn: pose nets give a place to what they do not see, too."""

# The bones of a 21-point hand and of COCO's 17-point body, as pairs of points counted from 1.
HAND_EDGES = [(1 if k % 4 == 0 else k + 1, k + 2) for k in range(20)]
BODY_EDGES = [
    *((6, 7), (6, 8), (8, 10), (7, 9), (9, 11), (6, 12), (7, 13), (12, 13)),
    *((12, 14), (14, 16), (13, 15), (15, 17), (1, 2), (1, 3)),
]
EDGES = {21: HAND_EDGES, 17: BODY_EDGES}

FOUND = "#d9480f"
BONE = "#ffd43b"


@dataclass(frozen=True)
class Thumbnails:
    """An image as data URIs; `marked` and `closeup` are None if nothing was found, or nothing with a place."""

    plain: str
    marked: str | None
    closeup: str | None

    @property
    def characters(self) -> int:
        """How much they add to a page."""
        return sum(len(uri) for uri in (self.plain, self.marked, self.closeup) if uri)


def thumbnails(source: ImageSource, name: str, findings: Sequence[Finding]) -> Thumbnails | None:
    """The pictures of one image of a source; None if it cannot be read."""
    try:
        image = load_image(source.place(name))
    except HafError:
        return None
    scale = min(1.0, THUMBNAIL / max(image.size))
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    boxed = [(finding, finding.box) for finding in findings if finding.box]
    worst = max(boxed, key=lambda one: one[0].score, default=None)
    return Thumbnails(
        plain=data_uri(small),
        marked=data_uri(draw(small, findings, scale)) if findings else None,
        closeup=data_uri(closeup(image, worst[1])) if worst else None,
    )


def data_uri(image: Image) -> str:
    """A WebP as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=78, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def closeup(image: Image, box: Box) -> Image:
    """The square around a box with a fifth to spare, without marks, since marks hide what is to be judged."""
    x1, y1, x2, y2 = box
    half = max(8.0, 0.6 * max(x2 - x1, y2 - y1))
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return image.crop((round(x - half), round(y - half), round(x + half), round(y + half))).resize((CLOSEUP, CLOSEUP))


def draw(image: Image, findings: Sequence[Finding], scale: float) -> Image:
    """Boxes, keypoints and names of findings whose coordinates are `scale` times larger in the picture."""
    import numpy as np
    import supervision as sv
    from PIL import Image as PILImage

    scene = np.asarray(image)[..., ::-1].copy()
    found = sv.Color.from_hex(FOUND)
    for points in dict.fromkeys(finding.keypoints or () for finding in findings):
        if len(points) not in EDGES:
            continue
        places = np.array(points, dtype=np.float32)
        shown = places[:, 2] >= SURE if len(points) == 17 else np.ones(len(points), dtype=bool)
        pose = sv.KeyPoints(xy=places[None, :, :2] * scale, visible=shown[None])
        # Thin lines on a small hand, so that the hand is still seen below them.
        width = 2 if np.ptp(places[:, :2] * scale, axis=0).max() > 100 else 1
        edges = sv.EdgeAnnotator(color=sv.Color.from_hex(BONE), thickness=width, edges=EDGES[len(points)])
        scene = edges.annotate(scene, pose)
        scene = sv.VertexAnnotator(color=found, radius=width).annotate(scene, pose)
    names = box_names(findings)
    if names:
        detections = sv.Detections(
            xyxy=np.array(list(names), dtype=np.float32) * scale, class_id=np.zeros(len(names), dtype=np.int64)
        )
        scene = sv.BoxAnnotator(color=found, thickness=2).annotate(scene, detections)
        size = 0.55 if max(image.size) >= 400 else 0.35
        annotator = sv.LabelAnnotator(
            color=found, text_color=sv.Color.WHITE, text_scale=size, text_padding=5, smart_position=True
        )
        scene = annotator.annotate(scene, detections, labels=list(names.values()))
    return PILImage.fromarray(scene[..., ::-1].copy())


def box_names(findings: Sequence[Finding]) -> dict[Box, str]:
    """Each box once, with the name and score of its worst finding and how many more it has."""
    by_box: dict[Box, list[Finding]] = {}
    for finding in findings:
        if finding.box:
            by_box.setdefault(finding.box, []).append(finding)
    names = {}
    for box, group in by_box.items():
        worst = max(group, key=lambda finding: finding.score)
        more = f" +{len(group) - 1}" if len(group) > 1 else ""
        names[box] = f"{worst.detail.replace('_', ' ')} {worst.score:.2f}{more}"
    return names
