"""Worker processes that score: the same records as without, and how they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hafbench import api
from hafbench.errors import RunStopped
from hafbench.mannequin.picture import correct_picture
from hafbench.pools import Workers
from hafbench.progress import SILENT, Progress
from hafbench.runs import Run
from hafbench.specs import ScorerSpec, ScoreSpec
from hafbench.types import Scorer
from small import Brightness, a_scorer
from test_scoring_loop import Asked, Pairs

SCORERS = {"digits": {}, "limb_count": {}, "clip": {"model": "mannequin"}, "iqa": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mannequins of two sizes with their prompts, and a file that is no image."""
    images = tmp_path_factory.mktemp("images")
    for seed in range(8):
        Image.fromarray(correct_picture(seed, size=128 + 32 * (seed % 2)).image).save(images / f"{seed}.png")
    (images / "broken.png").write_bytes(b"nonsense")
    rows = [f"{seed}.png,a mannequin number {seed}" for seed in range(8)]
    images.with_suffix(".csv").write_text("\n".join(["image,prompt", *rows]))
    return images


def score(folder: Path, out: Path, workers: int, progress: Progress = SILENT) -> Run:
    spec = {"images": folder, "prompts": folder.with_suffix(".csv"), "scorers": SCORERS, "device": "cpu"}
    return api.score(ScoreSpec.model_validate({**spec, "workers": workers}), out=out, progress=progress)


@pytest.fixture(scope="module")
def one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of one process."""
    return (score(folder, tmp_path_factory.mktemp("one"), 1).folder / "records.jsonl").read_bytes()


def test_two_workers_write_the_records_of_one_process_byte_for_byte(folder: Path, tmp_path: Path, one: bytes) -> None:
    run = score(folder, tmp_path, 2)
    assert (tmp_path / "records.jsonl").read_bytes() == one
    assert run.manifest.counts.failed == 4  # the broken image
    assert set(run.records[run.records["scorer"] == "clip"]["status"]) == {"scored", "failed"}
    assert not multiprocessing.active_children()


class KillsWorker:
    """Kills a worker when the first image is done."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        workers = multiprocessing.active_children()
        if done == 1:
            os.kill(workers[0].pid or 0, signal.SIGKILL)
            workers[0].join()


def test_a_killed_worker_is_one_sentence_and_the_run_can_be_resumed(
    folder: Path, tmp_path: Path, one: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunStopped, match=r"A worker process ended.*run the same command again to resume"):
        score(folder, tmp_path, 2, KillsWorker())
    kept = (tmp_path / "records.jsonl").read_bytes()
    assert kept and one.startswith(kept)
    assert not multiprocessing.active_children()
    assert "Traceback" not in capfd.readouterr().err
    score(folder, tmp_path, 1)  # with another number of workers
    assert (tmp_path / "records.jsonl").read_bytes() == one


INTERRUPTED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from test_workers import score

class Interrupts:
    def start(self, task, total, done=0): pass
    def update(self, task, done, note=""): done != 1 or os.killpg(0, signal.SIGINT)

try:
    score(Path(sys.argv[1]), Path(sys.argv[2]), 2, Interrupts())
except KeyboardInterrupt:
    print("interrupted", len(multiprocessing.active_children()))
"""


@pytest.mark.slow
def test_an_interruption_ends_the_workers_without_a_word(folder: Path, tmp_path: Path, one: bytes) -> None:
    """As by Ctrl-C, which reaches every process of the terminal."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(folder), str(tmp_path / "run")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert (ended.stdout, ended.stderr) == ("interrupted 0\n", "")
    kept = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert kept and one.startswith(kept)


def test_worker_processes_take_the_scorers_that_compute_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("hands", "judge", "iqa")
    specs = [ScorerSpec.model_construct(name=name) for name in names]
    scorers: dict[str, Scorer] = dict(zip(names, (Brightness(), Asked(), Pairs()), strict=True))

    def taken(device: str) -> list[str]:
        return [spec.name for spec in Workers(2, specs, device).take(scorers).specs]

    assert taken("cpu") == ["hands", "iqa"]
    monkeypatch.setattr("hafbench.devices.pick_device", lambda device: device)  # as where there is a GPU
    assert taken("cuda") == ["hands"]


def test_what_is_scored_in_batches_on_a_gpu_says_so() -> None:
    from hafbench.types import BatchScorer

    assert isinstance(a_scorer("clip", model="mannequin"), BatchScorer)
    assert isinstance(a_scorer("iqa"), BatchScorer)
