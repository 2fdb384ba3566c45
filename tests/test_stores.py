"""Run folders and data sets in stores: the same files as here, whatever is lost on the way, and one writer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL.Image import Image
from typer.testing import CliRunner

import hafbench
from asap_train.cli import app as asap_app
from asap_train.hap import to_row
from asap_train.hap.manifest import LAYOUT as HAP
from asap_train.hap.read import read_hap, read_pairs
from asap_train.hap.validate import validate
from asap_train.hap.write import open_hap
from asap_train.training.config import FitConfig, as_plain
from asap_train.training.fit_folder import opened
from hafbench import record_parts
from hafbench.api import samples_of, score_manifest
from hafbench.cli import app
from hafbench.errors import BadImage, HafError, RunStopped, Unavailable
from hafbench.evaluate import evaluate, plan
from hafbench.labelling.store import LabelStore
from hafbench.leases import TakenOver
from hafbench.mirrors import check_out, writing
from hafbench.reports.gallery import make_gallery
from hafbench.runs import LAYOUT, Run, open_run, read_run
from hafbench.sources import identity_of, open_source
from hafbench.sources.unchanged import check_unchanged, lies_in
from hafbench.specs import ScorerSpec, ScoreSpec
from hafbench.stores import address_of, kept_copy, reading_copy, shown
from hafbench.suites import Prompt
from hap_pairs import painted as painted_pair
from small import Brightness, Painter, assert_stored, files_at, manifest_of, not_none, painted

PROMPTS = [Prompt(id=name, text=f"a hand, {name}", category="basic_anatomy") for name in ("fist", "palm", "wave")]
SAMPLES = plan(PROMPTS, [0, 1])
SCORERS = {"hands": Brightness()}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Go on as another machine would: with nothing here."""
    numbers = iter(range(1000))
    return lambda: monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / f"machine {next(numbers)}"))


class Watched(Painter):
    """Calls a function before each batch but the first."""

    def __init__(self, watch: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.watch = watch

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        if self.batches:
            self.watch()
        return super().generate(prompts, seeds)


def drawn(where: str | Path, watch: Callable[[Any], object] = lambda mirror: None) -> tuple[Run, int]:
    """A run of six pictures, two a batch, and how many batches were drawn."""
    painter = Watched()
    with open_run(where, manifest_of(SCORERS, painter.settings)) as run:
        painter.watch = lambda: watch(run.mirror)
        return evaluate(run, SAMPLES, SCORERS, painter, batch_size=2), len(painter.batches)


def expire(address: str) -> None:
    """As if the process that has the lease had not been heard of for an hour."""
    system, path = fsspec.core.url_to_fs(f"{address}/.lease.json")
    held = json.loads(system.cat_file(path))
    held["renewed"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    system.pipe_file(path, json.dumps(held).encode())


def assert_same_run(address: str, here: Path) -> None:
    assert {path.relative_to(here / "images").as_posix() for path in (here / "images").rglob("*.png")} == {
        sample.image for sample in SAMPLES
    }
    assert_stored(address, here)


def made(where: str | Path, watch: Callable[[Any], object] = lambda mirror: None) -> None:
    """A data set of 14 pairs in shards of a few."""
    with open_hap(where, {"source": "tests"}, shard_bytes=60_000) as hap:
        for number in range(14):
            if not hap.done(str(number)):
                hap.add(str(number), [to_row(painted_pair(number))])
            if number % 3 == 2:
                watch(hap.mirror)
        hap.finish()


def assert_same_pairs(address: str, here: Path) -> None:
    there = files_at(address)
    shards = {f"data/{path.name}": path.read_bytes() for path in (here / "data").iterdir()}
    assert {name: content for name, content in there.items() if name.startswith("data/")} == shards
    assert len(shards) > 3
    assert sorted(there["journal.jsonl"].splitlines()) == sorted((here / "journal.jsonl").read_bytes().splitlines())
    assert not any(name.startswith(".growing") for name in there)


def test_a_run_in_a_store_has_the_files_of_one_here_a_report_and_a_comparison(
    tmp_path: Path, bucket: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "here")
    run, _ = drawn(f"{bucket}/seen/run")
    assert_same_run(f"{bucket}/seen/run", tmp_path / "here")
    assert (run.address, shown(run.folder)) == (f"{bucket}/seen/run",) * 2
    assert not any(path.suffix == ".png" for path in run.folder.rglob("*"))  # they are in the store, and not here
    elsewhere()
    monkeypatch.chdir(tmp_path)
    assert all(item.pictures for item in make_gallery(read_run(f"{bucket}/seen/run")).items)
    assert CliRunner().invoke(app, ["report", f"{bucket}/seen/run"]).exit_code == 0
    there = files_at(f"{bucket}/seen/run")
    assert json.loads(there["report/summary.json"])["run"] == f"{bucket}/seen/run"
    for name, content in there.items():
        if not name.endswith((".png", ".parquet")):
            assert str(tmp_path).encode() not in content, name
            assert b"-of-a-test" not in content, name  # the store's keys
    comparison = hafbench.compare(["here", f"{bucket}/seen/run"], out="page")
    assert {metric.verdict for metric in comparison.versus[0].metrics} == {"identical"}
    assert str(tmp_path) not in (tmp_path / "page" / "comparison.json").read_text()
    with pytest.raises(HafError, match="given twice"):
        hafbench.compare([f"{bucket}/seen/run", Path(f"{bucket}/seen/run/")])
    with pytest.raises(HafError, match="kept on a disk of this machine"):
        hafbench.compare(["here", f"{bucket}/seen/run"], out=f"{bucket}/page")


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:2]
from test_stores import drawn
uploads = []
def watch(mirror):
    uploads.append(mirror.upload())
    if len(uploads) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
drawn(sys.argv[2], watch)
"""


def test_a_killed_run_is_resumed_on_another_machine(tmp_path: Path, bucket: str, elsewhere: Callable[[], None]) -> None:
    address = f"{bucket}/killed/run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent), address], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    elsewhere()
    with pytest.raises(HafError, match=r"another process \(\d+ on .*\) is writing this run, and was heard of"):
        drawn(address)
    with pytest.raises(HafError, match="is an unfinished run"):
        read_run(address)
    expire(address)
    assert drawn(address)[1] == 1  # of three batches
    drawn(tmp_path / "here")
    assert_same_run(address, tmp_path / "here")


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """To the store in memory: so many more writes, and then none."""
    left = [10**6]

    def limited(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise OSError("the line is cut")
            left[0] -= 1
            return write(*args, **options)

        return call

    for name in ("pipe_file", "put_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, limited(getattr(MemoryFileSystem, name)))
    yield left
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]  # as it begins


CUTS = [
    pytest.param(range(3, 100, 5), id="some"),
    pytest.param(range(1, 100), id="all", marks=pytest.mark.slow),
]
"""After how many writes to a store the line is cut."""


WRITERS: dict[str, tuple[Callable[..., object], Callable[[str, Path], None]]] = {
    "run": (drawn, assert_same_run),
    "data set": (made, assert_same_pairs),
}


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_machine_may_be_lost_in_the_middle_of_any_upload(
    tmp_path: Path,
    line: list[int],
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cuts: range,
) -> None:
    monkeypatch.setattr(record_parts, "PART_ROWS", 3)
    write, assert_same = WRITERS[kind]
    write(tmp_path / "here")
    for writes in cuts:
        address = f"memory://lost{writes}/folder"
        line[0] = writes
        elsewhere()
        try:
            write(address, lambda mirror: mirror.upload())
        except RunStopped as error:
            assert "the line is cut" in str(error)
        else:
            break
        line[0] = 10**6
        elsewhere()
        expire(address)
        write(address)
        assert_same(address, tmp_path / "here")
    assert writes > 15


def test_a_copy_here_is_newer_than_the_store(line: list[int], elsewhere: Callable[[], None]) -> None:
    address = "memory://newer/run"
    line[0] = 1
    with pytest.raises(RunStopped):
        drawn(address)
    line[0] = 10**6
    assert drawn(address)[1] == 0  # all was here
    elsewhere()
    assert drawn(address)[1] == 0
    fsspec.filesystem("memory").rm("/newer", recursive=True)
    assert drawn(address)[1] == 3  # whoever deletes a run wants a new one


def test_a_command_that_is_interrupted_uploads_what_it_has(line: list[int], elsewhere: Callable[[], None]) -> None:
    def interrupt(mirror: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn("memory://stopped/run", interrupt)
    elsewhere()
    assert drawn("memory://stopped/run")[1] == 2


def test_one_process_at_a_time_writes(line: list[int], elsewhere: Callable[[], None]) -> None:
    address = "memory://two/run"
    with (
        pytest.raises(TakenOver, match="was taken over by a process on"),
        open_run(address, manifest_of(SCORERS, {})) as first,
    ):
        with pytest.raises(HafError, match=f"{address}: another process is writing this run"):
            drawn(address)
        elsewhere()
        with pytest.raises(HafError, match=f"{address}: another process .* is writing this run"):
            drawn(address)
        expire(address)
        drawn(address)
        mirror = not_none(first.mirror)
        with pytest.raises(TakenOver):
            mirror.upload()
        (mirror.folder / "records.jsonl").write_text("of the first")
        there = files_at(address)
    assert files_at(address) == there


def test_uploads_go_on_by_themselves(line: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAFBENCH_UPLOAD_SECONDS", "0.01")
    address = "memory://often/run"
    with writing(address, LAYOUT) as (folder, mirror):
        with not_none(mirror).changing():
            (folder / "run.json").write_text("{}")
        while not fsspec.filesystem("memory").exists("/often/run/run.json"):
            pass
        expire(address)
        fsspec.filesystem("memory").rm("/often/run/.lease.json")
        with pytest.raises(TakenOver, match="somebody who deleted its lease"):
            while True:
                with not_none(mirror).changing():
                    pass
        fsspec.filesystem("memory").pipe_file("/often/run/.lease.json", lease_of(folder))
    monkeypatch.setenv("HAFBENCH_UPLOAD_SECONDS", "soon")
    with pytest.raises(HafError, match="HAFBENCH_UPLOAD_SECONDS is soon"), writing(address, LAYOUT):
        pass


def lease_of(folder: Path) -> bytes:
    owner = json.loads((folder.parent / "state.json").read_text())["owner"]
    held = {"owner": owner, "host": "here", "process": 1, "renewed": datetime.now(UTC).isoformat(), "seconds": 300}
    return json.dumps(held).encode()


def test_a_folder_of_somebody_else_is_left_alone(line: list[int]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/other/thesis.tex", b"...")
    with pytest.raises(HafError, match=r"memory://other holds other files \(thesis\.tex, \.\.\.\)"):
        drawn("memory://other")
    with pytest.raises(HafError, match="is not a run folder: it has no"):
        read_run("memory://other")
    drawn("memory://other/run")
    other, same = manifest_of(SCORERS, {"steps": 7}), manifest_of(SCORERS, {"broken": []})
    with pytest.raises(HafError, match="memory://other/run was started with"), open_run("memory://other/run", other):
        pass
    with pytest.raises(HafError, match="holds a run already"), open_run("memory://other/run", same, resume=False):
        pass
    assert drawn("memory://other/run")[1] == 0


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("hf://datasets/owner/name", HafError, "can only be read: the hub makes a commit of each file"),
        ("https://server/run", HafError, "can only be read: a web server takes no files"),
        ("nosuch://bucket/run", HafError, "Protocol not known: nosuch"),
        ("file:///tmp/run", HafError, "file:// is no store; give a path"),
        ("simplecache::s3://bucket/run", HafError, "is no store"),
        ("gs://bucket/run", Unavailable, "`pip install gcsfs`"),
        ("s3://user:secret@bucket/run", HafError, "may hold no password"),
        ("s3://bucket/run?X-Amz-Signature=secret", HafError, "may hold no password or signature"),
    ],
)
def test_addresses_that_cannot_be_written_are_one_sentence(address: str, kind: type[HafError], words: str) -> None:
    for where in (address, Path(address)):
        with pytest.raises(kind, match=words) as caught:
            check_out(where)
        assert "secret" not in str(caught.value)
    result = CliRunner().invoke(app, ["run", "--out", address])
    assert isinstance(result.exception, kind)


def test_a_bucket_that_is_not_there_and_missing_keys_are_one_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadImage), writing(f"{bucket}/nothing", LAYOUT):
        raise BadImage("before anything was begun")
    assert files_at(f"{bucket}/nothing") == {}
    assert not fsspec.filesystem("s3").exists("pictures/nothing/.lease.json")
    with pytest.raises(HafError, match=r"s3://no-such-bucket/run cannot be written .*bucket does not exist"):
        drawn("s3://no-such-bucket/run")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    system = type(fsspec.filesystem("s3"))
    system.clear_instance_cache()
    with pytest.raises(HafError, match=r"s3://pictures/run cannot be written .*locate credentials.; set them"):
        check_out(f"{bucket}/run")
    system.clear_instance_cache()


def test_a_path_that_has_lost_a_slash_is_the_same_address() -> None:
    for address in ("s3://bucket/a/b", "memory://x", "abfss://container@account/run"):
        assert address_of(address) == address_of(Path(address)) == shown(Path(address)) == address
    for path in ("runs/x", "/tmp/a:b", "C:/runs", "a/s3:/x"):
        assert address_of(path) is None
        assert shown(path) == path


def test_images_and_run_in_one_store(line: list[int]) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.png", "runs/x/report/plot.png", "runs/x2/b.png"):
        with memory.open(f"/mixed/{name}", "wb") as file:
            painted(name, 0).save(file, format="PNG")
    source = open_source("memory://mixed")
    own = [image.name for image in source.images() if lies_in(source, image, Path("memory://mixed/runs/x"))]
    assert own == ["runs/x/report/plot.png"]
    with pytest.raises(HafError, match="is the folder of images itself"):
        hafbench.score(ScoreSpec(images="memory://mixed", scorers=(ScorerSpec(name="digits"),)), out="memory://mixed")


def test_labels_of_a_run_in_a_store_are_kept_here(line: list[int], tmp_path: Path) -> None:
    from hafbench.labelling.start import Labelling, start

    address = "memory://labelled/run"
    drawn(address)
    with pytest.raises(HafError, match="give --store FILE with a run at an address"):
        start(Labelling((Path(address),)))
    session, _ = start(Labelling((Path(address),), store=tmp_path / "labels.sqlite"))
    session.store.close()
    labels = LabelStore(tmp_path / "labels.sqlite", must_exist=True)
    pictures = list(labels.pictures().values())
    labels.close()
    assert {one.folder for one in pictures} == {address}
    assert pictures[0].place.read().startswith(b"\x89PNG")
    result = CliRunner().invoke(app, ["report", address, "--labels"])
    assert f"{address} has no labels" in str(result.exception)


def test_a_data_set_in_a_store_is_validated_audited_exported_and_fitted(
    tmp_path: Path, bucket: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{bucket}/sets/pairs"
    made(tmp_path / "here")
    made(address)
    assert_same_pairs(address, tmp_path / "here")
    elsewhere()
    monkeypatch.chdir(tmp_path)
    copy = reading_copy(address, HAP)
    assert read_hap(copy).counts == read_hap(tmp_path / "here").counts
    assert [pair.id for pair in read_pairs(copy)] == [pair.id for pair in read_pairs(tmp_path / "here")]
    assert validate(copy) == []
    runner = CliRunner()
    assert runner.invoke(asap_app, ["validate", address]).output == f"14 pairs in {address}: no problems.\n"
    assert runner.invoke(asap_app, ["audit", address, "--quiet"]).exit_code == 0
    assert (tmp_path / "audit.html").exists()
    assert runner.invoke(asap_app, ["export", address, "--out", "pairs.parquet"]).exit_code == 0
    assert (
        runner.invoke(asap_app, ["import", "pairs.parquet", "--out", f"{bucket}/sets/taken", "--no-gates"]).exit_code
        == 0
    )
    assert read_hap(reading_copy(f"{bucket}/sets/taken", HAP)).counts.pairs == 14
    config = FitConfig.of("mannequin", Path(address), "fit")
    assert as_plain(config)["pairs"] == address
    with pytest.raises(HafError, match="is not a data set folder: it has no"):
        reading_copy(f"{bucket}/sets/none", HAP)
    with pytest.raises(HafError, match="a fit is kept on a disk"), opened(config.model_copy(update={"out": address})):
        pass
    fsspec.filesystem("s3").rm("pictures/sets/pairs", recursive=True)
    assert kept_copy(address, HAP) == copy  # the store is not asked
    elsewhere()
    with pytest.raises(HafError, match="is not a data set folder"):
        kept_copy(address, HAP)


def test_scored_images_of_a_folder_here(tmp_path: Path, line: list[int]) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        painted(name, 0).save(tmp_path / "images" / f"{name}.png")
    source = open_source(tmp_path / "images")
    images = source.images()
    manifest = score_manifest(ScoreSpec(images=source.address, scorers=()), source, images, SCORERS)
    with open_run("memory://scored/run", manifest) as run:
        evaluate(run, samples_of(images), SCORERS)
    assert all(item.pictures for item in make_gallery(read_run("memory://scored/run")).items)


def test_messages_about_a_run_in_a_store_name_its_address(tmp_path: Path, line: list[int]) -> None:
    drawn("memory://named/run")
    manifest = manifest_of(SCORERS, Painter().settings)
    told = pytest.raises(HafError, match=r"^memory://named/run/records\.jsonl, line 1: fist/0\.png is no image")
    with told, open_run("memory://named/run", manifest) as run:
        evaluate(run, plan(PROMPTS[1:], [0, 1]), SCORERS, Painter())
    images = tmp_path / "images"
    images.mkdir()
    for colour in ("a", "b"):
        painted(colour, 0).save(images / "a.png")
        source = open_source(images)
        found = source.images()
        manifest = score_manifest(ScoreSpec(images=source.address, scorers=()), source, found, SCORERS)
        with open_run("memory://named/scored", manifest) as run:
            if colour == "b":
                with pytest.raises(HafError, match=r"^memory://named/scored: a\.png has changed"):
                    check_unchanged(run, samples_of(found), identity_of(found))
            else:
                evaluate(run, samples_of(found), SCORERS)
