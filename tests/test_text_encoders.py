"""LoRA on CLIP's text encoders: captions are encoded in the step, the reference has no adapter, files hold both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from safetensors.torch import load_file

from asap_train.backbones import Backbone, Crop, load_backbone
from asap_train.training.config import LoraSettings
from asap_train.training.lora import (
    add_lora,
    export_kohya,
    reference,
    save_lora,
    trained_parameters,
)
from asap_train.training.residuals import Policy
from asap_train.training.texts import CAPTION, TunedTexts
from asap_train.training.trainer import train
from asap_train.training.validation import drawn_steps
from fits import log_of, painted_pairs, settings
from hafbench.errors import HafError
from hafbench.generators.diffusion import load as load_generator
from hafbench.generators.lora import Lora, apply_loras
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS, build_qwen_image, build_sd15

TUNED = {
    "sd15": ["text_encoder"],
    "sdxl": ["text_encoder", "text_encoder_2"],
    "sd3": ["text_encoder", "text_encoder_2"],
    "flux": ["text_encoder"],
}
TEXTS = ["", "a hand", "two people"]
SETTINGS = LoraSettings(rank=4, lora_alpha=6.0, text_encoder=True)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(BUILDERS[name](folder / name)) for name in TUNED}


def inputs(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Four noisy latents with the second text, the third, the second and the first."""
    dice = torch.Generator().manual_seed(0)
    noisy = torch.randn(4, backbone.encode_images(torch.zeros(1, 3, 16, 16)).shape[1], 8, 8, generator=dice)
    crops = backbone.encode_crops([Crop.whole((16, 16))] * 4)
    times = backbone.draw_timesteps(torch.rand(4, generator=dice))
    return noisy, times, {**crops, CAPTION: torch.tensor([1, 2, 1, 0])}


def moved(backbone: Backbone) -> None:
    """An adapter that has an effect."""
    dice = torch.Generator().manual_seed(0)
    for name, value in trained_parameters(backbone):
        if "lora_B" in name:
            value.data = 0.1 * torch.randn(value.shape, generator=dice)


def draw(pipeline: Any) -> np.ndarray:
    size = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "np"}
    return np.asarray(pipeline(prompt="a hand", generator=torch.Generator().manual_seed(0), **size).images)


@pytest.mark.parametrize("name", TUNED)
def test_every_adapter_has_a_gradient_and_the_reference_has_none(models: dict[str, str], name: str) -> None:
    backbone = load_backbone(models[name])
    noisy, times, given = inputs(backbone)
    others = {key: value for key, value in given.items() if key != CAPTION}
    texts = backbone.encode_texts([TEXTS[row] for row in given[CAPTION].tolist()])
    plain = backbone.predict(noisy, times, {**others, **texts}).detach()
    add_lora(backbone, SETTINGS, seed=0)
    tuned = TunedTexts(backbone, TEXTS)
    policy = Policy(backbone, tuned)
    assert torch.allclose(policy(noisy, times, given), plain, atol=1e-5)
    moved(backbone)
    made = policy(noisy, times, given)
    made.square().mean().backward()
    parameters = dict(trained_parameters(backbone))
    own = {key for key in parameters if key.startswith("text_encoder")}
    assert {key.partition(".")[0] for key in own} == set(TUNED[name])
    assert all(value.grad is not None and value.grad.abs().max() > 0 for key, value in parameters.items() if key in own)
    assert {id(value) for value in policy.parameters() if value.requires_grad} == {id(v) for v in parameters.values()}
    with reference(backbone):
        assert torch.allclose(tuned.predict(noisy, times, given), plain, atol=1e-5)
    assert not torch.allclose(made, plain, atol=1e-4)


@pytest.mark.parametrize("name", TUNED)
def test_a_saved_file_restores_both(models: dict[str, str], tmp_path: Path, name: str) -> None:
    backbone = load_backbone(models[name])
    # diffusers' reader of kohya's names has the true widths of FLUX's single blocks written into it.
    double = {"target_modules": ("to_add_out",)} if name == "flux" else {}
    add_lora(backbone, SETTINGS.model_copy(update=double), seed=0)
    moved(backbone)
    path = save_lora(backbone, tmp_path)
    assert {key.partition(".")[0] for key in load_file(path)} - {"unet", "transformer"} == set(TUNED[name])
    expected = draw(backbone.pipeline)
    fresh = load_backbone(models[name]).pipeline
    base = draw(fresh)
    apply_loras(fresh, [Lora(path, 1.0)])
    assert np.abs(draw(fresh) - expected).max() < 2e-5
    for part in TUNED[name]:
        for layer in getattr(fresh, part).modules():
            if isinstance(layer, BaseTunerLayer):
                layer.enable_adapters(False)
    network_alone = draw(fresh)
    assert np.abs(network_alone - expected).max() > 1e-4
    assert np.abs(network_alone - base).max() > 1e-4
    kohya = tmp_path / "kohya.safetensors"
    export_kohya(path, kohya)
    numbers = {"sd15": {"te"}, "flux": {"te1"}}.get(name, {"te1", "te2"})
    assert {key.split("_")[1] for key in load_file(kohya)} - {"unet"} == numbers
    if name != "sd3":  # of which diffusers reads no such file
        again = load_backbone(models[name]).pipeline
        apply_loras(again, [Lora(kohya, 1.0)])
        assert np.abs(draw(again) - expected).max() < 2e-5


def test_families_without_clip_are_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    model = build_qwen_image(tmp_path / "model")
    pairs = painted_pairs(tmp_path / "hap", 4)
    config = settings(model, pairs, tmp_path / "fit", lora={"rank": 4, "text_encoder": True})
    with pytest.raises(HafError, match="QwenImagePipeline has no CLIP text encoder"):
        train(config)
    assert not (tmp_path / "fit" / "cache").exists()


def test_a_fit_encodes_captions_itself_is_resumed_and_sampled_by_hafbench(tmp_path: Path) -> None:
    model, pairs = build_sd15(tmp_path / "model"), painted_pairs(tmp_path / "hap", 4)
    arguments = {"num_inference_steps": 2, "guidance_scale": 2.0}
    asked = {
        "lora": {"rank": 4, "text_encoder": True},
        "validation": {"prompts": ["a hand"], "every": 4},
        "score": {"every": 4, "model": {"arguments": arguments}},
        "learning_rate": 0.05,
        "mixed_precision": "no",
        "caption_dropout": 0.3,
    }
    whole = train(settings(model, pairs, tmp_path / "whole", **asked))
    assert not list((whole / "cache").rglob("texts*"))
    stopped = settings(model, pairs, tmp_path / "stopped", **asked)
    train(stopped, on_checkpoint=lambda _, step: step == 2)
    assert log_of(train(stopped)) == log_of(whole)
    images = [np.asarray(Image.open(folder / "00.png")).astype(int) for folder in drawn_steps(whole)]
    spec = GeneratorSpec(
        model=str(model),
        lora=(str(whole / "checkpoints" / "000004"),),
        arguments={**arguments, "height": 16, "width": 16},
    )
    (made,) = load_generator(spec, "cpu").generate([Prompt(id="p", text="a hand")], [0])
    assert np.abs(np.asarray(made).astype(int) - images[1]).max() <= 1
    assert not np.array_equal(images[0], images[1])
