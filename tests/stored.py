"""Runs and data sets as they are written to stores, and the same files here."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
from PIL.Image import Image

from asap_train.hap import to_row
from asap_train.hap.write import open_hap
from hafbench.evaluate import evaluate, plan
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from hap_pairs import painted as painted_pair
from small import Brightness, Painter, assert_stored, files_at, manifest_of

PROMPTS = [Prompt(id=name, text=f"a hand, {name}", category="basic_anatomy") for name in ("fist", "palm", "wave")]
SAMPLES = plan(PROMPTS, [0, 1])
SCORERS = {"hands": Brightness()}


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
