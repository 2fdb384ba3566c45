"""What a fit refuses before it loads anything, and blocks that are compiled."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from asap_train.api import fit
from asap_train.backbones.parts import open_backbone
from asap_train.training.config import FitConfig
from asap_train.training.fit_folder import opened
from asap_train.training.launch import SHARDED, check_launch
from asap_train.training.residuals import compile_blocks
from asap_train.training.trainer import train
from fits import log_of, painted_pairs, settings, tiny_model
from hafbench.errors import HafError
from tiny_pipelines import BUILDERS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("variable", SHARDED)
def test_ways_of_accelerate_that_divide_the_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(HafError, match=r"use DDP: accelerate launch --multi_gpu") as caught:
        train(settings("no/model", tmp_path / "no-pairs", tmp_path / "fit"))
    assert SHARDED[variable] in str(caught.value)
    assert not (tmp_path / "fit").exists()
    monkeypatch.setenv(variable, "false")
    check_launch(settings("no/model", tmp_path, tmp_path))


def test_the_base_is_not_scored_before_a_launch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(HafError, match="is configured for FSDP"):
        fit(FitConfig.of("mannequin", painted_pairs(tmp_path / "hap", 3), tmp_path / "fits" / "a"))
    assert not (tmp_path / "fits").exists()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "guidance": ({"guidance_scale": 3.0}, "takes no guidance of its own"),
    "target": ({"lora": {"target_modules": ["nowhere"]}}, "no module of SD3Transformer2DModel"),
    "container": ({"lora": {"target_modules": ["attn"]}}, "attn is a module of the kind Attention"),
    "tracker": ({"report_to": "trackio"}, "pip install trackio"),
    "size": ({"resolution": 200}, "multiples of 16 pixels; set 192 or 208"),
    "other settings": ({"seed": 1}, r"was started with other settings \(seed: 0 -> 1\)"),
    "in use": ({}, "another process is writing this fit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_would_refuse_is_refused_before_the_base_is_scored(tmp_path: Path, name: str) -> None:
    changed, said = REFUSED[name]
    pairs, out = painted_pairs(tmp_path / "hap", 3), tmp_path / "fits" / "a"
    few: dict[str, Any] = {"max_train_steps": 1, "score": {"limit": 8, "seeds": 1, "scorers": ["digits"]}}
    if name == "other settings":
        with opened(FitConfig.of("mannequin", pairs, out, **few)):
            pass
    config = FitConfig.of("mannequin", pairs, out, **few, **changed)
    with opened(config) if name == "in use" else nullcontext(), pytest.raises(HafError, match=said):
        fit(config)
    assert not (tmp_path / "fits" / ".base").exists()


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(HafError, match=r"torch_compile needs a C\+\+ compiler"):
        check_launch(settings("mannequin", tmp_path, tmp_path, torch_compile=True))


@pytest.mark.parametrize("name", ["flux", "sd3", "sdxl"])
def test_the_repeated_blocks_are_compiled_when_they_are_called(tmp_path: Path, name: str) -> None:
    empty = open_backbone(str(BUILDERS[name](tmp_path / name))).components.empty
    network = empty["unet" if name == "sdxl" else "transformer"]
    compile_blocks(network)
    compiled = {type(module).__name__ for module in network.modules() if module._compiled_call_impl is not None}
    assert compiled
    assert all(kind.endswith("Block") for kind in compiled)


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(tmp_path: Path) -> None:
    model, pairs = tiny_model(tmp_path / "model"), painted_pairs(tmp_path / "hap", 4)
    plain, compiled = (
        log_of(train(settings(model, pairs, tmp_path / f"{on}", torch_compile=on, max_train_steps=2)))
        for on in (False, True)
    )
    for one, other in zip(plain, compiled, strict=True):
        assert one["winner"] == pytest.approx(other["winner"], rel=1e-4)
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
