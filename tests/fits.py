"""Small fits for tests: painted pairs on a tiny Stable Diffusion 3, or exact ones on the built-in mannequin model."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hap_pairs
from asap_train.backbones import Backbone
from asap_train.training.cache import Cache, fill_pairs, fill_texts, missing
from asap_train.training.config import FitConfig
from asap_train.training.fit_log import FitLog
from asap_train.training.setup import Training, make_accelerator, prepare
from asap_train.training.trainer import take_step
from tiny_pipelines import build_sd3

CAPTIONS = ("a hand", "two hands", "an arm")
ALL_FOR_TRAINING = {"train": 1.0}
TIMES = ("pairs_per_second", "memory")
"""Of a line of the log, what is not the same twice."""


def two_processes(task: Callable[[FitConfig, int, int, int], None], config: FitConfig) -> list[Any]:
    """Two processes that do `task(config, rank, count, port)`, started; of a server that has what a fit needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preload_fit"])
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        processes = [context.Process(target=task, args=(config, rank, 2, port + 1)) for rank in range(2)]
        for process in processes:
            process.start()
    return processes


def painted_pairs(folder: Path, count: int = 10, first: int = 0) -> Path:
    pairs = [hap_pairs.painted(seed, caption=CAPTIONS[seed % 3]) for seed in range(first, first + count)]
    hap_pairs.write(folder, pairs, shares=ALL_FOR_TRAINING)
    return folder


def mannequin_pairs(folder: Path, count: int = 8) -> Path:
    hap_pairs.write(folder, [hap_pairs.mannequin(seed) for seed in range(30, 30 + count)], shares=ALL_FOR_TRAINING)
    return folder


def tiny_model(folder: Path) -> Path:
    return build_sd3(folder)


def settings(model: Path | str, pairs: Path, out: Path, **changed: Any) -> FitConfig:
    """A fit of a few quick steps; a tiny model is tuned at 16 x 16 pixels."""
    small: dict[str, Any] = {} if model == "mannequin" else {"resolution": 16, "use_aspect_ratio_buckets": False}
    plain = {
        "model": str(model),
        "pairs": str(pairs),
        "out": str(out),
        "score": None,
        "validation": None,
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "train_batch_size": 2,
        "lr_warmup_steps": 0,
        "learning_rate": 1e-3,
        "lora": {"rank": 4, "lora_alpha": 4},
    }
    return FitConfig.model_validate({**plain, **small, **changed})


def fill(cache: Cache, backbone: Backbone, share: tuple[int, int] = (0, 1)) -> None:
    fill_texts(cache, backbone, missing(cache, "texts", share))
    fill_pairs(cache, backbone, missing(cache, "pairs", share))


def ready(config: FitConfig) -> tuple[Training, FitLog]:
    config.out.mkdir(parents=True)
    return prepare(config, make_accelerator(config)), FitLog(config.out / "log.jsonl", writes=False)


def advance(training: Training, log: FitLog, steps: int) -> None:
    for step in range(steps):
        log.append(take_step(training, step, log, None))


def log_of(fit: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl without what the clock says."""
    rows = [json.loads(line) for line in (fit / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
