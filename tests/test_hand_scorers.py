"""What both scorers of hands have in common, on real photos with the real nets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hafbench.errors import Unavailable
from hafbench.scorers.hands import SMALLEST
from hafbench.suites import Prompt
from hafbench.types import Scorer
from hand_photos import PHOTOS, SHARED, needs_shared, photo
from small import a_scorer

ABOUT = {"hands": "hand", "detectability": "doubt"}


@pytest.fixture(scope="module", params=sorted(ABOUT))
def scorer(request: pytest.FixtureRequest) -> Scorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        return a_scorer(request.param)


@pytest.mark.parametrize("name", sorted(ABOUT))
def test_without_weights_it_is_unavailable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("hafbench.weights.cache_folder", lambda: tmp_path)
    with pytest.raises(Unavailable, match="weights pull"):
        a_scorer(name)


@needs_shared
def test_it_is_registered(scorer: Scorer) -> None:
    assert (scorer.role, scorer.higher_is_better) == ("anatomy", False)
    assert ABOUT[scorer.name] in scorer.about


@needs_shared
@pytest.mark.parametrize("start", PHOTOS)
def test_good_hands_pass_and_the_score_is_repeatable(scorer: Scorer, start: str) -> None:
    image = photo(start)
    score = scorer.score(image, None)
    assert (score.status, score.is_error, score.findings) == ("scored", False, ())
    assert score.measures["hands_judged"] >= 1
    scorer.score(photo(PHOTOS[0]), None)  # what came between does not matter
    assert scorer.score(image.copy(), None) == score


@needs_shared
def test_what_cannot_be_judged_is_unknown_with_the_reason(scorer: Scorer) -> None:
    nothing = scorer.score(np.full((300, 400, 3), 90, np.uint8), None)
    assert (nothing.status, nothing.value, nothing.reason) == ("unknown", None, "No hand was found.")
    assert nothing.cause == "absent"
    shown = Prompt.model_validate({"id": "a", "text": "a hand", "expect": {"hands": 1}})
    assert scorer.score(np.full((300, 400, 3), 90, np.uint8), shown).cause == "unjudgeable"
    small = cv2.resize(photo(PHOTOS[0]), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    score = scorer.score(small, None)
    assert (score.status, score.cause) == ("unknown", "unjudgeable")
    assert score.reason is not None and str(SMALLEST) in score.reason
    assert score.measures["pixels"] < SMALLEST


@needs_shared
@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (40, 40)])
def test_odd_shapes_are_no_accident(scorer: Scorer, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert scorer.score(noise, None).status == "unknown"
