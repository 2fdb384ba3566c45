"""Images read while they are scored: each once and in order, changed ones refused, and what a store does on the way."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from hafbench.api import samples_of, score_manifest
from hafbench.errors import HafError, RunStopped
from hafbench.evaluate import evaluate
from hafbench.images import load_image
from hafbench.records import Sample
from hafbench.runs import open_run, read_run
from hafbench.sources import open_source, parts_of, read_ahead
from pictured import EXPECTED, NAMES, png, scored, spec_of, write_folder, write_parquet, write_shards, write_tar
from small import Brightness, painted


def test_images_that_were_copied_are_resumed_and_changed_ones_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    scored(open_source(folder), tmp_path / "run")
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))
    assert scored(open_source(folder), tmp_path / "run").manifest.images is not None
    changed = folder / "000" / "wave_1.png"
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(HafError, match=r"000/wave_1\.png has changed since it was scored"):
        scored(open_source(folder), tmp_path / "run")
    changed.write_bytes(content + b"more")
    with pytest.raises(HafError, match=r"started with other settings \(images\.sha256"):
        scored(open_source(folder), tmp_path / "run")


def test_a_prompt_that_has_changed_within_a_shard_is_refused(tmp_path: Path) -> None:
    shard, said = tmp_path / "set" / "0.tar", {"prompt": "a hand", "prompt_id": "hand", "expect": {"hands": 1}}
    run = tmp_path / "run"

    def again(hands: int) -> None:
        text = json.dumps({**said, "expect": {"hands": hands}})
        os.utime(write_tar(shard, {"a.png": png("a"), "a.json": text.encode()}), (hands, hands))
        scored(open_source(shard), run)

    again(1)
    with pytest.raises(HafError, match="prompts or seeds of the images have changed since it was started"):
        again(2)
    manifest = json.loads((run / "run.json").read_text())
    del manifest["images"]["prompted"]  # as of earlier versions
    (run / "run.json").write_text(json.dumps(manifest))
    again(2)
    with pytest.raises(HafError, match="prompts or seeds of the images have changed since it was started"):
        again(1)


def test_an_image_that_could_not_be_decoded_and_still_cannot_is_resumed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    broken = folder / "000" / "wave_1.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"x" * len(whole))
    assert scored(open_source(folder), tmp_path / "run").manifest.counts.failed == 1
    os.utime(folder / "000" / "wave_0.png", (1, 1))
    assert scored(open_source(folder), tmp_path / "run").manifest.counts.failed == 1
    broken.write_bytes(whole)
    with pytest.raises(HafError, match=r"000/wave_1\.png has changed since it was scored"):
        scored(open_source(folder), tmp_path / "run")


class Counted:
    """A place that counts how often it is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.reads, self.lock = content, 0, threading.Lock()

    def read(self) -> bytes:
        with self.lock:
            self.reads += 1
        return self.content


class Waits(Brightness):
    """The same scorer in a pool of its own."""

    name = "judge"
    concurrency = 2

    def note(self) -> str:
        return ""

    def stop(self) -> None:
        """Nothing."""


def test_each_image_is_read_once_by_however_many_scorers(tmp_path: Path) -> None:
    places = {name: Counted(png(name)) for name in NAMES}
    samples = [Sample(f"{name}.png", place=place) for name, place in places.items()]
    scorers = {"hands": Brightness(), "judge": Waits()}
    source = open_source(write_folder(tmp_path / "set"))
    manifest = score_manifest(spec_of(source), source, source.images(), scorers)
    with open_run(tmp_path / "run", manifest) as run:
        evaluate(run, samples, scorers)
    assert [place.reads for place in places.values()] == [1] * len(NAMES)


def test_a_store_that_ends_in_the_middle_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path / "set"))
    images = source.images()
    manifest = score_manifest(spec_of(source), source, images, {"hands": Brightness()})
    samples = samples_of(images)

    class Gone:
        def read(self) -> bytes:
            raise RunStopped("the store cannot be reached")

    broken = [*samples[:3], Sample(samples[3].image, place=Gone()), *samples[4:]]
    with open_run(tmp_path / "run", manifest) as run, pytest.raises(RunStopped):
        evaluate(run, broken, {"hands": Brightness()})
    with open_run(tmp_path / "run", manifest) as run:
        assert len(run.finished_images) <= 3  # what was being scored is scored again
        assert len(evaluate(run, samples, {"hands": Brightness()}).records) == 5


def test_reading_ahead_keeps_the_order_and_its_bound() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    for done, value in enumerate(read_ahead(numbers(), lambda number: number, 5)):
        assert value == done
        assert len(asked) <= done + 7


def test_a_store_gives_the_records_of_the_same_files_here(tmp_path: Path, bucket: str) -> None:
    store = fsspec.filesystem("s3")
    columns = ["image", "sha256", "prompt_id", "seed", "value"]
    for write, patterns in (
        (write_folder, ["loose"]),
        (write_shards, ["tars", "tars/{000..001}.tar"]),
        (write_parquet, ["tables", "tables/*.parquet"]),
    ):
        name = patterns[0]
        here = write(tmp_path / name)
        store.put(str(here), f"pictures/{name}", recursive=True)
        wanted = scored(open_source(here), tmp_path / "here" / name).records[columns]
        for number, pattern in enumerate(patterns):
            source = open_source(f"{bucket}/{pattern}")
            run = scored(source, tmp_path / f"there{number}" / name)
            assert run.records[columns].equals(wanted)
            assert run.manifest.image_root == f"{bucket}/{pattern}"
            assert "secret" not in (run.folder / "run.json").read_text()
            image = load_image(read_run(run.folder).source.place(EXPECTED[0]))
            assert image.tobytes() == painted(NAMES[0], 0).tobytes()
    for one in (bucket, bucket.replace("s3:", "s3a:")):
        assert parts_of(one) == [f"{one}/{name}" for name in ("loose", "tables", "tars")]


def test_what_a_store_refuses_is_a_row_and_what_it_lacks_a_sentence(tmp_path: Path, bucket: str) -> None:
    store = fsspec.filesystem("s3")
    store.pipe("pictures/few/a.png", png("a"))
    store.pipe("pictures/few/b.png", png("b"))
    source = open_source(f"{bucket}/few")
    images = source.images()
    store.rm("pictures/few/b.png")
    manifest = score_manifest(spec_of(source), source, images, {"hands": Brightness()})
    samples = samples_of(images)
    with open_run(tmp_path / "run", manifest) as run:
        records = evaluate(run, samples, {"hands": Brightness()}).records
    assert list(records.status) == ["scored", "failed"]
    with pytest.raises(HafError, match=r"no such file or folder|cannot be read|not a folder"):
        open_source("s3://no-such-bucket/x").images()
