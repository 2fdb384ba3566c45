"""The `limbs` scorer: proportions, and surplus limbs, of people's 2-D skeletons.

In a picture foreshortening makes a limb shorter, never longer. So only a limb that is too long for the body is evidence
on its own; a limb that is shorter than its twin, or that cannot be seen, raises the value but is never an error alone.
Segment lengths are Drillis & Contini's shares of stature (1966; reproduced in Winter, Biomechanics and Motor Control of
Human Movement, 4th ed., fig. 4.1), taken relative to the trunk. Children's trunks are longer for their stature (Bogin &
Varela-Silva 2010, Int. J. Environ. Res. Public Health 7: 1047), so that an adult's limbs are a bound for theirs.

What it cannot see is much, for pose nets draw the body that they expect. In a trial, 19 limb segments in 9 photos were
stretched: to twice their length, MediaPipe's nets measured them 1.17 times as long as before (median) and none of the
19 was an error. Two skeletons on one trunk come only from detectors that let overlapping people stand, which the
default does not. A low value is no sign of sound limbs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench import registry
from hafbench.detectors import COCO_POINTS, BodyDetector, load_body_detector
from hafbench.errors import HafError
from hafbench.scorers.absence import unseen
from hafbench.types import Box, Finding, Keypoint, Role, Score
from hafbench.worlds import BUILT_IN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hafbench.suites import Prompt
    from hafbench.types import Pixels, Scorer

POINT = {name: index for index, name in enumerate(COCO_POINTS)}

TRUNK = 0.288  # shoulder to hip, as a share of stature
SHOULDERS = 0.259  # breadth, likewise
SEGMENTS: dict[str, tuple[str, str, float]] = {
    "upper_arm": ("shoulder", "elbow", 0.186),
    "forearm": ("elbow", "wrist", 0.146),
    "thigh": ("hip", "knee", 0.245),
    "shank": ("knee", "ankle", 0.246),
}
SIDES = ("left", "right")

CONFIDENT = 0.5
SMALLEST_TRUNK = 32.0
"""Pixels from shoulders to hips. Below it the noise of the joints is larger than what we look for."""

TOO_LONG = 1.7
"""How many times its expected length a limb has to have for even odds.

The trunk's length and its breadth are at right angles, so that seen from afar the larger of the two (each by its own
standard) is never foreshortened below 1 / sqrt(2): a sound limb measures up to 1.41. The rest is for people's variety,
the noise of joints, and cameras that are near.
"""
STEEPNESS = 8.0
LEFT_OUT = (
    "it is not shown to see errors: with MediaPipe's pose nets it flagged 3 of 95 bad images, no more than chance, and "
    "with other pose models it has not been measured"
)
WEAK = 0.45
"""The most that evidence which has innocent explanations (foreshortening, occlusion) can say."""
THRESHOLD = 0.5


@dataclass(frozen=True)
class Body:
    """One person: COCO's 17 points (17, 2) in pixels with confidence (17,), and the length to measure limbs by."""

    points: NDArray[np.float64]
    confidence: NDArray[np.float64]

    def sees(self, *names: str) -> bool:
        """Are all these joints confident?"""
        return all(self.confidence[POINT[name]] >= CONFIDENT for name in names)

    def middle(self, joint: str) -> NDArray[np.float64]:
        """Halfway between the left and the right joint."""
        return np.asarray((self.points[POINT[f"left_{joint}"]] + self.points[POINT[f"right_{joint}"]]) / 2)

    def length(self, start: str, end: str) -> float:
        """Distance of two joints in pixels."""
        return float(np.hypot(*(self.points[POINT[end]] - self.points[POINT[start]])))

    @property
    def trunk(self) -> float:
        """The trunk's length in pixels, or what the shoulders' breadth says it must be at least."""
        seen = float(np.hypot(*(self.middle("shoulder") - self.middle("hip"))))
        return max(seen, self.length("left_shoulder", "right_shoulder") * TRUNK / SHOULDERS)

    @property
    def box(self) -> Box:
        """About the confident joints."""
        seen = self.points[self.confidence >= CONFIDENT]
        (x1, y1), (x2, y2) = seen.min(0), seen.max(0)
        return float(x1), float(y1), float(x2), float(y2)

    @property
    def keypoints(self) -> tuple[Keypoint, ...]:
        """All points with their confidence."""
        return tuple((float(x), float(y), float(c)) for (x, y), c in zip(self.points, self.confidence, strict=True))


class LimbsScorer:
    """Judges every person whose trunk is seen; the image by the worst finding."""

    name = "limbs"
    version = "2"
    role: Role = "anatomy"
    higher_is_better: bool | None = False
    left_out = LEFT_OUT
    about = (
        "Suspicion of a wrong limb, from 2-D skeletons: limbs too long for the body, and limbs that two skeletons on "
        "one trunk do not share. Pose nets draw the body that they expect, so that most wrong limbs pass unseen, and "
        "joints that bend the wrong way always: a low value is no sign of sound limbs."
    )

    def __init__(self, detector: BodyDetector) -> None:
        self.settings: Mapping[str, Any] = {
            "detector": detector.name,
            "threshold": THRESHOLD,
            "too_long": TOO_LONG,
            "weights": dict(detector.weights),
        }
        self._detector = detector

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The strongest suspicion in [0, 1]; unknown if nobody is seen with a trunk of SMALLEST_TRUNK pixels."""
        found = self._detector.detect(image)
        points = np.asarray(found.xy, dtype=np.float64)
        confidence = np.asarray(found.keypoint_confidence, dtype=np.float64)
        return judge([Body(p, c) for p, c in zip(points, confidence, strict=True)], prompt)


def judge(bodies: list[Body], prompt: Prompt | None = None) -> Score:
    """The score of an image in which these people were found."""
    if not bodies:
        cause = unseen(prompt, "arms", "limbs")
        return Score("unknown", reason="nobody was found", measures={"people": 0.0}, cause=cause)
    people = {"people": float(len(bodies))}
    whole = [body for body in bodies if body.sees("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    if not whole:
        reason = "no trunk (both shoulders and hips) is seen"
        return Score("unknown", reason=reason, measures=people, cause="unjudgeable")
    judged = [body for body in whole if body.trunk >= SMALLEST_TRUNK]
    if not judged:
        reason = f"every trunk is below {SMALLEST_TRUNK:.0f} pixels"
        return Score("unknown", reason=reason, measures=people, cause="unjudgeable")
    suspicions = [finding for body in judged for finding in suspect(body)]
    suspicions += surplus(judged)
    suspicions.sort(key=lambda finding: -finding.score)
    value = suspicions[0].score if suspicions else 0.0
    findings = tuple(finding for finding in suspicions if finding.score >= THRESHOLD)
    longest = max((ratio for body in judged for _, ratio in ratios(body)), default=0.0)
    measures = {**people, "judged_people": len(judged), "longest_ratio": longest}
    return Score("scored", value, value >= THRESHOLD, None, findings, measures)


def ratios(body: Body) -> Iterator[tuple[str, float]]:
    """Every confident segment's length over the length expected from the trunk: 1 is an adult's, seen side-on."""
    for name, (start, end, share) in SEGMENTS.items():
        for side in SIDES:
            if body.sees(f"{side}_{start}", f"{side}_{end}"):
                yield f"{side}_{name}", body.length(f"{side}_{start}", f"{side}_{end}") / (body.trunk * share / TRUNK)


def suspect(body: Body) -> Iterator[Finding]:
    """What is odd about one person."""
    seen = dict(ratios(body))
    for name, ratio in seen.items():
        chance = 1 / (1 + math.exp(-STEEPNESS * math.log(max(ratio, 1e-6) / TOO_LONG)))
        yield Finding("limbs", "proportion", f"{name}_too_long", chance, body.box, body.keypoints)
    for name in SEGMENTS:
        left, right = seen.get(f"left_{name}"), seen.get(f"right_{name}")
        if left and right:
            unequal = abs(math.log(left / right))
            chance = WEAK * (1 - math.exp(-((unequal / math.log(3)) ** 2)))
            yield Finding("limbs", "proportion", f"{name}s_unequal", chance, body.box, body.keypoints)
    for side in SIDES:
        for above, joint, below in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
            # Both neighbours are certain and the joint between them is not: by degrees, so that a confidence which
            # crosses the line by a hair, as after JPEG, moves the value by a hair.
            around = min(float(body.confidence[POINT[f"{side}_{name}"]]) for name in (above, below))
            sure = (around - CONFIDENT) / (1 - CONFIDENT)
            doubt = 1 - float(body.confidence[POINT[f"{side}_{joint}"]]) / CONFIDENT
            if sure > 0 and doubt > 0:
                yield Finding("limbs", "missing", f"{side}_{joint}", WEAK * sure * doubt, body.box, body.keypoints)


def surplus(bodies: list[Body]) -> Iterator[Finding]:
    """More people's worth of limbs than people: two skeletons that share a trunk, but not an arm or a leg."""
    for index, one in enumerate(bodies):
        for other in bodies[index + 1 :]:
            scale = max(one.trunk, other.trunk)
            trunk = [f"{side}_{joint}" for side in SIDES for joint in ("shoulder", "hip")]
            apart = [np.hypot(*(one.points[POINT[name]] - other.points[POINT[name]])) / scale for name in trunk]
            if max(apart) > 0.3:
                continue
            for side in SIDES:
                for end in ("wrist", "ankle"):
                    name = f"{side}_{end}"
                    if not (one.sees(name) and other.sees(name)):
                        continue
                    distance = float(np.hypot(*(one.points[POINT[name]] - other.points[POINT[name]]))) / scale
                    chance = 1 / (1 + math.exp(-STEEPNESS * (distance - 0.6)))
                    yield Finding("limbs", "extra", f"second_{name}", chance, other.box, other.keypoints)


class Options(registry.Options):
    """`pose` is what finds the joints: mediapipe, a .task file of MediaPipe, or a pose model of ultralytics."""

    pose: str = "mediapipe"


def load(options: Options, device: str) -> Scorer:
    """The scorer over `options.pose`; raises Unavailable if the detector's weights are not on this machine."""
    if options.pose == BUILT_IN:
        raise HafError(
            "limbs judges people in photographs; the scorer of the built-in mannequins' limbs is limb_count."
        )
    return LimbsScorer(load_body_detector(options.pose, device))
