"""A base in 4 or 8 bits: how far its predictions are, that LoRA trains on it, and that a LoRA's file is no other."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asap_train.backbones import Backbone, Crop
from asap_train.backbones.parts import TEXT_ENCODERS, open_backbone
from asap_train.training.config import FitConfig
from asap_train.training.trainer import train
from fits import log_of, painted_pairs, settings
from hafbench.errors import HafError, Unavailable
from hafbench.generators import load_generator
from hafbench.generators.quantize import Quantization, block_layers, check_quantization, quantize
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS

pytestmark = pytest.mark.usefixtures("one_thread")
with_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
KINDS = ["nf4", pytest.param("fp8", marks=with_torchao)]
ROUNDING = {"none": 0.0, "nf4": 0.15, "fp8": 0.04}
"""At most, of a prediction over its size."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap", 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: BUILDERS[name](folder / name) for name in ("flux", "sdxl", "sd3")}


def predicted(model: Path, kind: Quantization) -> tuple[Backbone, torch.Tensor]:
    parts = open_backbone(str(model))
    backbone = parts.backbone
    with parts.loaded(TEXT_ENCODERS):
        conditions = {**backbone.encode_texts(["a hand"]), **backbone.encode_crops([Crop.whole((16, 16))])}
    parts.load_network(kind)
    network: Any = backbone.network
    channels = network.config.in_channels // (4 if type(network).__name__.startswith("Flux") else 1)
    noisy = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return backbone, backbone.predict(noisy, torch.tensor([500.0]), conditions)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["flux", "sdxl", "sd3"])
def test_predictions_are_rounded_and_no_more(models: dict[str, Path], name: str, kind: Quantization) -> None:
    _, exact = predicted(models[name], "none")
    backbone, rounded = predicted(models[name], kind)
    error = float((rounded - exact).norm() / exact.norm())
    print(f"{name}, {kind}: relative error of the prediction {error:.4f}")
    assert 0 < error < ROUNDING[kind]
    layers = block_layers(backbone.network)
    assert layers
    assert all("block" in layer for layer in layers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "precision"), [("flux", "bf16"), ("sdxl", "no")])
def test_a_lora_is_learnt_on_a_quantized_base_which_is_its_reference(
    tmp_path: Path, models: dict[str, Path], pairs: Path, name: str, kind: Quantization, precision: str
) -> None:
    asked = {"quantization": kind, "mixed_precision": precision, "gradient_checkpointing": True, "loss": {"tau": 0.5}}
    config = settings(models[name], pairs, tmp_path / "fit", max_train_steps=3, checkpointing_steps=3, **asked)
    rows = log_of(train(config))
    assert rows[0]["delta"] == 0.0, "policy and reference are the same quantized network"
    assert rows[2]["delta"] != 0.0
    checkpoint = config.out / "checkpoints" / "000003"
    tensors = load_file(checkpoint / "pytorch_lora_weights.safetensors")
    assert all(value.dtype == torch.float32 for value in tensors.values())
    assert any(value.abs().max() > 0 for key, value in tensors.items() if "lora_B" in key)
    # The file is for the base as it was, too; a LoRA without effect is refused there.
    load_generator(GeneratorSpec(model=str(models[name]), lora=(str(checkpoint),)), "cpu")


def test_hafbench_samples_with_a_quantized_base(tmp_path: Path, models: dict[str, Path]) -> None:
    arguments = {"num_inference_steps": 2, "height": 16, "width": 16}
    images = {}
    for kind in ("none", "nf4"):
        asked = {"model": str(models["flux"]), "arguments": arguments, "quantization": kind}
        spec = GeneratorSpec.model_validate(asked)
        generator = load_generator(spec, "cpu")
        assert generator.settings.get("quantization", "none") == kind
        images[kind] = np.asarray(generator.generate([Prompt(id="p", text="a hand")], [0])[0]).astype(int)
    assert np.abs(images["none"] - images["nf4"]).max() > 0


def test_checkpoints_are_scored_on_the_quantized_base(tmp_path: Path) -> None:
    config = FitConfig.of("flux-dev", "hap", "fit", quantization="nf4")
    assert config.score is not None
    assert config.score.model.quantization == "nf4"


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hafbench.generators.quantize.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="quantization fp8 needs `pip install torchao`"):
        check_quantization("fp8")


def test_a_network_without_named_blocks_is_refused() -> None:
    with pytest.raises(HafError, match="does not say which its repeated blocks are"):
        quantize(torch.nn.Linear(4, 4), "nf4", "cpu")
