"""What suits a model that is asked for alone: its suite, scorers and batch, and what its report says first."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

import hafbench
from hafbench import worlds
from hafbench.cli import app
from hafbench.errors import HafError, Unavailable
from hafbench.generators import PRESETS
from hafbench.generators.sources import find_source
from hafbench.mannequin.captions import draw
from hafbench.mannequin.picture import correct_picture
from hafbench.notes import notes
from hafbench.reports.summary import print_summary, read_summary
from hafbench.runs import Run
from hafbench.scorers import default_scorers
from hafbench.settings import read_settings
from hafbench.specs import GeneratorSpec, RunSpec, ScorerSpec, ScoreSpec
from hafbench.suites import Prompt, suite_names
from hafbench.worlds import MANNEQUINS, PHOTOGRAPHS, world_of
from small import a_scorer
from tiny_pipelines import build_sd3

DIGITS = {"detector": None, "card": None}
BUILT_IN_SCORERS = ("digits", "limb_count", "clip", "iqa")
PHOTO_SCORERS = ("hands", "limbs", "clip", "iqa")


def resolved(*overrides: str, **options: Any) -> RunSpec:
    """What a command with these settings runs."""
    return read_settings(RunSpec, None, overrides, options).resolved()


def scorers_of(spec: RunSpec | ScoreSpec) -> dict[str, dict[str, Any]]:
    return {one.name: one.options.model_dump() for one in spec.scorers or ()}


@pytest.mark.parametrize("model", [None, "mannequin", "mannequin=some/folder"])
def test_a_bare_run_is_the_built_in_model_with_its_own_suite_and_scorers(model: str | None) -> None:
    spec = resolved(model=model)
    assert spec.model.model == (model or "mannequin")
    assert (spec.suite, spec.seeds, spec.limit, spec.batch_size) == ("mannequin", 1, None, 10)
    assert tuple(scorers_of(spec)) == BUILT_IN_SCORERS
    assert scorers_of(spec)["clip"] == {"model": "mannequin"}


def test_another_model_has_the_defaults_for_photographs() -> None:
    spec = resolved(model="sdxl")
    assert (spec.suite, spec.batch_size) == ("haf-50", 1)
    assert scorers_of(spec) == {
        "hands": {},
        "limbs": {"pose": "mediapipe"},
        "clip": {"model": "ViT-B-32"},
        "iqa": {"metric": "piqe"},
    }


def test_what_is_given_wins_over_the_defaults() -> None:
    spec = resolved(
        *("scorers.clip.model=ViT-L-14", "require=[iqa]", "seeds=2"),
        suite="haf-500",
        scorers="hands,clip",
        batch_size=3,
    )
    assert (spec.suite, spec.seeds, spec.batch_size) == ("haf-500", 2, 3)
    assert tuple(scorers_of(spec)) == ("hands", "clip", "iqa")
    assert scorers_of(spec)["clip"] == {"model": "ViT-L-14"}


def test_a_generator_of_another_package_draws_no_mannequins_unless_they_are_named() -> None:
    spec = resolved("model.generator=stripes", "model.arguments.width=8")
    assert (spec.model.model, spec.suite, spec.batch_size) == ("stripes", "haf-50", 1)
    assert tuple(scorers_of(spec)) == PHOTO_SCORERS
    assert scorers_of(spec)["clip"] == {"model": "ViT-B-32"}
    assert notes(spec, "haf-50") == []
    again = RunSpec.model_validate_json(spec.model_dump_json())  # as a resumed run compares it
    assert again.resolved() == spec
    named = resolved("model.generator=stripes", model="mannequin")
    assert (named.model.model, named.suite, tuple(scorers_of(named))) == ("mannequin", "mannequin", BUILT_IN_SCORERS)
    own = resolved("scorers.clip.model=ViT-L-14", "model.generator=stripes")
    assert tuple(scorers_of(own)) == PHOTO_SCORERS
    # What runs of the built-in model have written is what they are.
    written = resolved().model_dump(mode="json")
    assert (written["model"]["model"], written["model"]["generator"]) == ("mannequin", "diffusers")
    assert RunSpec.model_validate(written).resolved() == resolved()


def test_a_folder_has_the_defaults_for_photographs_and_may_be_given_the_built_in_scorers() -> None:
    assert tuple(scorers_of(ScoreSpec(images=Path("x")).resolved())) == PHOTO_SCORERS
    own = ScoreSpec.model_validate(
        {"images": "x", "scorers": ["digits", {"name": "clip", "options": {"model": "mannequin"}}]}
    )
    assert scorers_of(own.resolved()) == {"digits": DIGITS, "clip": {"model": "mannequin"}}


def test_every_default_exists() -> None:
    for world in (PHOTOGRAPHS, MANNEQUINS):
        assert world.suite in suite_names()
    assert default_scorers("photographs") == PHOTO_SCORERS
    assert default_scorers("mannequins") == BUILT_IN_SCORERS


def test_the_preset_is_the_packages_folder_and_its_absence_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "__file__", str(tmp_path / "worlds.py"))
    with pytest.raises(Unavailable, match="built-in world's diffusion is not in this installation"):
        find_source("mannequin")
    with pytest.raises(Unavailable, match="built-in world's clip is not in this installation"):
        a_scorer("clip", model="mannequin")
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


@pytest.mark.parametrize(
    ("model", "suite", "scorers", "words"),
    [
        ("mannequin", "mannequin", None, ["built-in world"]),
        ("mannequin", "haf-50", None, ["built-in world", "has learnt captions"]),
        (
            *("mannequin", "mannequin", {"digits": DIGITS, "hands": {}, "clip": {"model": "ViT-B-32"}}),
            ["built-in world", "The scorers hands and clip are made for photographs"],
        ),
        ("mannequin=x", "mannequin", ["limbs"], ["built-in world", "The scorer limbs is made for photographs"]),
        ("mannequin=x", "haf-50", None, ["built-in world of mannequins: no figure"]),
        ("mannequin", "mannequin", {"clip": {"model": __file__}}, ["drawn by a small model that comes with hafbench"]),
        ("sdxl", "haf-50", None, []),
        ("sdxl", "mannequin", ["hands", "iqa"], []),
        (
            *("sdxl", "haf-50", {"digits": DIGITS, "limb_count": DIGITS, "clip": {"model": "mannequin"}}),
            ["The scorers digits, limb_count and clip are made for the built-in"],
        ),
    ],
)
def test_scorers_that_are_made_for_other_pictures_are_named(
    model: str, suite: str, scorers: Any, words: list[str]
) -> None:
    said = notes(RunSpec.model_validate({"model": model, "scorers": scorers}).resolved(), suite)
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
    return hafbench.run(tiny(f"mannequin={model}"), out=folder / "run")


def tiny(model: str) -> RunSpec:
    arguments = {"num_inference_steps": 1, "height": 32, "width": 32}
    own = GeneratorSpec(model=model, arguments=arguments)
    return RunSpec(model=own, limit=12, scorers=(ScorerSpec(name="iqa"),), device="cpu")


def test_report_and_summary_say_first_that_this_is_the_built_in_world(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = run.manifest.notes
    page = run.folder / "report" / "index.html"
    html, markdown = page.read_text(), page.with_name("report.md").read_text()
    for text in (html, markdown):
        assert said in text
    assert html.index(said) < html.index('aria-label="Figures"')
    assert markdown.index(said) < markdown.index("## Figures")
    summary = read_summary(run.folder)
    assert summary.notes == (said,)
    print_summary(summary)
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_run_of_the_built_in_model_resumes_and_repeats(run: Run, tmp_path: Path) -> None:
    spec = run.manifest.request
    assert isinstance(spec, RunSpec) and spec.batch_size == 10
    again = hafbench.run(spec, out=tmp_path / "again")
    assert again.records.equals(run.records)
    with pytest.raises(HafError, match="batch_size: 10 -> 1"):
        hafbench.run(spec.model_copy(update={"batch_size": 1}), out=tmp_path / "again")


def test_the_built_in_weights_are_named_without_their_place(run: Run) -> None:
    assert run.manifest.generator is not None
    weights = run.manifest.generator.settings["weights"]
    assert all(not Path(name).is_absolute() and len(sha256) == 64 for name, sha256 in weights.items())
    assert "transformer/diffusion_pytorch_model.safetensors" in weights


def test_the_built_in_clip_prefers_a_pictures_own_caption() -> None:
    clip = a_scorer("clip", model="mannequin")
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
