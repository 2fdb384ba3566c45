"""Bodies by MediaPipe's person detector and pose net, run bare in LiteRT: the default, which needs no extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hafbench.detectors import COCO_FROM_33, body_keypoints, nets
from hafbench.weights import WEIGHTS, locate

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

FILES = ("pose_detection.tflite", "pose_landmark_full.tflite")
MIN_PRESENCE = 0.5


class PoseNets:
    """People with MediaPipe's 33 points: the detector finds them in the whole image, the pose net looks at each."""

    def __init__(self) -> None:
        person, body = (nets.Net(locate(file)) for file in FILES)
        self._person, self._body = nets.Detector(person, 224, nets.POSE_STRIDES), nets.BodyNet(body)

    def detect(self, image: Pixels, threshold: float = 0.5) -> sv.KeyPoints:
        """xy (n, 33, 2), visibility (n, 33) as `keypoint_confidence`; `threshold` is on the detector's confidence."""
        people = self._person.detect(image, nets.whole(image), threshold)
        bodies = self._body(image, [nets.roi_of_person(points) for points in people.data["keypoints"]])
        return bodies[bodies.detection_confidence >= MIN_PRESENCE]


class MediapipeBodies:
    """People with COCO's 17 of MediaPipe's 33 points."""

    name = "mediapipe"

    def __init__(self) -> None:
        self.weights: Mapping[str, str] = {file: WEIGHTS[file].sha256 for file in FILES}
        self._nets = PoseNets()

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with COCO's 17 points."""
        bodies, coco = self._nets.detect(image), list(COCO_FROM_33)
        return body_keypoints(bodies.xy[:, coco], bodies.keypoint_confidence[:, coco], image)
