"""`python -m benchmarks.hostile [--inputs 2000] [--kills 100] [--minutes 120] [--seed 0] [--areas images,entries]`.

Runs the real commands on hostile inputs, kills them, fills their disk, gives them very many files, and prints the table
of what came of it, also when it is stopped. The inputs follow from the seed. The folder of each finding is kept: its
input, `case.txt` with the command, and `output.txt`. Exits with 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random

from benchmarks.hostile import full_disk
from benchmarks.hostile.bulk import MANY, bulk
from benchmarks.hostile.campaign import AREAS, cases, findings, make_bases, run_all, table
from benchmarks.hostile.cases import FINDINGS, Result, server
from benchmarks.hostile.kills import jobs, killed


def main() -> int:
    """The campaign that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="Hostile inputs and kills.")
    parser.add_argument("--inputs", type=int, default=2000, help="how many inputs")
    parser.add_argument(
        "--kills", type=int, default=100, help="how many kills of run; half as many of synth and of fit"
    )
    parser.add_argument("--files", type=int, default=5000, help="how many tiny files; four times as many photos")
    parser.add_argument("--disks", type=int, default=10, help="how many full disks of each command")
    parser.add_argument("--minutes", type=float, default=1e9, help="no input is begun after that")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same inputs")
    parser.add_argument("--areas", default=",".join(AREAS), help="of " + ", ".join(AREAS))
    parser.add_argument("--workers", type=int, default=2, help="inputs at a time")
    parser.add_argument("--folder", type=Path, default=None, help="where findings are kept; default: a new one")
    asked = parser.parse_args()
    areas = [area.strip() for area in asked.areas.split(",")]
    if unknown := set(areas) - set(AREAS):
        parser.error(f"no area {', '.join(sorted(unknown))}; known: {', '.join(AREAS)}")
    folder = Path(tempfile.mkdtemp(prefix="hostile-", dir=asked.folder)).resolve()
    results: list[Result] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server() as context:
        try:
            for result in campaign(asked, areas, folder, context):
                results.append(result)
                if result.outcome in FINDINGS or result.area == MANY:
                    print(f"{result.outcome}: {result.area}: {result.name}: {result.said[:200]}", flush=True)
                if len(results) % 50 == 0:
                    print(f"{len(results)} done, last {result.area}", flush=True)
        except KeyboardInterrupt:
            print("Stopped: the table is of what was done.")
    print("\n".join(["", *findings(results), "", table(results), "", f"Findings are kept in {folder}."]))
    return int(any(result.outcome in FINDINGS for result in results))


def campaign(
    asked: argparse.Namespace, areas: Sequence[str], folder: Path, context: ForkServerContext
) -> Iterator[Result]:
    """The inputs, then the kills, the full disks and the many files."""
    bases = make_bases(folder / "bases", context)
    found = cases(areas, bases, asked.inputs, asked.seed)
    yield from run_all(found, folder, context, workers=asked.workers, minutes=asked.minutes)
    for number, job in enumerate(jobs(bases.pairs)):
        if count := asked.kills if number == 0 else asked.kills // 2:
            yield from killed(job, folder / f"kills-{job.name}", count, Random(f"{asked.seed} {job.name}"), context)
    if asked.disks and not full_disk.available():
        print("No full disks: this system lets no user mount one in a namespace of its own.", flush=True)
    elif asked.disks:
        for job in jobs(bases.pairs):
            yield from full_disk.filled(job, folder / f"disks-{job.name}", asked.disks, Random(f"{asked.seed} disks"))
    if asked.files:
        yield from bulk(folder / "bulk", asked.files, 4 * asked.files, context)


if __name__ == "__main__":
    sys.exit(main())
