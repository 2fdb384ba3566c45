"""Runs that do not differ, or are too small to compare: what is said of them is true, and in whole sentences."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hafbench
from asap_train.choose import figures_of, verdict_of
from hafbench.comparison import Comparison, compare_runs
from hafbench.comparison.notes import kept_within, notes
from hafbench.comparison.tables import to_json, to_latex, to_markdown
from hafbench.errors import HafError
from hafbench.figures import counted
from hafbench.reports.comparison import build_comparison
from hafbench.runs import read_run
from hafbench.statistics import (
    Equivalence,
    compare_means,
    compare_wins,
    equivalence,
    error_rate,
    mean_interval,
    power_of,
)
from small import coloured_run, not_none

CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "identical": ({"a": "es", "b": "ss"}, {"a": "es", "b": "ss"}),
    "one prompt": ({"a": "es"}, {"a": "ss"}),
    "one image": ({"a": "e"}, {"a": "s"}),
    "no error": ({"a": "ss", "b": "ss"}, {"a": "ss", "b": "ss"}),
    "errors only": ({"a": "ee", "b": "ee"}, {"a": "ee", "b": "ee"}),
    "all unknown": ({"a": "uu", "b": "uu"}, {"a": "uu", "b": "uu"}),
    "one unknown": ({"a": "uu", "b": "uu"}, {"a": "es", "b": "ss"}),
    "never both": ({"a": "us", "b": "us"}, {"a": "su", "b": "eu"}),
    "one judged": ({"a": "uu", "b": "us"}, {"a": "es", "b": "ss"}),
    "one seed": ({"a": "e", "b": "s", "c": "s"}, {"a": "s", "b": "s", "c": "e"}),
    "all better": ({"a": "ee", "b": "ee"}, {"a": "ss", "b": "ss"}),
    "all worse": ({"a": "ss", "b": "ss"}, {"a": "ee", "b": "ee"}),
}
SAID = {
    "identical": "All verdicts of hands are identical.",
    "one prompt": "could be compared on one prompt only: there is no interval and no test.",
    "one image": "1 pair of the same prompt and seed, 1 prompt.",
    "no error": "All verdicts of hands are identical.",
    "errors only": "All verdicts of hands are identical.",
    "all unknown": "hands could judge no image of the baseline and none of the candidate.",
    "one unknown": "hands could judge no image of the baseline.",
    "never both": "hands could judge both images of no pair.",
    "one judged": "hands could be compared on one prompt only",
    "one seed": "3 prompts are too few to find any difference of hands with 80 % power; 2 points would take",
    "all better": "2 prompts are too few to find any difference",
    "all worse": "2 prompts are too few to find any difference",
}
NONSENSE = re.compile(
    r"\b1 (prompts|pairs|images|seeds|wins|ties|losses|points)\b|\b0 prompts\b|\bnan\b|\bNone\b|p –\)|±0 "
)


def compared(folder: Path, one: dict[str, str], other: dict[str, str]) -> Comparison:
    runs = [coloured_run(folder / name, words, name=name) for name, words in (("old", one), ("new", other))]
    return compare_runs(runs)


@pytest.mark.parametrize("case", CASES)
def test_degenerate_comparisons_are_told_in_sentences(tmp_path: Path, case: str) -> None:
    comparison = compared(tmp_path, *CASES[case])
    text = to_markdown(comparison)
    page = build_comparison(comparison, tmp_path / "page").read_text()
    assert SAID[case] in text
    assert SAID[case] in page
    words = re.sub(
        r"<style>.*?</style>|<script>.*?</script>|<svg.*?</svg>|src=\"[^\"]*\"|<[^>]*>", " ", page, flags=re.S
    )
    for told in (text, to_latex(comparison), words):
        assert not NONSENSE.search(told), NONSENSE.search(told)
    assert verdict_of(100, 1, figures_of(comparison.versus[0])).endswith(".")
    for name in ("old", "new"):
        report = hafbench.report(tmp_path / name).with_name("report.md")
        assert not NONSENSE.search(report.read_text())


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(*[st.text("esu", min_size=1, max_size=2)] * 2), min_size=1, max_size=3))
def test_whatever_little_is_compared_is_told_without_nonsense(words: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        sides = [{f"p{number}": pair[side] for number, pair in enumerate(words)} for side in (0, 1)]
        comparison = compared(Path(folder), sides[0], sides[1])
        text = to_markdown(comparison)
        assert not NONSENSE.search(text), NONSENSE.search(text)
        json.dumps(to_json(comparison), allow_nan=False)
        build_comparison(comparison, Path(folder) / "page")


def test_a_run_compared_with_its_copy_says_that_the_images_are_the_same(tmp_path: Path) -> None:
    one = coloured_run(tmp_path / "one", {f"p{i}": "essu" for i in range(8)})
    shutil.copytree(one.folder, tmp_path / "copy")
    comparison = compare_runs([one, read_run(tmp_path / "copy")])
    text = " ".join(notes(comparison))
    assert [metric.verdict for metric in comparison.versus[0].metrics] == ["identical", "identical"]
    assert "All verdicts of hands are identical." in text
    assert "All values of iqa are identical." in text
    assert "the two files of each pair have the same SHA-256" in text
    assert "points" not in text, "no number of prompts would tell them apart"
    assert "within ±" not in text
    assert to_json(comparison)["candidates"][0]["shared"]["same_images"] is True


def test_images_of_the_same_verdicts_are_not_called_the_same_images(tmp_path: Path) -> None:
    words = {f"p{i}": "esse" for i in range(20)}
    comparison = compared(tmp_path, words, words)
    text = " ".join(notes(comparison))
    assert "SHA-256" not in text
    power = comparison.versus[0].metrics[0].power
    assert power is not None
    # One win, or loss, among 21 prompts of one mind: variance 1 / 21, and the normal quantiles of 5 % and 80 %.
    assert power.smallest == pytest.approx(2.8016 * (1 / 21 / 20) ** 0.5, abs=1e-4)
    assert f"find a difference of hands of {100 * power.smallest:.1f} points with 80 % power" in text
    assert f"2 points would take {power.prompts_for(0.02)} prompts" in text


@pytest.mark.parametrize("detect", [0.0, -0.1, 2.0, float("nan")])
def test_a_difference_that_no_rates_can_have_is_refused(tmp_path: Path, detect: float) -> None:
    runs = [coloured_run(tmp_path / name, {"a": "es"}, name=name) for name in ("old", "new")]
    with pytest.raises(HafError, match="above 0 and at most 1"):
        compare_runs(runs, detect=detect)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.sampled_from([-1.0, 0.0, 1.0]))
def test_prompts_of_one_mind_never_mean_certainty(prompts: int, seeds: int, moved: float) -> None:
    clusters = np.repeat(np.arange(prompts), seeds)
    one = np.full(len(clusters), float(moved < 0))
    other = one + moved
    power = power_of(other - one, clusters)
    assert power is not None
    assert power.smallest > 0
    assert not_none(power.prompts_for(0.02)) > power.fewest
    assert power.seeds_for(1e-9) is None or power.seeds == 1
    found = compare_means(one, clusters, other, clusters, resamples=100)
    low, high = not_none(found.low), not_none(found.high)
    assert -1 <= low <= not_none(found.estimate) <= high <= 1
    assert high > low
    wins = compare_wins(one, other, clusters, resamples=100)
    low, rsi, high = not_none(wins.rsi_low), not_none(wins.rsi), not_none(wins.rsi_high)
    assert low <= rsi <= high
    assert low < high


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 4))
def test_the_more_prompts_agree_the_smaller_a_difference_is_found(prompts: int, seeds: int) -> None:
    def smallest(k: int) -> float:
        power = power_of(np.zeros(k * seeds), np.repeat(np.arange(k), seeds))
        return power.smallest if power else float("inf")

    assert smallest(prompts + 1) < smallest(prompts)


def test_a_true_difference_as_rare_as_those_not_seen_lies_in_the_interval() -> None:
    """One prompt in 60 is lost: of 40 prompts half the samples show none, and their interval must hold it."""
    rng, rate, held, none = np.random.default_rng(0), 1 / 60, 0, 0
    for _ in range(300):
        lost = (rng.random(40) < rate).astype(float)
        if lost.any():
            continue
        none += 1
        found = compare_means(np.zeros(40), np.arange(40), lost, np.arange(40))
        held += not_none(found.low) <= rate <= not_none(found.high)
    assert none > 100
    assert held == none


def test_values_that_are_all_alike_have_no_interval() -> None:
    values, clusters = [0.4] * 6, np.arange(6)
    alike = mean_interval(values, clusters)
    assert alike.estimate == pytest.approx(0.4)
    assert alike.low is None
    found = compare_means(values, clusters, values, clusters)
    assert (found.estimate, found.low, found.p_value) == (0.0, None, 1.0)


def test_a_constant_shift_of_scores_is_not_certain() -> None:
    values = np.array([10.0, 20.0, 30.0, 40.0])
    found = compare_means(values, np.arange(4), values + 1, np.arange(4))
    # Wilson's bound for none of 4 is 0.490; values lie up to 31 apart.
    far = not_none(error_rate([False] * 4, range(4)).high)
    assert (found.low, found.high) == pytest.approx((1 - far * 32, 1 + far * 30))


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_prompts_that_differ_alike_show_no_equivalence_unless_there_are_many(moved: float) -> None:
    def kept(k: int, margin: float) -> Equivalence:
        values = np.linspace(0, 1, k)
        return equivalence(compare_means(values, np.arange(k), values + moved, np.arange(k)), margin)

    few = kept(2, 0.14)
    # Values lie up to 1 + moved apart, and at 90 % Wilson's bound for none of 2 is z² / (2 + z²).
    far = 1.645**2 / (2 + 1.645**2)
    assert (few.low, few.high) == pytest.approx((moved - far * (1 + 2 * moved), moved + far), abs=1e-3)
    assert (few.shown, few.p_value) == (False, None)
    assert kept(100, 0.14).shown and not kept(100, moved + 0.02).shown


def test_two_prompts_of_equal_scores_are_not_called_kept(tmp_path: Path) -> None:
    """As where a third has a score in one run only: the runs are then not identical."""
    comparison = compared(tmp_path, {"a": "es", "b": "ss"}, {"a": "ss", "b": "ss"})
    one: Any = next(one for one in comparison.versus[0].metrics if one.name == "iqa")
    moved = compare_means([3.0, 4.0], "ab", [3.0, 4.0], "ab")
    found = replace(one, difference=moved, equivalence=equivalence(moved, 0.14), corrected_p=moved.p_value)
    assert found.verdict == "not shown"
    assert "not shown to have stayed within ±0.14" in (kept_within(found) or "")
    assert "90 % interval -0.575 to 0.575" in (kept_within(found) or "")


@pytest.mark.parametrize(
    ("number", "noun", "said"), [(0, "prompt", "0 prompts"), (1, "loss", "1 loss"), (2, "loss", "2 losses")]
)
def test_numbers_agree_with_their_nouns(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_a_baseline_without_spread_has_no_margin(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"a": "es", "b": "ss"}, {"a": "ss", "b": "ss"})
    one: Any = next(one for one in comparison.versus[0].metrics if one.name == "iqa")
    flat = replace(one, equivalence=replace(one.equivalence, margin=0.0))
    assert "no margin" in (kept_within(flat) or "")
    assert "--margin iqa=X" in (kept_within(flat) or "")
