"""What the anatomy scorers of the built-in world share: its detector, its card, and how they name what they suspect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hafbench import registry
from hafbench.detectors import as_keypoints
from hafbench.detectors.mannequin import Detected, MannequinDetector, keypoints_of
from hafbench.scorers.mannequin_card import SHIPPED, THRESHOLD, MannequinCard, load_mannequin_card
from hafbench.types import Finding, Kind, Region, Role, Score

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.suites import Prompt
    from hafbench.types import Pixels

Judge = Callable[[Detected, MannequinCard, "Prompt | None"], Score]


class Options(registry.Options):
    """Another detector and its card, which belong together, as recipes/mannequin makes them."""

    detector: Path | None = Field(None, description="the detector's weights, .pt or .onnx; None: the shipped ones")
    card: Path | None = Field(None, description="its card of chances, .json; None: the shipped one")


class MannequinScorer:
    """Judges what the detector finds in a picture; the picture by its worst finding."""

    role: Role = "anatomy"
    higher_is_better: bool | None = False

    def __init__(
        self, name: str, about: str, version: str, judge: Judge, detector: MannequinDetector, card: MannequinCard
    ) -> None:
        self.name, self.about, self.version = name, about, f"{version}-card-{card.version}"
        self.settings: Mapping[str, Any] = {
            "detector": detector.name,
            "card": {"version": card.version, "threshold": THRESHOLD, "counted": card.counted},
            "weights": dict(detector.weights),
        }
        self._judge, self._detector, self._card = judge, detector, card

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The worst chance of an error in [0, 1]; unknown if nothing is seen that can be judged."""
        return self._judge(self._detector.detect(image), self._card, prompt)


def finding(region: Region, kind: Kind, detail: str, suspicion: float, part: sv.Detections) -> Finding:
    """What may be wrong with a part (one row), with the detector's confidence in it, in [0, 1]."""
    x1, y1, x2, y2 = part.xyxy[0].tolist()
    return Finding(region, kind, detail, float(suspicion), (x1, y1, x2, y2), as_keypoints(keypoints_of(part)))


def load_scorer(name: str, about: str, version: str, judge: Judge, options: Options, device: str) -> MannequinScorer:
    """A scorer with its detector and card.

    Raises Unavailable if this installation lacks the detector, HafError for a file that is no detector or card.
    """
    from hafbench.detectors.mannequin import load_mannequin_detector

    card = load_mannequin_card(options.card or SHIPPED)
    return MannequinScorer(name, about, version, judge, load_mannequin_detector(device, options.detector), card)
