"""A small campaign of hostile inputs, of what is mended; the whole one is `python -m benchmarks.hostile`."""

from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random

import pytest

from benchmarks.hostile import images, prompts
from benchmarks.hostile.campaign import Bases, cases, findings, run_all, table
from benchmarks.hostile.cases import Case, Result, judge, run_case, server
from benchmarks.hostile.kills import jobs, killed
from benchmarks.hostile.mutate import damaged, damaged_json, places

NOWHERE = Bases(Path("-"), Path("-"))
INPUTS = 4


@pytest.fixture(scope="module")
def context() -> Iterator[ForkServerContext]:
    with server() as made:
        yield made


@pytest.mark.parametrize("area", ["images", "prompt files"])
def test_damaged_inputs_are_refused_in_a_sentence_or_read_right(
    tmp_path: Path, context: ForkServerContext, area: str
) -> None:
    found = cases([area], NOWHERE, INPUTS, seed=7, special=False)
    results = list(run_all(found, tmp_path / "inputs", context, workers=2))
    assert len(results) == INPUTS
    assert findings(results) == []
    assert f"| {area} | {INPUTS} |" in table(results)


def test_a_traceback_a_hang_and_a_false_answer_are_findings_and_kept(
    tmp_path: Path, context: ForkServerContext
) -> None:
    def fill(folder: Path) -> None:
        (folder / "hap.json").write_text("{")

    refused = Case("x", "broken", "asap-train", ("validate", "."), fill, "refuse")
    false = Case("x", "refused though sound", "asap-train", ("validate", "."), fill, "accept")
    slow = Case("x", "slow", "hafbench", ("suites",), lambda folder: None)
    results = [run_case(case, tmp_path / str(number), context) for number, case in enumerate((refused, false))]
    results.append(run_case(slow, tmp_path / "2", context, limit_s=0.0))
    assert [result.outcome for result in results] == ["refused", "wrong", "hang"]
    assert not (tmp_path / "0").exists()
    assert "refused though sound" in (tmp_path / "1" / "case.txt").read_text()
    assert (tmp_path / "1" / "hap.json").read_text() == "{"
    assert len(findings(results)) == 2


def test_a_data_set_killed_at_random_lines_ends_as_one_left_alone(tmp_path: Path, context: ForkServerContext) -> None:
    synth = next(job for job in jobs(Path("-")) if job.name == "synth")
    small = replace(synth, words=(*synth.words, "--count", "12"))
    results = list(killed(small, tmp_path / "kills", 2, Random(1), context))
    assert findings(results) == []
    assert 1 <= len(results) <= 2


def test_another_result_than_that_of_a_command_left_alone_is_wrong(tmp_path: Path, context: ForkServerContext) -> None:
    synth = next(job for job in jobs(Path("-")) if job.name == "synth")
    clock = replace(synth, words=(*synth.words, "--count", "2"), fingerprint=lambda out: out.stat().st_mtime_ns)
    assert [result.outcome for result in killed(clock, tmp_path / "kills", 1, Random(1), context)][-1] == "wrong"


@pytest.mark.parametrize(
    ("printed", "exit_code", "outcome"),
    [
        ("Traceback (most recent call last):\nKeyError: 'x'", 1, "traceback"),
        ("", -11, "traceback"),
        ("hafbench: p.csv is empty; give one with rows.", 2, "refused"),
        ("\n", 2, "wrong"),
        ("done", 0, "accepted"),
    ],
)
def test_what_came_of_a_command_is_judged_by_its_words_and_exit_code(
    tmp_path: Path, printed: str, exit_code: int, outcome: str
) -> None:
    (tmp_path / "output.txt").write_text(printed)
    case = Case("x", "x", "hafbench", (), lambda folder: None)
    assert judge(case, tmp_path, exit_code, hangs=False)[0] == outcome


def test_a_seed_makes_the_same_inputs_again(tmp_path: Path) -> None:
    names = [[case.name for case in cases(["images", "prompt files"], NOWHERE, 40, seed)] for seed in (3, 3, 4)]
    assert len(names[0]) == 40
    assert names[0] == names[1] != names[2]
    assert damaged(b"x" * 100, Random(1)) == damaged(b"x" * 100, Random(1))


def test_every_place_of_a_json_value_is_damaged() -> None:
    value = {"a": [1, {"b": 2}], "c": None}
    assert places(value) == [("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]
    texts = {damaged_json(value, Random(seed))[1] for seed in range(300)}
    assert '{"a": [1, {"b": NaN}], "c": null}' in texts
    assert '{"a": [1, {}], "c": null}' in texts


def test_findings_that_are_alike_are_one_line() -> None:
    results = [Result("x", f"name {n}", "traceback", "KeyError: 'y'", Path("kept")) for n in range(3)]
    assert findings(results) == ["traceback, x, 3 x: name 0: KeyError: 'y' -> kept"]


def test_special_images_and_prompt_files_have_names_of_their_own() -> None:
    for special in (images.special, prompts.special):
        names = [case.name for case in special(Random(0))]
        assert len(set(names)) >= len(names) - 2
