"""The two commands from outside: help at once, one sentence for every mistake, exit codes."""

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from commands import command
from small import painted

HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "PIL",
    "pydantic",
    "rich",
    "matplotlib",
    "diffusers",
    "transformers",
    "cv2",
    "jinja2",
    "scipy",
}


@pytest.mark.parametrize("module", ["hafbench.cli", "asap_train.cli"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (
        "import sys, json\n"
        f"import {module} as cli\n"
        "sys.argv = ['x', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = json.loads(process.stderr)
    assert "Usage" in process.stdout
    assert not HEAVY & {name.split(".")[0] for name in modules}
    assert len(modules) < 250


def test_cv2_comes_once() -> None:
    assert packages_distributions()["cv2"] == ["opencv-python-headless"]


@pytest.mark.parametrize("program", ["hafbench", "asap-train"])
def test_the_installed_programs_say_their_version_and_what_is_wrong(program: str) -> None:
    path = Path(sys.executable).with_name(program)
    process = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert process.stdout == f"{program} 0.1.0\n"
    wrong = subprocess.run([path, "schema", "nothing"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"{program}: There is no") and wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--model", "mannequinn"], "did you mean mannequin"),
        (["run", "--model", "flux-dve"], "flux-dev"),
        (["run", "--model", "flux-dev", "--suite", "haf-5000"], "There is no suite 'haf-5000': did you mean haf-500"),
        (["run", "--model", "flux-dev", "--scorers", "hand"], "There is no scorer 'hand': did you mean hands"),
        (["run", "--model", "flux-dev", "--require", "klip"], "There is no scorer 'klip': did you mean clip"),
        (["run", "--model", "flux-dev", "--set", "sedes=3"], "there is no setting 'sedes'; did you mean seeds"),
        (
            ["run", "--set", "num_inference_steps=3"],
            "is called model.arguments.num_inference_steps",
        ),
        (["run", "--pose", "x.pt"], "limbs is not among the scorers"),
        (["run", "--model", "sdxl", "--dtype", "int4"], "model.dtype: Input should be 'auto'"),
        (["run", "--config", "missing.yaml"], "missing.yaml cannot be read (No such file or directory)"),
        (["run", "--config", "ray.yaml", "--engine", "local"], "engine.address is for --engine ray"),
        (["calibrate", "labels", "--scorer", "hands,limbs"], "a card is of one scorer"),
        (["calibrate", "labels", "--scorer", "hands", "--run", "r", "--pose", "x.pt"], "--pose is of a scorer that"),
        (["calibrate", "labels", "--scorer", "hands", "--limit", "20"], "--limit is of a built-in world"),
        (["calibrate", "labels", "--scorer", "hands", "--seed", "2"], "--seed is of a built-in world"),
        (["compare", "a", "b", "--judge-samples", "3"], "--judge-samples says how pairs are judged"),
        (["score"], "Give a folder of images"),
        (["schema", "rum"], "did you mean run"),
        (["score", "no-such-folder"], "no-such-folder"),
        (["score", "."], "no image"),
        (["report", "."], "is not a run folder: it has no run.json"),
        (["scorers", "check", "."], "no image"),
        (["weights", "pull", "hand_landmark_ful.tflite"], "hand_landmark_full.tflite"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ray.yaml").write_text("engine: {engine: ray, address: 10.0.0.1:6379}\n")
    process = command(*words)
    assert process.returncode == 2, process.stderr
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert process.stdout == ""


def test_a_pipe_or_endless_nesting_in_place_of_settings_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    for words, sentence in [
        (["run", "--config", "pipe.yaml"], "pipe.yaml cannot be read (this is a pipe or a device, not a file)"),
        (["run", "--config", "deep.yaml"], "deep.yaml cannot be read as YAML"),
        (["run", "--suite", "/dev/zero.jsonl"], "the suite cannot be read"),
        (["score", "caf\udce9"], "is not UTF-8"),
        (["score", "line\nbreak\x1b[31m"], r"line\nbreak\x1b[31m is not a folder"),
    ]:
        process = command(*words)
        assert process.returncode == 2, process.stderr
        assert sentence in process.stderr
        assert len(process.stderr.strip().splitlines()) == 1


INTERRUPTED_AT_THE_FIRST_RECORD = """
import signal, sys
def listen(event, arguments):
    if event == "open" and str(arguments[0]).endswith("records.jsonl") and arguments[1] == "a":
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(listen)
from hafbench.cli import main
main()
"""


def test_ctrl_c_says_how_to_resume_and_a_log_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        painted("a", number).resize((64, 64)).save(tmp_path / "pictures" / f"{number}.png")
    words = ["score", "pictures", "--scorers", "iqa", "--out", "run"]
    stopped = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_THE_FIRST_RECORD, *words], capture_output=True, text=True
    )
    assert (stopped.returncode, stopped.stderr) == (
        130,
        "hafbench: stopped; run the same command again to resume.\n",
    )
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert again.stderr.splitlines()[-1].startswith("3/3 images")
    assert "\r" not in again.stderr


WARNS = """
import logging, warnings
from hafbench import api
describe = api.describe
def warn(scorers):
    warnings.warn("a library's warning")
    logging.getLogger("a.library").warning("a library's other warning")
    return describe(scorers)
api.describe = warn
from hafbench.cli import main
main()
"""


@pytest.mark.slow
def test_quiet_keeps_the_warnings_of_libraries_away(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    painted("a", 0).resize((64, 64)).save(tmp_path / "pictures" / "a.png")
    words = ["score", "pictures", "--scorers", "iqa", "--out"]
    for options, told in [(["one"], 2), (["two", "--quiet"], 0)]:
        process = subprocess.run(
            [sys.executable, "-c", WARNS, *words, *options], capture_output=True, text=True, cwd=tmp_path
        )
        assert process.returncode == 0, process.stderr
        assert process.stderr.count(": a library's") + process.stderr.count("\na library's") == told, process.stderr


@pytest.mark.parametrize("words", [["models"], ["suites"], ["scorers"], ["weights"], ["weights", "list"]])
def test_the_lists_print_tables_and_json(words: list[str]) -> None:
    table, data = command(*words), command(*words, "--json")
    assert (table.returncode, data.returncode) == (0, 0), table.stderr + data.stderr
    rows = json.loads(data.stdout)
    assert rows
    first_column = next(iter(rows[0]))
    assert all(str(row[first_column]) in table.stdout for row in rows)
