"""How time and memory grow with the pictures of a run: `python benchmarks/scale.py [--sizes 100000,1000000]`.

Tables of records without pictures, three scorers, four pictures a prompt. Each step runs in a process of its own: CPU
time, and the most memory over that of the imports. `--sizes 1000000` takes 4 GB of disk and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hafbench import api
from hafbench.manifest import Counts, ImagesFacts, Manifest, ScorerFacts, write_manifest
from hafbench.provenance import made_with, now
from hafbench.record_parts import PART_ROWS, Part
from hafbench.records import Sample, arrow_schema
from hafbench.runs import open_run, read_run
from hafbench.specs import ScoreSpec
from hafbench.suites import CATEGORIES, Prompt

ROLES = {"hands": "anatomy", "limbs": "anatomy", "clip": "quality"}
SEEDS = 4


def table_of(first: int, images: int, seed: int) -> pa.Table:
    """Records of so many images from the `first` on, in the order of a run.

    Names, hashes, values and keypoints differ as those of a real run do, so that a file is as large.
    """
    rng = np.random.default_rng([seed, first])
    scorers = len(ROLES)
    count = images * scorers
    number = np.repeat(np.arange(images), scorers)
    prompts = [(first + i) // SEEDS for i in range(images)]
    anatomy = np.tile([role == "anatomy" for role in ROLES.values()], images)
    value = rng.random(count)
    bad = anatomy & (value > 0.6)
    measures = pa.array([[], [("hands", 2.0), ("pixels", 300.0)]], arrow_schema().field("measures").type)

    def of_image(values: Sequence[str] | Sequence[int]) -> pa.Array:
        return pa.array(values).take(pa.array(number))

    columns = {
        "image": of_image([f"p{p}/{(first + i) % SEEDS}.png" for i, p in enumerate(prompts)]),
        "sha256": of_image(
            [f"{seed:08x}{line.tobytes().hex()}" for line in rng.integers(256, size=(images, 28), dtype="u1")]
        ),
        "width": np.full(count, 1024),
        "height": np.full(count, 1024),
        "prompt_id": of_image([f"p{p}" for p in prompts]),
        "prompt": of_image([f"a photo of a person who raises {p} fingers" for p in prompts]),
        "category": of_image([CATEGORIES[p % len(CATEGORIES)] for p in prompts]),
        "seed": of_image([(first + i) % SEEDS for i in range(images)]),
        "scorer": list(ROLES) * images,
        "scorer_version": ["1"] * count,
        "status": ["scored"] * count,
        "value": value,
        "is_error": pa.array(bad, mask=~anatomy),
        "findings": findings_of(bad, rng),
        "measures": measures.take(pa.array(anatomy.astype(int))),
    }
    blank = pa.nulls(count)
    return pa.table({f.name: columns.get(f.name, blank) for f in arrow_schema()}).cast(arrow_schema())


def findings_of(bad: NDArray[np.bool_], rng: np.random.Generator) -> pa.Array:
    """Of each bad row one finding with a box and 21 keypoints, as a detector of hands gives them."""
    kind = arrow_schema().field("findings").type
    count = int(bad.sum())

    def lists(values: Any, size: int) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32)), values)

    fields = {
        "region": pa.repeat("hands", count),
        "kind": pa.repeat("extra", count),
        "detail": pa.repeat("extra_digit", count),
        "score": pa.array(rng.random(count)),
        "box": lists(pa.array(1024 * rng.random(4 * count)), 4),
        "keypoints": lists(lists(pa.array(1024 * rng.random(63 * count)), 3), 21),
    }
    flat = pa.StructArray.from_arrays([fields[f.name] for f in kind.value_type], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(np.r_[0, np.cumsum(bad)].astype(np.int32)), flat)


def tables_of(images: int, seed: int) -> Iterator[pa.Table]:
    """The same as parts of PART_ROWS, as those of a run."""
    step = PART_ROWS // len(ROLES)
    for first in range(0, images, step):
        yield table_of(first, min(step, images - first), seed)


def manifest_of(name: str, images: int, ended: bool) -> Manifest:
    """Their run.json."""
    facts = {
        name: ScorerFacts.model_validate({"version": "1", "role": role, "about": name, "higher_is_better": False})
        for name, role in ROLES.items()
    }
    return Manifest(
        command="score",
        name=name,
        request=ScoreSpec(images="images", scorers=()),
        images=ImagesFacts(folder="images", sha256="0", prompts=None),
        scorers=facts,
        image_root="images",
        ended=now() if ended else None,
        counts=Counts(images=images, scored=images * len(ROLES)) if ended else Counts(),
        **made_with(),
    )


def write_done(folder: Path, images: int, seed: int) -> None:
    """A run that has ended."""
    folder.mkdir()
    with pq.ParquetWriter(folder / "records.parquet", arrow_schema(), write_page_checksum=True) as writer:
        for table in tables_of(images, seed):
            writer.write_table(table)
    write_manifest(folder, manifest_of(folder.name, images, True))


def write_growing(folder: Path, images: int) -> None:
    """A run that goes on, of which so many images have records, all in parts."""
    (folder / "parts").mkdir(parents=True)
    parts = []
    for place, part in enumerate(tables_of(images, 1)):
        name = f"parts/{place:06d}.parquet"
        pq.write_table(part, folder / name, write_page_checksum=True)
        parts.append(Part(file=name, rows=len(part), images=len(part) // len(ROLES)).model_dump())
    (folder / "parts.json").write_text(json.dumps(parts))
    write_manifest(folder, manifest_of(folder.name, images, False))


def samples_of(images: int) -> list[Sample]:
    """The images that the run is to have."""
    prompts = [Prompt(id=f"p{p}", text=f"a photo of {p} fingers") for p in range((images + SEEDS - 1) // SEEDS)]
    return [Sample(f"p{i // SEEDS}/{i % SEEDS}.png", prompts[i // SEEDS], i % SEEDS) for i in range(images)]


def report(folder: Path, images: int) -> None:
    """`hafbench report`."""
    api.report(folder / "one")


def compare(folder: Path, images: int) -> None:
    """`hafbench compare` of two runs."""
    api.compare([folder / "one", folder / "two"], out=folder / "compared")


def resume(folder: Path, images: int) -> None:
    """What comes before the next image of a half-done run."""
    samples = samples_of(images)
    with open_run(folder / "half", manifest_of("half", images, False)) as run:
        run.check_samples(samples)
        todo = [sample for sample in samples if sample.image not in run.finished_images]
    assert len(todo) == images - images // 2


def finish(folder: Path, images: int) -> None:
    """Writing records.parquet and records.csv of a run in parts, and reading it back."""
    with open_run(folder / "growing", manifest_of("growing", images, False)) as run:
        run.finish([sample.image for sample in samples_of(images)])


def read(folder: Path, images: int) -> None:
    """`hafbench.read_run`, with which `hafbench run` and `score` end."""
    read_run(folder / "one")


STEPS: Mapping[str, Callable[[Path, int], None]] = {
    "report": report,
    "compare": compare,
    "resume": resume,
    "finish": finish,
    "read_run": read,
}


@dataclass(frozen=True)
class Cost:
    """CPU seconds, and megabytes over those of the imports."""

    seconds: float
    megabytes: float


def measured(step: str, folder: Path, images: int) -> Cost:
    """One step in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(queue, step, folder, images))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)
    return Cost(*queue.get())


def _measure(
    queue: multiprocessing.queues.SimpleQueue[tuple[float, float]], step: str, folder: Path, images: int
) -> None:
    import hafbench.comparison
    import hafbench.reports.comparison  # noqa: F401 (imported before it is measured)

    Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from here on
    before, start = _status("VmRSS"), time.process_time()
    STEPS[step](folder, images)
    spent = time.process_time() - start
    queue.put((spent, (_status("VmHWM") - before) / 1024))


def _status(name: str) -> int:
    """A number of kilobytes that Linux keeps of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])


def main() -> None:
    """Print a line for each step and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--steps", default=",".join(STEPS))
    asked = parser.parse_args()
    print("| step | pictures | CPU s | MB |\n|---|---|---|---|")
    for size in map(int, asked.sizes.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_done(folder / "one", size, 1)
            write_done(folder / "two", size, 2)
            write_growing(folder / "half", size // 2)
            write_growing(folder / "growing", size)
            for step in asked.steps.split(","):
                cost = measured(step, folder, size)
                print(f"| {step} | {size:,} | {cost.seconds:.1f} | {cost.megabytes:.0f} |", flush=True)


if __name__ == "__main__":
    main()
