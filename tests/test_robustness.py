"""`scorers check` on scorers whose answers are known by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hafbench.scorers.robustness import check, to_json, to_markdown
from hafbench.suites import Prompt
from hafbench.types import Score
from small import Brightness, Returns


@pytest.fixture
def greys(tmp_path: Path) -> list[Path]:
    """Four plain grey images, of values 100, 120, 140 and 160."""
    paths = []
    for value in (100, 120, 140, 160):
        paths.append(tmp_path / f"{value}.png")
        Image.new("RGB", (40, 40), (value,) * 3).save(paths[-1])
    return paths


def test_a_scorer_of_brightness_moves_with_brightness_alone(greys: list[Path]) -> None:
    rows = {row.change: row for row in check(Brightness(), greys)}
    for change in ("repeat", "reversed order", "among other images", "horizontal flip"):
        assert (rows[change].largest_shift, rows[change].flipped) == (0.0, 0.0)
    for change in ("JPEG 95", "JPEG 75", "resize to 90 %"):
        assert (rows[change].largest_shift or 0) < 0.01
    brighter = rows["brightness +10 %"]
    assert brighter.mean_shift == pytest.approx(13 / 255)
    assert brighter.largest_shift == pytest.approx(16 / 255)
    deviation = np.std([100, 120, 140, 160], ddof=1) / 255
    assert brighter.relative_shift == pytest.approx(13 / 255 / deviation)
    assert brighter.flipped == 0.25  # 120 is below the threshold of 127.5, and 132 is not


class Forgetful(Brightness):
    """Its score creeps up with every call."""

    calls = 0

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        self.calls += 1
        return Score("scored", self.calls / 1000, False)


def test_a_scorer_with_a_memory_is_caught(greys: list[Path]) -> None:
    rows = {row.change: row for row in check(Forgetful(), greys)}
    assert (rows["repeat"].largest_shift or 0) > 0
    assert (rows["among other images"].largest_shift or 0) > 0


def test_unknowns_are_counted_and_not_compared(greys: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"x")
    rows = check(Returns("iqa", Score("unknown", reason="never")), [*greys, tmp_path / "broken.png"])
    assert all((row.images, row.compared, row.mean_shift, row.lost) == (4, 0, None, 0) for row in rows)


def test_the_table_has_a_line_for_each_change(greys: list[Path]) -> None:
    rows = check(Brightness(), greys)
    assert len(to_markdown(rows).splitlines()) == len(rows) + 2
    assert json.loads(to_json(rows))[0]["change"] == "repeat"
