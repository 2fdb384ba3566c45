"""What engines have in common, without a cluster: what a worker does with a unit, what is refused, several devices."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hafbench import api
from hafbench.engines import ray as ray_engine
from hafbench.engines.ray import Cluster, PoolSizes, _made
from hafbench.engines.ray_data import Stage, connected
from hafbench.engines.units import Asked, Found, RemoteScorer, Row, Scores, Unit, from_row, look, to_row
from hafbench.errors import HafError, RunStopped, Unavailable
from hafbench.evaluate import describe, evaluate
from hafbench.images import load_image
from hafbench.records import Sample
from hafbench.runs import open_run
from hafbench.scoring import Scored
from hafbench.sources import Content
from hafbench.specs import RunSpec, ScoreSpec
from hafbench.suites import Prompt
from small import Blueness, assert_stored, folder_manifest, manifest_of, not_none, painted

QUIET = PoolSizes(1, 1, 0.0, 1.0, 0.0, 1.0)


def in_this_process(rows: Sequence[Row], stages: Sequence[Stage], in_flight_mb: int) -> Iterator[Row]:
    """`stream` without Ray."""
    works = [stage.work(*stage.given) if stage.actors else stage.work for stage in stages]
    for row in rows:
        for work in works:
            row = work(row)
        yield row


def asked(scorers: Mapping[str, Any]) -> tuple[Asked, Found]:
    wanted = Asked(None, scorers, (), "cpu", "cpu")
    found = look(wanted)
    assert isinstance(found, Found)
    return wanted, found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(11):
        painted("p", number).resize((64, 64)).save(folder / f"{number}.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "nonsense.png").write_bytes(b"nonsense")
    (folder / "nowhere.png").symlink_to(folder / "gone")
    return folder


def test_a_cluster_writes_the_records_of_one_process_whatever_the_pictures_are(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "stream", in_this_process)
    wanted, found = asked({"digits": {}, "clip": {}})
    assert isinstance(found.scorers["clip"], Unavailable)
    local = api.score(
        ScoreSpec.model_validate({"images": pictures, "scorers": wanted.scorers, "device": "cpu"}), out=tmp_path / "one"
    )
    samples = [Sample(image) for image in dict.fromkeys(local.records["image"])]
    manifest = local.manifest.model_copy(update={"ended": None, "scorers": describe(found.scorers)})
    assert manifest.scorers == local.manifest.scorers
    missing = {name: one for name, one in found.scorers.items() if isinstance(one, Unavailable)}
    with open_run(tmp_path / "ray", manifest) as run:
        evaluate(run, samples, missing, engine=Cluster(wanted, found, QUIET, 1))
    for name in ("records.jsonl", "records.parquet"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_scorers_of_the_cluster_and_of_this_process_share_an_image(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "stream", in_this_process)
    wanted, found = asked({"digits": {}})
    here = {"iqa": Blueness()}
    with open_run(tmp_path / "run", folder_manifest({**here, **found.scorers}, pictures)) as run:
        made = evaluate(run, [Sample("0.png"), Sample("empty.png")], here, engine=Cluster(wanted, found, QUIET, 1))
    assert made.records["scorer"].tolist() == ["iqa", "digits"] * 2
    assert made.records["status"].tolist()[2:] == ["failed", "failed"]
    assert made.records["value"][0] == Blueness().score(np.asarray(load_image(pictures / "0.png")), None).value


def test_a_worker_with_other_versions_or_without_a_scorer_stops_the_run_in_one_sentence() -> None:
    wanted, found = asked({"digits": {}})
    row = to_row(Unit((Sample("0.png"),), images=("no picture",)))

    def stopped(asked: Asked, found: Found) -> str:
        unit: Unit = from_row(Scores(asked, found)(row))
        return not_none(unit.stopped)

    old = replace(wanted, versions={**wanted.versions, "hafbench": "0.0.1"})
    assert "the machine of the command has 0.0.1; install the same versions on all" in stopped(old, found)
    assert isinstance(look(old), HafError)
    missing = replace(wanted, scorers={"clip": {}})
    elsewhere = replace(found, scorers={"clip": RemoteScorer("clip", "1", "quality", True, "", {})})
    assert stopped(missing, elsewhere).startswith("The scorer 'clip' is unavailable on the node ")
    digits = found.scorers["digits"]
    assert isinstance(digits, RemoteScorer)
    other = replace(found, scorers={"digits": replace(digits, version="another")})
    assert "has other weights or settings of the scorer 'digits'" in stopped(wanted, other)


def test_what_stops_a_worker_keeps_the_images_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(rows: Sequence[Row], stages: Sequence[Stage], in_flight_mb: int) -> Iterator[Row]:
        for number, row in enumerate(in_this_process(rows, stages, in_flight_mb)):
            yield row if number == 0 else to_row(replace(from_row(row), stopped="the node is on fire"))

    monkeypatch.setattr(ray_engine, "stream", stops)
    wanted, found = asked({"digits": {}})
    samples = [Sample(f"{number}.png") for number in range(11)]
    with open_run(tmp_path / "run", folder_manifest(found.scorers, pictures)) as run:
        with pytest.raises(RunStopped, match="the node is on fire"):
            evaluate(run, samples, {}, engine=Cluster(wanted, found, QUIET, 1))
        assert len({record.image for record in run.records.journal}) == ray_engine.TOGETHER


def test_a_batch_drawn_anew_leaves_a_picture_that_has_records_as_it_was(tmp_path: Path) -> None:
    batch = tuple(Sample(f"{name}/0.png", Prompt(id=name, text="a hand"), 0) for name in "ab")
    unit = Unit(batch, (Content(b"again", "0"), Content(b"new", "1")), drawn=True, scored=(Scored(), Scored()))
    with open_run(tmp_path / "run", manifest_of({}, {})) as run:
        run.save_bytes("a/0.png", b"scored")
        assert [made.sample for made in _made(run, unit, batch[1:])] == [batch[1]]
    images = tmp_path / "run" / "images"
    assert [(images / sample.image).read_bytes() for sample in batch] == [b"scored", b"new"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engine": {"engine": "ray", "address": "10.0.0.1"}}, "give HOST:PORT of the cluster's head"),
        ({"engine": {"engine": "ray", "address": "ray://10.0.0.1:10001"}}, "give HOST:PORT of the cluster's head"),
        ({"engine": {"engine": "ray", "address": "127.0.0.1:1"}}, "127.0.0.1:1 does not answer"),
        ({"engine": {"address": "127.0.0.1:1"}}, "is for --engine ray"),
        ({"engine": {"generators": 2}}, "engine.generators is for --engine ray"),
        ({"engine": "ray", "workers": 2}, "--workers is for --engine local"),
        ({"engine": "rai"}, "There is no engine 'rai': did you mean ray?"),
        ({"engine": "ray", "devices": "all"}, "is for --engine local"),
        ({"devices": "cpu,gpu"}, "--devices cpu,gpu: gpu: write auto, cpu"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    if "ray" in str(settings):
        pytest.importorskip("ray")
    with pytest.raises(HafError) as caught:
        api.run(RunSpec.model_validate(settings), out=tmp_path / "run")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_ray_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HafError, match=r'pip install "ray\[data,default\]"'), connected(None):
        pass


@pytest.mark.parametrize(
    ("there", "settings", "draws", "sizes"),
    [
        ({"CPU": 2.0}, {}, True, (1, 1, 0.0, 0.5, 0.0, 0.5)),
        ({"CPU": 1.0}, {}, True, (1, 1, 0.0, 0.5, 0.0, 0.5)),
        ({"CPU": 8.0}, {}, False, (0, 8, 0.0, 0.5, 0.0, 0.5)),
        ({"CPU": 64.0, "GPU": 8.0}, {}, True, (8, 64, 1.0, 0.0, 0.0, 0.5)),
        ({"CPU": 64.0, "GPU": 8.0}, {"generators": 6, "gpus_per_scorer": 0.5}, True, (6, 4, 1.0, 0.0, 0.5, 0.5)),
        ({"CPU": 64.0, "GPU": 8.0}, {"scorers": 10}, True, (8, 10, 1.0, 0.0, 0.0, 0.5)),
    ],
)
def test_pools_fill_the_cluster_unless_told_otherwise(
    there: dict[str, float],
    settings: dict[str, Any],
    draws: bool,
    sizes: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    engine = RunSpec.model_validate({"engine": {"engine": "ray", **settings}}).engine
    assert PoolSizes.of(engine, "auto", draws) == PoolSizes(*sizes)  # type: ignore[arg-type]
    if "GPU" not in there:
        with pytest.raises(HafError, match="has no GPU"):
            PoolSizes.of(engine, "cuda", draws)


@pytest.mark.slow
def test_two_devices_draw_the_pictures_of_one(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    spec = RunSpec.model_validate({"limit": 3, "batch_size": 1, "scorers": ["digits"], "device": "cpu"})
    one = api.run(spec, out=tmp_path / "one")
    two = api.run(spec.model_copy(update={"devices": "cpu,cpu"}), out=tmp_path / "two")
    assert (two.folder / "records.parquet").read_bytes() == (one.folder / "records.parquet").read_bytes()
    assert one.manifest.identity() == two.manifest.identity()
    images = sorted((one.folder / "images").rglob("*.png"))
    assert len(images) == 3
    for image in images:
        assert (two.folder / image.relative_to(one.folder)).read_bytes() == image.read_bytes()


@pytest.mark.slow
def test_devices_write_a_run_in_a_store(
    tmp_path: Path, bucket: str, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))
    spec = RunSpec.model_validate({"limit": 2, "batch_size": 1, "scorers": ["digits"], "device": "cpu"})
    here = api.run(spec, out=tmp_path / "here")
    api.run(spec.model_copy(update={"devices": "cpu"}), out=f"{bucket}/devices")
    assert_stored(f"{bucket}/devices", here.folder)
