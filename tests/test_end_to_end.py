"""The command as a user gives it: real detectors on real pictures, a real pipeline, its files and its exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from commands import command
from hafbench import weights
from hafbench.runs import read_run
from tiny_pipelines import build_sdxl

EXAMPLES = Path(__file__).parents[1] / "examples"
HAFBENCH = Path(sys.executable).with_name("hafbench")
MISSING = [name for name in weights.WEIGHTS if weights.find(name) is None]
needs_weights = pytest.mark.skipif(bool(MISSING), reason=f"run `hafbench weights pull` first: {', '.join(MISSING)}")


@needs_weights
def test_a_folder_of_pictures_is_scored_and_everything_is_written(tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    for name in ("open-palm", "boardwalk", "thumbs-up"):
        shutil.copy(EXAMPLES / "people" / f"{name}.jpg", pictures)
    words = ("score", pictures, "--prompts", EXAMPLES / "people.jsonl", "--scorers", "hands,limbs,iqa", "--out", out)
    process = subprocess.run([HAFBENCH, *words, "--json"], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert [entry["scorer"] for entry in summary["scorers"]] == ["hands", "limbs", "iqa"]
    assert summary["counts"]["images"] == 3

    run = read_run(out)
    hands = run.records[run.records["scorer"] == "hands"]
    assert hands["status"].eq("scored").all()
    assert hands["value"].between(0, 1).all()
    assert run.records["prompt_id"].tolist() == [n for n in ("boardwalk", "open-palm", "thumbs-up") for _ in range(3)]
    assert run.manifest.scorers["hands"].weights.keys() - weights.WEIGHTS.keys() == {"hands.safetensors"}
    assert run.manifest.ended is not None
    for name in ("records.jsonl", "records.csv", "report/index.html", "report/report.md", "report/summary.json"):
        assert (out / name).stat().st_size > 100

    page = out / "report" / "index.html"
    before = page.read_text()
    page.unlink()
    again = command("report", out, "--json")
    assert json.loads(again.stdout) == {"report": str(page)}
    assert page.read_text() == before


@needs_weights
def test_the_same_pictures_in_another_run_have_the_same_scores(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("peace-sign", "hair"):
        shutil.copy(EXAMPLES / "people" / f"{name}.jpg", pictures)
    for out in ("one", "two"):
        assert command("score", pictures, "--scorers", "hands,limbs", "--out", tmp_path / out, "-q").returncode == 0
    pd.testing.assert_frame_equal(read_run(tmp_path / "one").records, read_run(tmp_path / "two").records)


def test_a_broken_picture_is_recorded_and_the_exit_code_says_so(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(EXAMPLES / "people" / "hair.jpg", pictures)
    whole = (pictures / "hair.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (pictures / "empty.png").touch()
    process = command("score", pictures, "--scorers", "iqa", "--out", tmp_path / "out")
    assert process.returncode == 3
    assert "Traceback" not in process.stderr
    status = read_run(tmp_path / "out").records.set_index("image")["status"]
    assert status.to_dict() == {"cut.jpg": "failed", "empty.png": "failed", "hair.jpg": "scored"}


def test_a_run_inside_the_folder_of_images_does_not_score_its_own_report(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "people" / "hair.jpg", tmp_path)
    for _ in range(2):
        assert command("score", tmp_path, "--scorers", "iqa", "--out", tmp_path / "out", "-q").returncode == 0
    assert read_run(tmp_path / "out").records["image"].tolist() == ["hair.jpg"]
    itself = command("score", tmp_path, "--scorers", "iqa", "--out", tmp_path)
    assert (itself.returncode, "is the folder of images itself" in itself.stderr) == (2, True)


def test_a_scorer_without_weights_is_unscored_or_required(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(EXAMPLES / "people" / "hair.jpg", pictures)
    words = ("score", pictures, "--scorers", "clip,iqa", "--out")
    process = command(*words, tmp_path / "out")
    assert process.returncode == 3
    rows = read_run(tmp_path / "out").records.set_index("scorer")
    assert rows["status"].to_dict() == {"clip": "unscored", "iqa": "scored"}
    required = command(*words, tmp_path / "other", "--require", "clip")
    assert required.returncode == 2
    assert "hafbench: The scorer 'clip' is required, but: " in required.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_tiny_sdxl_runs_a_suite_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model = build_sdxl(tmp_path / "sdxl")
    small = [
        word
        for one in ("num_inference_steps=1", "height=32", "width=32")
        for word in ("--set", f"model.arguments.{one}")
    ]
    words = ("run", "--model", model, "--suite", "haf-50", "--limit", 5, "--scorers", "iqa", *small)
    process = command(*words, "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    run = read_run(tmp_path / "out")
    assert run.records["category"].nunique() == 5
    assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 5
    assert run.manifest.generator is not None
    assert run.manifest.generator.settings["pipeline"] == "StableDiffusionXLPipeline"

    other = command(*words, "--seeds", 2, "--out", tmp_path / "out")
    assert other.returncode == 2
    assert "seeds: 1 -> 2" in other.stderr
    refused = command(*words, "--out", tmp_path / "out", "--no-resume")
    assert refused.returncode == 2
    assert "holds a run already" in refused.stderr
