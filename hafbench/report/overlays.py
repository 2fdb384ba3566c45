"""Thumbnails of a run's images, plain and with what was found drawn on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import BadImage
from hafbench.images import load_image

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 512
"""The longer side in pixels."""

# The bones of a 21-point hand and of COCO's 17-point body, as pairs of points counted from 1.
HAND_EDGES = [(1 if k % 4 == 0 else k + 1, k + 2) for k in range(20)]
BODY_EDGES = [
    *((6, 7), (6, 8), (8, 10), (7, 9), (9, 11), (6, 12), (7, 13), (12, 13)),
    *((12, 14), (14, 16), (13, 15), (15, 17), (1, 2), (1, 3)),
]
EDGES = {21: HAND_EDGES, 17: BODY_EDGES}

FOUND = "#e8590c"
BONE = "#ffd43b"


def thumbnails(path: Path, findings: Sequence[Mapping[str, Any]]) -> tuple[str, str | None] | None:
    """The image as a data URI, and the same with its findings if there are any; None if it cannot be read."""
    try:
        image = load_image(path)
    except (BadImage, OSError):
        return None
    scale = min(1.0, THUMBNAIL / max(image.size))
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return data_uri(small), data_uri(draw(small, findings, scale)) if findings else None


def data_uri(image: Image) -> str:
    """A WebP as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=78, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def draw(image: Image, findings: Sequence[Mapping[str, Any]], scale: float) -> Image:
    """Boxes, keypoints and names of findings whose coordinates are `scale` times larger in the picture."""
    import numpy as np
    import supervision as sv

    scene = np.asarray(image)[..., ::-1].copy()
    found = sv.Color.from_hex(FOUND)
    for finding in findings:
        points = finding.get("keypoints")
        if points and len(points) in EDGES:
            xy = np.array(points, dtype=np.float32)[None, :, :2] * scale
            pose = sv.KeyPoints(xy=xy)
            edges = sv.EdgeAnnotator(color=sv.Color.from_hex(BONE), thickness=2, edges=EDGES[len(points)])
            scene = edges.annotate(scene, pose)
            scene = sv.VertexAnnotator(color=found, radius=2).annotate(scene, pose)
    boxed = [finding for finding in findings if finding.get("box")]
    if boxed:
        detections = sv.Detections(
            xyxy=np.array([finding["box"] for finding in boxed], dtype=np.float32) * scale,
            class_id=np.zeros(len(boxed), dtype=np.int64),
        )
        scene = sv.BoxAnnotator(color=found, thickness=2).annotate(scene, detections)
        labels = [f"{finding['detail'].replace('_', ' ')} {finding['score']:.2f}" for finding in boxed]
        annotator = sv.LabelAnnotator(
            color=found, text_color=sv.Color.WHITE, text_scale=0.4, text_padding=4, smart_position=True
        )
        scene = annotator.annotate(scene, detections, labels=labels)

    from PIL import Image as PILImage

    return PILImage.fromarray(scene[..., ::-1].copy())
