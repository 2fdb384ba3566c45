"""Bodies by MediaPipe's person detector and pose net, run bare in LiteRT: the default, which needs no extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hafbench.detectors import COCO_FROM_33, body_keypoints, hand_nets
from hafbench.weights import WEIGHTS, locate

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

PERSON_THRESHOLD = 0.5
PRESENCE_THRESHOLD = 0.5


class NetBodies:
    """People that the detector finds in the whole image, each looked at by the pose net."""

    name = "mediapipe"

    def __init__(self) -> None:
        files = ("pose_detection.tflite", "pose_landmark_full.tflite")
        self.weights: Mapping[str, str] = {file: WEIGHTS[file].sha256 for file in files}
        person, body = (hand_nets.Net(locate(file)) for file in files)
        self._person = hand_nets.Detector(person, 224, hand_nets.POSE_STRIDES)
        self._body = hand_nets.BodyNet(body)

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with COCO's 17 points."""
        people = self._person.detect(image, hand_nets.whole(image), PERSON_THRESHOLD)
        bodies = [self._body(image, hand_nets.roi_of_person(person)) for person in people]
        bodies = [body for body in bodies if body.presence >= PRESENCE_THRESHOLD]
        points = np.array([body.points[list(COCO_FROM_33)] for body in bodies])
        visibility = np.array([body.visibility[list(COCO_FROM_33)] for body in bodies])
        return body_keypoints(points, visibility, image)
