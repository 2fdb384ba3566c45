"""Specs and settings: what YAML, --set and options make of them, what is refused, how runs keep and compare them."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

import asap_train.cli
import asap_train.schemas
import hafbench
from hafbench.cli import app
from hafbench.errors import HafError
from hafbench.manifest import read_manifest
from hafbench.records import read_lines
from hafbench.runs import open_run, read_run
from hafbench.schemas import SCHEMAS, schema_of
from hafbench.settings import read_settings
from hafbench.specs import GeneratorSpec, RunSpec, ScorerSpec, ScoreSpec
from small import Brightness, manifest_of, not_none

OLD_RUN = Path(__file__).parent / "data" / "run_format_1"


def options_of(spec: RunSpec | ScoreSpec) -> dict[str, dict[str, Any]]:
    return {one.name: one.options.model_dump(exclude_unset=True) for one in spec.scorers or ()}


@pytest.mark.parametrize(
    "text",
    [
        "scorers: [hands, limbs]",
        "scorers: hands,limbs",
        "scorers: {hands: {}, limbs: {}}",
        "scorers:\n  hands:\n  limbs:",
        "scorers:\n  - hands\n  - name: limbs",
    ],
)
def test_scorers_are_written_as_names_or_as_names_with_options(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    spec = read_settings(RunSpec, tmp_path / "run.yaml")
    assert options_of(spec) == {"hands": {}, "limbs": {}}
    assert spec == RunSpec(scorers=(ScorerSpec(name="hands"), ScorerSpec(name="limbs")))


def test_yaml_then_set_then_options_and_a_shorthand_model(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: sdxl\nseeds: 2\nscorers:\n  limbs: {pose: a.pt}\n  clip:\n")
    overrides = ["scorers.clip.model=ViT-L-14", "model.arguments.num_inference_steps=30", "seeds=3"]
    spec = read_settings(RunSpec, path, overrides, {"seeds": 4, "scorers.limbs.pose": "b.pt", "suite": None})
    assert spec.model == GeneratorSpec(model="sdxl", arguments={"num_inference_steps": 30})
    assert (spec.seeds, spec.suite) == (4, None)
    assert options_of(spec) == {"limbs": {"pose": "b.pt"}, "clip": {"model": "ViT-L-14"}}


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_set_does_not_matter_for_components(order: int) -> None:
    overrides = ["scorers=hands,clip", "scorers.clip.model=ViT-L-14", "model=sdxl", "model.dtype=bf16"][::order]
    spec = read_settings(RunSpec, None, overrides)
    assert options_of(spec) == {"hands": {}, "clip": {"model": "ViT-L-14"}}
    assert spec.model == GeneratorSpec(model="sdxl", dtype="bf16")


@pytest.mark.parametrize(
    "options",
    [["model.model=sdxl", "scorers.clip={model: other}"], ["scorers.clip={model: other}", "model.model=sdxl"]],
)
def test_the_scorers_follow_the_model_in_whatever_order_they_are_given(options: list[str]) -> None:
    spec = read_settings(RunSpec, None, options).resolved()
    assert spec.scorers is not None and [one.name for one in spec.scorers] == ["hands", "limbs", "clip", "iqa"]


def test_the_number_of_one_device_is_taken_as_a_text() -> None:
    assert [read_settings(RunSpec, None, [f"devices={given}"]).devices for given in ("0", "0,1")] == ["0", "0,1"]


def test_an_option_of_a_default_scorer_keeps_the_other_defaults() -> None:
    spec = read_settings(RunSpec, None, ["model=sdxl", "scorers.limbs.pose=yolo.pt"]).resolved()
    assert [one.name for one in spec.scorers or ()] == ["hands", "limbs", "clip", "iqa"]
    assert options_of(spec)["limbs"] == {"pose": "yolo.pt"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sceeds=3"], "there is no setting 'sceeds'; did you mean seeds"),
        (["model.lroa=[x]"], "there is no setting 'model.lroa'; did you mean lora"),
        (
            ["scorers=detectability", "scorers.detectability.crad=x"],
            "scorer detectability: there is no setting 'crad'; did you mean card",
        ),
        (["scorers=hands", "scorers.hands.card=x"], "scorer hands: there is no setting 'card'; there are none"),
        (["scorers=hands", "scorers.limbs.pose=x"], r"limbs is not among the scorers \(hands\)"),
        (["scorers=hand"], "There is no scorer 'hand': did you mean hands"),
        (["scorers=hands,hands"], "'hands' is there twice"),
        (["scorers=7"], "give a list of names, or a mapping of names to options"),
        (["scorers=[{a: 1}]"], "There is no scorer"),
        (["seeds=0"], "seeds: Input should be greater than or equal to 1"),
        (["seeds=1000000000001"], "seeds: Input should be less than or equal to 1000000000000"),
        (["seeds=2", f"first_seed={2**63 - 1}"], r"first_seed: the last seed is over 2\*\*63 - 1"),
        (["seeds=many"], "seeds: Input should be a valid integer"),
        (["seeds.x=1"], "seeds"),
        (["seeds=2", "seeds.x=1"], "seeds is 2, which has no settings within it"),
        (["model.offload=modl"], "model.offload: Input should be 'none'"),
        (["seeds"], "write KEY=VALUE"),
        (["a b=3"], "write KEY=VALUE"),
        (["seeds=[1"], "cannot be read as YAML"),
        (["num_inference_steps=3"], "num_inference_steps is called model.arguments.num_inference_steps"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(overrides: list[str], words: str) -> None:
    with pytest.raises(HafError, match=words) as caught:
        read_settings(RunSpec, None, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b", "seeds: [", "just words", "\x00"])
def test_a_file_that_is_not_settings_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(HafError, match=r"run\.yaml"):
        read_settings(RunSpec, tmp_path / "run.yaml")


NAMES = st.lists(st.sampled_from(["hands", "digits", "limbs", "limb_count", "clip", "iqa"]), min_size=1, unique=True)


@given(
    names=NAMES,
    seeds=st.integers(1, 9),
    limit=st.none() | st.integers(1, 9),
    model=st.sampled_from(["mannequin", "sdxl"]),
    arguments=st.dictionaries(st.sampled_from(["height", "width"]), st.integers(1, 64)),
)
def test_a_spec_comes_back_from_json_the_same(
    names: list[str], seeds: int, limit: int | None, model: str, arguments: dict[str, int]
) -> None:
    scorers = tuple(ScorerSpec(name=name) for name in names)
    spec = RunSpec(model=GeneratorSpec(model=model, arguments=arguments), scorers=scorers, seeds=seeds, limit=limit)
    for one in (spec, spec.resolved()):
        back = RunSpec.model_validate(json.loads(json.dumps(one.model_dump(mode="json"))))
        assert back == one
        assert back.resolved() == spec.resolved()
        assert back.compared() == one.compared()


@pytest.mark.parametrize("spec", [RunSpec(scorers=()), ScoreSpec(images="pictures", scorers=())])
def test_no_scorer_at_all_is_refused_before_anything_is_made(spec: RunSpec | ScoreSpec) -> None:
    with pytest.raises(HafError, match="scorers: there is none; name at least one"):
        spec.resolved()


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        RunSpec().seeds = 3


def test_run_json_holds_the_request_and_only_what_makes_the_numbers_is_compared(tmp_path: Path) -> None:
    manifest = manifest_of({"hands": Brightness()}, {"steps": 1})
    with open_run(tmp_path / "run", manifest):
        pass
    kept = read_manifest(tmp_path / "run")
    assert kept is not None and kept.request == manifest.request
    request = not_none(manifest.request)
    other = request.model_copy(update={"device": "cuda", "require": ("hands",)})
    with open_run(tmp_path / "run", manifest.model_copy(update={"request": other})):
        pass
    other = request.model_copy(update={"batch_size": 7})
    with (
        pytest.raises(HafError, match="batch_size: null -> 7"),
        open_run(tmp_path / "run", manifest.model_copy(update={"request": other})),
    ):
        pass


def test_a_run_of_an_earlier_version_opens_and_is_not_resumed(tmp_path: Path) -> None:
    run = read_run(OLD_RUN)
    assert (run.manifest.request, run.manifest.command, run.manifest.counts.images) == (None, "score", 11)
    assert run.manifest.images is not None and run.manifest.images.folder == "people"
    assert list(run.manifest.scorers) == ["hands", "limbs", "iqa"]
    reasons = run.records["reason"][run.records["status"] != "scored"]
    assert len(reasons) == 7 and reasons.notna().all()
    assert set(run.findings["region"]) <= {"hands"}
    # Its lines of records.jsonl are read with the old name of the column, too.
    lines = [
        record.reason
        for record in read_lines(OLD_RUN / "records.jsonl", dict.fromkeys(("hands", "limbs", "iqa"), "quality"))
    ]
    assert lines == [None if pd.isna(reason) else reason for reason in run.records["reason"]]
    copy = shutil.copytree(OLD_RUN, tmp_path / "run")
    with pytest.raises(HafError, match="made by another version of hafbench"), open_run(copy, manifest_of({}, {})):
        pass
    assert "11 images" in hafbench.report(copy).read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format=3), "is not a run of format 1 or 2"),
        (lambda m: m.pop("scorers"), r"run\.json is damaged"),
        (lambda m: m.update(machine="fast"), r"run\.json is damaged \(machine"),
        (lambda m: m["request"].pop("scorers"), None),
    ],
)
def test_a_damaged_run_json_is_one_sentence(tmp_path: Path, change: Any, words: str | None) -> None:
    manifest = json.loads((OLD_RUN / "run.json").read_text())
    change(manifest)
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    if words is None:
        assert read_manifest(tmp_path) is not None
        return
    with pytest.raises(HafError, match=words):
        read_manifest(tmp_path)


def test_every_schema_is_printed_and_describes_what_is_written() -> None:
    names = CliRunner().invoke(app, ["schema"]).output
    for name in SCHEMAS:
        assert name in names
        printed = json.loads(CliRunner().invoke(app, ["schema", name]).output)
        assert printed == schema_of(name)
    for name in asap_train.schemas.SCHEMAS:
        printed = json.loads(CliRunner().invoke(asap_train.cli.app, ["schema", name]).output)
        jsonschema.Draft202012Validator.check_schema(printed)
    line = json.loads((OLD_RUN / "records.jsonl").read_text().splitlines()[0])
    line["reason"] = line.pop("unscored")
    jsonschema.validate(line, schema_of("record"))
    jsonschema.validate({"pose": "a.pt"}, schema_of("scorers")["properties"]["limbs"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**line, "status": "fine"}, schema_of("record"))


def test_the_package_exports_its_api_lazily() -> None:
    for name in hafbench.__all__:
        assert getattr(hafbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hafbench.nothing
