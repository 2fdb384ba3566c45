"""`python -m benchmarks.hostile [--inputs 2000] [--kills 100] [--minutes 120] [--seed 0] [--areas images,entries]`.

Runs the real commands on hostile inputs, kills them, gives them very many files, and prints the table of what came of
it. The inputs follow from the seed. The folder of each finding is kept: its input, `case.txt` with the command, and
`output.txt`. Exits with 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

from benchmarks.hostile.bulk import bulk
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
    with server() as context:
        bases = make_bases(folder / "bases", context)
        found = cases(areas, bases, asked.inputs, asked.seed)
        for result in run_all(found, folder, context, workers=asked.workers, minutes=asked.minutes):
            results.append(result)
            if result.outcome in FINDINGS:
                print(f"{result.outcome}: {result.area}: {result.name}: {result.said[:200]}", flush=True)
            elif len(results) % 100 == 0:
                print(f"{len(results)} inputs", flush=True)
        for number, job in enumerate(jobs(bases.pairs)):
            count = asked.kills if number == 0 else asked.kills // 2
            if count:
                results += killed(job, folder / f"kills-{job.name}", count, Random(f"{asked.seed} {job.name}"), context)
        if asked.files:
            results += bulk(folder / "bulk", asked.files, 4 * asked.files, context)
    print("\n".join(["", *findings(results), "", table(results), "", f"Findings are kept in {folder}."]))
    return int(any(result.outcome in FINDINGS for result in results))


if __name__ == "__main__":
    sys.exit(main())
