"""`asap-train fit` and `score` from end to end on the built-in world, and what they say to a mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from asap_train import score_fit
from asap_train.choose import Choice, Figure, Scores, Split
from asap_train.cli import app
from asap_train.cli.fit import _print_scores
from asap_train.training.fit_folder import read_fit
from hafbench.errors import HafError
from hafbench.images import sha256_of
from hafbench.runs import read_run
from test_synth import mannequins

SCORED = (
    "score.limit=6",
    "score.seeds=1",
    "score.every=2",
    "checkpointing_steps=2",
    "train_batch_size=2",
    "score.scorers=[digits,iqa]",
    "score.model.arguments.num_inference_steps=4",
)


def run(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_narrow_terminal_cuts_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    small = (0.000123, 0.000183, 5.96e-05, -0.00023, 0.000243, 1.0)
    figures = (Figure("iqa", "quality", *small, "not shown"), Figure("clip", "quality", *small, "identical"))
    choice = Choice(2, better=False, kept=True, why="because")
    _print_scores(Scores("mannequin", "mannequin", 1, Split(), "scores/base", (), choice, 9, 9, figures))
    table = capsys.readouterr().out.partition("held-out prompts")[2]
    assert "…" not in table
    assert [line.rstrip().endswith(("not shown", "identical")) for line in table.splitlines()].count(True) == 2


def fit(pairs: Path, out: Path, *words: Any) -> Result:
    return run("fit", "--model", "mannequin", "--pairs", pairs, "--out", out, *words)


def settings(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "hap"
    mannequins(folder, 8)
    return folder


@pytest.fixture(scope="module")
def tuned(pairs: Path) -> tuple[Path, dict[str, Any]]:
    torch.set_num_threads(1)
    out = pairs.parent / "fits" / "a"
    made = run(
        "fit", "--model", "mannequin", "--pairs", pairs, "--out", out, "--steps", 3, *settings(*SCORED), "--json"
    )
    assert made.exit_code == 0, made.output
    return out, json.loads(made.stdout)


def test_a_fit_ends_with_scores_page_card_and_a_lora_that_loads(tuned: tuple[Path, dict[str, Any]]) -> None:
    from hafbench.generators import load_generator
    from hafbench.specs import GeneratorSpec

    out, said = tuned
    assert {point["step"] for point in said["points"]} == {0, 2, 3}
    assert said["choice"]["step"] in (2, 3)
    assert said["prompts"] == len(held_out(out))
    assert Path(said["page"]).is_file()
    assert "held-out prompts" in (out / "README.md").read_text()
    base, last = (read_run(out / "scores" / name).records for name in ("base", "000003"))
    assert (base["sha256"] != last["sha256"]).any()
    assert (base[["image", "scorer"]] == last[["image", "scorer"]]).all(axis=None)
    made = load_generator(GeneratorSpec(model="mannequin", lora=(str(out),)))
    assert made.settings["loras"][0]["file"] == "pytorch_lora_weights.safetensors"


def test_a_fit_writes_its_lora_for_comfyui_and_the_command_does_so_of_a_checkpoint(
    tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tuned[0]
    checkpoint = out / "checkpoints" / "000003"
    made = run("export-lora", checkpoint, "--out", tmp_path / "mine.safetensors")
    assert made.exit_code == 0, made.output
    state = load_file(tmp_path / "mine.safetensors")
    assert all(key.startswith("lora_unet_joint_blocks_") for key in state)
    step = tuned[1]["choice"]["step"]
    run("export-lora", out / "checkpoints" / f"{step:06d}", "--out", tmp_path / "best.safetensors")
    assert sha256_of(tmp_path / "best.safetensors") == sha256_of(out / "kohya_lora_weights.safetensors")
    for wrong, said in ((tmp_path / "mine.safetensors", "does not say which network"), (tmp_path, "not a checkpoint")):
        with pytest.raises(HafError, match=said):
            run("export-lora", wrong)


def test_the_page_says_how_the_margin_came_about_and_shows_the_validation_images(
    tuned: tuple[Path, dict[str, Any]],
) -> None:
    page = (tuned[0] / "index.html").read_text()
    for said in ("mean gap δ", "winner&#39;s advantage", "error of δ by rounding", "gradient clipped", "most noise"):
        assert said in page, said
    assert page.count('alt="step 3"') >= 1
    assert "guard sft of weight 0.5" in page


def held_out(out: Path) -> set[str]:
    from asap_train.choose import Split

    return set(Split().narrow(read_run(out / "scores" / "base"), "held-out").records["prompt_id"])


def test_the_same_command_again_trains_and_scores_nothing(tuned: tuple[Path, dict[str, Any]], pairs: Path) -> None:
    out, said = tuned
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors") if path.parent != out}
    before |= {path: path.stat().st_mtime_ns for path in out.rglob("records.parquet")}
    again = run(
        "fit", "--model", "mannequin", "--pairs", pairs, "--out", out, "--steps", 3, *settings(*SCORED), "--json"
    )
    assert json.loads(again.stdout) == said
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_a_fit_without_scores_can_be_scored_afterwards_with_the_base_that_is_there(
    tuned: tuple[Path, dict[str, Any]], pairs: Path
) -> None:
    out = tuned[0].with_name("b")
    small = settings("checkpointing_steps=2", "train_batch_size=2", "validation=null")
    asked = ("--steps", 3, "--no-score", *small)
    made = fit(pairs, out, *asked)
    assert "not scored" in made.stdout
    assert "Nothing: this fit was not scored" in (out / "README.md").read_text()
    page = (out / "index.html").read_text()
    assert "Not scored" in page
    assert "mean gap δ" in page
    assert (out / "pytorch_lora_weights.safetensors").is_file()
    # Scoring takes nothing from training: the weights are those of the fit that was scored as it went.
    last = "checkpoints/000003/pytorch_lora_weights.safetensors"
    assert sha256_of(out / last) == sha256_of(tuned[0] / last)
    base = next((out.parent / ".base").iterdir())
    when = (base / "records.parquet").stat().st_mtime_ns
    same = settings("model.arguments.num_inference_steps=4")
    scored = run("score", out, "--limit", 6, "--seeds", 1, "--scorers", "digits,iqa", *same, "--json")
    assert {point["step"] for point in json.loads(scored.stdout)["points"]} == {0, 2, 3}
    assert (base / "records.parquet").stat().st_mtime_ns == when
    assert len(list((out.parent / ".base").iterdir())) == 1
    kept = ("README.md", "index.html", "scores.json", "published.json", "pytorch_lora_weights.safetensors")
    before = {name: (out / name).read_bytes() for name in kept}
    assert b"Nothing: this fit" not in before["README.md"]
    assert not json.loads(fit(pairs, out, *asked, "--json").stdout).get("points")
    assert {name: (out / name).read_bytes() for name in kept} == before, "the same command again"


def test_scores_of_other_settings_are_refused_before_anything_is_drawn(tuned: tuple[Path, dict[str, Any]]) -> None:
    out = tuned[0]
    before = sorted((out.parent / ".base").rglob("*.png"))
    with pytest.raises(HafError, match=r"was scored with other settings \(seeds: 1 -> 2\)"):
        run("score", out, "--seeds", 2)
    # A fit without settings of its scores is scored as it was tuned.
    config = read_fit(out, ["score=null", "mixed_precision=bf16", "max_sequence_length=48"])
    with pytest.raises(HafError, match=r"max_sequence_length: null -> 48.*dtype: \"fp32\" -> \"bf16\""):
        score_fit(config)
    assert sorted((out.parent / ".base").rglob("*.png")) == before


def test_a_checkpoint_is_scored_by_hand_against_its_base(tuned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    checkpoint = tuned[0] / "checkpoints" / "000003"
    few = settings("model.arguments.num_inference_steps=4")
    scored = run("score", checkpoint, "--out", tmp_path / "by_hand" / "one", "--limit", 2, *few, "--json")
    found = json.loads(scored.stdout)
    assert found["candidates"][0]["shared"]["pairs"] == 2
    assert Path(found["page"]).is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fit", "--model", "mannequin"), "--pairs HAP"),
        (("fit", "--model", "mannequin", "--pairs", "nowhere", "--out", "x"), "nowhere"),
        (("fit", "--model", "manekin", "--pairs", "{pairs}", "--out", "x"), "no model 'manekin'"),
        (("fit", "--model", "mannequin", "--pairs", "{pairs}", "--out", "x", "--set", "stepz=1"), "no setting 'stepz'"),
        (("fit", "--model", "mannequin", "--pairs", "{pairs}", "--out", "x", "--objective", "dop"), "did you mean"),
        (
            ("fit", "--model", "mannequin", "--pairs", "{pairs}", "--out", "x", "--set", "score.suite=haf"),
            "no suite 'haf'",
        ),
        (
            ("fit", "--model", "mannequin", "--pairs", "{pairs}", "--out", "x", "--set", "score.limit=2"),
            "score more prompts",
        ),
        (("score", "nothing.safetensors", "--model", "mannequin"), "is not a checkpoint"),
        (("score", "{pairs}"), "--model MODEL"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_before_anything_is_trained(
    words: tuple[str, ...], said: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HafError, match=said) as error:
        run(*(word.replace("{pairs}", str(pairs)) for word in words))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.parquet"))
