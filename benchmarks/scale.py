"""How time and memory grow with the pictures of a run: `python benchmarks/scale.py [--sizes 10000,100000]`.

Tables of records without pictures, three scorers, four pictures a prompt. Each step runs in a process of its own: CPU
time, and the most memory over that of the imports. What a million would take is projected from the two sizes by a line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
MILLION = 1_000_000


def table_of(images: int, seed: int) -> pa.Table:
    """Records of so many images in the order of a run: all scorers of an image one after the other."""
    rng = np.random.default_rng(seed)
    n = len(ROLES)
    number = np.repeat(np.arange(images), n)
    prompts = number // SEEDS
    anatomy = np.tile([role == "anatomy" for role in ROLES.values()], images)
    value = rng.random(images * n)
    bad = anatomy & (value > 0.6)
    points = [[float(k), float(k), 0.9] for k in range(21)]
    finding = {"region": "hands", "kind": "extra", "detail": "extra_digit", "score": 0.9, "box": [1.0, 2.0, 3.0, 4.0]}
    found = [{**finding, "keypoints": points}]
    judged = list(map(bool, anatomy))
    columns = {
        "image": [f"p{p}/{i % SEEDS}.png" for i, p in zip(number, prompts, strict=True)],
        "sha256": [f"{i:064x}" for i in number],
        "width": np.full(images * n, 1024),
        "height": np.full(images * n, 1024),
        "prompt_id": [f"p{p}" for p in prompts],
        "prompt": [f"a photo of a person who raises {p} fingers" for p in prompts],
        "category": [CATEGORIES[p % len(CATEGORIES)] for p in prompts],
        "seed": number % SEEDS,
        "scorer": list(ROLES) * images,
        "scorer_version": ["1"] * images * n,
        "status": ["scored"] * images * n,
        "value": value,
        "is_error": [bool(b) if one else None for b, one in zip(bad, judged, strict=True)],
        "findings": [found if b else [] for b in bad],
        "measures": [[("hands", 2.0), ("pixels", 300.0)] if one else [] for one in judged],
    }
    blank = pa.nulls(images * n)
    return pa.table({f.name: pa.array(columns.get(f.name, blank), f.type) for f in arrow_schema()}, arrow_schema())


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
    pq.write_table(table_of(images, seed), folder / "records.parquet", write_page_checksum=True)
    write_manifest(folder, manifest_of(folder.name, images, True))


def write_half(folder: Path, images: int) -> None:
    """A run of which half of the images have records, all in parts."""
    (folder / "parts").mkdir(parents=True)
    table, rows, parts = table_of(images // 2, 1), PART_ROWS - PART_ROWS % len(ROLES), []
    for place, start in enumerate(range(0, len(table), rows)):
        part = table.slice(start, rows)
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
    """Writing records.parquet and records.csv of a run in parts (of half as many images)."""
    with open_run(folder / "half", manifest_of("half", images, False)) as run:
        run.finish([sample.image for sample in samples_of(images // 2)])


def read(folder: Path, images: int) -> None:
    """`hafbench.read_run` with findings and measures as Python's objects."""
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


def projected(small: float, large: float, sizes: tuple[int, int]) -> float:
    """The line through two measurements, at a million."""
    return large + (large - small) / (sizes[1] - sizes[0]) * (MILLION - sizes[1])


def main() -> None:
    """Print a line for each step and size, and the projection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--steps", default=",".join(STEPS))
    asked = parser.parse_args()
    first, last = map(int, asked.sizes.split(","))
    costs: dict[tuple[str, int], Cost] = {}
    for size in (first, last):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_done(folder / "one", size, 1)
            write_done(folder / "two", size, 2)
            write_half(folder / "half", size)
            for step in asked.steps.split(","):
                costs[step, size] = measured(step, folder, size)
                print(step, size, costs[step, size], file=sys.stderr, flush=True)
    print(f"| step | {first:,}: CPU s | MB | {last:,}: CPU s | MB | 1,000,000, projected: CPU s | GB |")
    print("|---|---|---|---|---|---|---|")
    for step in asked.steps.split(","):
        one, other = costs[step, first], costs[step, last]
        seconds = projected(one.seconds, other.seconds, (first, last))
        gigabytes = projected(one.megabytes, other.megabytes, (first, last)) / 1000
        print(
            f"| {step} | {one.seconds:.1f} | {one.megabytes:.0f} | {other.seconds:.1f} | {other.megabytes:.0f} | "
            f"{seconds:.0f} | {gigabytes:.1f} |"
        )


if __name__ == "__main__":
    main()
