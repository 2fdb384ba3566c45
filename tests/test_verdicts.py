"""What a scorer says of labelled images: by kind of the true error, why not, and with several images at once."""

import csv
import json
from pathlib import Path
from threading import Barrier, Event
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from hafbench.calibration import make_card
from hafbench.cards import SHIPPED, CalibrationCard, attach_cards, read_card
from hafbench.cli import app
from hafbench.errors import HafError, RunStopped
from hafbench.labelled import Labelled, read_labels
from hafbench.reports import build_report
from hafbench.types import ConcurrentScorer, Kind, Region, Score
from hafbench.verdicts import Judged, judge
from small import COLOURS, Painted, coloured_run, facts

# A letter of COLOURS for what the scorer says, the label, and the error's region and kind.
LABELS = (
    *(("e", "bad", "hands", "extra"), ("s", "bad", "hands", "extra"), ("u", "bad", "hands", "extra")),
    *(("e", "bad", "Hands", "missing"), ("s", "bad", "hands", "")),
    *(("e", "bad", "limbs", "proportion"), ("u", "bad", "limbs", "proportion"), ("e", "bad", "", "")),
    *(("s", "good", "", ""), ("s", "good", "", ""), ("e", "good", "", ""), ("u", "good", "", "")),
    ("e", "unclear", "", ""),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "region", "kind"])
        for number, (letter, *words) in enumerate(LABELS):
            Image.new("RGB", (16, 16), COLOURS[letter]).save(tmp_path / f"{number}.png")
            writer.writerow([f"{number}.png", *words])
    return path


class Dark(Painted):
    """Cannot judge dark images, and breaks on one of them."""

    def score(self, image: np.ndarray, prompt: object) -> Score:
        """As Painted, which says only that they are dark."""
        found = super().score(image, None)
        return found if found.status == "scored" else Score("failed", reason="refused: a  hand\nof 12 pixels")


def test_the_kinds_by_hand(table: Path) -> None:
    card = make_card(judge(read_labels(table, None), Painted()), "hands", facts("1"), made_on="paint")
    assert (card.flagged_bad, card.bad, card.unknown_bad, card.unknown_good) == (4, 6, 2, 1)
    found = [(row.region, row.kind, row.sensitivity.estimate, row.sensitivity.n, row.unknown) for row in card.kinds]
    assert found == [
        ("limbs", None, 1.0, 1, 1),
        ("limbs", "proportion", 1.0, 1, 1),
        ("hands", None, 0.5, 4, 1),
        ("hands", "missing", 1.0, 1, 0),
        ("hands", "extra", 0.5, 2, 1),
    ]
    half = card.kinds[2].sensitivity
    assert (half.low, half.high) == pytest.approx(proportion_confint(2, 4, method="wilson"))
    assert card.reasons == {"too dark": 3}


def test_failed_images_are_not_judged_and_their_reasons_are_counted(table: Path) -> None:
    card = make_card(judge(read_labels(table, None), Dark()), "hands", facts("1"), made_on="paint")
    assert (card.unknown_bad, card.unknown_good) == (2, 1)
    assert card.reasons == {"refused: a hand of 12 pixels": 3}


ERRORS = st.tuples(
    st.sampled_from(get_args(Region)), st.sampled_from([None, *get_args(Kind)]), st.sampled_from([False, True, None])
)
WHY = st.sampled_from(["nobody", "hand of 3 pixels", "hand of 9 pixels"])


@settings(deadline=None)
@given(st.lists(st.tuples(ERRORS, WHY), min_size=1, max_size=40))
def test_the_kinds_are_those_that_pandas_counts(
    data: list[tuple[tuple[Region, Kind | None, bool | None], str]],
) -> None:
    judged = [Judged(f"{i}", i < 3, None, None, 0.1 * i, False, 9.0, float(i)) for i in range(1, 5)]
    for i, ((region, kind, flagged), why) in enumerate(data):
        value, reason = (None, why) if flagged is None else (float(flagged), None)
        judged.append(Judged(f"b{i}", True, None, None, value, flagged, 9.0, 1.0, region, kind, reason))
    card = make_card(judged, "hands", facts("1"), made_on="numbers")
    assert CalibrationCard.model_validate_json(card.model_dump_json()) == card

    frame = pd.DataFrame([error for error, _ in data], columns=["region", "kind", "flagged"])
    flags = frame["flagged"].astype("Float64")
    parts: dict[tuple[Any, Any], Any] = {(key, None): own for key, own in flags.groupby(frame["region"])}
    for kind in frame["kind"].dropna().unique():
        parts |= {(key, kind): own for key, own in flags[frame["kind"] == kind].groupby(frame["region"])}
    assert {(row.region, row.kind) for row in card.kinds} == set(parts)
    for row in card.kinds:
        own = parts[row.region, row.kind]
        assert (row.sensitivity.n, row.unknown) == (own.count(), own.isna().sum())
        assert row.sensitivity.estimate == (pytest.approx(own.mean()) if own.count() else None)
    assert sum(card.reasons.values()) == flags.isna().sum()
    assert {"hand of 3 pixels", "hand of 9 pixels", "hand of 3 to 9 pixels", "nobody"} >= set(card.reasons)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card["kinds"].pop(2), "kinds of hands are there, but not the region as a whole"),
        (lambda card: card["kinds"].append(card["kinds"][0]), "there twice"),
        (lambda card: card["kinds"][0].update(unknown=2), "more than the bad images"),
        (lambda card: card["kinds"][3]["sensitivity"].update(n=4), "more than its images with an error of the hands"),
        (lambda card: card["kinds"][3].update(region="wings"), "region"),
        (lambda card: card.update(reasons={"too dark": 4}), "reasons are not of as many"),
    ],
)
def test_a_card_whose_parts_do_not_fit_is_refused(tmp_path: Path, table: Path, change: Any, said: str) -> None:
    card = make_card(judge(read_labels(table, None), Painted()), "hands", facts("1"), made_on="paint")
    values = json.loads(card.model_dump_json())
    change(values)
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(HafError, match=said):
        read_card(tmp_path / "card.json")


def test_a_card_without_kinds_and_reasons_is_read() -> None:
    path = SHIPPED / "digits.json"
    assert not {"kinds", "reasons"} & set(json.loads(path.read_text()))
    card = read_card(path)
    assert (card.kinds, card.reasons) == ((), {})
    assert card.unknown_bad > 0


def test_a_cards_kinds_and_reasons_are_printed_and_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = coloured_run(tmp_path / "run", {f"p{i}": "eesu" for i in range(4)})
    lines = [
        f"p{i}/{seed}.png,{'bad,hands,extra' if seed in (0, 3) else 'good,,'}" for i in range(4) for seed in range(4)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,region,kind", *lines]))
    monkeypatch.chdir(tmp_path)
    asked = "calibrate labels.csv --run run --scorer hands --out card.json"
    result = CliRunner().invoke(app, asked.split())
    assert result.exit_code == 0, result.output
    printed = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "true errors sensitivity 95 % interval n judged 95 % interval of" in printed
    assert any(line.startswith("extra 1.000 0.510 to 1.000 4 0.500 ") and line.endswith(" 8") for line in printed)
    assert "4 x too dark" in result.output
    attach_cards(run, [tmp_path / "card.json"])
    page, text = build_report(run).read_text(), (run.folder / "report" / "report.md").read_text()
    assert "<td>extra</td><td>100.0 % [51.0, 100.0]</td><td>4</td><td>4</td><td>50.0 % [" in page
    assert "<li>4 × too dark</li>" in page
    assert "| hands | hands | extra | 100.0 % [51.0, 100.0] | 4 | 4 |" in text
    assert "could not judge 4 labelled images: too dark" in text


class Waits(Painted):
    """A scorer that waits, of which `concurrency` images meet before any of them has its score."""

    concurrency = 3

    def __init__(self, broken: int | None = None) -> None:
        super().__init__()
        self.broken, self.meet, self.stopped = broken, Barrier(self.concurrency, timeout=20), Event()

    def score(self, image: np.ndarray, prompt: object) -> Score:
        """Raises for the image whose blue is `broken`; without one all images meet."""
        if self.broken is None:
            self.meet.wait()
        elif image[0, 0, 2] == self.broken:
            raise HafError("this question got no answer.")
        elif image[0, 0, 2] > self.broken:
            assert self.stopped.wait(20)
            raise RunStopped("stopped.")
        return super().score(image, None)

    def note(self) -> str:
        """Nothing but a word."""
        return "waiting"

    def stop(self) -> None:
        """Lets go of all that wait."""
        self.stopped.set()


def images_of(count: int) -> list[Labelled]:
    def pixels(number: int) -> np.ndarray:
        return np.full((16, 16, 3), (250 * (number % 2), 250 * (1 - number % 2), number), dtype=np.uint8)

    return [
        Labelled(str(i), None if i == 4 else i % 2 == 1, None, None, lambda i=i: pixels(i))  # type: ignore[misc]
        for i in range(count)
    ]


def test_a_scorer_that_waits_has_several_images_at_once_in_their_order() -> None:
    notes: dict[int, str] = {}

    class Noted:
        def start(self, task: str, total: int, done: int = 0) -> None:
            notes.clear()

        def update(self, task: str, done: int, note: str = "") -> None:
            notes[done] = note

    scorer = Waits()
    assert isinstance(scorer, ConcurrentScorer)
    assert judge(images_of(13), scorer, 13, Noted()) == judge(images_of(13), Painted())
    assert scorer.stopped.is_set()  # its connections end with it
    assert judge(images_of(13), Waits(), 13, Noted())[-1].name == "12"
    assert notes == dict.fromkeys(range(1, 14), "waiting")


def test_whatever_goes_wrong_stops_a_scorer_that_waits() -> None:
    scorer = Waits(broken=5)
    with pytest.raises(HafError, match="got no answer"):
        judge(images_of(40), scorer, 40)
    assert scorer.stopped.is_set()


def test_a_stop_from_outside_stops_a_scorer_that_waits() -> None:
    class Stops:
        def start(self, task: str, total: int, done: int = 0) -> None: ...

        def update(self, task: str, done: int, note: str = "") -> None:
            raise KeyboardInterrupt

    scorer = Waits(broken=3)
    with pytest.raises(KeyboardInterrupt):
        judge(images_of(40), scorer, 40, Stops())
    assert scorer.stopped.is_set()
