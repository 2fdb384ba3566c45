"""What judges say of an entry's pairs: taken from comparisons, recomputed, refused where it is false, and shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.scripted_judge import Script, scripted
from hafbench import api
from hafbench.cli import app
from hafbench.comparison import compare_runs
from hafbench.comparison.pair_figures import JudgedPairs, figures_of
from hafbench.errors import HafError
from hafbench.judges.options import PairOptions
from hafbench.judges.pairs import JudgedPair, pair_of
from hafbench.leaderboard import Entry, make_entry, tables, validate, write_entry
from hafbench.leaderboard.entries import NO_PAIR
from hafbench.reports.board import build_board
from hafbench.reports.comparison import build_comparison
from hafbench.runs import Run
from small import coloured_run, not_none

PROMPTS = 12
SHA256 = "5" * 64


def two_runs(folder: Path) -> list[Run]:
    """A baseline of the seeds 0 to 2 and a candidate of the seeds 1 to 3: two pairs of each prompt."""
    verdicts = {f"p{i}": "esu" for i in range(PROMPTS)}
    return [
        coloured_run(folder / name, verdicts, name=name, first_seed=first) for name, first in (("old", 0), ("new", 1))
    ]


def compared(folder: Path, runs: Sequence[Run], replies: Sequence[str]) -> JudgedPairs:
    """A page of a comparison in which a judge gave these replies in turn; returns the judge's figures."""
    comparison = compare_runs(runs)
    (versus,) = comparison.versus
    keys = next(iter(versus.tables.values()))["key"]
    judged = [pair_of(key, replies[number % len(replies)]) for number, key in enumerate(keys)]
    found = replace(figures_of(judged, "a-judge", "pair-1"), protocol_sha256=SHA256)
    majority = replace(found, judge="majority", replies=(), inconsistent=None, first=None)
    build_comparison(replace(comparison, versus=(replace(versus, judged=(found, majority)),)), folder)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, JudgedPairs, Entry]:
    """The candidate's entry, the figures of its pairs in the comparison, and the baseline's entry."""
    folder = tmp_path_factory.mktemp("pairs")
    runs = two_runs(folder)
    found = compared(folder / "page", runs, ["sf", "sf", "fs", "tt", "ff", "st", "uf"])
    return make_entry(runs[1], "me", pairs=[folder / "page"]), found, make_entry(runs[0], "me")


def test_the_letters_of_a_pair_are_read_back() -> None:
    choices = ("first", "second", "tie", None)
    pairs = [JudgedPair("p", *both) for both in product(choices, choices)]
    assert [pair_of("p", pair.letters) for pair in pairs] == pairs
    assert JudgedPair("p", "second", "first").letters == "sf"
    assert pair_of("p", "sf").gain == 1


def test_figures_are_those_of_the_pairs_whatever_their_order() -> None:
    rng = np.random.default_rng(0)
    judged = [pair_of(f"p{i}", "".join(rng.choice(list("fst"), 2))) for i in range(40) for _ in range(2)]
    found, again = (figures_of(pairs, "judge", "pair-1") for pairs in (judged, judged[::-1]))
    assert found.wins == again.wins
    assert found.p_value == again.p_value


def test_an_entry_has_the_figures_of_the_comparison(made: tuple[Entry, JudgedPairs, Entry]) -> None:
    entry, found, baseline = made
    (one,) = entry.pairs
    assert (one.judge, one.protocol, one.protocol_sha256) == ("a-judge", "pair-1", SHA256)
    assert (one.baseline.name, one.baseline.records_sha256) == ("old", baseline.made.records_sha256)
    assert replace(one.wins, mcnemar=None) == replace(found.wins, mcnemar=None)
    assert (one.pairs, one.p_value) == (2 * PROMPTS, found.p_value)
    for own, rate in ((one.inconsistent, found.inconsistent), (one.first, found.first)):
        assert (own.estimate, own.low, own.high, own.n) == tuple(
            asdict(not_none(rate))[name] for name in ("estimate", "low", "high", "scored")
        )
    # The letters stand for the seeds 1, 2 and 3, and the baseline has no image of the seed 3.
    assert entry.suite.seeds == (1, 2, 3)
    assert one.replies["p0"] == "sfsf" + NO_PAIR
    assert one.replies["p1"] == "fstt" + NO_PAIR
    assert baseline.pairs == ()


def test_an_entry_with_pairs_is_read_back_the_same(made: tuple[Entry, JudgedPairs, Entry], tmp_path: Path) -> None:
    path = write_entry(made[0], tmp_path)
    assert validate(tmp_path) == ({path: made[0]}, [])


def test_an_rsi_without_a_loss_or_tie_is_infinite(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    compared(tmp_path / "page", runs, ["sf"])
    entry = make_entry(runs[1], "me", pairs=[tmp_path / "page"])
    path = write_entry(entry, tmp_path / "board")
    assert json.loads(path.read_text())["pairs"][0]["rsi"] == "inf"
    assert validate(tmp_path / "board")[1] == []
    page = build_board(tables([entry]), tmp_path / "out").read_text(encoding="utf-8")
    assert "∞" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(pairs=25), "pairs is 25, but its replies give 24"),
        (lambda one: one.update(win=one["win"] + 1), "win is"),
        (lambda one: one.update(tie=0), "tie is"),
        (lambda one: one.update(lose=0), "lose is"),
        (lambda one: one.update(rsi=9.5), "rsi is 9.5, but"),
        (lambda one: one.update(rsi="inf"), "rsi is inf, but"),
        (lambda one: one.update(rsi_low=1.01), "rsi_low is"),
        (lambda one: one.update(rsi_high=None), "rsi_high is"),
        (lambda one: one.update(p_value=0.001), "p_value is"),
        (lambda one: one["inconsistent"].update(estimate=0.3), "inconsistent.estimate is"),
        (lambda one: one["first"].update(n=3), "first.n is"),
        (lambda one: one["replies"].update(p0="fsfs--"), "but its replies give"),
        (lambda one: one["replies"].update(p0="sfsf"), "prompt p0 that are not of as many images"),
        (lambda one: one["replies"].update(other="sfsf--"), "prompt other that are not of as many images"),
        (lambda one: one.update(replies={"p0": "------"}), "have no reply"),
        (lambda one: one["replies"].update(p0="xfsf--"), "replies"),
        (lambda one: one.update(rsi=-1), "rsi"),
        (lambda one: one.update(protocol=""), "protocol"),
        (lambda one: one.pop("protocol_sha256"), "protocol_sha256"),
        (lambda one: one["baseline"].update(records_sha256="../x"), "records_sha256"),
    ],
)
def test_false_figures_are_refused(
    made: tuple[Entry, JudgedPairs, Entry], tmp_path: Path, change: Any, said: str
) -> None:
    values = json.loads(made[0].model_dump_json())
    change(values["pairs"][0])
    (tmp_path / "entry.json").write_text(json.dumps(values))
    entries, problems = validate(tmp_path)
    assert entries == {}
    assert len(problems) == 1
    assert said in problems[0]


def test_pairs_twice_or_against_itself_are_refused(made: tuple[Entry, JudgedPairs, Entry], tmp_path: Path) -> None:
    entry = made[0]
    (one,) = entry.pairs
    itself = one.baseline.model_copy(update={"records_sha256": entry.made.records_sha256})
    changes = [((one, one), "there twice"), ((one.model_copy(update={"baseline": itself}),), "against itself")]
    for number, (pairs, said) in enumerate(changes):
        with pytest.raises(HafError, match=said):
            write_entry(entry.model_copy(update={"pairs": pairs}), tmp_path / str(number))


def test_comparisons_without_judged_pairs_of_the_run_are_refused(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    compared(tmp_path / "page", runs, ["sf", "fs"])
    build_comparison(compare_runs(runs), tmp_path / "unjudged")
    for run, page, said in (
        (runs[0], "page", "none of the candidates"),
        (runs[1], "unjudged", "no judge was asked"),
        (runs[1], "nowhere", "cannot be read"),
    ):
        with pytest.raises(HafError, match=said):
            make_entry(run, "me", pairs=[tmp_path / page])
    path = tmp_path / "page" / "comparison.json"
    values = json.loads(path.read_text())
    values["candidates"][0]["judged"][0]["replies"]["elsewhere.png"] = "sf"
    path.write_text(json.dumps(values))
    with pytest.raises(HafError, match=r"elsewhere\.png"):
        make_entry(runs[1], "me", pairs=[tmp_path / "page"])
    del values["candidates"][0]["records_sha256"]
    path.write_text(json.dumps(values))
    with pytest.raises(HafError, match="records_sha256"):
        make_entry(runs[1], "me", pairs=[tmp_path / "page"])


def test_the_page_shows_a_judge_with_its_protocol_and_the_baselines_entry(
    made: tuple[Entry, JudgedPairs, Entry], tmp_path: Path
) -> None:
    entry, _, baseline = made
    named = baseline.model_copy(update={"model": baseline.model.model_copy(update={"name": "the baseline"})})
    both = build_board(tables([entry, named]), tmp_path / "both").read_text(encoding="utf-8")
    assert "Pairs by judges" in both
    assert "<td>the baseline</td><td>a-judge, pair-1</td>" in both
    alone = build_board(tables([entry]), tmp_path / "alone").read_text(encoding="utf-8")
    assert "<td>old (no entry)</td><td>a-judge, pair-1</td>" in alone
    assert "Pairs by judges" not in build_board(tables([named]), tmp_path / "none").read_text(encoding="utf-8")


def test_from_judged_runs_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = two_runs(tmp_path)
    with scripted() as server:
        server.change(Script(sensitivity=0.7, position_bias=0.5))
        options = PairOptions.model_validate(
            {"judges": [{"judge": server.url, "model": name} for name in ("one", "two")], "store": tmp_path / "s"}
        )
        comparison = api.compare(runs, judges=options, out=tmp_path / "page")
    command = ["leaderboard", "add", "new", "--by", "me", "--pairs", "page"]
    added = CliRunner().invoke(app, command)
    assert added.exit_code == 0, added.output
    entries, problems = validate(tmp_path / "leaderboards")
    assert problems == []
    (entry,) = entries.values()
    assert [one.judge for one in entry.pairs] == ["one", "two"]
    for own, told in zip(entry.pairs, comparison.versus[0].judged, strict=False):
        assert own.wins == replace(told.wins, mcnemar=None)
        assert (own.p_value, own.protocol_sha256) == (told.p_value, told.protocol_sha256)
    assert CliRunner().invoke(app, ["leaderboard", "build"]).exit_code == 0
    assert "two, pair-1" in (tmp_path / "leaderboards" / "index.html").read_text(encoding="utf-8")
