"""kill -9 at any moment: the same command again ends with the same records as a run that was left alone."""

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from hafbench.runs import read_run
from tiny_pipelines import build_flux

MOMENTS = 10


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def hafbench(words: list[str], log: Path) -> None:
    """The real command in this process, its words on stderr kept in a file."""
    from hafbench.cli import main

    sys.argv = ["hafbench", *words]
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)
        main()


@pytest.fixture(scope="module")
def server() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that start with the heavy imports done, so that the kills fall into the run itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preload"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the server of Python 3.11 does not take our sys.path
        yield context


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_equals_one_that_ran_through(
    tmp_path: Path, server: multiprocessing.context.ForkServerContext
) -> None:
    model = build_flux(tmp_path / "flux")
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(f'{{"id": "p{i}", "text": "an open hand, number {i}"}}\n' for i in range(12)))
    words = ["run", "--model", str(model), "--suite", str(suite), "--seeds", "6", "--scorers", "iqa", "--quiet"]
    words += [
        "--batch-size",
        "3",
    ]
    for argument in ("num_inference_steps=2", "height=64", "width=64"):
        words += ["--set", f"model.arguments.{argument}"]

    def start(out: Path) -> multiprocessing.process.BaseProcess:
        process = server.Process(target=hafbench, args=([*words, "--out", str(out)], tmp_path / "log"))
        process.start()
        return process

    whole = start(tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0, (tmp_path / "log").read_text()

    moments = random.Random(20261123)
    journal = tmp_path / "run" / "records.jsonl"
    for _ in range(MOMENTS):
        process = start(tmp_path / "run")
        # Up to two images further than the last time, and then at any moment: 72 images are not done in ten such turns.
        rows = lines(journal) + moments.randint(0, 2)
        while process.is_alive() and lines(journal) < rows:
            process.join(timeout=0.005)
        process.join(timeout=moments.uniform(0, 0.15))
        assert process.is_alive(), (tmp_path / "log").read_text()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    last = start(tmp_path / "run")
    last.join()
    assert last.exitcode == 0, (tmp_path / "log").read_text()

    pd.testing.assert_frame_equal(read_run(tmp_path / "run").records, read_run(tmp_path / "whole").records)
    for image in (tmp_path / "whole" / "images").rglob("*.png"):
        assert (tmp_path / "run" / image.relative_to(tmp_path / "whole")).read_bytes() == image.read_bytes()
