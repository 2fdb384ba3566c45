"""The memory of a long run, and what a killed one takes to go on: `python benchmarks/long_run.py [--pictures 100000]`.

Pictures of 64 x 64 pixels in tar shards are scored by piqe, the cheapest scorer, with `hafbench score`. The process is
killed when half of them have records, and the command given again. Prints a table of its memory by pictures recorded.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from hafbench.record_parts import JOURNAL, PARTS, read_parts

SIDE, A_SHARD = 64, 5_000
EVERY = 1.0
"""Seconds between looks at the process."""


def write_shards(folder: Path, pictures: int) -> None:
    """Shards of smooth random pictures, no two alike."""
    rng = np.random.default_rng(0)
    for first in range(0, pictures, A_SHARD):
        with tarfile.open(folder / f"{first // A_SHARD:03d}.tar", "w") as tar:
            for number in range(first, min(first + A_SHARD, pictures)):
                coarse = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
                buffer = io.BytesIO()
                coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "png", compress_level=1)
                member = tarfile.TarInfo(f"{number:06d}.png")
                member.size = buffer.tell()
                tar.addfile(member, io.BytesIO(buffer.getvalue()))


@dataclass(frozen=True)
class Look:
    """A process at one time: seconds since it began, CPU seconds, memory in MB, pictures that have records."""

    seconds: float
    cpu: float
    megabytes: float
    pictures: int


def recorded(run: Path) -> int:
    """The pictures that have records: those of parts, and the lines of the journal."""
    journal = run / JOURNAL
    lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
    return sum(part.images for part in read_parts(run / PARTS)) + lines


def looks(shards: Path, run: Path) -> Iterator[tuple[psutil.Popen, Look]]:
    """`hafbench score`, looked at until it ends; the caller may kill it."""
    command = [sys.executable, "-c", "from hafbench.cli import main; main()", "score", f"{shards}/*.tar"]
    began = time.monotonic()
    with psutil.Popen([*command, "--scorers", "iqa", "--out", str(run)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                break
            if not memory.rss:  # it has ended, and was not waited for yet
                continue
            cpu = times.user + times.system
            yield process, Look(time.monotonic() - began, cpu, memory.rss / 1e6, recorded(run))
            time.sleep(EVERY)
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(process.returncode)


def main() -> None:
    """Make the shards, run, kill, run again, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10, help="rows of the table for each of the two processes")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        shards, run = Path(name), Path(name) / "run"
        write_shards(shards, asked.pictures)
        print("| process | pictures recorded | CPU s | memory, MB |\n|---|---|---|---|", flush=True)
        for process, until in (("killed", asked.pictures // 2), ("resumed", asked.pictures)):
            before, shown, look = recorded(run), recorded(run), None
            for handle, look in looks(shards, run):
                if look.pictures > before and shown == before:
                    print(
                        f"| {process}, first picture after {look.seconds:.0f} s | {look.pictures} | {look.cpu:.1f} | "
                        f"{look.megabytes:.0f} |",
                        flush=True,
                    )
                    shown = look.pictures
                if look.pictures >= shown + asked.pictures // (2 * asked.rows):
                    print(f"| {process} | {look.pictures} | {look.cpu:.1f} | {look.megabytes:.0f} |", flush=True)
                    shown = look.pictures
                if until < asked.pictures and look.pictures >= until:
                    handle.kill()
            print(
                f"| {process}, at its end | {recorded(run)} | {look.cpu if look else 0:.1f} | "
                f"{look.megabytes if look else 0:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
