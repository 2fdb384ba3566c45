"""A disk that is full at some byte, and has room again after: one sentence, then the result of a command left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from benchmarks.hostile.cases import LIMIT_S, LOG, REFUSED, Result
from benchmarks.hostile.kills import Job

AREA = "full disks"
SCRIPT = """
set -e
mount -t tmpfs -o size="$1"k tmpfs disk
shift
"$@" --out disk/out && first=0 || first=$?
mount -o remount,size=1g disk
"$@" --out disk/out && second=0 || second=$?
cp -r disk/out out
echo "$first $second" > codes
"""
"""Run in a mount namespace of its own: the small disk is there for these commands only, and ends with them."""


def available() -> bool:
    """Whether this system lets a user mount a disk in a namespace of its own."""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return tried.returncode == 0


def filled(job: Job, folder: Path, count: int, rng: Random) -> Iterator[Result]:
    """The job on `count` disks, each smaller than what the job writes when it is left alone."""
    tool = str(Path(sys.executable).with_name(job.tool))
    folder.mkdir(parents=True)
    with (folder / LOG).open("wb") as log:
        alone = subprocess.run([tool, *job.words, "--out", "whole"], cwd=folder, stdout=log, stderr=log)
    if alone.returncode:
        yield Result(AREA, job.name, "traceback", _last(folder), folder)
        return
    whole = job.fingerprint(folder / "whole")
    room = sum(path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file()) // 1024
    for number in range(count):
        size = rng.randint(room // 20, room - room // 20)
        yield _one(job, [tool, *job.words], folder / f"{number}-{size}k", size, whole)


def _one(job: Job, words: Sequence[str], folder: Path, size_kb: int, whole: object) -> Result:
    (folder / "disk").mkdir(parents=True)
    name = f"{job.name} on a disk of {size_kb} kB"
    with (folder / LOG).open("wb") as log:
        try:
            shell = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(size_kb), *words]
            subprocess.run(shell, cwd=folder, stdout=log, stderr=log, timeout=5 * LIMIT_S)
        except subprocess.TimeoutExpired:
            return Result(AREA, name, "hang", _last(folder), folder)
    printed = (folder / LOG).read_text(errors="replace")
    if "Traceback (most recent call last)" in printed or not (folder / "codes").exists():
        return Result(AREA, name, "traceback", _last(folder), folder)
    first, second = map(int, (folder / "codes").read_text().split())
    if second or first not in REFUSED | {0}:
        return Result(AREA, name, "wrong", f"exit codes {first} and {second}: {_last(folder)}", folder)
    if job.fingerprint(folder / "out") != whole:
        return Result(AREA, name, "wrong", "another result than the whole run", folder)
    sentence = next((line for line in printed.splitlines() if "disk is full" in line), "")
    if first and not sentence:
        return Result(AREA, name, "wrong", f"does not say that the disk is full: {_last(folder)}", folder)
    shutil.rmtree(folder)
    return Result(AREA, name, "refused" if first else "accepted", sentence)


def _last(folder: Path) -> str:
    return " ".join((folder / LOG).read_text(errors="replace").strip().splitlines()[-1:])
