"""Runs compared by a judge over HTTP, in both orders, and the card of a judge."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest

from benchmarks.scripted_judge import Script, Server, scripted
from hafbench import api
from hafbench.cards import OrderShare, read_card
from hafbench.comparison.judged import majority
from hafbench.comparison.pair_figures import JudgedPairs
from hafbench.comparison.tables import to_json, to_latex, to_markdown
from hafbench.errors import HafError, RunStopped
from hafbench.judges.options import PairOptions
from hafbench.scorers.judge import Options
from hafbench.specs import ScorerSpec
from judging import judge_options, make_images, score_spec

PAIRS = 80


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with scripted() as running:
        yield running


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, server: Server) -> tuple[list[Path], dict[str, bool], list[int]]:
    """Two runs of pictures of the same names, the truth, and which of each pair is sounder: 1, 0 or -1."""
    folder = tmp_path_factory.mktemp("runs")
    bad = [[n % 2 == 0 for n in range(PAIRS)], [n % 5 == 0 for n in range(PAIRS)]]
    truth: dict[str, bool] = {}
    for name, own, first in zip("ab", bad, (0, 1000), strict=True):
        truth |= make_images(folder / name, own, first)
        server.change(Script(truth=truth))
        spec = score_spec(folder / name, judge_options(server, folder / "judge.sqlite"))
        api.score(spec, out=folder / f"run-{name}")
    return [folder / "run-a", folder / "run-b"], truth, [int(a) - int(b) for a, b in zip(*bad, strict=True)]


def judged(
    server: Server, runs: list[Path], out: Path, models: tuple[str, ...] = ("scripted",)
) -> tuple[JudgedPairs, ...]:
    options = PairOptions.model_validate(
        {"judges": [{"judge": server.url, "model": model} for model in models], "store": out / "judge.sqlite"}
    )
    return api.compare(runs, judges=options, out=out / "page").versus[0].judged


def test_wins_ties_and_losses_are_those_of_the_truth(
    server: Server, runs: tuple[list[Path], dict[str, bool], list[int]], tmp_path: Path
) -> None:
    folders, truth, gains = runs
    server.change(Script(truth=truth))
    (found,) = judged(server, folders, tmp_path)
    wins = found.wins
    assert (wins.win, wins.tie, wins.lose) == tuple(gains.count(sign) for sign in (1, 0, -1))
    assert wins.rsi == pytest.approx((wins.win + wins.tie) / (wins.lose + wins.tie))
    assert wins.rsi is not None and wins.rsi_low is not None and wins.rsi_high is not None
    assert 1 < wins.rsi_low < wins.rsi < wins.rsi_high
    assert found.verdict == "better" and not found.biased
    assert found.inconsistent is not None and found.inconsistent.errors == 0
    before = server.stats().seen
    judged(server, folders, tmp_path)
    assert server.stats().seen == before


def test_a_position_bias_is_found_and_favours_neither_model(
    server: Server, runs: tuple[list[Path], dict[str, bool], list[int]], tmp_path: Path
) -> None:
    folders, truth, gains = runs
    server.change(Script(truth=truth, position_bias=0.5))
    (found,) = judged(server, folders, tmp_path / "better")
    assert found.biased and found.first is not None and (found.first.estimate or 0) > 0.6
    assert found.inconsistent is not None and found.inconsistent.errors > PAIRS / 4
    assert 0 < found.wins.win < gains.count(1) and found.verdict == "better"  # some wins have become ties, none a loss
    assert found.wins.lose <= gains.count(-1)
    # Of two runs that are alike neither is preferred.
    server.change(Script(truth=dict.fromkeys(truth, False), position_bias=0.5))
    (alike,) = judged(server, folders, tmp_path / "alike")
    assert alike.biased and (alike.wins.win, alike.wins.lose) == (0, 0)
    assert alike.wins.rsi == 1 and alike.verdict == "not shown"


def test_judges_are_shown_with_their_names_bias_and_agreement(
    server: Server, runs: tuple[list[Path], dict[str, bool], list[int]], tmp_path: Path
) -> None:
    folders, truth, _ = runs
    server.change(Script(truth=truth, sensitivity=0.8, position_bias=0.5))
    options = PairOptions.model_validate(
        {"judges": [{"judge": server.url, "model": name} for name in ("one_&", "two")], "store": tmp_path / "s.sqlite"}
    )
    comparison = api.compare(folders, judges=options, out=tmp_path / "page")
    assert [one.judge for one in comparison.versus[0].judged] == ["one_&", "two", "majority"]
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    markdown, latex = to_markdown(comparison), to_latex(comparison)
    for text, name in ((page, "one_&amp;, pair-1"), (markdown, "one_&, pair-1"), (latex, r"one\_\&, pair-1")):
        assert name in text and "two, pair-1" in text
    assert "favours the picture that comes first" in page
    assert f"agree on 100.0 % of {PAIRS} pairs, Cohen&#39;s kappa 1.00" in page
    told = to_json(comparison)["candidates"][0]["judged"][0]
    assert {"judge", "protocol", "wins", "p_value", "inconsistent", "first"} <= set(told)
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((1, 0, 0), 0),
        ((1, 1, 0), 1),
        ((1, -1), 0),
        ((1, 0), 0),
        ((-1, -1, 1), -1),
        ((None, 1), 1),
        ((None, None), None),
    ],
)
def test_a_majority_is_more_than_half(gains: tuple[int | None, ...], expected: int | None) -> None:
    assert majority(gains) == expected


def test_runs_without_a_common_seed_are_refused(server: Server, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"image": f"{n:03}.png", "prompt": "a hand", "prompt_id": "a"}) + "\n" for n in range(3)]
    prompts.write_text("".join(lines), encoding="utf-8")
    truth = {name: make_images(tmp_path / "images" / name, [True] * 3, first) for name, first in (("a", 0), ("b", 9))}
    server.change(Script(truth=truth["a"] | truth["b"]))
    for name in truth:
        spec = score_spec(tmp_path / "images" / name, judge_options(server, tmp_path / "s.sqlite"), prompts=prompts)
        api.score(spec, out=tmp_path / name)
    with pytest.raises(HafError, match="shares no pair of prompt and seed"):
        judged(server, [tmp_path / "a", tmp_path / "b"], tmp_path)


def test_a_card_is_of_no_example_and_kept_when_questions_run_out(server: Server, tmp_path: Path) -> None:
    truth = make_images(tmp_path / "a" / "bad", [True] * 4)
    server.change(Script(truth=truth | make_images(tmp_path / "a" / "good", [False] * 4, 500)))
    for label in ("good", "bad"):
        shutil.copytree(tmp_path / "a" / label, tmp_path / "shown" / label, ignore=lambda _, names: names[1:])
    options = judge_options(server, tmp_path / "judge.sqlite", max_questions=8).model_dump()
    spec = ScorerSpec(name="judge", options=Options.model_validate(options | {"examples": tmp_path / "shown"}))
    before = server.stats().seen
    with pytest.raises(RunStopped, match="as --max-questions allows"):
        api.calibrate(tmp_path / "a", spec, out=tmp_path / "card.json")
    card = read_card(tmp_path / "card.json")
    assert (card.good, card.bad, card.order) == (3, 3, ())
    assert server.stats().seen - before == 8


def test_pairs_of_images_of_few_prompts_tell_less_of_a_judges_order(server: Server, tmp_path: Path) -> None:
    truth = make_images(tmp_path / "bad", [True] * 40)
    server.change(Script(truth=truth | make_images(tmp_path / "good", [False] * 40, 500), position_bias=0.4))
    rows = [(f"{label}/{n:03}.png", label, f"{label} {n % 4}") for label in ("bad", "good") for n in range(40)]
    table = pd.DataFrame(rows, columns=["image", "label", "prompt_id"])
    spec = ScorerSpec(name="judge", options=judge_options(server, tmp_path / "judge.sqlite"))
    orders: list[OrderShare] = []
    for name, own in (("prompts", table), ("alone", table.drop(columns="prompt_id"))):
        own.to_csv(tmp_path / f"{name}.csv", index=False)
        orders += api.calibrate(tmp_path / f"{name}.csv", spec, out=tmp_path / f"{name}.json").card.order
    few, alone = orders
    assert few.pairs == alone.pairs == 40
    for wide, narrow in ((few.sounder, alone.sounder), (few.first, alone.first)):
        assert wide.estimate == narrow.estimate and wide.low is not None and wide.high is not None
        assert narrow.low is not None and narrow.high is not None
        assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_a_card_of_a_judge_has_its_errors_its_bias_and_corrects_its_rates(server: Server, tmp_path: Path) -> None:
    bad = [n % 2 == 0 for n in range(160)]
    truth = make_images(tmp_path / "labelled" / "bad", [True] * 80)
    truth |= make_images(tmp_path / "labelled" / "good", [False] * 80, 500)
    truth |= make_images(tmp_path / "images", [n % 4 == 0 for n in range(len(bad))], 2000)
    server.change(Script(truth=truth, sensitivity=0.8, specificity=0.9, position_bias=0.4))
    options = judge_options(server, tmp_path / "judge.sqlite")
    spec = ScorerSpec(name="judge", options=options)
    made = api.calibrate(tmp_path / "labelled", spec, out=tmp_path / "card.json")
    card = made.card
    assert card.scorer_version == "scripted, single-1"
    for share, told in ((card.sensitivity, 0.8), (card.specificity, 0.9)):
        assert share.estimate is not None and binomtest(round(share.estimate * share.n), share.n, told).pvalue > 0.001
    (order,) = card.order
    assert (order.judge, order.protocol, order.pairs) == ("scripted", "pair-1", 80)
    assert order.first.low is not None and order.first.low > 0.5
    run = api.score(score_spec(tmp_path / "images", options), out=tmp_path / "out", cards=[tmp_path / "card.json"])
    summary = json.loads((run.folder / "report" / "summary.json").read_text(encoding="utf-8"))
    corrected = summary["scorers"][0]["corrected"]
    assert corrected["low"] <= 0.25 <= corrected["high"]
