"""What goes without saying: model, suite and scorers of a bare `hafbench run`, and what its report says first."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from hafbench import bench, worlds
from hafbench.bench import BenchOptions, run_model
from hafbench.cli import app
from hafbench.errors import HafError, Unavailable
from hafbench.generators import PRESETS, DiffusionRequest
from hafbench.generators.sources import find_source
from hafbench.mannequin.captions import draw
from hafbench.mannequin.picture import correct_picture
from hafbench.reports import build_report
from hafbench.runs import Run
from hafbench.scorers import SCORERS, ScorerOptions, load_scorer
from hafbench.suites import Prompt, suite_names
from hafbench.summary import print_summary, summarize
from hafbench.worlds import MANNEQUINS, PHOTOGRAPHS, notes, world_of
from tiny_pipelines import build_sd3

BUILT_IN_SCORERS = ("digits", "limbs", "clip", "iqa")
PHOTO_SCORERS = ("hands", "limbs", "clip", "iqa")


class Asked(Exception):
    """What the command line asked for, in place of doing it."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stop(*arguments: Any) -> Run:
        raise Asked(*arguments)

    monkeypatch.setattr(bench, "run_model", stop)
    monkeypatch.setattr(bench, "score_folder", stop)

    def ask(*words: str) -> tuple[Any, ...]:
        result = CliRunner().invoke(app, list(words))
        assert isinstance(result.exception, Asked), result.output
        return result.exception.args

    return ask


@pytest.mark.parametrize("words", [(), ("--model", "mannequin"), ("--model", "mannequin=some/folder")])
def test_a_bare_run_is_the_built_in_model_with_its_own_suite_and_scorers(asked: Any, words: tuple[str, ...]) -> None:
    request, suite, seeds, limit, options, *_ = asked("run", *words)
    assert request.model == (words[1] if words else "mannequin")
    assert (suite, seeds, limit) == ("mannequin", 1, None)
    assert options.scorers == BUILT_IN_SCORERS
    assert (options.scorer_options.clip, options.scorer_options.pose) == ("mannequin", "mannequin")
    assert options.batch_size == 10


def test_another_model_has_the_defaults_for_photographs(asked: Any) -> None:
    request, suite, _, _, options, *_ = asked("run", "--model", "sdxl")
    assert (request.model, suite) == ("sdxl", "haf-50")
    assert options == BenchOptions()
    assert options.scorers == PHOTO_SCORERS
    assert options.scorer_options == ScorerOptions(clip="ViT-B-32", pose="mediapipe")


def test_what_is_said_wins_over_the_defaults(asked: Any) -> None:
    words = ("--suite", "haf-500", "--scorers", "hands,limbs", "--pose", "mediapipe", "--clip", "ViT-L-14")
    _, suite, seeds, _, options, *_ = asked("run", *words, "--batch-size", "3", "--seeds", "2", "--require", "iqa")
    assert (suite, seeds, options.batch_size) == ("haf-500", 2, 3)
    assert options.scorers == ("hands", "limbs", "iqa")
    assert (options.scorer_options.clip, options.scorer_options.pose) == ("ViT-L-14", "mediapipe")


def test_a_folder_has_the_defaults_for_photographs_and_may_be_given_the_built_in_scorers(asked: Any) -> None:
    for words in (("run", "--images", "x"), ("score", "x")):
        *_, options, _ = asked(*words)
        assert options == BenchOptions()
    *_, options, _ = asked("score", "x", "--scorers", "digits,limbs", "--pose", "mannequin")
    assert (options.scorers, options.scorer_options.pose) == (("digits", "limbs"), "mannequin")


def test_every_default_exists() -> None:
    for world in (PHOTOGRAPHS, MANNEQUINS):
        assert world.suite in suite_names()
        assert set(world.scorers) <= set(SCORERS)


def test_the_preset_is_the_packages_folder_and_its_absence_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "__file__", str(tmp_path / "worlds.py"))
    with pytest.raises(Unavailable, match="built-in world's diffusion is not in this installation"):
        find_source("mannequin")
    with pytest.raises(Unavailable, match="built-in world's clip is not in this installation"):
        load_scorer("clip", ScorerOptions(clip="mannequin"))
    folder = tmp_path / "mannequin" / "weights" / "diffusion"
    folder.mkdir(parents=True)
    source = find_source("mannequin")
    assert (source.path, source.hub_id) == (folder, None)
    assert source.preset == PRESETS["mannequin"]
    assert source.preset.call() == {
        "num_inference_steps": source.preset.steps,
        "guidance_scale": source.preset.guidance,
        "height": 128,
        "width": 128,
        "max_sequence_length": 1,
    }


OWN = ScorerOptions(clip="mannequin", pose="mannequin")


@pytest.mark.parametrize(
    ("model", "suite", "scorers", "options", "words"),
    [
        ("mannequin", "mannequin", BUILT_IN_SCORERS, OWN, ["built-in world"]),
        ("mannequin", "haf-50", BUILT_IN_SCORERS, OWN, ["built-in world", "has learnt captions"]),
        (
            *("mannequin", "mannequin", ("digits", "hands", "clip"), ScorerOptions()),
            ["built-in world", "The scorers hands and clip know only photographs"],
        ),
        (
            "mannequin=x",
            "mannequin",
            ("limbs",),
            ScorerOptions(),
            ["built-in world", "The scorer limbs knows only pho"],
        ),
        ("mannequin", "mannequin", ("clip", "limbs"), ScorerOptions(clip=__file__, pose=__file__), ["built-in world"]),
        ("sdxl", "haf-50", PHOTO_SCORERS, ScorerOptions(), []),
        ("sdxl", "mannequin", ("hands", "iqa"), OWN, []),
        ("sdxl", "haf-50", BUILT_IN_SCORERS, OWN, ["The scorers digits, limbs and clip know only the built-in"]),
    ],
)
def test_who_judges_a_world_that_is_not_theirs_is_said(
    model: str, suite: str, scorers: tuple[str, ...], options: ScorerOptions, words: list[str]
) -> None:
    said = notes(model, suite, scorers, options)
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


def test_the_world_is_told_by_the_name() -> None:
    assert world_of("mannequin") is world_of("mannequin=x") is MANNEQUINS
    assert world_of("sdxl") is world_of("org/mannequin") is PHOTOGRAPHS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Twelve pictures of a pipeline of random weights that stands for the built-in model."""
    folder = tmp_path_factory.mktemp("world")
    model = build_sd3(folder / "sd3")
    options = BenchOptions(("iqa",), scorer_options=OWN, out=folder / "run", batch_size=10)
    request = DiffusionRequest(
        f"mannequin={model}", arguments=("num_inference_steps=1", "height=32", "width=32"), device="cpu"
    )
    return run_model(request, "mannequin", 1, 12, options)


def test_report_and_summary_say_first_that_this_is_the_built_in_world(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = run.manifest["notes"]
    page = build_report(run)
    html, markdown = page.read_text(), page.with_name("report.md").read_text()
    for text in (html, markdown):
        assert said in text
    assert html.index(said) < html.index('aria-label="Figures"')
    assert markdown.index(said) < markdown.index("## Figures")
    summary = summarize(run, page)
    assert summary["notes"] == [said]
    print_summary(summary)
    assert said in " ".join(capsys.readouterr().out.split())
    # A reader of older runs, which have no notes, is not disturbed.
    del run.manifest["notes"]
    assert summarize(run, page)["notes"] == []
    assert said not in build_report(run).read_text()
    run.manifest["notes"] = [said]


def test_a_run_of_the_built_in_model_resumes_and_repeats(run: Run, tmp_path: Path) -> None:
    model = run.manifest["request"]["generator"]["model"]
    options = BenchOptions(("iqa",), scorer_options=OWN, out=tmp_path / "again", batch_size=10)
    request = DiffusionRequest(model, arguments=("num_inference_steps=1", "height=32", "width=32"), device="cpu")
    again = run_model(request, "mannequin", 1, 12, options)
    assert again.records.equals(run.records)
    assert run.manifest["request"]["batch_size"] == 10
    with pytest.raises(HafError, match="batch_size"):
        run_model(request, "mannequin", 1, 12, BenchOptions(("iqa",), scorer_options=OWN, out=tmp_path / "again"))


def test_the_built_in_weights_are_named_without_their_place(run: Run) -> None:
    generator = run.manifest["request"]["generator"]
    assert all(not Path(name).is_absolute() and len(sha256) == 64 for name, sha256 in generator["weights"].items())
    assert "transformer/diffusion_pytorch_model.safetensors" in generator["weights"]


def test_the_built_in_clip_prefers_a_pictures_own_caption() -> None:
    clip = load_scorer("clip", ScorerOptions(clip="mannequin", device="cpu"))
    rng = Random(0)
    own: list[float] = []
    other: list[float] = []
    pictures = [correct_picture(seed) for seed in range(987_000_000, 987_000_040)]
    for picture, stranger in zip(pictures, [*pictures[1:], pictures[0]], strict=True):
        for of, values in ((picture, own), (stranger, other)):
            score = clip.score(picture.image, Prompt(id="x", text=draw(of.scene.attributes, rng)))
            assert score.value is not None
            values.append(score.value)
    assert sum(a > b for a, b in zip(own, other, strict=True)) >= 34  # by chance 20, standard deviation 3.2
    assert str(Path(worlds.__file__).parent) not in json.dumps(dict(clip.settings))


def test_the_bare_command_draws_judges_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", "--limit", "5", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert [entry["scorer"] for entry in summary["scorers"]] == ["anatomy", *BUILT_IN_SCORERS]
    assert str(Path(worlds.__file__).parent) not in (out / "run.json").read_text()
