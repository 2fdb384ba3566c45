"""The gates that a candidate passes to become a pair: what each asks, and the sentence of what it refuses.

`measures.py` measures; here the numbers meet their thresholds, a scorer's judgement, and the pairs that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from asap_train.data.similarity import Measures

if TYPE_CHECKING:
    from asap_train.types import Mask
    from hafbench.types import Pixels, Score

Outcome = Literal["passed", "failed", "skipped"]
"""skipped: the gate could not be applied. That is said in the data set's card, and is not a pass."""
NO_LPIPS = "the weights of LPIPS are not on this machine"
MARGIN = 0.25
"""About M in the crop whose hash tells near-duplicates, as a share of the box's longer side."""


@dataclass(frozen=True)
class Thresholds:
    """Bounds that a pair keeps. SSIM and LPIPS as reported (docs/hap.md); areas are shares of the picture.

    `hash_distance` is the number of 64 bits of a perceptual hash up to which two pictures count as the same.
    """

    inside_ssim: float = 0.65
    inside_lpips: float = 0.25
    outside_ssim: float = 0.95
    outside_lpips: float = 0.02
    least_area: float = 0.0005
    most_area: float = 0.5
    hash_distance: int = 4


@dataclass(frozen=True)
class Verdict:
    """What one gate says of one candidate; `reason` is a sentence unless it passed."""

    gate: str
    outcome: Outcome
    reason: str | None = None


def judge(measures: Measures, thresholds: Thresholds) -> list[Verdict]:
    """The verdicts of the gates on area, SSIM and LPIPS."""
    t = thresholds
    return [
        _area(measures.area, t),
        _bounded("inside_ssim", "SSIM inside M", measures.ssim_in, most=t.inside_ssim),
        _bounded("outside_ssim", "SSIM outside M", measures.ssim_out, least=t.outside_ssim),
        _bounded("inside_lpips", "LPIPS inside M", measures.lpips_in, least=t.inside_lpips),
        _bounded("outside_lpips", "LPIPS outside M", measures.lpips_out, most=t.outside_lpips),
    ]


def _area(area: float, t: Thresholds) -> Verdict:
    if t.least_area <= area <= t.most_area:
        return Verdict("area", "passed")
    side, bound = ("below", t.least_area) if area < t.least_area else ("above", t.most_area)
    return Verdict("area", "failed", f"M covers {100 * area:.2f} % of the picture: {side} {100 * bound:.2f} %")


def _bounded(gate: str, name: str, value: float | None, least: float = -np.inf, most: float = np.inf) -> Verdict:
    if value is None:
        return Verdict(gate, "skipped", NO_LPIPS)
    if least <= value <= most:
        return Verdict(gate, "passed")
    side, bound = ("below", least) if value < least else ("above", most)
    return Verdict(gate, "failed", f"{name} of {value:.3f} is {side} {bound:.3f}")


def judge_by_scorer(name: str, winner: Score, loser: Score) -> Verdict:
    """Does an anatomy scorer see the error in x_l, and none in x_w? Skipped where it could not judge one of them.

    `winner` and `loser` are what it said of each picture, so that a photo is scored once for all of its candidates.
    """
    gate = f"scorer_{name}"
    for side, score in (("x_w", winner), ("x_l", loser)):
        if score.status != "scored" or score.is_error is None:
            reason = (score.reason or f"it gave no verdict ({score.status})").rstrip(".")
            return Verdict(gate, "skipped", f"{name} could not judge {side}: {reason}")
    if winner.is_error:
        return Verdict(gate, "failed", f"{name} suspects an error in x_w")
    if not loser.is_error:
        return Verdict(gate, "failed", f"{name} sees no error in x_l")
    return Verdict(gate, "passed")


def is_kept(verdicts: Iterable[Verdict]) -> bool:
    """True if no gate failed."""
    return all(verdict.outcome != "failed" for verdict in verdicts)


def skipped(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """The gates that could not be applied, with the reason."""
    return {one.gate: one.reason or "" for one in verdicts if one.outcome == "skipped"}


def refusal(verdicts: Iterable[Verdict]) -> tuple[str, str]:
    """The first gate that failed, and why: what a rejected candidate is counted under."""
    first = next(verdict for verdict in verdicts if verdict.outcome == "failed")
    return first.gate, first.reason or ""


def fingerprint(winner: Pixels, loser: Pixels, mask: Mask) -> str:
    """The perceptual hashes (ImageHash's phash, 64 bits each) of x_w and of x_l about M, as 32 hexadecimal digits."""
    import cv2
    import imagehash
    from PIL import Image

    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    margin = round(MARGIN * max(width, height))
    about = loser[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    return "".join(str(imagehash.phash(Image.fromarray(image))) for image in (winner, about))


class NearDuplicates:
    """The fingerprints of the pairs that are kept: 16 bytes each, so that a million take 16 MB.

    Two pairs are near-duplicates if their winners, and their losers about M, are both within `distance` bits.
    """

    def __init__(self, distance: int, fingerprints: Iterable[str] = ()) -> None:
        self._distance = distance
        self._known = np.zeros((1024, 2), np.uint64)
        self._count = 0
        for one in fingerprints:
            self.add(one)

    def judge(self, fingerprint: str) -> Verdict:
        """Passed if no kept pair is near."""
        apart = np.bitwise_count(self._known[: self._count] ^ _halves(fingerprint))
        if (apart <= self._distance).all(1).any():
            return Verdict("near_duplicate", "failed", "it is nearly the same as a pair that is there already")
        return Verdict("near_duplicate", "passed")

    def add(self, fingerprint: str) -> None:
        """Keep a pair's fingerprint."""
        if self._count == len(self._known):
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._known[self._count] = _halves(fingerprint)
        self._count += 1


def _halves(fingerprint: str) -> np.ndarray:
    return np.array([int(fingerprint[:16], 16), int(fingerprint[16:], 16)], np.uint64)
