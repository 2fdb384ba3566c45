"""How much faster more processes are: `python benchmarks/scaling.py [--images 96] [--only workers,devices,ray]`.

The same pictures of the built-in model are drawn and scored by 1, 2 and 4 processes and by Ray on 1 and 2 nodes of this
machine. Prints a Markdown table: pictures a second from the first record to the last, CPU seconds a picture of all
processes (with their starts; of one that ends, up to 2 s are missed), their peak memory, the load of the machine
before, and whether the records are those of one process.
"""

import argparse
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hafbench import api
from hafbench.mannequin.picture import correct_picture
from hafbench.specs import RunSpec, ScoreSpec

SCORERS = ["digits", "limb_count"]
MB = 2**20


class Clock:
    """When records came, and what all processes take: CPU time, and memory at most (PSS: shared pages count once)."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.peak = 0
        self._began = time.time()
        self._cpu: dict[int, tuple[float, float]] = {}
        self._stop = threading.Event()

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        self.times.append(time.perf_counter())

    @property
    def speed(self) -> float:
        """Pictures a second, without the time to start."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    @property
    def cost(self) -> float:
        """CPU seconds a picture."""
        return sum(last - first for first, last in self._cpu.values()) / len(self.times)

    def watch(self) -> None:
        while not self._stop.wait(2.0):
            self.look()

    def look(self) -> None:
        """Note what they have taken so far."""
        own = psutil.Process()
        ray = [one for one in psutil.process_iter(["cmdline"]) if "ray::" in " ".join(one.info["cmdline"] or [])]
        total = 0
        for process in {own, *own.children(recursive=True), *ray}:
            try:
                cpu = sum(process.cpu_times()[:2])
                total += process.memory_full_info().pss
                first, _ = self._cpu.get(process.pid, (cpu if process.create_time() < self._began else 0.0, cpu))
            except psutil.Error:
                continue
            self._cpu[process.pid] = first, cpu
        self.peak = max(self.peak, total)

    def stop(self) -> None:
        self.look()
        self._stop.set()


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """Ray with so many nodes of one core each, on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2 // count, "object_store_memory": 200 * MB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(count - 1):
        cluster.add_node(num_cpus=2 // count, object_store_memory=200 * MB)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def measured(name: str, spec: RunSpec | ScoreSpec, out: Path) -> tuple[float, str]:
    """A run's pictures a second, and a hash of its records; prints its row."""
    load = os.getloadavg()[0]
    clock = Clock()
    clock.look()
    thread = threading.Thread(target=clock.watch)
    thread.start()
    try:
        run = (api.run if isinstance(spec, RunSpec) else api.score)(spec, out=out, progress=clock)  # type: ignore[operator]
    finally:
        clock.stop()
        thread.join()
    digest = hashlib.sha256((run.folder / "records.parquet").read_bytes()).hexdigest()[:8]
    print(
        f"| {name} | {clock.speed:.2f} | {clock.cost:.3f} | {clock.peak / 1e9:.1f} | {load:.1f} | {digest} |",
        flush=True,
    )
    return clock.speed, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--only", default="workers,devices,ray")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _pictures(folder / "images", args.images)
        plain: dict[str, Any] = {"device": "cpu", "scorers": SCORERS}
        score = {**plain, "images": folder / "images"}
        draw = {**plain, "limit": 4, "seeds": args.images // 4, "batch_size": 4}
        print("| what | pictures/s | CPU s a picture | GB | load before | records |\n|---|---|---|---|---|---|")
        if "workers" in args.only:
            for count in (1, 2, 4):
                spec = ScoreSpec.model_validate({**score, "workers": count})
                measured(f"score, {count} workers", spec, folder / f"workers{count}")
        if "devices" in args.only:
            for devices in (None, "cpu,cpu"):
                spec_of_run = RunSpec.model_validate({**draw, "devices": devices})
                measured(f"run, devices {devices or 'none'}", spec_of_run, folder / f"devices{devices}")
        if "ray" in args.only:
            for count in (1, 2):
                with nodes(count):
                    remote = {"engine": {"engine": "ray", "scorers": 2}}
                    measured(
                        f"score, Ray, {count} nodes", ScoreSpec.model_validate(score | remote), folder / f"s{count}"
                    )


def _pictures(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    for seed in range(count):
        Image.fromarray(correct_picture(seed).image).save(folder / f"{seed}.png")


if __name__ == "__main__":
    main()
