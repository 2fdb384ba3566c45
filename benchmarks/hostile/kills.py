"""kill -9 at random lines of a journal, until the command ends; the result must be that of a command left alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.hostile.cases import LOG, Result, kill, start

LIMIT_S = 600.0


@dataclass(frozen=True)
class Job:
    """A command that goes on where it was stopped; `journal` grows by a line for each piece of work.

    `fingerprint` is what must be equal of two results, whatever the clock says.
    """

    name: str
    tool: str
    words: tuple[str, ...]
    journal: str
    fingerprint: Callable[[Path], Any]


def _files(folder: Path, *patterns: str) -> dict[str, str]:
    """The SHA-256 of the files by their names."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _records(out: Path) -> Any:
    import pandas as pd

    records = pd.read_parquet(out / "records.parquet")
    rows = records.astype(str).sort_values(["image", "scorer"]).to_dict("records")
    return rows, _files(out, "images/**/*.png")


def _pairs(out: Path) -> Any:
    manifest = json.loads((out / "hap.json").read_text())
    return [manifest[key] for key in ("shards", "counts", "rejections")], _files(out, "data/*")


def _checkpoints(out: Path) -> Any:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    clock = ("pairs_per_second", "memory")
    return [{key: row[key] for key in row if key not in clock} for row in rows], _files(
        out, "checkpoints/**/*.safetensors"
    )


def jobs(pairs: Path) -> tuple[Job, ...]:
    """The commands that can be killed; `pairs` is the data set that the fit is of."""
    run = ("run", "--model", "mannequin", "--limit", "6", "--seeds", "4", "--batch-size", "2", "--scorers", "iqa")
    fast = ("--quiet", "--set", "model.arguments.num_inference_steps=1")
    fit = ("fit", "--model", "mannequin", "--pairs", str(pairs), "--steps", "12", "--no-score", "--quiet")
    small = ("checkpointing_steps=3", "train_batch_size=1", "gradient_accumulation_steps=1", "lr_warmup_steps=2")
    synth = ("synth", "--source", "mannequin", "--count", "40", "--size", "64", "--workers", "1", "--quiet")
    return (
        Job(
            "run",
            "hafbench",
            (*run, *fast),
            "records.jsonl",
            _records,
        ),
        Job("synth", "asap-train", synth, "journal.jsonl", _pairs),
        Job(
            "fit", "asap-train", (*fit, *(word for one in small for word in ("--set", one))), "log.jsonl", _checkpoints
        ),
    )


def lines(path: Path) -> int:
    """Whole lines of a journal that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(job: Job, folder: Path, kills: int, rng: Random, context: ForkServerContext) -> Iterator[Result]:
    """A result for each kill, and the findings: that a command did not go on, or ended with another result."""
    folder.mkdir(parents=True)

    def run(out: str) -> Any:
        return start(context, job.tool, (*job.words, "--out", out), folder)

    def ended(process: Any, out: str) -> Result | None:
        process.join(LIMIT_S)
        hangs = process.is_alive()
        kill(process)
        if not hangs and process.exitcode == 0:
            return None
        said = (folder / LOG).read_text(errors="replace").strip().splitlines()[-1:]
        return Result(f"kills of {job.name}", out, "hang" if hangs else "traceback", " ".join(said), folder)

    if problem := ended(run("whole"), "whole"):
        yield problem
        return
    whole, total = job.fingerprint(folder / "whole"), lines(folder / "whole" / job.journal)
    done = 0
    for turn in range(kills):  # a command that ends before it is killed must not be tried for ever
        out = f"killed-{turn}"
        journal = folder / out / job.journal
        while done < kills and lines(journal) < total - 1:
            process = run(out)
            wanted = lines(journal) + rng.randint(0, max(1, total // 4))
            while process.is_alive() and lines(journal) < wanted:
                process.join(0.002)
            process.join(rng.uniform(0, 0.1))
            if not process.is_alive():
                break
            kill(process)
            done += 1
            yield Result(f"kills of {job.name}", f"at line {lines(journal)} of {total}", "accepted", "")
        if problem := ended(run(out), out):
            yield problem
            return
        if job.fingerprint(folder / out) != whole:
            yield Result(f"kills of {job.name}", out, "wrong", "another result than the whole run", folder)
            return
        shutil.rmtree(folder / out)
        if done == kills:
            return
