"""All anatomy scorers together: what an image is, what the rate is of, and who counts."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hafbench
from hafbench.comparison import compare_runs
from hafbench.comparison.notes import notes
from hafbench.comparison.tables import to_json
from hafbench.errors import HafError
from hafbench.figures import ANATOMY, all_figures, metrics_of, whole_pictures
from hafbench.leaderboard import make_entry
from hafbench.leaderboard.checks import problems_of
from hafbench.leaderboard.entries import check_entry
from hafbench.leaderboard.ranking import tables
from hafbench.manifest import read_manifest
from hafbench.notes import left_out
from hafbench.record_tables import read_table
from hafbench.records import Record, read_lines
from hafbench.runs import read_run
from hafbench.scorers.absence import unseen
from hafbench.scorers.limbs import LEFT_OUT
from hafbench.statistics import error_rate
from hafbench.suites import Prompt
from hafbench.types import Score
from small import Painted, coloured_run

LETTERS = "esuaf"
"""An error, sound, unjudgeable, absent, failed."""
STATUSES = {"e": "scored", "s": "scored", "u": "unknown", "a": "unknown", "f": "failed"}


def rows_of(words: Sequence[str]) -> pd.DataFrame:
    """Records of scorers s0, s1, ..., each with a letter for every image."""
    rows: list[dict[str, Any]] = [
        {
            "image": f"{image:03}.png",
            "scorer": f"s{scorer}",
            "scorer_version": "1",
            "status": STATUSES[letter],
            "value": {"e": 0.9, "s": 0.1}.get(letter),
            "is_error": {"e": True, "s": False}.get(letter),
            "reason": None if letter in "es" else f"because {letter}",
            "cause": {"u": "unjudgeable", "a": "absent"}.get(letter),
        }
        for image in range(len(words[0]))
        for scorer, word in enumerate(words)
        for letter in word[image]
    ]
    return pd.DataFrame(rows).astype({"value": "float64", "is_error": "boolean"})


def verdicts(words: Sequence[str]) -> np.ndarray:
    """1 an error, 0 sound, NaN not judged, in the order of the images."""
    whole = whole_pictures(rows_of(words), [f"s{scorer}" for scorer in range(len(words))])
    assert list(whole["image"]) == [f"{image:03}.png" for image in range(len(words[0]))]
    return whole["is_error"].to_numpy(dtype=float, na_value=np.nan)


def rate(found: np.ndarray) -> float:
    estimate = error_rate(found, range(len(found))).estimate
    return -1.0 if estimate is None else estimate


words = st.integers(1, 12).flatmap(
    lambda images: st.lists(st.text(LETTERS, min_size=images, max_size=images), min_size=1, max_size=4)
)


@settings(deadline=None, max_examples=60)
@given(words)
def test_the_rate_is_never_below_that_of_a_scorer_on_the_same_images(own: list[str]) -> None:
    together = verdicts(own)
    judged = np.isfinite(together)
    for word in own:
        errors = np.array([letter == "e" for letter in word])
        assert errors[judged].sum() == errors.sum()  # no suspected error leaves the denominator
        assert together[judged].sum() >= errors[judged].sum()
        # Also on all images of which this scorer alone could say something: what it found absent is no error of it.
        said = sum(letter in "esa" for letter in word)
        if judged.any() and said:
            assert rate(together) >= errors.sum() / said - 1e-12


@settings(deadline=None, max_examples=60)
@given(words)
def test_without_absent_the_rate_is_never_below_a_scorers_own(own: list[str]) -> None:
    own = [word.replace("a", "u") for word in own]
    for word in own:
        if (together := rate(verdicts(own))) >= 0 and set(word) & set("es"):
            assert together >= word.count("e") / (word.count("e") + word.count("s")) - 1e-12


@settings(deadline=None, max_examples=60)
@given(words, st.data())
def test_a_scorer_that_finds_nothing_wrong_never_lowers_the_rate_of_the_same_images(
    own: list[str], data: st.DataObject
) -> None:
    more = data.draw(st.text("suaf", min_size=len(own[0]), max_size=len(own[0])))
    before, after = verdicts(own), verdicts([*own, more])
    both = np.isfinite(before)
    assert rate(after[both]) >= rate(before) or not np.isfinite(after[both]).any()
    # An image is new only where the others found nothing of theirs.
    new = np.isfinite(after) & ~both
    assert all({word[place] for word in own} <= {"a"} for place in np.flatnonzero(new))


@pytest.mark.parametrize(
    ("letters", "wanted"),
    [("es", 1), ("eu", 1), ("ea", 1), ("ef", 1), ("ss", 0), ("sa", 0), ("su", None), ("sf", None), ("aa", None)],
)
def test_an_image_is_what_its_scorers_say(letters: str, wanted: int | None) -> None:
    for order in (letters, letters[::-1]):
        (found,) = verdicts(list(order))
        assert found == wanted if wanted is not None else np.isnan(found)


def test_who_could_not_judge_says_why() -> None:
    whole = whole_pictures(rows_of(["sa", "ua", "fa"]), ["s0", "s1", "s2"])
    assert list(whole["reason"]) == ["s1: because u", "s0: because a"]
    assert list(whole["cause"]) == ["unjudgeable", "absent"]
    assert list(whole["status"]) == ["unknown", "unknown"]
    assert whole["value"].isna().all()


class Other(Painted):
    """Judges every image and finds nothing wrong."""

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        return Score("scored", 0.1, False)


class Blind(Other):
    left_out = "it sees nothing"


def both(other: Painted | None = None) -> dict[str, Any]:
    return {"hands": Painted(), "feet": other or Other()}


def test_a_scorer_that_judges_more_images_does_not_lower_the_rate(tmp_path: Path) -> None:
    run = coloured_run(tmp_path, {"a": "eesuu", "b": "essuu"}, scorers=both())
    together, hands, feet = all_figures(run)
    assert (together.scorer, hands.scorer, feet.scorer) == (ANATOMY, "hands", "feet")
    assert together.rate and hands.rate
    assert (together.rate.errors, together.rate.scored, together.rate.total) == (3, 6, 10)
    assert together.rate.estimate == hands.rate.estimate == 0.5
    assert together.reasons["unknown"] == (("hands: too dark", 4),)
    hafbench.report(run)
    page, text = ((tmp_path / "report" / name).read_text() for name in ("index.html", "report.md"))
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    first = summary["scorers"][0]
    assert (first["scorer"], first["errors"], first["scored"], first["unknown"]) == (ANATOMY, 3, 6, 4)
    for said in (page, text, first["about"]):
        assert "The rate is errors / (errors + sound images)" in said
    assert "Judged 6 of 10 images" in page


def test_a_scorer_that_is_not_shown_to_see_is_left_out(tmp_path: Path) -> None:
    run = coloured_run(tmp_path / "one", {"a": "es", "b": "su"}, scorers={"feet": Blind(), "hands": Painted()})
    assert [figure.scorer for figure in all_figures(run)] == ["hands", "feet"]  # the headline is the one that counts
    hafbench.report(run)
    sentence = "feet is left out of the rate of all anatomy scorers together: it sees nothing."
    for name in ("index.html", "report.md", "summary.json"):
        assert sentence in (tmp_path / "one" / "report" / name).read_text()
    three = {"feet": Blind(), "hands": Painted(), "face": Other()}
    runs = [coloured_run(tmp_path / name, {"a": "es", "b": "su"}, name=name, scorers=three) for name in ("b", "c")]
    comparison = compare_runs(runs)
    assert [one.name for one in comparison.versus[0].metrics] == [ANATOMY, "hands", "face", "feet"]
    said = " ".join(notes(comparison))
    assert sentence in said
    assert "Judged: 3 of 4 images of the baseline, 3 of 4 of the candidate." in said
    assert to_json(comparison)["candidates"][0]["metrics"][0]["baseline"]["scored"] == 3


def test_entries_say_what_is_absent_and_who_is_left_out(tmp_path: Path) -> None:
    class Absent(Other):
        def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
            return Score("unknown", reason="no foot", cause="absent")

    run = coloured_run(tmp_path / "run", {"a": "es", "b": "su"}, scorers=both(Absent()) | {"limbs": Blind()})
    entry = make_entry(run, "us")
    assert {name: dict(one.verdicts) for name, one in entry.anatomy.items()} == {
        ANATOMY: {"a": "es", "b": "su"},
        "hands": {"a": "es", "b": "su"},
        "feet": {"a": "aa", "b": "aa"},
        "limbs": {"a": "ss", "b": "ss"},
    }
    assert entry.anatomy["limbs"].left_out == "it sees nothing"
    assert not problems_of(entry)
    counting = entry.model_copy(
        update={"anatomy": {**entry.anatomy, "limbs": entry.anatomy["limbs"].model_copy(update={"left_out": None})}}
    )
    assert len(tables([entry, counting])) == 2  # never in one table: the rates are of other scorers
    changed = json.loads(entry.model_dump_json())
    changed["anatomy"]["feet"]["verdicts"]["a"] = "au"
    assert any("the verdicts of its scorers give eu" in problem for problem in problems_of(check_entry(changed, "-")))
    with pytest.raises(HafError, match="format 1, whose rate"):
        check_entry({**changed, "format": 1}, "-")
    alone = coloured_run(tmp_path / "alone", {"a": "es", "b": "su"}, scorers={"limbs": Blind()})
    with pytest.raises(HafError, match=r"by which a leaderboard ranks\. limbs is left out"):
        make_entry(alone, "us")


def test_what_the_prompt_shows_cannot_be_absent() -> None:
    shown = Prompt.model_validate({"id": "a", "text": "a hand", "expect": {"hands": 1, "people": 1}})
    tagged = Prompt(id="b", text="people who run", tags=("photo", "limbs"))
    assert unseen(shown, "hands") == unseen(tagged, "arms", "limbs") == "unjudgeable"
    assert unseen(None, "hands") == unseen(tagged, "hands") == unseen(shown, "arms", "limbs") == "absent"
    nobody = Prompt.model_validate({"id": "c", "text": "an empty room", "expect": {"people": 0, "hands": 0}})
    assert unseen(nobody, "hands", "people") == "absent"


def test_records_without_a_cause_are_read_as_unjudgeable(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run = coloured_run(tmp_path, {"a": "eu", "b": "su"})
    roles = {name: facts.role for name, facts in run.manifest.scorers.items()}
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    old = [{key: value for key, value in json.loads(line).items() if key != "cause"} for line in lines]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    assert read_lines(tmp_path / "old.jsonl", roles) == read_lines(tmp_path / "records.jsonl", roles)
    table = pq.read_table(tmp_path / "records.parquet")
    pq.write_table(table.drop_columns(["cause"]), tmp_path / "old.parquet")
    before, after = (read_table(tmp_path / name, roles) for name in ("old.parquet", "records.parquet"))
    pd.testing.assert_frame_equal(before, after)
    unknown = after[after["status"] == "unknown"]
    assert len(unknown) == 2
    assert set(unknown["cause"]) == {"unjudgeable"}
    assert after["cause"][after["status"] != "unknown"].isna().all()
    for wrong in ({"status": "unknown", "cause": "gone"}, {"cause": "absent"}):
        broken = [{**json.loads(line), **wrong} for line in lines[:1]]
        (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(line) + "\n" for line in broken) + "\n")
        with pytest.raises(HafError, match="cause"):
            read_lines(tmp_path / "wrong.jsonl", roles)
    assert "cause" in Record.model_fields


def test_limbs_is_left_out_of_older_runs_too(tmp_path: Path) -> None:
    run = coloured_run(tmp_path, {"a": "es", "b": "su"}, scorers={"hands": Painted(), "limbs": Other()})
    values = json.loads((tmp_path / "run.json").read_text())
    for facts in values["scorers"].values():
        del facts["left_out"]
    (tmp_path / "run.json").write_text(json.dumps(values))
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert {name: facts.left_out for name, facts in manifest.scorers.items()} == {"hands": None, "limbs": LEFT_OUT}
    assert len(left_out(manifest.scorers)) == 1
    assert ANATOMY in metrics_of(run)
    assert list(metrics_of(read_run(tmp_path))) == ["hands", "limbs"]
    assert dataclasses.is_dataclass(run)


def test_a_scorer_that_one_run_leaves_out_counts_in_neither(tmp_path: Path) -> None:
    counted, left = Other(), Blind()
    scorers = {"feet": counted, "hands": Painted(), "face": Other()}
    baseline = coloured_run(tmp_path / "a", {"a": "es", "b": "su"}, name="a", scorers=scorers)
    candidate = coloured_run(tmp_path / "b", {"a": "es", "b": "su"}, name="b", scorers={**scorers, "feet": left})
    for runs in ([baseline, candidate], [candidate, baseline]):
        versus = compare_runs(runs).versus[0]
        assert [one.name for one in versus.metrics] == [ANATOMY, "hands", "face", "feet"]
        assert "feet is left out of the rate of all anatomy scorers together" in " ".join(versus.shared.remarks)
