"""LoRA on a backbone (Hu et al., arXiv 2106.09685), by peft: put it in, switch it off for the reference, save it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from asap_train.backbones import Backbone
from asap_train.training.config import LoraSettings
from asap_train.training.kohya import Factors, kohya_state
from hafbench.errors import HafError
from hafbench.generators.pipelines import DENOISERS

if TYPE_CHECKING:
    from torch.nn import Parameter

ADAPTER = "asap"
FILE = "pytorch_lora_weights.safetensors"
"""What `load_lora_weights` of diffusers looks for in a folder."""


def add_lora(backbone: Backbone, settings: LoraSettings, seed: int) -> None:
    """Put the adapter in, float32 and without effect: B is zero, A normal, from `seed`. All else is frozen.

    As diffusers' LoRA training scripts do. Raises HafError for a target that no module has.
    """
    from peft import LoraConfig

    network: Any = backbone.network
    _check(network, settings)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.target_modules or backbone.lora_targets),
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.add_adapter(config, adapter_name=ADAPTER)
    for _, parameter in trained_parameters(backbone):
        parameter.data = parameter.data.float()


def _check(network: Any, settings: LoraSettings) -> None:
    names = [f".{name}" for name, _ in network.named_modules()]
    for target in settings.target_modules or ():
        if not any(name.endswith(f".{target}") for name in names):
            raise HafError(
                f"lora.target_modules: no module of {type(network).__name__} has a name that ends in {target}."
            )


@contextmanager
def reference(backbone: Backbone) -> Iterator[None]:
    """Within it `backbone.predict` is the frozen base model, without gradient: the adapter is switched off.

    Raises ValueError where there is no adapter, and so no base model either.
    """
    layers = _layers(backbone.network)
    if not layers:
        raise ValueError("the network has no adapter to switch off")
    for layer in layers.values():
        layer.enable_adapters(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers.values():
            layer.enable_adapters(True)


def trained_parameters(backbone: Backbone) -> list[tuple[str, Parameter]]:
    """What training changes, by name: the adapter's weights, or all of the network where it is tuned in full."""
    return [(name, value) for name, value in _denoiser(backbone)[1].named_parameters() if value.requires_grad]


def save_lora(backbone: Backbone, folder: Path) -> Path:
    """Write FILE into `folder`, which load_lora_weights of the backbone's pipeline reads.

    lora_alpha / rank is multiplied into B, so that readers that know no alpha, as ComfyUI's of this format, apply it
    with the same strength.
    """
    part, network = _denoiser(backbone)
    state = {}
    for name, (down, up) in _factors(network).items():
        state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"] = down, up
    backbone.pipeline.save_lora_weights(folder, **{f"{part}_lora_layers": state}, weight_name=FILE)
    return folder / FILE


def save_kohya(backbone: Backbone, path: Path) -> None:
    """Write the adapter to `path` in the format of kohya's sd-scripts and ComfyUI (see kohya.py)."""
    network = _denoiser(backbone)[1]
    save_file(kohya_state(network, _factors(network)), path)


def _denoiser(backbone: Backbone) -> tuple[str, Any]:
    """The network as the pipeline has it, and its name there: `backbone.network` may be wrapped for several GPUs."""
    pipeline = backbone.pipeline
    name = next(name for name in DENOISERS if getattr(pipeline, name, None) is not None)
    return name, getattr(pipeline, name)


def _layers(network: torch.nn.Module) -> dict[str, Any]:
    """The modules that have an adapter, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}


def _factors(network: torch.nn.Module) -> dict[str, Factors]:
    """By module what the adapter adds to its weight, on the CPU."""
    return {
        name: Factors(
            layer.lora_A[ADAPTER].weight.detach().cpu(),
            (layer.scaling[ADAPTER] * layer.lora_B[ADAPTER].weight.detach()).cpu(),
        )
        for name, layer in _layers(network).items()
    }
