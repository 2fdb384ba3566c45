"""The controlled experiment's program on renders whose truth is known: its sheets, and its tables."""

import csv
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hafbench
from hafbench.mannequin.picture import make_pair
from hafbench.scorers.mannequin_card import load_mannequin_card
from hafbench.specs import ScoreSpec
from hafbench.suites import load_suite

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "research" / "experiment"
SEEDS, PROMPTS = 2, 3
NAMES = ("base", "sft-0", "asap-0")
SUITES = {"selection": 64, "held-out": 160, "confirmation": 160}


@pytest.fixture(scope="module")
def part_of() -> Iterator[Any]:
    """The program's modules by name, importable while this file's tests run."""
    sys.path.insert(0, str(PROGRAM))
    yield import_module
    sys.path.remove(str(PROGRAM))


def call(what: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), what, "--out", str(out), "--seeds", "1", "--methods", "sft,asap", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tune` and `make` leave, of renders: the base and SFT draw extra digits, ASAP draws none."""
    out = tmp_path_factory.mktemp("experiment")
    suite = PROGRAM / "prompts" / "held-out.jsonl"
    prompts = load_suite(str(suite)).prompts[:PROMPTS]
    drawn = (make_pair(seed, detail="extra_digit", framing="hand") for seed in count())
    pairs = list(islice(filter(None, drawn), PROMPTS * SEEDS))
    for name in NAMES:
        for place, prompt in enumerate(prompts):
            folder = out / "images" / name / prompt.id
            folder.mkdir(parents=True)
            for seed in range(SEEDS):
                pair = pairs[SEEDS * place + seed]
                shown = pair.correct if name == "asap-0" else pair.erroneous
                Image.fromarray(shown.image).save(folder / f"{seed}.png")
        spec = ScoreSpec.model_validate(
            {
                "images": out / "images" / name,
                "prompts": suite,
                "scorers": {"digits": {}, "clip": {"model": "mannequin"}},
                "device": "cpu",
            }
        )
        hafbench.score(spec, out=out / "runs" / name)
    # A front, for which nothing else is drawn here.
    for point in ("0.25x1", "0.5x1", "1x0.5", "1x1.5"):
        shutil.copytree(out / "runs" / "asap-0", out / "front" / f"asap-0-{point}")
    for name in NAMES[1:]:
        (out / "fits" / name).mkdir(parents=True)
        row = {"step": 1, "delta": 0.02, "winner": 0.5, "ref_winner": 0.51, "loser": 0.63, "ref_loser": 0.6}
        (out / "fits" / name / "log.jsonl").write_text((json.dumps(row) + "\n") * 10)
    tried = {"name": "asap-0", "settings": ["loss.tau=0.1"], "chance": -0.1, "aer": 0.5, "aer_base": 0.7}
    (out / "tuning.json").write_text(json.dumps({"chosen": {"asap": ["loss.tau=0.1"]}, "tried": [tried]}))
    return out


def row_of(text: str, name: str) -> list[str]:
    return [
        cell.strip() for line in text.splitlines() if line.startswith(f"| {name} ") for cell in line.split("|")[1:-1]
    ]


def rows_of(docs: Path) -> list[dict[str, str]]:
    with gzip.open(docs / "pictures.csv.gz", "rt") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
def test_labels_on_hidden_sheets_become_the_rates_that_they_say(made: Path) -> None:
    sheets = call("sheets", made, "--labelled", str(PROMPTS * SEEDS))
    assert sheets.returncode == 0, sheets.stderr
    folder = made / "labels"
    key = list(csv.DictReader((folder / "key.csv").open()))
    assert len(key) == len(NAMES) * PROMPTS * SEEDS
    order = [line["name"] for line in key]
    assert order != sorted(order) and set(order) == {"base", "sft", "asap"}

    def label(line: dict[str, str]) -> str:
        return "good" if line["name"] == "asap" else "bad"

    lines = [f"{line['number']},{label(line)}" for line in key]
    told = [f"{line},{'extra' if line.endswith('bad') else ''}" for line in lines]
    (folder / "labels-one.csv").write_text("number,label,kind\n" + "\n".join(told) + "\n")
    (folder / "labels-two.csv").write_text("number,label\n" + "\n".join(lines[:6]) + "\n")
    found = call("report", made, "--docs", str(made / "docs"))
    assert found.returncode == 0, found.stderr
    base, asap, sft = (row_of(found.stdout, name) for name in ("base", "asap", "sft"))
    assert base[1].startswith("100.0 [") and base[1].endswith("(6)") and base[5].startswith("100.0 [")
    assert asap[1].startswith("0.0 [") and asap[2].startswith("-100.0") and asap[7].startswith("-100.0")
    assert sft[2].startswith("+0.0") and sft[10].startswith("1.00 [0.44, ")
    assert "of 6 clear both times 100.0 % agree (kappa" in found.stdout
    assert row_of(found.stdout, "extra")[1:] == ["6", "6", "0"], "base, sft, asap"
    # SFT draws the base's very pictures.
    rest = row_of(found.stdout[found.stdout.index("## The rest") :], "sft")
    assert rest[4] == "0.00" and float(rest[5].split()[0]) == 0 and rest[6:8] == ["0.0000", "1.000"]
    front = found.stdout[found.stdout.index("## Error against drift") :]
    assert row_of(front, "asap")[1:4] == ["25 %", "1", "0.0 [0.0, 56.1]"]
    assert row_of(found.stdout[found.stdout.index("over the base's") :], "asap")[1] == "0.00 [0.00, 0.00]"
    plots = {"forest.png", "curves.png", "grid.png", "front.png"}
    assert {path.name for path in (made / "docs").iterdir()} == plots | {"pictures.csv.gz", "labels.csv", "sheets"}
    values = {name: [row for row in rows_of(made / "docs") if row["name"] == name] for name in ("base", "sft", "asap")}
    assert [len(rows) for rows in values.values()] == [PROMPTS * SEEDS, PROMPTS * SEEDS, 5 * PROMPTS * SEEDS]
    assert [row["clip"] for row in values["base"]] == [row["clip"] for row in values["sft"]]
    last = [row for row in values["sft"] if row["point"] == "1x1"]
    assert {row["drift"] for row in last} == {"0"} and {row["drift"] for row in values["base"]} == {""}
    # Without the runs of ASAP, and with what was kept of them, all that the judge and the labels say is as before.
    again = call("report", made, "--methods", "sft", "--kept", str(made / "docs"))
    assert again.returncode == 0, again.stderr
    assert row_of(again.stdout, "asap")[:10] == asap[:10]
    drift = again.stdout[again.stdout.index("## Error against drift") : again.stdout.index("## The rest")]
    assert [line for line in drift.splitlines() if line.startswith("| asap ")] == [
        line for line in front.splitlines() if line.startswith("| asap ") and "%" in line
    ][:5]


@pytest.mark.slow
def test_a_label_that_is_none_is_told_with_its_line(made: Path, tmp_path: Path) -> None:
    wrong = made / "labels" / "labels-wrong.csv"
    wrong.write_text("number,label\n0,perhaps\n")
    found = call("report", made)
    wrong.unlink()
    assert found.returncode == 1 and "labels-wrong.csv, line 2" in found.stderr and "Traceback" not in found.stderr


def test_without_runs_there_is_no_report(tmp_path: Path) -> None:
    found = call("report", tmp_path)
    assert found.returncode == 1 and "give `make` first" in found.stderr and "Traceback" not in found.stderr


def test_the_prompts_are_those_of_the_recipe_and_no_suite_shares_any(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "mannequin" / "hands_suite.py"
    subprocess.run([sys.executable, str(recipe), "--out", str(tmp_path)], check=True, timeout=120)
    texts = [prompt.text for prompt in load_suite("mannequin").prompts]
    for suite, size in SUITES.items():
        assert (tmp_path / f"{suite}.jsonl").read_bytes() == (PROGRAM / "prompts" / f"{suite}.jsonl").read_bytes()
        prompts = load_suite(str(PROGRAM / "prompts" / f"{suite}.jsonl")).prompts
        assert len(prompts) == size and {prompt.tags[0] for prompt in prompts} == {"open_hand"}
        texts += [prompt.text for prompt in prompts]
    assert len(set(texts)) == len(texts)


def test_reported_pictures_are_of_the_suite_that_is_asked_for(part_of: Any, tmp_path: Path) -> None:
    plans = part_of("plan")
    plan = plans.Plan(tmp_path, "mannequin", plans.Sizes(), held_out="confirmation")
    specs = (plan.spec(None), plan.spec(0), plan.front_spec(0))
    assert {Path(spec.suite).stem for spec in specs} == {"confirmation"}
    assert Path(plan.tuning_spec().suite).stem == "selection"


def test_every_method_has_as_many_tries_and_a_guard_changes_nothing_else(part_of: Any, tmp_path: Path) -> None:
    plans = part_of("plan")
    plan = plans.Plan(tmp_path, "mannequin", plans.Sizes(steps=16))
    methods = plans.METHODS | plans.ABLATIONS
    configs = {
        name: [plan.config("", name, 0, tried, f"{name}-0") for tried in method.tried]
        for name, method in methods.items()
    }
    assert {len(found) for found in configs.values()} == {4}
    for name in ("dpo", "dpo-local", "margin", "asap"):
        for plain, guarded in zip(configs[name], configs[f"{name}-guard"], strict=True):
            loss = guarded.loss.model_copy(update={"guard": "none", "guard_weight": plain.loss.guard_weight})
            assert guarded.loss.guard == "sft" and loss == plain.loss
            assert guarded.model_copy(update={"loss": plain.loss, "out": plain.out}) == plain
    assert configs["ours-one-draw"][0].noise_draws == 1 and configs["ours"][0].noise_draws == 2
    assert [plan.step(point) for point in plans.FRONT] == [4, 8, 16, 16]
    uneven = plans.Plan(tmp_path, "mannequin", plans.Sizes(steps=300))
    assert [uneven.step(point) for point in (*plans.FRONT, plans.LAST)] == [74, 148, 300, 300, 300]
    assert plan.name == "mannequin" and plans.Plan(tmp_path, "/base", plan.sizes).name == "mannequin=/base"


def test_the_base_in_the_repository_draws_hands_that_its_judge_judges(part_of: Any, tmp_path: Path) -> None:
    plans, pairs = part_of("plan"), part_of("pairs")
    reporting = pairs.Judge(PROGRAM / "base" / "judge.pt", PROGRAM / "base" / "judge.json")
    plan = plans.Plan(tmp_path, str(PROGRAM / "base" / "pipeline"), plans.Sizes(selection=2, prompts=2), reporting)
    made = hafbench.run(plan.tuning_spec(), out=tmp_path / "run")
    judged = made.records[made.records["scorer"] == "digits"]
    assert judged["status"].tolist() == ["scored"] * 2
    version = load_mannequin_card(reporting.card).version
    assert made.manifest.scorers["digits"].settings["card"]["version"] == version


def test_a_curve_is_read_at_an_error_rate(part_of: Any) -> None:
    front = part_of("front")
    # The base at .4, then less and less, and one point of much drift and more errors again.
    errors, drifts = np.array([0.4, 0.2, 0.3, 0.35]), np.array([0.0, 4.0, 2.0, 9.0])
    assert front.drift_at(errors, drifts, 0.35) == pytest.approx(1.0)
    assert front.drift_at(errors, drifts, 0.25) == pytest.approx(3.0)
    assert front.drift_at(errors, drifts, 0.4) == 0.0
    assert front.drift_at(errors, drifts, 0.1) == np.inf


def test_twice_the_drift_at_the_same_errors_is_a_ratio_of_two(part_of: Any) -> None:
    front, plans = part_of("front"), part_of("plan")
    keys = pd.MultiIndex.from_product([[f"p{number}" for number in range(40)], range(5)])
    dice = np.random.default_rng(0)

    def verdicts(rate: float) -> "pd.Series[float]":
        return pd.Series((dice.random(len(keys)) < rate).astype(float), keys)

    def drift(mean: float) -> "pd.Series[float]":
        return pd.Series(dice.gamma(4, mean / 4, len(keys)), keys)

    last, half = plans.LAST, plans.Point(0.5)
    low = verdicts(0.2)
    own = [front.Place(last, low, drift(2.0))]
    other = [front.Place(half, verdicts(0.5), drift(0.5)), front.Place(last, low, drift(1.0))]
    estimate, lower, upper = front.ratio(front.Curves(verdicts(0.6), {"own": own, "other": other}), "own", "other")
    assert lower < estimate < upper and estimate == pytest.approx(2.0, rel=0.15) and lower > 1.5


def test_labels_correct_a_ratio_of_rates(part_of: Any) -> None:
    tables = part_of("tables")
    keys = pd.MultiIndex.from_product([[f"p{number}" for number in range(60)], range(6)])
    dice = np.random.default_rng(1)
    truth = {name: pd.Series((dice.random(len(keys)) < rate).astype(float), keys) for name, rate in RATES.items()}
    # A judge that also flags a quarter of what is right.
    judge = {name: own.where(dice.random(len(keys)) > 0.25, 1.0) for name, own in truth.items()}
    labels = {name: own[own.index.get_level_values(1) < 3] for name, own in truth.items()}
    alone, _, _ = tables.ratio_of_rates(judge["base"], judge["own"])
    estimate, low, high = tables.ratio_of_rates(judge["base"], judge["own"], labels["base"], labels["own"])
    wanted = truth["own"].mean() / truth["base"].mean()
    assert alone > wanted + 0.1 and low < wanted < high and estimate == pytest.approx(wanted, abs=0.1)


RATES = {"base": 0.6, "own": 0.2}


def test_a_tint_is_an_error_only_to_the_strict(part_of: Any, tmp_path: Path) -> None:
    found, plans, tables = part_of("found"), part_of("plan"), part_of("tables")
    keys = pd.MultiIndex.from_product([[f"p{number}" for number in range(10)], [0]], names=["prompt_id", "seed"])
    verdicts = {name: pd.DataFrame({"error": [1.0] * 5 + [0.0] * 5}, keys) for name in ("base", "ours")}
    eye = pd.concat([keys.to_frame(index=False).assign(name=name) for name in verdicts], ignore_index=True)
    eye["bad"] = pd.Series(([True] * 5 + [False] * 5) + ([True] * 2 + [False] * 7 + [None]), dtype=object)
    eye["kind"] = [*["extra"] * 5, *[""] * 5, *["extra"] * 2, *["tint"] * 3, *[""] * 5]
    made = found.Found(
        plans.Plan(tmp_path, "mannequin", plans.Sizes()),
        None,
        {"ours": ()},
        verdicts,
        eye,
        part_of("kept").read_kept([], []),
    )
    assert made.by_eye["ours"].mean() == pytest.approx(2 / 9)
    assert made.strictly.by_eye["ours"].mean() == pytest.approx(5 / 9)
    assert made.strictly.by_eye["base"].mean() == 0.5
    assert row_of(tables.tints(made), "ours")[1:3] == ["3", "55.6 [26.7, 81.1] (9)"]


def test_what_several_reports_kept_is_told_together(part_of: Any, tmp_path: Path) -> None:
    for method, label in (("ours", "True"), ("asap", "False")):
        (tmp_path / method).mkdir()
        rows = [{"name": name, "point": "1x1", "prompt_id": "p", "seed": 0, "error": 1.0} for name in ("base", method)]
        pd.DataFrame(rows).to_csv(tmp_path / method / "pictures.csv.gz", index=False)
        said = [{**row, "number": 0, "bad": label, "kind": "", "second": "none"} for row in rows]
        pd.DataFrame(said).to_csv(tmp_path / method / "labels.csv", index=False)
    kept = part_of("kept").read_kept([tmp_path / "ours", tmp_path / "asap"], ["sft"])
    assert kept.names == ["ours", "asap"] and kept.at("asap")["error"].to_dict() == {("p", 0): 1.0}
    told = kept.labels.set_index("name")
    assert told["bad"].to_dict() == {"base": True, "ours": True, "asap": False}, "the base's first label counts"
    assert told["second"].to_dict() == {"base": False, "ours": "none", "asap": "none"}
    with pytest.raises(hafbench.errors.HafError, match="has the method ours"):
        part_of("kept").read_kept([tmp_path / "ours", tmp_path / "ours"], [])


def test_drift_counts_only_what_is_outside_the_boxes(part_of: Any) -> None:
    measures = part_of("measures")
    one = np.zeros((20, 20, 3), np.uint8)
    other = one.copy()
    other[5:10, 5:10] = 255
    assert measures.outside_difference(one, other, [(5.0, 5.0, 10.0, 10.0)]) == 0.0
    assert measures.outside_difference(one, other, []) == pytest.approx(25 / 400)
    assert np.isnan(measures.outside_difference(one, other, [(0.0, 0.0, 20.0, 20.0)]))


@pytest.mark.slow
def test_own_losers_are_the_base_within_m_and_wrong_to_the_tuning_judge(part_of: Any) -> None:
    from asap_train.hap import from_row

    pairs = part_of("pairs")
    own = pairs.Own("mannequin", pairs.Judge())
    items = list(pairs.seeds(0))[:4]
    results = own.process_all(items)
    again = pairs.Own("mannequin", pairs.Judge()).process_all(items)
    assert results == again and [result.item for result in results] == items
    rows = [row for result in results for row in result.rows]
    assert rows and len(rows) + sum(len(result.rejections) for result in results) == 4
    for row in rows:
        pair = from_row(row)
        assert (pair.winner == pair.loser)[~pair.mask].all()
        said = [pairs.verdict(own.score(pixels)) for pixels in (pair.winner, pair.loser)]
        assert said == ["right", "wrong"]
