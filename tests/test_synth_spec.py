"""What `asap-train synth` is told, as one object: from YAML and options, with new scorers and families."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asap_train.data.gates import Gates
from asap_train.data.spec import SynthSpec, Thresholds
from asap_train.data.synthesis import device_of, synth
from asap_train.degrade import FAMILIES, FamilyEntry
from asap_train.hap.manifest import ImportSpec
from asap_train.hap.read import read_hap, read_pairs
from asap_train.hap.write import open_hap
from asap_train.types import Candidate, Part, Photo
from hafbench import registry
from hafbench.errors import HafError
from hafbench.scorers import SCORERS, ScorerEntry
from hafbench.settings import parse_settings, read_settings
from hafbench.specs import ScorerSpec
from hafbench.types import Region, Role, Score
from hap_pairs import painted, write

SEEN = 128


class Options(registry.Options):
    """How bright an error is."""

    level: int = SEEN


@dataclass(frozen=True)
class Brightness:
    """A scorer that takes a bright picture for one with an error."""

    level: int
    name: str = "bright"
    version: str = "1"
    about: str = "bright pictures"
    role: Role = "anatomy"
    higher_is_better: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def score(self, image: np.ndarray, prompt: object) -> Score:
        return Score("scored", float(image.mean() / 255), bool(image.mean() >= self.level))


def load(options: Options, device: str) -> Brightness:
    return Brightness(options.level)


@dataclass(frozen=True)
class White:
    """A family that paints the part white."""

    name: str = "white"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def degrade(self, photo: Photo, part: Part, rng: np.random.Generator) -> Iterator[Candidate]:
        pixels = photo.pixels.copy()
        pixels[part.mask] = 255
        yield Candidate(pixels, part.mask, part.region, "missing", "white", self.name)


def load_white(options: registry.Options, device: str) -> White:
    return White()


def spec_of(**given: Any) -> SynthSpec:
    return parse_settings(SynthSpec, {"count": 1, **given}, "The test")


def scorer_row(**more: Any) -> ScorerEntry:
    here = "test_synth_spec"
    return ScorerEntry("bright", "bright pictures", f"{here}:load", f"{here}:Options", **more)


def test_yaml_is_read_and_options_come_on_top(tmp_path: Path) -> None:
    file = tmp_path / "synth.yaml"
    file.write_text(
        "count: 5\nphotos: somewhere\nregions: [hands, face]\ngates: {inside_ssim: 0.6}\n"
        "families:\n  image:\n  inpaint: {model: sd15-inpaint}\nscorers: {limbs: {pose: a.pt}}\n"
    )
    spec = read_settings(
        SynthSpec, file, ["families.inpaint.arguments.strength=0.9", "gates.most_area=0.3"], {"count": 7}
    )
    assert (spec.count, spec.photos, spec.regions) == (7, Path("somewhere"), ("hands", "face"))
    assert spec.gates == Thresholds(inside_ssim=0.6, most_area=0.3)
    values = spec.resolved().compared()
    assert (
        values["families"]["inpaint"] | {"arguments": {"strength": 0.9}, "candidates": 4}
        == (values["families"]["inpaint"])
    )
    assert values["scorers"] == {"limbs": {"pose": "a.pt"}}
    assert not values.keys() & {"count", "workers", "device", "licence"}


@pytest.mark.parametrize("value", ["[[hands]]", "[{a: b}]", "[null]", "5", "{}"])
def test_regions_that_are_no_names_are_refused_in_a_sentence(value: str) -> None:
    with pytest.raises(HafError, match="regions"):
        read_settings(SynthSpec, None, [f"regions={value}"], {"count": 7, "photos": Path("somewhere")})


def test_the_scorers_follow_what_the_pictures_show() -> None:
    def names(**given: Any) -> list[str]:
        return [one.name for one in spec_of(**given).resolved().scorers or ()]

    assert names(photos="x") == ["hands"]
    assert names(photos="x", home="mannequins") == names(source="mannequin") == []
    assert names(photos="x", scorers="limbs,hands") == ["limbs", "hands"]


def test_gates_ask_a_new_scorer_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS.built_in, "bright", scorer_row(regions=("face",)))
    spec = spec_of(photos="x", scorers={"bright": {"level": 100}})
    gates = Gates(Thresholds(), spec.resolved().scorers or ())
    dark, part = np.full((40, 40, 3), 10, np.uint8), np.zeros((40, 40), np.bool_)
    part[5:30, 5:30] = True

    def last(level: int, region: Region) -> tuple[str, str]:
        pixels = dark.copy()
        pixels[part] = level
        candidate = Candidate(pixels, part, region, "missing", "white", "white")
        verdicts, _ = gates.apply(Photo("a", "0" * 64, dark), candidate, {})
        return verdicts[-1].gate, verdicts[-1].outcome

    assert last(255, "face") == ("scorer_bright", "passed")
    assert last(120, "face") == ("scorer_bright", "failed")
    assert last(255, "hands") == ("scorer", "skipped")


def test_an_anatomy_scorer_without_regions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS.built_in, "bright", scorer_row())
    with pytest.raises(HafError, match="bright names no regions that it can judge"):
        SynthSpec(count=1, photos=Path("x"), scorers=(ScorerSpec(name="bright"),))


def test_a_new_family_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from hafbench.mannequin.picture import correct_picture

    row = FamilyEntry("white", "white parts", "test_synth_spec:load_white", parallel=True)
    monkeypatch.setitem(FAMILIES.built_in, "white", row)
    (tmp_path / "photos").mkdir()
    Image.fromarray(correct_picture(984_000_000, "hand", size=256).image).save(tmp_path / "photos" / "hand.png")
    spec = spec_of(photos=tmp_path / "photos", home="mannequins", families="white", workers=1)
    manifest = synth(spec, out=tmp_path / "hap")
    assert manifest.counts.family == {"white": 1}
    (pair,) = read_pairs(tmp_path / "hap")
    assert (pair.loser[pair.mask] == 255).all()
    # A data set is shared: what it was asked for names no folder of this machine.
    request = read_hap(tmp_path / "hap").request
    assert isinstance(request, SynthSpec)
    assert request.photos == Path("photos")
    assert str(tmp_path) not in (tmp_path / "hap" / "hap.json").read_text()
    # Without the family the data set opens all the same.
    monkeypatch.delitem(FAMILIES.built_in, "white")
    assert read_hap(tmp_path / "hap").counts == manifest.counts


def test_several_processes_leave_the_gpu_alone_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    spec, named = spec_of(source="people"), spec_of(source="people", device="cuda")
    assert (device_of(spec, 1), device_of(spec, 2), device_of(named, 2)) == ("cuda", "cpu", "cuda")


def test_what_is_shared_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    model, control, pose = (tmp_path / name for name in ("model", "control", "pose.pt"))
    for path in (model, control, pose):
        path.mkdir()
    spec = spec_of(
        photos=tmp_path / "photos",
        families={"inpaint": {"model": f"sd15={model}"}, "skeleton": {"model": "b", "control": str(control)}},
        scorers={"limbs": {"pose": str(pose)}},
        segmenter=str(model),
        text_boxes="IDEA-Research/grounding-dino-tiny",
    ).resolved()
    request = spec.as_request()
    assert str(tmp_path) not in request.model_dump_json()
    assert request.families[0].options.model_dump()["model"] == "sd15=model"
    assert (request.segmenter, request.text_boxes) == ("model", "IDEA-Research/grounding-dino-tiny")
    facts = {"painter": {"model": str(model)}}
    with open_hap(tmp_path / "hap", request, facts=facts) as hap:
        assert hap.manifest.facts == {"painter": {"model": "model"}}
        # Earlier versions wrote whole paths: such a data set is resumed with the same.
        before = hap.manifest.model_copy(update={"facts": facts, "request": spec})
        photos = {"photos": "photos", "captions": None}
        assert before.compared() | photos == hap.manifest.compared() | photos


def test_hap_json_of_earlier_versions_opens_and_is_not_resumed(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(0), painted(1)])
    path = tmp_path / "hap" / "hap.json"
    values = json.loads(path.read_text())
    rule = values.pop("split") | {"seed": 3}
    del values["facts"], values["details"]["title"]
    values["request"] = {"source": "mannequin", "size": 128, "first_seed": 50, "lpips": None, "split": rule}
    path.write_text(json.dumps(values))
    manifest = read_hap(tmp_path / "hap")
    assert manifest.counts.pairs == len(list(read_pairs(tmp_path / "hap"))) == 2
    assert manifest.split.seed == 3
    with pytest.raises(HafError, match="started by an earlier version of asap-train"):
        synth(SynthSpec(source="mannequin", count=3), out=tmp_path / "hap")


def test_what_was_imported_is_in_hap_json(tmp_path: Path) -> None:
    from asap_train.hap.exchange import export_pairs, import_pairs

    write(tmp_path / "hap", [painted(0), painted(1)])
    export_pairs(tmp_path / "hap", tmp_path / "pairs.parquet")
    import_pairs(tmp_path / "pairs.parquet", tmp_path / "back")
    assert read_hap(tmp_path / "back").request == ImportSpec(files=("pairs.parquet",), rows=(2,), gates=None)


def test_a_damaged_hap_json_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(0)])
    path = tmp_path / "hap" / "hap.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shards": {"a": {"rows": "many"}}}))
    with pytest.raises(HafError, match=r"hap\.json is damaged"):
        read_hap(tmp_path / "hap")
