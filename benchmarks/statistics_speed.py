"""How long statistics take: `python benchmarks/statistics_speed.py`, on one core.

10,000 resamples of 500 prompts x 4 seeds x 10 scores; a million records read and summed up; and two runs of half a
million records each compared.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hafbench.comparison import compare_runs
from hafbench.figures import all_figures, category_figures, finding_rates
from hafbench.manifest import Counts, ImagesFacts, Manifest, ScorerFacts, write_manifest
from hafbench.provenance import made_with, now
from hafbench.records import arrow_schema
from hafbench.runs import read_run
from hafbench.statistics import compare_means
from hafbench.suites import CATEGORIES

ROLES = {"hands": "anatomy", "limbs": "anatomy", "clip": "quality", "iqa": "quality", "aesthetic": "quality"}


def write_run(folder: Path, records: int, seeds: int, seed: int) -> Path:
    """A run folder without images whose records are random."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    images = records // len(ROLES)
    prompts = np.arange(images) // seeds
    blank = pa.nulls(images)
    tables = []
    for name, role in ROLES.items():
        value = rng.random(images)
        bad = value > 0.6
        finding = [
            {"region": "hands", "kind": "extra", "detail": "extra_digit", "score": 0.9, "box": [1.0, 2.0, 3.0, 4.0]}
        ]
        columns = {
            "image": [f"p{p}/{i % seeds}.png" for i, p in enumerate(prompts)],
            "prompt_id": [f"p{p}" for p in prompts],
            "prompt": [f"a photo of a person who raises {p} fingers" for p in prompts],
            "category": [CATEGORIES[p % len(CATEGORIES)] for p in prompts],
            "seed": np.arange(images) % seeds,
            "scorer": [name] * images,
            "scorer_version": ["1"] * images,
            "status": ["scored"] * images,
            "value": value,
            "is_error": bad if role == "anatomy" else blank,
            "findings": [finding if b else [] for b in bad] if role == "anatomy" else [[]] * images,
            "measures": [[]] * images,
        }
        schema = arrow_schema()
        tables.append(pa.table({f.name: pa.array(columns.get(f.name, blank), f.type) for f in schema}, schema))
    pq.write_table(pa.concat_tables(tables), folder / "records.parquet")
    manifest = Manifest(
        command="score",
        name=folder.name,
        request=None,
        images=ImagesFacts(folder="images", sha256="0", prompts=None),
        scorers={
            n: ScorerFacts(version="1", role=r, higher_is_better=r == "quality", about=n) for n, r in ROLES.items()
        },
        image_root="images",
        ended=now(),
        counts=Counts(images=images, scored=records),
        **made_with(),
    )
    write_manifest(folder, manifest)
    return folder


def main() -> None:
    """Print the timings."""
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(500), 4)
    one, other = rng.normal(size=(2, 2000, 10))
    compare_means(one[:, 0], prompts, other[:, 0], prompts)
    start = time.perf_counter()
    for score in range(10):
        compare_means(one[:, score], prompts, other[:, score], prompts, resamples=10_000)
    print(f"10,000 resamples and permutations, 500 prompts x 4 seeds x 10 scores: {time.perf_counter() - start:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        runs = [write_run(Path(folder) / name, 500_000, 20, seed) for seed, name in enumerate(("one", "two"))]
        whole = write_run(Path(folder) / "whole", 1_000_000, 20, 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start = time.perf_counter()
        run = read_run(whole)
        read = time.perf_counter() - start
        all_figures(run), category_figures(run), finding_rates(run)
        print(f"a million records: read and checked: {read:.1f} s")
        print(f"a million records: read, rates of all, of categories and of kinds: {time.perf_counter() - start:.1f} s")
        del run
        start = time.perf_counter()
        compare_runs([read_run(path) for path in runs])
        print(f"two runs of half a million records compared: {time.perf_counter() - start:.1f} s")
        print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB ({before:.1f} before)")


if __name__ == "__main__":
    main()
