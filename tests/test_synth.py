"""`asap-train synth` from end to end: photos and mannequins through all gates into a data set, and what goes wrong."""

import os
import shutil
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from asap_train import hap
from asap_train.cli import app
from asap_train.data.sources import photo_source, world_source
from asap_train.data.spec import SynthSpec, Thresholds
from asap_train.data.synthesis import add_pairs, synth
from asap_train.data.workers import ItemResult, RemoteWorker, processes
from asap_train.hap.manifest import HapManifest
from asap_train.hap.read import read_hap, read_pairs, read_table
from asap_train.hap.write import open_hap
from hafbench.detectors.hands import FILES
from hafbench.engines.units import from_row, to_row
from hafbench.errors import HafError
from hafbench.mannequin.picture import correct_picture, make_pair
from hafbench.provenance import versions
from hafbench.weights import find
from hap_pairs import painted
from tiny_pipelines import build_sd15

PEOPLE = Path(__file__).parents[1] / "examples" / "people"
needs_nets = pytest.mark.skipif(any(find(name) is None for name in FILES), reason="`hafbench weights pull` was not run")
GATES = Thresholds()


def run(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def ids(folder: Path) -> list[str]:
    return sorted(read_table(folder, ["id"])["id"])


def mannequins(out: Path, count: int, workers: int = 1, first: int = 51) -> list[str]:
    synth(SynthSpec(source="mannequin", count=count, size=64, seed=first, workers=workers), out=out)
    return ids(out)


def test_mannequins_are_the_same_whatever_the_number_of_processes(tmp_path: Path) -> None:
    one, two = (mannequins(tmp_path / str(workers), 6, workers) for workers in (1, 2))
    assert len(one) == 6
    assert one == two
    for pair in read_pairs(tmp_path / "1"):
        assert pair.family == "mannequin"
        assert pair.settings["errors"] == "tuning"
        outside = ~pair.mask
        assert np.array_equal(pair.winner[outside], pair.loser[outside])
        assert pair.similarity.ssim_in <= GATES.inside_ssim
        assert set(pair.skipped) == {"inside_lpips", "outside_lpips"}


def test_a_data_set_grows_and_keeps_what_it_had(tmp_path: Path) -> None:
    small = mannequins(tmp_path / "grown", 3)
    grown = mannequins(tmp_path / "grown", 5)
    assert set(small) < set(grown)
    assert grown == mannequins(tmp_path / "whole", 5)


def test_every_seed_is_a_pair_or_a_reason(tmp_path: Path) -> None:
    mannequins(tmp_path / "set", 6)
    counts = read_hap(tmp_path / "set").counts
    assert counts.items == counts.pairs + counts.rejected


@dataclass(frozen=True)
class Dies:
    """Work that kills its process, as want of memory does."""

    def items(self, round_: int) -> Iterable[str]:
        return ["one"]

    def process(self, item: str) -> ItemResult:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(HafError, match="worker process ended before its time"), processes(Dies(), 2) as work:
        list(work(["one", "two"]))


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    words = ["synth", "--source", "mannequin", "--count", "100000", "--out", str(tmp_path / "set"), "--workers", "2"]
    code = "import sys; from asap_train.cli import main; sys.argv = ['asap-train', *sys.argv[1:]]; main()"
    parent = psutil.Popen([sys.executable, "-c", code, *words, "--size", "64", "-q"])
    journal = tmp_path / "set" / "journal.jsonl"
    while not journal.exists() and parent.is_running():
        parent.cpu_percent(0.2)
    workers = [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    parent.kill()
    parent.wait()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_a_worker_of_a_cluster_does_the_work_of_an_item_and_says_what_is_wrong_with_its_node() -> None:
    spec = SynthSpec(source="mannequin", count=1, size=64, seed=51).resolved()
    source = world_source(spec, "cpu")
    item = next(iter(source.items(0)))
    result: ItemResult = from_row(RemoteWorker(source, versions())(to_row(item)))
    assert result == source.process(item)
    problem = from_row(RemoteWorker(source, {**versions(), "hafbench": "0"})(to_row(item)))
    assert isinstance(problem, HafError) and "install the same versions on all" in str(problem)


@pytest.mark.parametrize(("source", "taken"), [("mannequin", 3), ("people", 0)])
def test_a_seed_that_is_refused_leaves_no_data_set(tmp_path: Path, source: str, taken: int) -> None:
    with pytest.raises(HafError, match=f"--seed {taken}: pictures of this seed"):
        synth(SynthSpec.model_validate({"source": source, "count": 1, "seed": taken}), out=tmp_path / "hap")
    assert not (tmp_path / "hap").exists()


def test_a_cluster_is_refused_for_families_that_redraw_photos(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no GPU for the family inpaint"):
        SynthSpec.model_validate(
            {"photos": tmp_path, "count": 1, "engine": "ray", "families": {"inpaint": {"model": "a"}}}
        )


def test_a_photo_that_a_worker_does_not_find_ends_the_work(tmp_path: Path) -> None:
    photo = tmp_path / "one.png"
    Image.fromarray(correct_picture(0, "hand").image).save(photo)
    source = photo_source(SynthSpec(photos=tmp_path, home="mannequins", count=1).resolved(), "cpu")
    photo.unlink()
    problem = from_row(RemoteWorker(source, versions())(to_row("one.png#0")))
    assert isinstance(problem, HafError) and "one.png is not there on" in str(problem)


@dataclass(frozen=True)
class Nothing:
    """Work that gives no pair, and remembers nothing."""

    def items(self, round_: int) -> Iterable[str]:
        return [f"photo#{round_}"]

    def process(self, item: str) -> ItemResult:
        return ItemResult(item, (), (("photo", "it is of a cat"),))


def test_it_ends_when_a_whole_round_gives_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with open_hap(tmp_path / "set", {}) as writer:
            add_pairs(Nothing(), writer, 10, processes(Nothing(), 1), 4)
            manifest = writer.finish()
    assert manifest.counts.pairs == 0
    assert manifest.rejections["photo"].reasons == {"it is of a cat": 2}


@dataclass(frozen=True)
class TwoPhotos:
    """Four pairs of each of two photos, and a candidate that is none."""

    def items(self, round_: int) -> Iterable[str]:
        return [f"{photo}#{round_}" for photo in range(2)]

    def process(self, item: str) -> ItemResult:
        photo, _, round_ = item.partition("#")
        pairs = [painted(10 * int(photo) + number, photo=int(photo)) for number in range(4 * (round_ == "0"))]
        return ItemResult(item, tuple(map(hap.to_row, pairs)), (("area", f"{item} is too small"),))


def test_a_photo_of_which_pairs_were_left_out_gives_them_when_the_set_grows(tmp_path: Path) -> None:
    def grown(name: str, *counts: int) -> HapManifest:
        for count in counts:
            with open_hap(tmp_path / name, {}) as writer:
                add_pairs(TwoPhotos(), writer, count, processes(TwoPhotos(), 1), 0)
                manifest = writer.finish()
            assert manifest.counts.pairs == count
        return manifest

    whole, pieces = grown("whole", 8), grown("pieces", 1, 3, 6, 8)
    assert ids(tmp_path / "pieces") == ids(tmp_path / "whole")
    assert (pieces.counts, pieces.rejections) == (whole.counts, whole.rejections)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A close-up of a hand, the same again, nobody, a hand that is too small, and a file that is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(PEOPLE / "open-palm.jpg", folder / "hand.jpg")
    shutil.copy(PEOPLE / "open-palm.jpg", folder / "the same.jpg")
    (folder / "hand.txt").write_text("a man in a suit who shows his palm")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(folder / "noise.png")
    with Image.open(PEOPLE / "open-palm.jpg") as image:
        image.resize((image.width // 5, image.height // 5)).save(folder / "small.png")
    whole = (PEOPLE / "peace-sign.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("set") / "hap"
    words = ("--photos", photos, "--count", 6, "--out", out, "--regions", "hands", "--scorers", "", "--workers", 1)
    return out, run("synth", *words)


@needs_nets
def test_photos_end_to_end(made: tuple[Path, Result], photos: Path) -> None:
    out, result = made
    assert result.exit_code == 0, result.output
    pairs = list(read_pairs(out))
    assert len(pairs) == 6
    with Image.open(photos / "hand.jpg") as image:
        photo = np.asarray(image.convert("RGB"))
    for pair in pairs:
        assert pair.region == "hands"
        assert np.array_equal(pair.winner, photo)
        assert np.array_equal(pair.winner[~pair.mask], pair.loser[~pair.mask])
        assert pair.caption == ("a man in a suit who shows his palm" if pair.name == "hand.jpg" else pair.caption)
    assert len({pair.split for pair in pairs}) == 1
    assert run("validate", out).exit_code == 0


@pytest.mark.slow
@needs_nets
def test_photos_give_the_same_pairs_whatever_the_number_of_processes(
    made: tuple[Path, Result], photos: Path, tmp_path: Path
) -> None:
    words = ("--photos", photos, "--count", 6, "--out", tmp_path / "set", "--regions", "hands", "--scorers", "")
    assert run("synth", *words, "--workers", 2).exit_code == 0
    assert ids(tmp_path / "set") == ids(made[0])


@needs_nets
def test_what_was_of_no_use_is_told_with_its_reason(made: tuple[Path, Result]) -> None:
    out, result = made
    rejections = read_hap(out).rejections
    reasons = {gate: " ".join(rejected.reasons) for gate, rejected in rejections.items()}
    assert "broken.jpg" in reasons["photo"]
    assert "no part that an error could be put into" in reasons["photo"]
    assert "person: none was found" in reasons["part"]
    assert "smaller than 56 pixels" in reasons["part"] or "hand: none was found" in reasons["part"]
    # The same photo under another name gives the same pairs.
    assert sum(rejections[gate].count for gate in ("near_duplicate", "duplicate") if gate in rejections) > 0
    assert all(gate in result.output for gate in rejections)


def test_photos_whose_anatomy_a_scorer_doubts_are_not_used(tmp_path: Path) -> None:
    pair = make_pair(7, detail="extra_digit", framing="hand", size=256)
    assert pair is not None
    (tmp_path / "photos").mkdir()
    Image.fromarray(pair.correct.image).save(tmp_path / "photos" / "sound.png")
    Image.fromarray(pair.erroneous.image).save(tmp_path / "photos" / "six.png")
    words = ("synth", "--photos", tmp_path / "photos", "--out", tmp_path / "set", "--count", 1, "--workers", 1)
    result = run(*words, "--world", "mannequins", "--scorers", "digits")
    assert result.exit_code == 0, result.output
    (made,) = read_pairs(tmp_path / "set")
    assert made.name == "sound.png"
    assert made.skipped.keys() == {"inside_lpips", "outside_lpips"}
    (reason,) = read_hap(tmp_path / "set").rejections["positive"].reasons
    assert "digits sees an error" in reason


@needs_nets
def test_a_given_mask_wins_and_one_of_another_size_is_a_reason(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "hand.jpg", folder / "a.jpg")
    shutil.copy(PEOPLE / "peace-sign.jpg", folder / "b.jpg")
    with Image.open(folder / "a.jpg") as image:
        mask = np.zeros((image.height, image.width), np.uint8)
    mask[150:400, 20:250] = 255
    Image.fromarray(mask).save(folder / "a.mask.png")
    Image.fromarray(mask[:50]).save(folder / "b.mask.png")
    words = ("--photos", folder, "--count", 2, "--out", tmp_path / "set", "--scorers", "", "--workers", 1)
    result = run("synth", *words, "--gate", "inside_ssim=0.9")
    assert result.exit_code == 0, result.output
    for pair in read_pairs(tmp_path / "set"):
        assert pair.name == "a.jpg"
        assert not pair.mask[mask == 0].any()
    reasons = " ".join(read_hap(tmp_path / "set").rejections["photo"].reasons)
    assert "make a mask of the photo's size" in reasons


@pytest.mark.parametrize(("regions", "made"), [("feet", ["feet"]), ("feet,hands", ["hands"])])
def test_a_given_mask_that_lies_on_no_part_is_of_the_only_region(tmp_path: Path, regions: str, made: list[str]) -> None:
    Image.fromarray(correct_picture(984_000_000, "hand", size=256).image).save(tmp_path / "a.png")
    mask = np.zeros((256, 256), np.uint8)
    mask[150:250, 5:105] = 255
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    asked = {"photos": tmp_path, "count": 1, "home": "mannequins", "regions": regions, "scorers": ()}
    spec = SynthSpec.model_validate({**asked, "gates": {"inside_ssim": 1.0}})
    rows = photo_source(spec.resolved(), "cpu").process("a.png#0").rows
    assert [row["region"] for row in rows] == made


@needs_nets
def test_a_tiny_model_redraws_a_hand(photos: Path, tmp_path: Path) -> None:
    model = build_sd15(tmp_path / "sd15")
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos / "hand.jpg", folder)
    result = run(
        *("synth", "--photos", folder, "--out", tmp_path / "set", "--count", 1, "--families", "inpaint"),
        *("--inpaint", model, "--regions", "hands", "--scorers", ""),
        *("--set", "families.inpaint.arguments.num_inference_steps=2"),
    )
    assert result.exit_code == 0, result.output
    (pair,) = read_pairs(tmp_path / "set")
    assert pair.family == "inpaint"
    assert pair.settings["pipeline"] == "StableDiffusionInpaintPipeline"
    assert pair.settings["prompt"].startswith("a ")
    assert pair.settings["model"] == "sd15"
    assert str(tmp_path) not in (tmp_path / "set" / "hap.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", 1], "either --photos DIR, or --source mannequin or people"),
        (["--source", "mannequin"], "count: it is not given"),
        (["--count", 1, "--source", "flickr"], "source: Input should be 'mannequin'"),
        (["--count", 1, "--photos", "nowhere"], "not a folder with images"),
        (["--count", 1, "--photos", "empty"], "not a folder with images"),
        (["--count", 1, "--photos", "empty", "--families", "magic"], "no family 'magic': did you mean image?"),
        (["--count", 1, "--photos", "empty", "--families", "inpaint"], "name a model that redraws: --inpaint MODEL"),
        (["--count", 1, "--photos", "empty", "--inpaint", "sd15-inpaint"], "add --families inpaint or skeleton"),
        (["--count", 1, "--photos", "empty", "--set", "strength=1"], "called families.inpaint.arguments.strength"),
        (["--count", 1, "--photos", "empty", "--regions", "tail"], "regions.0: Input should be"),
        (["--count", 1, "--photos", "empty", "--world", "mannequin"], "home: Input should be 'photographs' or"),
        (["--count", 1, "--source", "mannequin", "--gate", "beauty=1"], "no setting 'gates.beauty'"),
        (["--count", 1, "--source", "mannequin", "--gate", "inside_ssim=x"], "a valid number"),
        (["--count", 1, "--source", "mannequin", "--gate", "most_area=2"], "less than or equal to 1"),
        (["--count", 1, "--source", "mannequin", "--scorers", "clip"], "quality score"),
        (["--count", 1, "--source", "mannequin", "--scorers", "beauty"], "beauty"),
        (["--count", 1, "--photos", "empty", "--pose", "x.pt"], "limbs is not among the scorers (hands)"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = run("synth", "--out", "set", *words)
    assert isinstance(result.exception, HafError), result.output
    assert said in str(result.exception)


@pytest.mark.parametrize("asked", [("--config", "synth.yaml"), ("--set", "families=[image, inpaint]")])
def test_a_model_is_given_to_the_families_of_a_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synth.yaml").write_text("families: {image: {}, inpaint: {}}\n")
    (tmp_path / "empty").mkdir()
    result = run("synth", "--out", "set", "--photos", "empty", "--count", 1, *asked, "--inpaint", "a-model")
    assert "not a folder with images" in str(result.exception), result.output


@needs_nets
def test_a_caption_says_what_a_photo_shows_wherever_errors_are_asked_for(tmp_path: Path) -> None:
    shutil.copy(PEOPLE / "peace-sign.jpg", tmp_path)
    captions = set()
    for regions in ("hands,face,limbs,torso", "hands"):
        asked = {"photos": tmp_path, "count": 1, "regions": regions, "gates": {"inside_ssim": 1.0}, "scorers": ()}
        rows = photo_source(SynthSpec.model_validate(asked).resolved(), "cpu").process("peace-sign.jpg#0").rows
        captions |= {row["caption"] for row in rows}
    (caption,) = captions
    assert caption.startswith("a photo of a person, ")
    assert "hand" in caption


def test_other_settings_are_refused_and_fewer_pairs_than_asked_are_said(tmp_path: Path) -> None:
    words = ("synth", "--source", "mannequin", "--out", tmp_path / "set", "--count", 2, "--size", 64, "--workers", 1)
    assert run(*words, "-q").exit_code == 0
    again = run(*words, "--gate", "inside_ssim=0.5")
    assert "gates.inside_ssim: 0.65 -> 0.5" in str(again.exception)
    for more in (("--licence", "MIT", "--device", "cpu"), ()):
        assert run(*words, *more, "-q").exit_code == 0, "this does not shape the pairs"
        assert read_hap(tmp_path / "set").details.licence == "MIT"
        assert "license: MIT" in (tmp_path / "set" / "README.md").read_text()


def test_audit_export_and_import(tmp_path: Path) -> None:
    mannequins(tmp_path / "set", 4)
    audited = run("audit", tmp_path / "set")
    assert audited.exit_code == 0, audited.output
    assert "0.5315" in audited.output
    assert "not measured" in audited.output
    assert (tmp_path / "set" / "audit.html").is_file()
    assert run("export", tmp_path / "set", "--out", tmp_path / "pairs.parquet").exit_code == 0
    back = run("import", tmp_path / "pairs.parquet", "--out", tmp_path / "back")
    assert back.exit_code == 0, back.output
    assert ids(tmp_path / "back") == ids(tmp_path / "set")
