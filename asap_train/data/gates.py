"""The gates that a candidate passes to become a pair: what each asks, and the sentence of what it refuses.

`similarity.py` measures; here the numbers meet their thresholds, a scorer's judgement, and the pairs that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from asap_train.data.similarity import Similarity, load_lpips, measure_similarity
from asap_train.data.spec import Thresholds
from hafbench.errors import Unavailable
from hafbench.scorers import SCORERS

if TYPE_CHECKING:
    from asap_train.data.similarity import Lpips
    from asap_train.types import Candidate, Mask, Photo
    from hafbench.specs import ScorerSpec
    from hafbench.types import Pixels, Score, Scorer

Outcome = Literal["passed", "failed", "skipped"]
"""skipped: the gate could not be applied. That is said in the data set's card, and is not a pass."""
NO_LPIPS = "the weights of LPIPS are not on this machine"
MARGIN = 0.25
"""About M in the crop whose hash tells near-duplicates, as a share of the box's longer side."""


@dataclass(frozen=True)
class Verdict:
    """What one gate says of one candidate; `reason` is a sentence unless it passed."""

    gate: str
    outcome: Outcome
    reason: str | None = None


def judge(similarity: Similarity, thresholds: Thresholds) -> list[Verdict]:
    """The verdicts of the gates on area, SSIM and LPIPS."""
    t = thresholds
    return [
        _area(similarity.area, t),
        _bounded("inside_ssim", "SSIM inside M", similarity.ssim_in, most=t.inside_ssim),
        _bounded("outside_ssim", "SSIM outside M", similarity.ssim_out, least=t.outside_ssim),
        _bounded("inside_lpips", "LPIPS inside M", similarity.lpips_in, least=t.inside_lpips),
        _bounded("outside_lpips", "LPIPS outside M", similarity.lpips_out, most=t.outside_lpips),
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


@dataclass(frozen=True)
class Gates:
    """All gates but that of near-duplicates, with what they need.

    A worker process is sent the settings only: each process loads LPIPS and the scorers when it first needs them.
    """

    thresholds: Thresholds
    scorers: tuple[ScorerSpec, ...] = ()
    device: str = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:
        return Gates, (self.thresholds, self.scorers, self.device)

    def apply(
        self, photo: Photo, candidate: Candidate, photo_scores: dict[str, Score]
    ) -> tuple[list[Verdict], Similarity]:
        """The verdicts, of cheap gates first, up to the first kind that fails, and the similarity.

        `photo_scores` keeps what each scorer says of the photo, for its further candidates.
        """
        similarity = measure_similarity(photo.pixels, candidate.pixels, candidate.mask, self.lpips)
        verdicts = judge(similarity, self.thresholds)
        if not is_kept(verdicts):
            return verdicts, similarity
        able = {name: one for name, one in self.loaded.items() if candidate.region in SCORERS.get(name).regions}
        if self.scorers and not able:
            verdicts.append(Verdict("scorer", "skipped", f"no scorer that was asked for judges {candidate.region}"))
        for name, scorer in able.items():
            if name not in photo_scores:
                photo_scores[name] = scorer.score(photo.pixels, None)
            verdicts.append(judge_by_scorer(name, photo_scores[name], scorer.score(candidate.pixels, None)))
        return verdicts, similarity

    @cached_property
    def loaded(self) -> dict[str, Scorer]:
        """The scorers by name; raises HafError if one is unavailable."""
        from hafbench.scorers.loading import load_scorers

        found = load_scorers(self.scorers, self.device, [one.name for one in self.scorers])
        return {name: scorer for name, scorer in found.items() if not isinstance(scorer, Unavailable)}

    @cached_property
    def lpips(self) -> Lpips | None:
        """LPIPS; None where its weights are not on this machine."""
        try:
            return load_lpips(self.device)
        except Unavailable:
            return None

    @property
    def facts(self) -> dict[str, Any]:
        """What judges, as JSON values: versions and weights."""
        return {
            "scorers": {name: {"version": one.version, **one.settings} for name, one in self.loaded.items()},
            "lpips": dict(self.lpips.settings) if self.lpips else None,
        }


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
