"""Which checkpoint is chosen, on which prompts it is reported, and what a fit's folder says of it."""

import json
import random
import shutil
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from asap_train import autoscore
from asap_train.autoscore import Autoscore, publish, scored_runs, settle, tuned, weights_of
from asap_train.choose import Split, choose, figures_of, held_out, judge, points_of
from asap_train.reporting.fit_page import strips
from asap_train.training.config import FitConfig, ScoreSettings
from hafbench.comparison import compare_runs
from hafbench.errors import HafError
from hafbench.progress import Progress
from hafbench.runs import Run, read_run
from hafbench.specs import GeneratorSpec, RunSpec
from hafbench.suites import Prompt, load_suite
from hafbench.types import Score
from small import Painted, coloured_run

SPLIT, SETTINGS = Split(), ScoreSettings()
PROMPTS = [f"p{number}" for number in range(44)]
CHOOSE = [name for name in PROMPTS if SPLIT.part_of(name) == "selection"]
REPORT = [name for name in PROMPTS if SPLIT.part_of(name) == "held-out"]


class Sharpness:
    """A quality score read from the picture's blue; the larger the better."""

    name, version, role, higher_is_better, about = "iqa", "1", "quality", True, "blue"

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.settings = shift, dict[str, float]()

    def score(self, image: np.ndarray, prompt: Prompt) -> Score:
        rng = random.Random(prompt.id)  # prompts differ, so that there is a spread to measure a fall by
        return Score("scored", rng.gauss(0, 1) - self.shift)


@cache
def made(selection: int, held_out: int, worse: float) -> Path:
    """A run folder with an image a prompt, of which so many of each part are in error."""
    folder = Path(tempfile.mkdtemp()) / "run"
    bad = {*CHOOSE[:selection], *REPORT[:held_out]}
    scorers = {"hands": Painted(), "iqa": Sharpness(worse)}
    return coloured_run(folder, {name: "e" if name in bad else "s" for name in PROMPTS}, scorers=scorers).folder


def run_of(folder: Path, errors: dict[str, int], worse: float = 0.0) -> Run:
    """A run in `folder`; `errors` is by part how many of its prompts are in error."""
    shutil.copytree(made(errors["selection"], errors["held-out"], worse), folder)
    return read_run(folder)


def both(selection: int, held: int) -> dict[str, int]:
    return {"selection": selection, "held-out": held}


@given(st.lists(st.text(min_size=1, max_size=8), unique=True), st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_prompt_stays_on_its_side_whatever_the_others_are(names: list[str], share: float, seed: int) -> None:
    split = Split(share, seed)
    alone = {name: Split(share, seed).part_of(name) for name in names}
    assert alone == {name: split.part_of(name) for name in reversed(names)}
    grown = Split(min(0.99, share + 0.04), seed)
    assert all(grown.part_of(name) == "selection" for name, part in alone.items() if part == "selection")


def test_about_the_share_of_a_suite_is_for_selection_and_seeds_differ() -> None:
    ids = [prompt.id for prompt in load_suite("haf-500").prompts]
    for share in (0.3, 0.5):
        chosen = [name for name in ids if Split(share).part_of(name) == "selection"]
        assert abs(len(chosen) / len(ids) - share) < 0.06
    assert [Split(0.5, 0).part_of(name) for name in ids] != [Split(0.5, 1).part_of(name) for name in ids]


def test_too_few_prompts_on_a_side_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(HafError, match=r"Of 3 prompts . would be"):
        Split().check(["a", "b", "c"])
    with pytest.raises(HafError, match="would be held-out"):
        scoring(FitConfig.of("mannequin", "hap", "fit", score={"limit": 20, "selection": 0.999})).prepare()


def test_the_best_is_chosen_on_selection_prompts_and_reported_on_the_others(tmp_path: Path) -> None:
    # Step 100 is best where it is chosen, and step 200 where it is reported.
    base = run_of(tmp_path / "base", both(20, 20))
    runs = {100: run_of(tmp_path / "100", both(5, 19)), 200: run_of(tmp_path / "200", both(12, 2))}
    choice = choose(base, runs, SPLIT)
    assert (choice.step, choice.better, choice.kept) == (100, True, True)
    first = figures_of(held_out(base, runs[100], SPLIT))[0]
    assert (first.base, first.checkpoint) == (20 / len(REPORT), 19 / len(REPORT))
    assert first.verdict == "not shown"
    assert (first.win, first.lose) == (1, 0)


def test_a_choice_among_checkpoints_no_better_than_the_base_says_so(tmp_path: Path) -> None:
    base = run_of(tmp_path / "base", both(10, 10))
    runs = {100: run_of(tmp_path / "100", both(12, 10)), 200: run_of(tmp_path / "200", both(11, 10))}
    choice = choose(base, runs, SPLIT)
    assert (choice.step, choice.better) == (200, False)
    assert "not shown to be better than the base" in choice.why


def test_a_checkpoint_that_lost_quality_comes_after_those_that_kept_it(tmp_path: Path) -> None:
    base = run_of(tmp_path / "base", both(20, 20))
    runs = {
        100: run_of(tmp_path / "100", both(15, 20), worse=0.1),
        200: run_of(tmp_path / "200", both(2, 20), worse=0.5),  # more than 0.2 standard deviations
    }
    assert choose(base, runs, SPLIT).step == 100
    alone = choose(base, {200: runs[200]}, SPLIT)
    assert (alone.step, alone.kept) == (200, False)
    assert "quality fell" in alone.why


def test_of_equal_rates_the_better_quality_wins_and_then_the_earlier_step(tmp_path: Path) -> None:
    base = run_of(tmp_path / "base", both(20, 20))
    runs = {
        100: run_of(tmp_path / "100", both(9, 20), worse=0.1),
        200: run_of(tmp_path / "200", both(9, 20), worse=0.05),
        300: run_of(tmp_path / "300", both(9, 20), worse=0.05),
    }
    assert choose(base, runs, SPLIT).step == 200


def test_points_are_hafbenchs_own_figures_of_each_part(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", both(7, 11))
    found = {(point.part, point.metric): point for point in points_of(50, run, SPLIT)}
    assert found["selection", "hands"].estimate == 7 / len(CHOOSE)
    assert found["held-out", "hands"].estimate == 11 / len(REPORT)
    assert found["held-out", "hands"].judged == len(REPORT)
    assert {point.step for point in found.values()} == {50}


def fit_folder(tmp_path: Path, errors: dict[int, dict[str, int]]) -> FitConfig:
    """A fit whose checkpoints have been scored: nothing but runs, and weights that tell their step."""
    suite = tmp_path / "own.jsonl"
    suite.touch()
    score = {"every": 100, "suite": str(suite)}
    config = FitConfig.of("mannequin", tmp_path / "hap", tmp_path / "fits" / "a", max_train_steps=300, score=score)
    run_of(config.out / "scores" / "base", both(20, 20))
    for step, counts in errors.items():
        run_of(config.out / "scores" / f"{step:06d}", counts)
        checkpoint(config.out, step)
    return config


def scoring(config: FitConfig) -> Autoscore:
    assert config.score is not None
    return Autoscore(config, config.score)


def model_of(model: str, folder: Path) -> str:
    return tuned(RunSpec(model=GeneratorSpec(model=model)), folder).model.model


def checkpoint(fit: Path, step: int) -> Path:
    folder = fit / "checkpoints" / f"{step:06d}"
    folder.mkdir(parents=True)
    save_file({"step": torch.tensor([step])}, folder / "pytorch_lora_weights.safetensors")
    return folder


def test_a_fits_folder_says_what_was_chosen_and_holds_its_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    config = fit_folder(tmp_path, {100: both(5, 8), 200: both(12, 2)})
    scores = settle(config, SETTINGS)
    written = json.loads((config.out / "scores.json").read_text())
    assert written == json.loads(json.dumps(asdict(scores)))
    assert written["choice"]["step"] == 100
    assert written["reported"][0]["checkpoint"] == 8 / len(REPORT)
    assert load_file(config.out / "pytorch_lora_weights.safetensors")["step"].item() == 100
    assert (config.out / written["base"] / "records.parquet").is_file()
    # Old checkpoints are deleted as new ones come: the weights of the best stay.
    shutil.rmtree(config.out / "checkpoints" / "000100")
    settle(config, SETTINGS)
    assert load_file(config.out / "pytorch_lora_weights.safetensors")["step"].item() == 100
    run_of(config.out / "scores" / "000300", both(1, 3))
    checkpoint(config.out, 300)
    assert settle(config, SETTINGS).choice.step == 300
    assert load_file(config.out / "pytorch_lora_weights.safetensors")["step"].item() == 300
    # Whoever takes that run away would have the first one chosen, whose weights are gone.
    shutil.rmtree(config.out / "scores" / "000300")
    with pytest.raises(HafError, match=r"step 100 would be chosen now, .* of step 300"):
        settle(config, SETTINGS)
    assert json.loads((config.out / "scores.json").read_text())["choice"]["step"] == 300


def test_the_page_and_the_card_give_the_held_out_figures_and_no_others(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    config = fit_folder(tmp_path, {100: both(5, 8), 200: both(12, 2)})
    settle(config, SETTINGS)
    page, card = ((config.out / name).read_text() for name in ("index.html", "README.md"))
    reported, chosen_by = f"{100 * 8 / len(REPORT):.1f} %", f"{100 * 5 / len(CHOOSE):.1f} %"
    assert f"{100 * 20 / len(REPORT):.1f} % → {reported}" in page
    assert "step 100 is better than the base" in card
    table = next(line for line in card.splitlines() if line.startswith("| hands"))
    assert reported in table
    assert chosen_by not in table
    data = ModelCard(card).data
    assert (data.library_name, data.license, data.datasets) == ("diffusers", "apache-2.0", ["hap"])
    assert data.eval_results[0].metric_value == round(8 / len(REPORT), 4)
    assert str(tmp_path) not in card
    assert str(tmp_path) not in page


def test_names_and_prompts_of_a_fit_cannot_break_out_of_its_page(tmp_path: Path) -> None:
    config = fit_folder(tmp_path, {100: both(5, 8)})
    evil = "<script>alert(1)</script>"
    config = config.model_copy(update={"pairs": Path(evil), "objective": evil})
    base = read_run(config.out / "scores" / "base")
    manifest = base.manifest.model_copy(update={"notes": (evil,)})
    base = replace(base, manifest=manifest, records=base.records.assign(prompt=evil))
    runs = {100: replace(run_of(tmp_path / "other", both(5, 8)))}
    runs[100] = replace(runs[100], records=runs[100].records.assign(prompt=evil))
    from asap_train.reporting.fit_page import build_page

    scores, versus = judge(config.model, config.out, base, runs, SPLIT)
    text = build_page(config, scores, base, runs, versus).read_text()
    assert evil not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text


def test_the_strip_shows_held_out_prompts_with_the_best_step_among_many(tmp_path: Path) -> None:
    config = fit_folder(tmp_path, {300: both(19, 20)})
    scores, base = settle(config, SETTINGS), read_run(config.out / "scores" / "base")
    steps = range(100, 1100, 100)
    points = [replace(point, step=step) for step in steps for point in scores.points if point.step == 300]
    scores = replace(scores, points=(*scores.points, *points))
    runs = dict.fromkeys(steps, base)
    shown_strips = strips(scores, scores.split.narrow(base, "held-out"), runs)
    assert {strip.prompt.removeprefix("a hand ") for strip in shown_strips} <= set(REPORT)
    assert len({strip.prompt for strip in shown_strips}) == 6
    shown = [cell.step for cell in shown_strips[0].cells]
    assert (shown[0], shown[-1]) == (0, 1000)
    assert 300 in shown
    assert len(shown) <= 7


@pytest.mark.slow
def test_a_fit_stops_after_so_many_scorings_without_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fit_folder(tmp_path, {})
    changed = {"max_train_steps": 1000, "score": {"every": 100, "early_stop": 2}}
    score_next = scoring(FitConfig.of("mannequin", config.pairs, config.out, **changed))
    errors = {100: 5, 150: 0, 200: 12, 300: 12, 400: 2}
    scored = []

    def run(spec: RunSpec, out: Path, progress: Progress, generator: Any) -> Run:
        scored.append(int(out.name))
        return run_of(out, both(errors[scored[-1]], 8))

    monkeypatch.setattr(autoscore, "run", run)
    stopped = [step for step in errors if score_next(checkpoint(config.out, step), step)]
    assert scored == [100, 200, 300, 400]  # 150 was not yet due
    assert stopped == [300]


def test_a_checkpoint_that_a_killed_fit_left_unscored_has_its_turn_before_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fit_folder(tmp_path, {100: both(5, 8), 200: both(6, 8)})
    manifest = config.out / "scores" / "000200" / "run.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**whole, "ended": None}))
    assert set(scored_runs(config.out)) == {100}, "a run that was killed before its last word is no scored one"
    scored = []

    def run(spec: RunSpec, out: Path, progress: Progress, generator: Any) -> Run:
        scored.append(int(out.name))
        manifest.write_text(json.dumps(whole))
        return read_run(out)

    monkeypatch.setattr(autoscore, "run", run)
    changed = {"max_train_steps": 1000, "score": {"every": 100}}
    assert not scoring(FitConfig.of("mannequin", config.pairs, config.out, **changed))(checkpoint(config.out, 250), 250)
    assert scored == [200]


def test_what_is_scored_is_a_lora_on_the_base_or_a_pipeline_sampled_as_the_base_is(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 100)
    file = folder / "pytorch_lora_weights.safetensors"
    spec = RunSpec(model=GeneratorSpec(model="sdxl", arguments={"num_inference_steps": 4}))
    assert tuned(spec, folder) == tuned(spec, file)
    assert tuned(spec, file).model.lora == (str(file),)
    assert tuned(spec, file).model.arguments == {"num_inference_steps": 4}
    whole = tmp_path / "checkpoints" / "000200" / "pipeline"
    whole.mkdir(parents=True)
    (whole / "model_index.json").write_text("{}")
    assert model_of("mannequin", whole.parent) == f"mannequin={whole}"
    assert model_of(f"mannequin={tmp_path}", whole) == f"mannequin={whole}"
    assert model_of("org/model", whole) == str(whole)
    with pytest.raises(HafError, match="is not a checkpoint"):
        weights_of(tmp_path)
    publish(tmp_path, 200)
    assert (tmp_path / "pipeline" / "model_index.json").is_file()


def test_no_prompt_that_chooses_is_among_those_reported(tmp_path: Path) -> None:
    base, other = run_of(tmp_path / "base", both(20, 20)), run_of(tmp_path / "100", both(5, 8))
    seen = [
        set(compare_runs([SPLIT.narrow(run, part) for run in (base, other)]).versus[0].tables["hands"]["prompt_a"])
        for part in ("selection", "held-out")
    ]
    assert seen[0].isdisjoint(seen[1])
    assert len(seen[0] | seen[1]) == len(PROMPTS)
