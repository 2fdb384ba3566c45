"""Exact pairs of the built-in world."""

import re
from pathlib import Path

import numpy as np
import pytest

from asap_train.degrade.mannequin import PAIR_SEED, TAKEN, mannequin_pair, seeds
from asap_train.types import Candidate, Photo
from hafbench.errors import HafError
from hafbench.labelled import WORLD_SEED
from hafbench.mannequin import picture
from hafbench.mannequin.captions import is_held_out
from hafbench.mannequin.errors import JUDGING, TUNING
from hafbench.mannequin.taxonomy import DETAILS

DOCS = Path(__file__).parents[1] / "docs"
EXPERIMENT_SEED = 60
"""Of the pairs of research/experiment, which are used as others are."""
SEEDS = range(973_000_000, 973_000_012)  # of no data set


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Photo, Candidate]]:
    found = [mannequin_pair(seed) for seed in SEEDS]
    return [pair for pair in found if pair is not None]


def test_nearly_every_seed_gives_a_pair(pairs: list[tuple[Photo, Candidate]]) -> None:
    assert len(pairs) >= len(SEEDS) - 1


def test_nothing_changes_outside_of_the_mask_and_something_does_inside(pairs: list[tuple[Photo, Candidate]]) -> None:
    for photo, loser in pairs:
        assert photo.pixels.shape == loser.pixels.shape == (128, 128, 3) and photo.pixels.dtype == np.uint8
        assert loser.mask.shape == (128, 128) and loser.mask.dtype == np.bool_
        changed = (photo.pixels != loser.pixels).any(-1)
        assert not (changed & ~loser.mask).any()
        assert changed.sum() >= 0.004 * changed.size


def test_the_error_is_named_by_the_taxonomy(pairs: list[tuple[Photo, Candidate]]) -> None:
    for photo, loser in pairs:
        assert (loser.kind, loser.region) == DETAILS[loser.detail]
        assert loser.family == "mannequin" and photo.name == f"mannequin/{loser.settings['seed']}"


def test_the_errors_are_those_of_tuning(pairs: list[tuple[Photo, Candidate]]) -> None:
    different = 0
    for _, loser in pairs:
        seed = loser.settings["seed"]
        tuned, judged = (picture.make_pair(seed, settings) for settings in (TUNING, JUDGING))
        assert tuned is not None and np.array_equal(tuned.erroneous.image, loser.pixels)
        assert loser.settings["errors"] == "tuning"
        different += judged is not None and not np.array_equal(judged.erroneous.image, loser.pixels)
    assert different >= len(pairs) / 2  # a missing digit is the same by either


def test_the_settings_make_it_again(pairs: list[tuple[Photo, Candidate]]) -> None:
    photo, loser = pairs[0]
    again = mannequin_pair(loser.settings["seed"], loser.settings["size"], loser.settings["framing"])
    assert again is not None
    assert np.array_equal(again[0].pixels, photo.pixels) and np.array_equal(again[1].pixels, loser.pixels)
    assert again[0].caption == photo.caption and again[0].sha256 == photo.sha256
    assert again[1].settings == loser.settings


def test_each_scene_is_a_source_of_its_own_whatever_its_size(pairs: list[tuple[Photo, Candidate]]) -> None:
    assert len({photo.sha256 for photo, _ in pairs}) == len(pairs)
    larger = mannequin_pair(SEEDS[0], size=160)
    assert larger is not None and larger[0].pixels.shape == (160, 160, 3)
    assert larger[0].sha256 == pairs[0][0].sha256


def test_captions_are_none_of_those_kept_for_tests(pairs: list[tuple[Photo, Candidate]]) -> None:
    assert all(photo.caption and not is_held_out(photo.caption) for photo, _ in pairs)


def test_the_framing_can_be_asked_for() -> None:
    pair = mannequin_pair(SEEDS[0], framing="upper_body")
    assert pair is not None and pair[1].region == "limbs" and pair[1].settings["framing"] == "upper_body"


def test_the_seeds_of_pairs_are_in_no_data_set() -> None:
    table = re.findall(r"\| (\d+) x 10\^7 \+ i \|", (DOCS / "studies" / "mannequin.md").read_text(encoding="utf-8"))
    taken = {int(seed) for seed in table} - {PAIR_SEED, EXPERIMENT_SEED} | {WORLD_SEED}
    assert len(taken) == 11 and taken <= TAKEN and PAIR_SEED not in TAKEN
    ours = seeds(10_000)
    assert {seed // 10_000_000 for seed in ours} == {PAIR_SEED} and len(ours) == 10_000
    for seed in taken:
        with pytest.raises(HafError, match=f"--seed {seed}: .* choose another, such as 50"):
            seeds(1, seed)
