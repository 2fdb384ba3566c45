"""Images by the network that is tuned: those that hafbench draws from its checkpoint, without a second pipeline."""

import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import diffusers
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from asap_train import api
from asap_train.autoscore import Autoscore, run_base, tuned
from asap_train.backbones import BACKBONES
from asap_train.training.config import ENCODING, FitConfig
from asap_train.training.fit_log import FitLog
from asap_train.training.sampling import tuned_generator
from asap_train.training.setup import Training, make_accelerator, prepare
from asap_train.training.trainer import looked_at, save, take_step
from fits import painted_pairs, settings, two_processes
from hafbench.generators import load_generator
from hafbench.runs import read_run
from hafbench.suites import Prompt
from scored_fits import fit_config, make_parts
from test_memory import seen, with_weights
from tiny_pipelines import BUILDERS, build_flux

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = [Prompt(id=f"p{number}", text=text) for number, text in enumerate(("a hand", "two hands", "an arm"))]
ARGUMENTS = {"num_inference_steps": 2, "height": 32, "width": 32}
MODELS: dict[str, Callable[[Path], Path]] = {**BUILDERS, "flux schnell": partial(build_flux, guidance=False)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap", 4)


def config_of(folder: Path, name: str, pairs: Path, out: str = "fit", **changed: Any) -> FitConfig:
    suite, model = folder / "suite.jsonl", folder / name
    suite.write_text("".join(json.dumps({"id": one.id, "text": one.text}) + "\n" for one in PROMPTS))
    if not model.exists():
        MODELS[name](model)
    asked = {"suite": str(suite), "seeds": 2, "batch_size": 2, "scorers": ["iqa"], "every": 2}
    score = {**asked, "model": {"arguments": {**ARGUMENTS, **changed.pop("arguments", {})}}}
    return settings(model, pairs, folder / out, **{"score": score, "learning_rate": 0.02, **changed})


def tuned_a_little(config: FitConfig) -> tuple[Training, FitLog]:
    config.out.mkdir(parents=True)
    training = prepare(config, make_accelerator(config))
    log = FitLog(config.out / "log.jsonl", writes=training.accelerator.is_main_process)
    for step in range(2):
        log.append(take_step(training, step, log, None))
    return training, log


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sdxl": ("sdxl", {}),
    "flux, bf16": ("flux", {"mixed_precision": "bf16", "lora": {"rank": 4, "lora_alpha": 8}}),
    "sd3, average": ("sd3", {"ema_decay": 0.5}),
    "sdxl, bf16, nf4": ("sdxl", {"mixed_precision": "bf16", "quantization": "nf4"}),
    "sd3, all weights, bf16": ("sd3", {"lora": None, "mixed_precision": "bf16"}),
    "sd3, few tokens": ("sd3", {"arguments": {"max_sequence_length": 24}}),
    "flux schnell": ("flux schnell", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_in_memory_draws_what_hafbench_draws_from_its_checkpoint(
    tmp_path: Path, pairs: Path, case: str
) -> None:
    name, changed = CASES[case]
    config = config_of(tmp_path, name, pairs, **changed)
    assert config.drawn_in_memory
    assert config.score is not None
    training, log = tuned_a_little(config)
    spec = tuned(config.score.run_spec(), save(training, 2, log)).model
    before = [value.detach().clone() for value in training.values]
    own, loaded = tuned_generator(training, spec), load_generator(spec, "cpu")
    assert (own.name, own.settings) == (loaded.name, loaded.settings)
    texts, seeds = [PROMPTS[0], PROMPTS[1]], [3, 4]
    made, expected = (generator.generate(texts, seeds) for generator in (own, loaded))
    for one, other in zip(made, expected, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert not np.array_equal(np.asarray(made[0]), np.asarray(made[1]))
    # Nothing of the training has changed.
    assert all(torch.equal(one, value) for one, value in zip(before, training.values, strict=True))
    assert {value.dtype for value in training.values} == {torch.float32}
    assert training.backbone.network.training
    take_step(training, 2, log, None)


def test_scoring_loads_no_second_pipeline(tmp_path: Path, pairs: Path) -> None:
    training, log = tuned_a_little(config_of(tmp_path, "sdxl", pairs))
    with seen() as calls:
        score(training, log)
    assert calls == [("network", {"network", "autoencoder"})]
    assert with_weights() == {"network", "autoencoder"}


def score(training: Training, log: FitLog) -> None:
    config = training.config
    assert config.score is not None
    scoring = Autoscore(config, config.score)
    checkpoint = save(training, 2, log)
    training.accelerator.wait_for_everyone()

    def made(checkpoint: Path, step: int) -> bool:
        scoring.score(checkpoint, step)
        return False

    looked_at(training, made, scoring, checkpoint, 2)


def test_a_base_that_another_fit_is_scoring_is_waited_for(tmp_path: Path) -> None:
    config = fit_config(make_parts(tmp_path), tmp_path / "fits" / "a", "local", limit=8)
    assert config.score is not None
    spec, begun, waiting = config.score.run_spec(), Event(), Event()

    class Held:
        """A Progress that holds the first run up until the second waits."""

        def start(self, task: str, total: int, done: int = 0) -> None:
            begun.set()
            waiting.wait(60)

        def update(self, task: str, done: int, note: str = "") -> None: ...

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it" in record.getMessage():
                waiting.set()

    log, heard = logging.getLogger("asap_train.autoscore"), Heard()
    log.addHandler(heard)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run_base, spec, tmp_path / "fits" / "a", Held())
        assert begun.wait(60)
        try:
            second = run_base(spec, tmp_path / "fits" / "b")
        finally:
            waiting.set()
            log.removeHandler(heard)
    assert second.folder.resolve() == first.result().folder.resolve()


def test_a_checkpoint_that_was_left_unscored_is_scored_with_its_own_weights(tmp_path: Path) -> None:
    config = fit_config(make_parts(tmp_path), tmp_path / "fits" / "a", "local", device="auto", limit=8)
    config = config.model_copy(update={"checkpoints_total_limit": None, "learning_rate": 0.05})
    assert config.drawn_in_memory
    scores = config.out / "scores"

    def images() -> list[list[str]]:
        api.fit(config)
        return [read_run(scores / step).records["sha256"].tolist() for step in ("000002", "000004")]

    first = images()
    assert first[0] != first[1]
    for step in ("000002", "000004"):
        shutil.rmtree(scores / step)
    assert images() == first


def test_other_settings_of_the_model_are_drawn_by_a_pipeline_of_their_own(tmp_path: Path) -> None:
    def asked(**model: Any) -> FitConfig:
        return FitConfig.of("sdxl", "hap", "fit", score={"model": model})

    assert asked().drawn_in_memory
    assert not asked(dtype="fp16").drawn_in_memory
    assert not asked(offload="model").drawn_in_memory
    assert not asked(arguments={"clip_skip": 1}).drawn_in_memory
    for tokens, in_memory in ((128, True), (64, False)):
        score = {"model": {"arguments": {"max_sequence_length": tokens}}}
        config = FitConfig.of("flux-dev", "hap", "fit", max_sequence_length=128, score=score)
        assert config.drawn_in_memory == in_memory
    assert not FitConfig.of("sdxl", "hap", "fit", score=None).drawn_in_memory


@pytest.mark.parametrize("name", BACKBONES.names())
def test_arguments_that_act_on_the_encoded_prompt_are_known(name: str) -> None:
    pipeline = getattr(diffusers, name)
    call, encode = (inspect.signature(one).parameters for one in (pipeline.__call__, pipeline.encode_prompt))
    both = {one for one in call if one in encode and not one.endswith(("embeds", "embeds_mask"))}
    assert both - {"self", "prompt", "negative_prompt", "num_images_per_prompt", "max_sequence_length"} <= ENCODING


def filled(config: FitConfig) -> tuple[Training, FitLog]:
    """With weights that are the same in every process, as if they had been tuned."""
    config.out.mkdir(parents=True, exist_ok=True)
    training = prepare(config, make_accelerator(config))
    (config.out / "log.jsonl").touch()
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in training.values:
            value.copy_(0.1 * torch.randn(value.shape, generator=dice))
    return training, FitLog(config.out / "log.jsonl", writes=training.accelerator.is_main_process)


def as_one_of(config: FitConfig, rank: int, count: int, port: int) -> None:
    """One process of several, as accelerate launches them, which must draw some of the images."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    training, log = filled(config)
    with seen() as calls:
        score(training, log)
    assert calls == [("network", {"network", "autoencoder"})]


@pytest.mark.slow
def test_images_are_divided_among_processes_and_their_records_are_those_of_one(tmp_path: Path, pairs: Path) -> None:
    one, two = (config_of(tmp_path, "sd3", pairs, out) for out in ("one", "two"))
    processes = two_processes(as_one_of, two)
    score(*filled(one))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    runs = [read_run(config.out / "scores" / "000002") for config in (one, two)]
    assert runs[0].records["status"].tolist() == ["scored"] * 6
    # A product of one row is rounded as its place in memory says, so that processes may differ in the last digit.
    tables = [run.records.drop(columns=["value", "sha256"]) for run in runs]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert np.allclose(runs[0].records["value"], runs[1].records["value"], rtol=0.01)
    for image in runs[0].records["image"]:
        one_image, other = (np.asarray(Image.open(run.folder / "images" / image)).astype(int) for run in runs)
        assert np.abs(one_image - other).max() <= 1
        assert (one_image != other).mean() < 0.01
    assert not (two.out / "scores" / ".000002.drawn").exists()
