"""A fit that is killed at any moment and started again ends with the very numbers and weights of one left alone."""

import json
import logging
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asap_train.training.trainer import train
from fits import log_of, painted_pairs, settings, tiny_model
from hafbench.errors import HafError

STEPS = 20
KILLS = 6
# All that could be forgotten by a checkpoint: dropout and dropped captions, an average, a schedule, accumulation.
EVERYTHING = {
    "max_train_steps": STEPS,
    "checkpointing_steps": 4,
    "gradient_accumulation_steps": 2,
    "noise_draws": 2,
    "caption_dropout": 0.3,
    "ema_decay": 0.9,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 5,
    "lora": {"rank": 4, "lora_alpha": 4, "lora_dropout": 0.2},
}
KINDS: dict[str, dict[str, Any]] = {
    "8 bits": {"optimizer": "adamw8bit"},
    "in full": {"lora": None, "ema_decay": 0.5},
    "half precision": {"mixed_precision": "bf16", "gradient_checkpointing": True, "two_passes": True},
    "4 bits": {"mixed_precision": "bf16", "quantization": "nf4"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap")


def lines(fit_folder: Path) -> int:
    path = fit_folder / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Told:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.started: tuple[str, int, int] | None = None
        self.done: list[int] = []

    def start(self, task: str, total: int, done: int = 0) -> None:
        self.started = (task, total, done)

    def update(self, task: str, done: int, note: str = "") -> None:
        assert "pairs/s" in note
        self.done.append(done)


def assert_same(folder: Path, whole: Path, steps: int) -> None:
    """All that is logged, and every file of the last checkpoint to the byte."""
    assert log_of(folder) == log_of(whole)
    assert len(log_of(folder)) == steps
    last = whole / "checkpoints" / f"{steps:06d}"
    for path in last.rglob("*.safetensors"):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.fixture(scope="module")
def server() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that start with the heavy imports done, so that the kills fall into the training."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preload_fit"])
    with pytest.MonkeyPatch.context() as patch:
        own = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", own)  # the server of Python 3.11 does not take our sys.path
        patch.setenv("OMP_NUM_THREADS", "1")
        yield context


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(
    tmp_path: Path, model: Path, pairs: Path, server: multiprocessing.context.ForkServerContext
) -> None:
    configs = {name: settings(model, pairs, tmp_path / name, **EVERYTHING) for name in ("whole", "killed")}

    def start(name: str) -> multiprocessing.process.BaseProcess:
        process = server.Process(target=train, args=(configs[name],))
        process.start()
        return process

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0

    moments = random.Random(20261125)
    folder, killed = tmp_path / "killed", 0
    for _ in range(KILLS):
        process = start("killed")
        # Up to six steps further than the last checkpoint, and then at any moment.
        wanted = lines(folder) - lines(folder) % 4 + moments.randint(0, 6)
        while process.is_alive() and not 0 < wanted <= lines(folder):
            process.join(timeout=0.002)
            wanted = max(wanted, 1)
        process.join(timeout=moments.uniform(0, 0.1))
        killed += process.is_alive()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert killed >= KILLS / 2
    last = start("killed")
    last.join()
    assert last.exitcode == 0
    assert_same(folder, tmp_path / "whole", STEPS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_exactly_with_every_way_to_train(tmp_path: Path, model: Path, pairs: Path, kind: str) -> None:
    if kind == "8 bits":
        pytest.importorskip("bitsandbytes")
    whole, parted = (settings(model, pairs, tmp_path / name, **KINDS[kind]) for name in ("whole", "parted"))
    train(whole)
    train(parted, on_checkpoint=lambda checkpoint, step: True)
    assert len(log_of(parted.out)) == 2
    train(parted)
    assert_same(parted.out, whole.out, 4)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, model: Path, pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(model, pairs, tmp_path / "fit", **EVERYTHING)
    train(config)
    whole = log_of(config.out)
    last = config.out / "checkpoints" / f"{STEPS:06d}"
    files = ("pytorch_lora_weights.safetensors", "state.safetensors")
    weights = {name: (last / name).read_bytes() for name in files}
    damaged = bytearray(weights["state.safetensors"])
    damaged[-1] ^= 1
    (last / "state.safetensors").write_bytes(damaged)
    (config.out / "checkpoints" / "000016" / "state.json").write_text("{")
    partial = config.out / "checkpoints" / ".000014.partial"  # as a process leaves it that is killed within safetensors
    partial.mkdir()
    for name in ("pytorch_lora_weights.safetensors", ".tmp2hQsrg"):
        (partial / name).write_bytes(b"half")
    told = Told()
    with caplog.at_level(logging.WARNING):
        train(config, progress=told)
    assert told.started == ("steps", STEPS, 12)
    assert told.done == list(range(13, STEPS + 1))
    assert f"{STEPS:06d} is damaged (state.safetensors has changed) and is passed over" in caplog.text
    assert "000016 is damaged" in caplog.text
    assert log_of(config.out) == whole
    assert {name: (last / name).read_bytes() for name in files} == weights
    assert not list((config.out / "checkpoints").glob(".*"))


def test_a_finished_fit_has_nothing_to_do(tmp_path: Path, model: Path, pairs: Path) -> None:
    config = settings(model, pairs, tmp_path / "fit")
    seen: list[tuple[str, int]] = []

    def look(checkpoint: Path, step: int) -> bool:
        assert json.loads((checkpoint / "state.json").read_text())["step"] == step
        seen.append((checkpoint.name, step))
        return False

    train(config, on_checkpoint=look)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert seen == [("000002", 2), ("000004", 4)]
    train(config, on_checkpoint=look)
    assert seen[2:] == [("000004", 4)], "scoring it may have been interrupted"
    assert {path: path.read_bytes() for path in before} == before


def test_it_stops_when_it_is_told_to_and_stays_so(tmp_path: Path, model: Path, pairs: Path) -> None:
    config = settings(model, pairs, tmp_path / "fit", max_train_steps=8)
    for _ in range(2):
        train(config, on_checkpoint=lambda checkpoint, step: step == 4)
        assert len(log_of(config.out)) == 4


def test_old_checkpoints_go(tmp_path: Path, model: Path, pairs: Path) -> None:
    seen: list[list[str]] = []

    def look(checkpoint: Path, step: int) -> bool:
        seen.append(sorted(path.name for path in checkpoint.parent.iterdir()))
        return False

    config = settings(model, pairs, tmp_path / "fit", max_train_steps=8, checkpoints_total_limit=2)
    train(config, on_checkpoint=look)
    assert sorted(path.name for path in (config.out / "checkpoints").iterdir()) == ["000006", "000008"]
    assert seen[2] == ["000002", "000004", "000006"], "an old one is deleted only when the new one has been looked at"


def test_another_config_is_refused_with_the_difference(tmp_path: Path, model: Path, pairs: Path) -> None:
    config = settings(model, pairs, tmp_path / "fit", max_train_steps=2)
    train(config)

    def changed(**values: Any) -> Any:
        return settings(model, pairs, tmp_path / "fit", **{"max_train_steps": 2, **values})

    with pytest.raises(HafError, match=r"other settings \(loss\.alpha: 10\.0 -> 5\.0; seed: 0 -> 1\)"):
        train(changed(loss={"alpha": 5}, seed=1))
    with pytest.raises(HafError, match=r"other settings .*lora"):
        train(changed(lora=None))
    train(changed(checkpoints_total_limit=1, cache_dir=str(tmp_path / "shared")))


def test_a_fit_does_not_go_on_with_other_pairs(tmp_path: Path, model: Path, pairs: Path) -> None:
    train(settings(model, pairs, tmp_path / "fit"))
    before = sorted((tmp_path / "fit" / "cache").rglob("*.safetensors"))
    other = painted_pairs(tmp_path / "other", 5, first=50)
    with pytest.raises(HafError, match=r"another origin \(pairs or model: "):
        train(settings(model, other, tmp_path / "fit"))
    assert sorted((tmp_path / "fit" / "cache").rglob("*.safetensors")) == before, "nothing is encoded, none deleted"


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path, model: Path, pairs: Path) -> None:
    from asap_train.training.fit_folder import opened

    config = settings(model, pairs, tmp_path / "fit")
    with opened(config), pytest.raises(HafError, match="another process is writing this fit"):
        train(config)
