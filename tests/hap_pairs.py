"""Pairs for tests: painted ones that are quick and of which everything is known, and exact ones of mannequins."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from asap_train.data.gates import fingerprint, judge, skipped
from asap_train.data.similarity import measure_similarity
from asap_train.data.spec import Thresholds
from asap_train.hap import Pair, make_pair, to_row
from asap_train.hap.manifest import HapManifest, SplitRule
from asap_train.hap.write import open_hap
from asap_train.types import Candidate, Photo
from hafbench.mannequin import picture
from hafbench.types import Kind, Region

DETAILS: tuple[tuple[Region, Kind, str], ...] = (
    ("hands", "extra", "extra_digit"),
    ("hands", "missing", "missing_digit"),
    ("limbs", "missing", "missing_arm"),
)


def pair_of(photo: Photo, candidate: Candidate, caption: str = "a hand") -> Pair:
    similarity = measure_similarity(photo.pixels, candidate.pixels, candidate.mask)
    mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
    return make_pair(photo, candidate, caption, similarity, mark, skipped(judge(similarity, Thresholds())))


def painted(seed: int, photo: int | None = None, caption: str = "a hand", side: int = 48) -> Pair:
    """A picture of noise that is a function of `photo` (default: the seed), and a patch of other noise in it."""
    number = seed if photo is None else photo
    winner = np.random.default_rng([number, 1]).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    mask = np.zeros(winner.shape[:2], np.bool_)
    mask[5:20, 7 + seed % 9 : 24 + seed % 9] = True
    loser = winner.copy()
    loser[mask] = np.random.default_rng([seed, 2]).integers(0, 256, (int(mask.sum()), 3), dtype=np.uint8)
    region, kind, detail = DETAILS[seed % len(DETAILS)]
    shown = Photo(f"photo {number}", hashlib.sha256(str(number).encode()).hexdigest(), winner)
    return pair_of(shown, Candidate(loser, mask, region, kind, detail, "painted", {"seed": seed}), caption)


def mannequin(seed: int) -> Pair:
    """An exact pair of the renderer."""
    made = picture.make_pair(seed)
    assert made is not None
    error = made.error
    source = hashlib.sha256(f"mannequin/{seed}".encode()).hexdigest()
    photo = Photo(f"mannequin/{seed}", source, made.correct.image)
    region = error.region
    candidate = Candidate(made.erroneous.image, made.mask, region, error.kind, error.detail, "mannequin", {})
    return pair_of(photo, candidate)


def write(folder: Path, pairs: list[Pair], shares: dict[str, float] | None = None, **options: Any) -> HapManifest:
    """A finished data set with one item for each pair."""
    split = SplitRule(shares=shares) if shares else SplitRule()
    with open_hap(folder, {"source": "tests"}, split=split, **options) as hap:
        for number, pair in enumerate(pairs):
            hap.add(f"item {number}", [to_row(pair)])
        return hap.finish()
