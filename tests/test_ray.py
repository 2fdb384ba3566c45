"""A Ray cluster of two nodes on this machine: order, what is killed, back-pressure, and the records of one process."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from asap_train import api as train_api
from hafbench import api
from hafbench.engines.ray_data import Stage, stream
from hafbench.mannequin.picture import correct_picture
from hafbench.specs import RunSpec
from ray_stages import Numbers, Works
from scored_fits import Seen, fit_config, make_parts
from small import assert_stored

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
MB = 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One node, to which tests may add another; this process belongs to it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OMP_NUM_THREADS", "1")
        node = {"num_cpus": 2, "object_store_memory": 150 * MB, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=node)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


def rows(count: int) -> list[dict[str, int]]:
    return [{"number": number} for number in range(count)]


def lines(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()]


def test_a_slow_stage_holds_back_the_one_before_and_order_is_kept(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    stages = [Stage(Numbers, (log, MB // 10), 1, 1.0), Stage(Works, (), 1, 1.0)]
    seen = []
    ahead = 0
    for row in stream(rows(80), stages, in_flight_mb=2):
        seen.append(row["number"])
        ahead = max(ahead, len(lines(log)) - len(seen))
    assert seen == list(range(80))
    assert 0 < ahead <= 50  # 2 MB are 20; blocks on their way are counted late


def test_a_killed_actor_costs_nothing_but_what_it_held(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    stages = [Stage(Numbers, (log, 1000), 1, 0.5), Stage(Works, (), 2, 0.5)]
    seen, killed = [], 0
    for row in stream(rows(60), stages, in_flight_mb=64):
        seen.append(row["number"])
        if len(seen) == 10:
            killed = row["pid"]
            os.kill(killed, signal.SIGKILL)
    assert killed and seen == list(range(60))
    assert len(lines(log)) <= 60 + 10


def test_a_killed_node_costs_nothing_but_what_was_in_flight(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=2, object_store_memory=100 * MB)
    log = tmp_path / "log"
    stages = [Stage(Numbers, (log, 200_000), 2, 0.5), Stage(Works, (), 2, 0.5)]
    seen, nodes = [], set()
    for row in stream(rows(80), stages, in_flight_mb=64):
        seen.append(row["number"])
        nodes.add(row["node"])
        if len(seen) == 20:
            cluster.remove_node(second, allow_graceful=False)
    assert seen == list(range(80))
    assert len(nodes) == 2
    assert set(lines(log)) == set(range(80))


def asked(folder: Path, **more: Any) -> RunSpec:
    suite = folder / "suite.jsonl"
    suite.write_text("".join(f'{{"id": "p{i}", "text": "an open hand, number {i}"}}\n' for i in range(8)))
    arguments = {"num_inference_steps": 2, "height": 64, "width": 64}
    model = {"model": str(folder / "flux"), "arguments": arguments}
    plain = {"model": model, "suite": str(suite), "batch_size": 3, "scorers": ["digits"], "device": "cpu"}
    return RunSpec.model_validate({**plain, **more})


DRIVER = """
import os, signal, sys
from pathlib import Path
from hafbench import api
from test_ray import asked

class Killed:
    def start(self, task, total, done=0): pass
    def update(self, task, done, note=""):
        if done == 3: os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
api.run(asked(folder, engine={"engine": "ray", "address": sys.argv[2]}), out=folder / "ray", progress=Killed())
"""


def test_a_killed_driver_is_resumed_and_records_are_those_of_one_process(
    cluster: Any, tmp_path: Path, one_thread: None
) -> None:

    from tiny_pipelines import build_flux

    build_flux(tmp_path / "flux")
    words = [sys.executable, "-c", DRIVER, str(tmp_path), cluster.address]
    ended = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    kept = (tmp_path / "ray" / "records.jsonl").read_bytes()
    assert kept.count(b"\n") == 3
    remote = api.run(asked(tmp_path, engine="ray"), out=tmp_path / "ray")
    local = api.run(asked(tmp_path), out=tmp_path / "local")
    for name in ("records.jsonl", "records.parquet", "records.csv"):
        assert (remote.folder / name).read_bytes() == (local.folder / name).read_bytes()
    assert remote.manifest.generator == local.manifest.generator
    assert remote.manifest.scorers == local.manifest.scorers
    for image in (local.folder / "images").rglob("*.png"):
        assert (remote.folder / image.relative_to(local.folder)).read_bytes() == image.read_bytes()


def test_a_cluster_writes_a_run_in_a_store(
    bucket: str, cluster: Any, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_pipelines import build_flux

    build_flux(tmp_path / "flux")
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))
    here = api.run(asked(tmp_path), out=tmp_path / "here")
    api.run(asked(tmp_path, engine="ray"), out=f"{bucket}/ray")
    assert_stored(f"{bucket}/ray", here.folder)


def test_ctrl_c_is_one_sentence_and_leaves_no_process(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1)
    (tmp_path / "images").mkdir()
    for number in range(200):
        Image.fromarray(numbers.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(tmp_path / f"images/{number}.png")
    code = "from hafbench.cli import main; main()"
    asked = ("score", "images", "--scorers", "digits", "--device", "cpu", "--out", "run", "--quiet")
    words = [sys.executable, "-c", code, *asked, "--engine", "ray", "--address", "local"]
    # A session of its own, whose processes all get the signal, as those of a terminal do.
    command = psutil.Popen(words, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True)
    records = tmp_path / "run" / "records.jsonl"
    while command.poll() is None and not (records.exists() and records.stat().st_size):
        with contextlib.suppress(psutil.TimeoutExpired):
            command.wait(0.1)
    others = command.children(recursive=True)
    os.killpg(command.pid, signal.SIGINT)
    _, said = command.communicate()
    assert (command.returncode, said) == (130, "hafbench: stopped; run the same command again to resume.\n")
    assert records.read_bytes().endswith(b"\n")
    assert others
    assert not psutil.wait_procs(others, timeout=30)[1]


def test_checkpoints_of_a_fit_are_scored_by_the_cluster_while_training_goes_on(
    cluster: Any, tmp_path: Path, one_thread: None
) -> None:
    made = make_parts(tmp_path)
    local = train_api.fit(fit_config(made, tmp_path / "fits" / "local", "local"))
    config = fit_config(made, tmp_path / "fits" / "ray", {"engine": "ray", "address": cluster.address})
    seen = Seen(config.out)
    remote = train_api.fit(config, progress=seen)
    assert seen.scored == {1: set(), 2: set(), 3: set(), 4: set()}
    for step in ("000002", "000004"):
        records = [fit.folder / "scores" / step / "records.csv" for fit in (local, remote)]
        assert records[0].read_bytes() == records[1].read_bytes()
    assert remote.scores == local.scores


@pytest.fixture(params=["mannequin", "photos"])
def pairs_from(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Seeds of the built-in world, or its renders as photos."""
    if request.param == "mannequin":
        return {"source": "mannequin", "size": 64}
    (tmp_path / "photos").mkdir()
    for seed in range(4):
        Image.fromarray(correct_picture(seed, "hand").image).save(tmp_path / "photos" / f"{seed}.png")
    return {"photos": tmp_path / "photos", "home": "mannequins"}


def test_pairs_of_a_cluster_are_those_of_one_process(cluster: Any, pairs_from: dict[str, Any], tmp_path: Path) -> None:
    from asap_train.data.spec import SynthSpec
    from asap_train.data.synthesis import synth

    plain = {**pairs_from, "count": 4, "seed": 51, "workers": 1}
    for name, engine in (("one", "local"), ("ray", {"engine": "ray", "generators": 1})):
        synth(SynthSpec.model_validate({**plain, "engine": engine}), out=tmp_path / name)
    one = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet"))
    assert one
    for path in one:
        assert (tmp_path / "ray" / path).read_bytes() == (tmp_path / "one" / path).read_bytes()
