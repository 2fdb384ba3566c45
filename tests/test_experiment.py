"""The controlled experiment's program on renders whose truth is known: its sheets, and its tables."""

import csv
import json
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest
from PIL import Image

import hafbench
from asap_train.choose import Split
from hafbench.mannequin.picture import make_pair
from hafbench.specs import ScoreSpec
from hafbench.suites import load_suite

PROGRAM = Path(__file__).parents[1] / "research" / "experiment"
SEEDS, PROMPTS = 2, 3
NAMES = ("base", "sft-0", "asap-0")


def call(what: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), what, "--out", str(out), "--seeds", "1", "--methods", "sft,asap", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tune` and `make` leave, of renders: the base and SFT draw extra digits, ASAP draws none."""
    out = tmp_path_factory.mktemp("experiment")
    prompts = [p for p in load_suite("mannequin").prompts if Split().part_of(p.id) == "held-out"][:PROMPTS]
    suite = out / "held-out.jsonl"
    suite.write_text("".join(prompt.model_dump_json(exclude_defaults=True) + "\n" for prompt in prompts))
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
                "scorers": {"digits": {}, "limb_count": {}, "clip": {"model": "mannequin"}},
                "device": "cpu",
            }
        )
        hafbench.score(spec, out=out / "runs" / name)
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


def test_labels_on_hidden_sheets_become_the_rates_that_they_say(made: Path) -> None:
    sheets = call("sheets", made, "--labelled", str(SEEDS))
    assert sheets.returncode == 0, sheets.stderr
    folder = made / "labels"
    key = list(csv.DictReader((folder / "key.csv").open()))
    assert len(key) == len(NAMES) * PROMPTS * SEEDS
    order = [line["name"] for line in key]
    assert order != sorted(order) and set(order) == {"base", "sft", "asap"}

    def label(line: dict[str, str]) -> str:
        return "good" if line["name"] == "asap" else "bad"

    lines = [f"{line['number']},{label(line)}" for line in key]
    (folder / "labels-one.csv").write_text("number,label\n" + "\n".join(lines) + "\n")
    (folder / "labels-two.csv").write_text("number,label\n" + "\n".join(lines[:6]) + "\n")
    found = call("report", made, "--docs", str(made / "docs"))
    assert found.returncode == 0, found.stderr
    base, asap, sft = (row_of(found.stdout, name) for name in ("base", "asap", "sft"))
    assert base[1].startswith("100.0 [") and base[1].endswith("(6)") and base[5].startswith("100.0 [")
    assert asap[1].startswith("0.0 [") and asap[2].startswith("-100.0") and asap[6].startswith("-100.0")
    assert sft[2].startswith("+0.0") and sft[9].startswith("1.00 [0.44, ")
    assert "of 6 clear both times 100.0 % agree (kappa" in found.stdout
    # SFT draws the base's very pictures.
    assert row_of(found.stdout[found.stdout.index("## The rest") :], "sft")[4:6] == ["0.0000", "1.000"]
    assert {path.name for path in (made / "docs").iterdir()} == {"forest.png", "curves.png", "grid.png", "labels.csv"}


def test_a_label_that_is_none_is_told_with_its_line(made: Path, tmp_path: Path) -> None:
    wrong = made / "labels" / "labels-wrong.csv"
    wrong.write_text("number,label\n0,perhaps\n")
    found = call("report", made)
    wrong.unlink()
    assert found.returncode == 1 and "labels-wrong.csv, line 2" in found.stderr and "Traceback" not in found.stderr


def test_without_runs_there_is_no_report(tmp_path: Path) -> None:
    found = call("report", tmp_path)
    assert found.returncode == 1 and "give `make` first" in found.stderr and "Traceback" not in found.stderr
