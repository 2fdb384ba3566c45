"""Rounding in half precision: what a float32 residual stream and last layers do to delta, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from asap_train.backbones import Backbone, Conditions, Crop, load_backbone
from asap_train.training.config import LoraSettings
from asap_train.training.lora import add_lora, reference, trained_parameters
from asap_train.training.losses import Residuals, errors_of
from asap_train.training.precision import dithered
from asap_train.training.widening import widen
from tiny_pipelines import BUILDERS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    return {name: str(build(base / name)) for name, build in BUILDERS.items()}


def moved(backbone: Backbone) -> None:
    """An adapter that has an effect."""
    add_lora(backbone, LoraSettings(rank=4), 0)
    dice = torch.Generator().manual_seed(0)
    for name, value in trained_parameters(backbone):
        if "lora_B" in name:
            value.data = 0.01 * torch.randn(value.shape, generator=dice)


def gaps(backbone: Backbone, autocast: bool, dither: bool = False, count: int = 6) -> torch.Tensor:
    """delta of some pairs of latents of noise, with M a quarter of them, localized."""
    dice = torch.Generator().manual_seed(1)
    channels = backbone.encode_images(torch.zeros(1, 3, 32, 32)).shape[1]
    winner, loser, noise = torch.randn(3, count, channels, 16, 16, generator=dice)
    mask = torch.zeros(count, 1, 16, 16)
    mask[..., :8, :8] = 1
    loser = winner + mask * (loser - winner)
    # Times that are themselves not rounded: FLUX takes them, and its guidance, in the precision of the network.
    times = (backbone.draw_timesteps(torch.rand(count, generator=dice)) / 1000).bfloat16().float() * 1000
    if backbone.guidance:
        backbone.guidance = 1.0
    if backbone.text_tokens:
        backbone.text_tokens = 16
    words: Conditions = {
        **backbone.encode_texts(["a hand"] * count),
        **backbone.encode_crops([Crop.whole((32, 32))] * count),
    }
    predict = dithered(torch.bfloat16, backbone.predict) if dither else backbone.predict

    def residuals(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            made = predict(backbone.noised(image, noise, times), times, words)
        return made.float() - backbone.target(image, noise, times)

    own = [residuals(winner), residuals(loser)]
    with reference(backbone):
        other = [residuals(winner), residuals(loser)]
    return errors_of(Residuals(own[0], own[1], mask, other[0], other[1]), 10.0).delta


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "flux2", "qwen-image", "z-image"])
def test_delta_is_rounded_less_and_the_estimate_says_by_how_much(folders: dict[str, str], name: str) -> None:
    """Against the same weights in float32."""
    errors, estimates = {}, {}
    exact = load_backbone(folders[name], dtype="bf16")
    moved(exact)
    exact.network.float()
    truth = gaps(exact, autocast=False)
    for wide in (False, True):
        backbone = load_backbone(folders[name], dtype="bf16")
        moved(backbone)
        if wide:
            widen(backbone.network)
        found = gaps(backbone, autocast=True)
        errors[wide] = rms(found - truth)
        estimates[wide] = rms(gaps(backbone, autocast=True, dither=True) - found) / 2**0.5
    assert errors[True] < 0.9 * errors[False]
    for wide in (False, True):
        assert 0.3 < estimates[wide] / errors[wide] < 3


def test_a_widened_network_has_the_gradients_of_the_exact_one(folders: dict[str, str]) -> None:
    found: dict[Any, torch.Tensor] = {}
    for kind in ("exact", "wide"):
        backbone = load_backbone(folders["flux"], dtype="bf16")
        moved(backbone)
        if kind == "exact":
            backbone.network.float()
        else:
            widen(backbone.network)
        dice = torch.Generator().manual_seed(2)
        noisy, times = torch.randn(2, 1, 16, 16, generator=dice), torch.tensor([200.0, 700.0])
        words = backbone.encode_texts(["a hand", "an arm"])
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "wide"):
            made = backbone.predict(noisy, times, words)
        assert made.dtype == torch.float32
        values = [value for _, value in trained_parameters(backbone)]
        grads = torch.autograd.grad(made.square().mean(), values)
        found[kind] = torch.cat([grad.flatten() for grad in grads])
    assert torch.nn.functional.cosine_similarity(found["exact"], found["wide"], dim=0) > 0.999


def test_a_copy_has_modules_of_its_own(folders: dict[str, str], tmp_path: Path) -> None:
    """The reference of full fine-tuning is a copy that is made before: its last layers must not be the policy's."""
    from copy import deepcopy

    backbone = load_backbone(folders["sd3"])
    network: Any = backbone.network
    copied = deepcopy(network)
    for one in (network, copied):
        widen(one)
    with torch.no_grad():
        network.proj_out.weight.zero_()
        network.proj_out.bias.zero_()
    some = torch.ones(1, 4, network.proj_out.in_features)
    assert network.proj_out(some).abs().max() == 0
    assert copied.proj_out(some).abs().max() > 0
