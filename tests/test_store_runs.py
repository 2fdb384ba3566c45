"""Runs in a store, here one in memory: nothing is lost on the way, one process writes, and others' files stay."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

import hafbench
from hafbench import record_parts
from hafbench.api import samples_of, score_manifest
from hafbench.cli import app
from hafbench.errors import HafError, RunStopped
from hafbench.evaluate import evaluate, plan
from hafbench.labelling.store import LabelStore
from hafbench.leases import TakenOver
from hafbench.mirrors import writing
from hafbench.reports.gallery import make_gallery
from hafbench.runs import LAYOUT, open_run, read_run
from hafbench.sources import identity_of, open_source, parts_of
from hafbench.sources.unchanged import check_unchanged
from hafbench.specs import ScorerSpec, ScoreSpec
from small import Painter, files_at, manifest_of, not_none, painted
from stored import PROMPTS, SCORERS, assert_same_pairs, assert_same_run, drawn, expire, made

pytestmark = pytest.mark.usefixtures("cache_of_its_own")


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


@pytest.mark.parametrize("error", [OSError("the line is cut"), KeyboardInterrupt()])
def test_a_copy_that_is_not_made_to_its_end_is_begun_again_at_once(
    line: list[int], elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    address = "memory://begun/run"

    def one_of_all(system: MemoryFileSystem, there: list[str], here: list[str], **_: Any) -> None:
        AbstractFileSystem.get(system, there[0], here[0])
        raise error

    drawn(address)
    first = os.environ["HAFBENCH_CACHE"]
    elsewhere()
    drawn(address)
    monkeypatch.setenv("HAFBENCH_CACHE", first)  # whose copy is not the last any more
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises((HafError, KeyboardInterrupt)):
            patch.setattr(MemoryFileSystem, "get", one_of_all)
            drawn(address)
        before = files_at(address)
        assert drawn(address)[1] == 0
        assert files_at(address).keys() == before.keys()
        elsewhere()


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


def test_images_and_run_in_one_store(line: list[int]) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.png", "runs/x/report/plot.png", "runs/x2/b.png"):
        with memory.open(f"/mixed/{name}", "wb") as file:
            painted(name, 0).save(file, format="PNG")
    memory.pipe({f"/mixed/runs/x/{name}": b"{}" for name in ("run.json", "records.jsonl")})
    assert [image.name for image in open_source("memory://mixed").images()] == ["a.png", "runs/x2/b.png"]
    assert parts_of("memory://mixed/runs") == ["memory://mixed/runs/x2"]
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
