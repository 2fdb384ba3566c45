"""Comparing runs: what they share, verdicts by hand, tables, conditions, and the page."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm
from typer.testing import CliRunner

from hafbench.cli import app
from hafbench.comparison import Comparison, compare_runs
from hafbench.comparison.condition import failures, parse_condition
from hafbench.comparison.tables import escape, print_comparison, to_json, to_latex, to_markdown
from hafbench.errors import HafError
from hafbench.evaluate import evaluate
from hafbench.labelling.frame import pair_items as labelled_pairs
from hafbench.records import Sample
from hafbench.reports.comparison import build_comparison, pair_items
from hafbench.reports.plots import LOOKS, scatter_plot
from hafbench.runs import Run, open_run, read_run
from hafbench.suites import Prompt
from small import Blueness, Painted, coloured_run, folder_manifest, not_none

EVIL = "<script>document.title='pwned'</script>$_%&"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, Run]:
    one = coloured_run(tmp_path / "one", {"a": "ees", "b": "ess", "c": "sse", "d": "esu"}, name="old")
    other = coloured_run(tmp_path / "two", {"a": "sse", "b": "sss", "c": "sse", "d": "sss"}, name="new", steps=20)
    return one, other


def only(comparison: Comparison, name: str = "hands") -> Any:
    (versus,) = comparison.versus
    return next(one for one in versus.metrics if one.name == name)


def test_wins_rates_and_bounds_by_hand(pair: tuple[Run, Run]) -> None:
    found = only(compare_runs(pair))
    # Old: a ees, b ess, c sse, d esu; new: a sse, b sss, c sse, d sss. Judged by both: 11 pairs.
    assert (found.win_tie_loss.win, found.win_tie_loss.tie, found.win_tie_loss.lose) == (4, 6, 1)
    assert (found.difference.baseline, found.difference.candidate) == (5 / 11, 2 / 11)
    assert found.difference.estimate == pytest.approx(-3 / 11)
    assert found.unjudged.bounds == pytest.approx((-4 / 12, -3 / 12))
    assert found.win_tie_loss.rsi == 10 / 7
    assert (found.baseline.errors, found.baseline.scored, found.baseline.total) == (5, 11, 12)
    assert set(found.by_category) == {"basic_anatomy", "full_body"}


def test_metrics_whose_rows_are_in_other_orders_are_joined_each_by_its_own(pair: tuple[Run, Run]) -> None:
    records = pair[1].records
    turned = pd.concat([records[records["scorer"] == "iqa"][::-1], records[records["scorer"] != "iqa"]])
    other = replace(pair[1], records=turned.reset_index(drop=True))
    before, after = compare_runs(pair), compare_runs([pair[0], other])
    assert after.versus[0].metrics == before.versus[0].metrics
    for name, table in before.versus[0].tables.items():
        columns = [column for column in table if not str(column).startswith("row_")]
        assert after.versus[0].tables[name][columns].equals(table[columns])
    assert pair_items(pair[0], after.versus[0]) == pair_items(pair[0], before.versus[0])


def test_what_is_shared_is_said(pair: tuple[Run, Run]) -> None:
    shared = compare_runs(pair).versus[0].shared
    assert (shared.prompts, shared.pairs, shared.images) == (4, 12, (12, 12))
    assert shared.changes == ('generator.name: "old" -> "new"', "generator.steps: 10 -> 20")


def test_runs_that_overlap_are_compared_on_the_overlap(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {"a": "es", "b": "es", "only": "ee"})
    other = coloured_run(tmp_path / "two", {"a": "ss", "b": "ssss"}, name="longer")
    comparison = compare_runs([one, other])
    assert comparison.versus[0].shared.pairs == 4
    assert "2 images of the baseline, 2 of the candidate" in " ".join(comparison.versus[0].shared.remarks)
    assert only(comparison).difference.estimate == -0.5


def test_other_seeds_are_compared_by_prompt(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {"a": "es", "b": "es"})
    other = coloured_run(tmp_path / "two", {"a": "ss", "b": "es"}, first_seed=7, name="two")
    comparison = compare_runs([one, other])
    assert (comparison.versus[0].shared.pairs, only(comparison).win_tie_loss) == (0, None)
    assert only(comparison).difference.estimate == -0.25
    assert "no seed" in " ".join(comparison.versus[0].shared.remarks)
    build_comparison(comparison, tmp_path / "page")


def test_a_prompt_whose_text_changed_is_another_prompt(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {"a": "es"})
    other = coloured_run(tmp_path / "two", {"a": "es"}, text="two feet")
    with pytest.raises(HafError, match="share no prompt"):
        compare_runs([one, other])


def test_another_version_of_a_scorer_is_not_compared(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {"a": "es", "b": "es"})
    other = coloured_run(tmp_path / "two", {"a": "es", "b": "ss"}, scorers={"hands": Painted("2"), "iqa": Blueness()})
    comparison = compare_runs([one, other])
    assert [one.name for one in comparison.versus[0].metrics] == ["iqa"]
    assert 'version: "1" -> "2"' in " ".join(comparison.versus[0].shared.remarks)
    stricter = coloured_run(tmp_path / "three", {"a": "es", "b": "ss"}, scorers={"hands": Painted("1", 0.7)})
    with pytest.raises(HafError, match=r"share no scorer.*threshold"):
        compare_runs([one, stricter])


def test_quality_is_kept_or_not_by_the_margin(pair: tuple[Run, Run]) -> None:
    wide, narrow = (only(compare_runs(pair, margins={"iqa": margin}), "iqa") for margin in (0.5, 1e-9))
    assert (wide.verdict, wide.equivalence.shown) == ("kept", True)
    assert not narrow.equivalence.shown
    with pytest.raises(HafError, match="no quality score 'hands'"):
        compare_runs(pair, margins={"hands": 1})
    for margin in (0, -1, math.nan, math.inf):
        with pytest.raises(HafError, match=f"margin of iqa is {margin}; give a positive number"):
            compare_runs(pair, margins={"iqa": margin})


def test_a_narrow_terminal_cuts_no_verdict(
    pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    comparison = compare_runs(pair)
    print_comparison(comparison)
    said = capsys.readouterr().out
    assert "…" not in said
    lines = [line.rstrip() for line in said.splitlines()]
    verdicts = [one.verdict for one in comparison.versus[0].metrics]
    assert len(verdicts) == 2
    assert all(any(line.endswith(verdict) for line in lines) for verdict in verdicts)


@pytest.mark.parametrize("place", [-1, 2, 5])
def test_a_baseline_is_a_place_in_the_list(pair: tuple[Run, Run], place: int) -> None:
    with pytest.raises(HafError, match=f"no run {place} to be the baseline; give its place in the list, 0 to 1"):
        compare_runs(pair, baseline=place)


def test_a_clear_difference_has_a_verdict_and_several_candidates_are_corrected(tmp_path: Path) -> None:
    prompts = [f"p{i}" for i in range(13)]
    runs = [
        coloured_run(tmp_path / name, dict.fromkeys(prompts, word), name=name)
        for name, word in (("bad", "ee"), ("good", "ss"), ("half", "es"), ("same", "ee"))
    ]
    by_name = {versus.label: versus.metrics[0] for versus in compare_runs(runs).versus}
    assert {name: one.verdict for name, one in by_name.items()} == {
        "good": "better",
        "half": "better",
        "same": "identical",
    }
    # 13 prompts change alike: 2 of the 2^13 exchanges are as far; Holm multiplies the smallest of three by 3.
    assert by_name["good"].difference.p_value == 2 / 2**13
    assert by_name["good"].corrected_p == pytest.approx(3 * by_name["good"].difference.p_value)
    worse = compare_runs(runs, baseline=1).versus[0].metrics[0]
    assert worse.verdict == "worse"
    assert not_none(worse.win_tie_loss).rsi == 0


def test_a_run_whose_errors_cannot_be_judged_is_not_better(tmp_path: Path) -> None:
    prompts = [f"p{i}" for i in range(13)]
    one = coloured_run(tmp_path / "one", dict.fromkeys(prompts, "eess"), name="one")
    other = coloured_run(tmp_path / "two", dict.fromkeys(prompts, "usus"), name="two")
    found = only(compare_runs([one, other]))
    # Of the pairs judged twice, e-s and s-s, half is better; the other two may hold as many errors as before.
    assert found.difference.estimate == -0.5
    assert found.corrected_p < 0.05
    assert found.unjudged.one_sided == pytest.approx((-0.5, 0))
    assert found.verdict == "judged unevenly"
    assert "50.0 % of the images" in to_markdown(compare_runs([one, other]))
    # Where not even all of them could undo it, it is better all the same.
    worst = coloured_run(tmp_path / "three", dict.fromkeys(prompts, "eeee"), name="three")
    assert only(compare_runs([worst, other])).verdict == "better"


def test_what_a_next_run_needs_is_said(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {f"p{i}": "eess" for i in range(20)}, name="old")
    other = coloured_run(tmp_path / "two", {f"p{i}": ("sess", "esss")[i % 2] for i in range(20)}, name="new")
    comparison = compare_runs([one, other], detect=0.3)
    power = only(comparison).power
    seeds, prompts = power.seeds_for(0.3), power.prompts_for(0.3)
    assert f"30 points would take {seeds} seeds a prompt or {prompts} prompts" in to_markdown(comparison)


def test_what_several_candidates_need_is_planned_with_their_correction(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {f"p{i}": "eess" for i in range(20)}, name="old")
    others = [
        coloured_run(tmp_path / name, {f"p{i}": ("sess", "esss")[i % 2] for i in range(20)}, name=name)
        for name in ("new", "newer", "newest")
    ]
    alone = not_none(only(compare_runs([one, others[0]])).power)
    comparison = compare_runs([one, *others])
    power = not_none(comparison.versus[1].metrics[0].power)
    ratio = (norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)) / (norm.ppf(0.975) + norm.ppf(0.8))
    assert power.smallest == pytest.approx(ratio * alone.smallest)
    said = (
        f"of {100 * power.smallest:.1f} points with 80 % power, corrected by Holm for 3 candidates; 2 points would take"
    )
    assert said in to_markdown(comparison)


def test_regressions_come_first_and_the_pages_pictures_are_those_runs(pair: tuple[Run, Run]) -> None:
    comparison = compare_runs(pair)
    items, left_out = pair_items(comparison.baseline, comparison.versus[0])
    assert [item.change for item in items] == ["regression", *["improvement"] * 4]
    assert left_out == 0
    assert (items[0].prompt, items[0].seed) == ("a hand a", "seed 2")
    assert (items[0].baseline.error, items[0].candidate.error) == (False, True)
    assert items[0].candidate.kinds == ("hands: extra digit",)
    assert not_none(items[0].candidate.pictures).marked


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("aer > baseline + 0.02", False),
        ("aer < baseline - 0.2", True),
        ("aer.hands <= 0.2", True),
        ("aer.high > 0.9", False),
        ("difference.high < 1", True),
        ("rsi > 1.4", True),
        ("judged < 1", False),
        ("judged.hands > baseline + 0.05", True),
        ("mean.iqa > baseline + 0.5", False),
    ],
)
def test_conditions(pair: tuple[Run, Run], text: str, holds: bool) -> None:
    assert bool(failures(parse_condition(text), compare_runs(pair))) == holds


@pytest.mark.parametrize(
    "text", ["", "aer", "aer > ", "beauty > 1", "rsi > baseline", "aer > baseline * 2", "aer == 1"]
)
def test_conditions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(HafError, match="--fail-if"):
        parse_condition(text)


def test_a_condition_that_cannot_be_told_is_no_pass(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    with pytest.raises(HafError, match="do not share that metric"):
        failures(parse_condition("aer.limbs > 0"), compare_runs(pair))
    dark = coloured_run(tmp_path / "dark", {"a": "uuu", "b": "uuu"}, name="dark")
    with pytest.raises(HafError, match="cannot be checked"):
        failures(parse_condition("aer > 0"), compare_runs([pair[0], dark]))


def test_tables_of_every_kind_hold_the_same_figures(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    comparison = compare_runs(pair)
    markdown, latex, data = to_markdown(comparison), to_latex(comparison), to_json(comparison)
    assert "| new | hands | 45.5 % | 18.2 % |" in markdown
    assert r"new & hands & 45.5 \% & 18.2 \% & $-$27.3" in latex
    assert data["candidates"][0]["metrics"][0]["difference"]["estimate"] == pytest.approx(-3 / 11)
    json.dumps(data, allow_nan=False)


def test_latex_is_escaped() -> None:
    assert escape(r"a_b & 50 % {\x} ~^#$") == (
        r"a\_b \& 50 \% \{\textbackslash{}x\} \textasciitilde{}\textasciicircum{}\#\$"
    )


def test_the_command_prints_writes_a_page_and_exits_by_the_condition(
    pair: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke = CliRunner().invoke
    done = invoke(app, ["compare", "one", "two", "--out", "page"])
    assert (done.exit_code, (tmp_path / "page" / "index.html").exists()) == (0, True)
    assert "new against old" in done.output
    assert invoke(app, ["compare", "one", "two", "-q", "--fail-if", "aer > baseline + 0.02"]).exit_code == 0
    worse = invoke(app, ["compare", "one", "two", "--baseline", "two", "-q", "--fail-if", "aer > baseline + 0.02"])
    assert worse.exit_code == 4
    assert (tmp_path / "runs" / "compare_two_one" / "index.html").exists()
    data = json.loads(invoke(app, ["compare", "one", "two", "--quiet", "--json"]).stdout)
    assert data["baseline"]["label"] == "old"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one"], "at least two"),
        (["one", "one"], "one is given twice"),
        (["one", "two", "two"], "two is given twice"),
        (["one", "two", "--detect", "2"], "difference of rates to detect is 2"),
        (["one", "missing"], "not a run folder"),
        (["one", "two", "--baseline", "three"], "not one of the runs"),
        (["one", "two", "--margin", "iqa=x"], "positive number"),
        (["one", "two", "--margin", "iqa=-1"], "positive number"),
        (["one", "two", "--latex", "--json"], "only one of"),
    ],
)
def test_mistakes_are_one_sentence(
    pair: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["compare", *words])
    assert isinstance(result.exception, HafError)
    assert said in str(result.exception)


@pytest.mark.parametrize(("higher_is_better", "colour"), [(True, 0), (False, 1), (None, None)])
def test_prompts_on_which_the_candidate_is_better_have_the_first_colour(
    higher_is_better: bool | None, colour: int | None
) -> None:
    plot = scatter_plot([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], ("a", "b"), False, higher_is_better)
    assert [name in plot for name, _ in LOOKS[:2]] == [place == colour for place in (0, 1)]


def test_nothing_of_the_runs_is_markup_on_the_page(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {"a": "es", "b": "ss"}, name=EVIL, text=EVIL)
    other = coloured_run(tmp_path / "two", {"a": "se", "b": "es"}, name=f"{EVIL} two", text=EVIL)
    page = build_comparison(compare_runs([one, other]), tmp_path / "page").read_text()
    assert "<script>document" not in page
    assert page.count("<script>") == 1


def test_folders_of_images_without_prompts_are_compared_by_name(tmp_path: Path) -> None:
    for folder, value in (("one", 250), ("two", 10)):
        for name in ("x.png", "y.png"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (16, 16), (value, 250 - value, 0)).save(tmp_path / folder / name)
    runs = []
    for folder in ("one", "two"):
        scorers = {"hands": Painted()}
        with open_run(tmp_path / f"run_{folder}", folder_manifest(scorers, tmp_path / folder, folder)) as run:
            evaluate(run, [Sample("x.png"), Sample("y.png")], scorers)
        runs.append(read_run(tmp_path / f"run_{folder}"))
    found = only(compare_runs(runs))
    assert (found.win_tie_loss.win, found.difference.estimate) == (2, -1.0)


def test_the_only_image_of_a_prompt_is_paired_without_a_seed(tmp_path: Path) -> None:
    """Folders of ID.png with --prompts; an image with a seed is no partner of one without."""
    prompts = [Prompt(id=name, text=f"a hand {name}", category="basic_anatomy") for name in "xyz"]
    runs = []
    for folder, value in (("one", 250), ("two", 10)):
        (tmp_path / folder).mkdir()
        samples = [Sample(f"{prompt.id}.png", prompt) for prompt in prompts]
        samples += [Sample("z2.png", prompts[2])] if folder == "two" else []
        samples[1] = replace(samples[1], seed=0) if folder == "two" else samples[1]
        for number, sample in enumerate(samples):
            Image.new("RGB", (16, 16), (value, 250 - value, number)).save(tmp_path / folder / sample.image)
        scorers = {"hands": Painted()}
        with open_run(tmp_path / f"run_{folder}", folder_manifest(scorers, tmp_path / folder, folder)) as run:
            evaluate(run, samples, scorers)
        runs.append(read_run(tmp_path / f"run_{folder}"))
    comparison = compare_runs(runs)
    assert comparison.versus[0].shared.pairs == 1 and only(comparison).win_tie_loss.win == 1
    (item,) = labelled_pairs(runs[0], runs[1], None, doubt=False)
    assert [one.image for one in item.pictures] == ["x.png", "x.png"]
