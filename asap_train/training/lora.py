"""LoRA on a backbone (Hu et al., arXiv 2106.09685), by peft: put it in, switch it off for the reference, save it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from asap_train.backbones import Backbone
from asap_train.files import tensor_errors
from asap_train.training.config import LoraSettings
from asap_train.training.kohya import Factors, NetworkFacts, facts_of, kohya_state
from hafbench.errors import HafError, one_line
from hafbench.files import write_whole
from hafbench.generators.pipelines import DENOISERS

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

ADAPTER = "asap"
FILE = "pytorch_lora_weights.safetensors"
"""What `load_lora_weights` of diffusers looks for in a folder."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention of CLIP's text encoders: the modules that diffusers' scripts tune with --train_text_encoder."""
KOHYA = "kohya_lora_weights.safetensors"
"""The same for ComfyUI and kohya's tools."""
NETWORK = "asap_train.network"
"""The key of a file's metadata under which the network is described."""


def add_lora(backbone: Backbone, settings: LoraSettings, seed: int) -> None:
    """Put the adapter in, float32 and without effect: B is zero, A normal, from `seed`. All else is frozen.

    As diffusers' LoRA training scripts do. Raises HafError as `check_targets` does.
    """
    from peft import LoraConfig, inject_adapter_in_model

    network: Any = backbone.network
    check_targets(network, settings)
    targets = {network: _modules(backbone, settings)}
    if settings.text_encoder:
        check_text_encoders(backbone, [name for name, _, _ in _text_encoders(backbone)])
        targets |= {encoder: _text_modules(encoder, idle) for _, encoder, idle in _text_encoders(backbone)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for model, names in targets.items():
            config = LoraConfig(
                r=settings.rank,
                lora_alpha=settings.lora_alpha,
                lora_dropout=settings.lora_dropout,
                target_modules=names,
                init_lora_weights="gaussian",
            )
            if model is network:
                network.add_adapter(config, adapter_name=ADAPTER)
            else:  # not by transformers' add_adapter, which may ask for a newer peft than there is
                inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for _, parameter in trained_parameters(backbone):
        parameter.data = parameter.data.float()


def check_text_encoders(backbone: Backbone, there: Collection[str]) -> None:
    """Raise HafError for a family none of whose text encoders can be tuned; `there` are the models that it has."""
    if not any(name in there for name in backbone.text_encoders):
        name = type(backbone.pipeline).__name__
        raise HafError(
            f"lora.text_encoder: {name} has no CLIP text encoder, the only kind that is tuned; leave it out."
        )


def _text_encoders(backbone: Backbone) -> list[tuple[str, Any, int]]:
    """Names and models of those that LoRA may take and that are there, and how many of their layers are idle."""
    pipeline = backbone.pipeline
    return [
        (name, getattr(pipeline, name), idle)
        for name, idle in backbone.text_encoders.items()
        if getattr(pipeline, name, None) is not None
    ]


def _text_modules(encoder: Any, idle: int) -> list[str]:
    """The attention of its layers, without the last `idle` ones."""
    layers = range(encoder.config.num_hidden_layers - idle)
    ends = tuple(f"encoder.layers.{layer}.self_attn.{name}" for layer in layers for name in TEXT_TARGETS)
    return [name for name, _ in encoder.named_modules() if name.endswith(ends)]


def _modules(backbone: Backbone, settings: LoraSettings) -> list[str]:
    """The modules that are asked for, by their whole names, without idle ones; of `layers` only those within blocks."""
    modules = backbone.network.named_modules()
    if settings.target_modules:
        named = [name for name, _ in modules if f".{name}".endswith(_ends(settings.target_modules))]
    else:
        ends = _ends(end for kind in settings.layers for end in backbone.lora_targets[kind])
        named = [name for name, module in modules if name.endswith(ends) and not any(module.children())]
    idle = tuple(f"{name}." for name in backbone.idle)
    return [name for name in named if not f"{name}.".startswith(idle)]


def _ends(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names)


def check_targets(network: Any, settings: LoraSettings) -> None:
    """Raise HafError for a target that no module of the network has, or one that is no linear layer or convolution."""
    for target in settings.target_modules or ():
        found = [module for name, module in network.named_modules() if f".{name}".endswith(f".{target}")]
        if not found:
            raise HafError(
                f"lora.target_modules: no module of {type(network).__name__} has a name that ends in {target}."
            )
        unsuited = [type(one).__name__ for one in found if not isinstance(one, torch.nn.Linear | torch.nn.Conv2d)]
        if unsuited:
            raise HafError(
                f"lora.target_modules: {target} is a module of the kind {unsuited[0]}; name linear layers or "
                "convolutions within it, such as to_q."
            )


def freeze_idle(backbone: Backbone) -> None:
    """No gradient for weights without effect: several processes would wait for it where a network is tuned in full."""
    for name in backbone.idle:
        backbone.network.get_submodule(name).requires_grad_(False)


@contextmanager
def reference(backbone: Backbone) -> Iterator[None]:
    """Within it the backbone is the frozen base model, without gradient: its adapters are switched off.

    Raises ValueError where there is no adapter, and so no base model either.
    """
    models = [backbone.network, *(encoder for _, encoder, _ in _text_encoders(backbone))]
    layers = [layer for model in models for layer in _layers(model).values()]
    if not layers:
        raise ValueError("the network has no adapter to switch off")
    for layer in layers:
        layer.enable_adapters(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def trained_parameters(backbone: Backbone) -> list[tuple[str, Parameter]]:
    """What training changes, by name: the adapters' weights, or all of the network where it is tuned in full."""
    own = [(name, value) for name, value in _denoiser(backbone)[1].named_parameters() if value.requires_grad]
    for part, encoder, _ in _text_encoders(backbone):
        adapter = [(name, value) for name, value in encoder.named_parameters() if f".{ADAPTER}." in name]
        own += [(f"{part}.{name}", value) for name, value in adapter]
    return own


def save_lora(backbone: Backbone, folder: Path) -> Path:
    """Write FILE into `folder`, which load_lora_weights of the backbone's pipeline reads.

    lora_alpha / rank is multiplied into B, so that readers that know no alpha, as ComfyUI's of this format, apply it
    with the same strength. The file's metadata say of the network what `export_kohya` needs.
    """
    part, network = _denoiser(backbone)
    factors = _factors(network)
    states = {f"{part}_lora_layers": _state(factors)}
    for name, encoder, _ in _text_encoders(backbone):
        if own := _factors(encoder):
            # CLIPTextModel has its layers in a `text_model` or, since transformers 5.6, itself: files have the former.
            outer = {f"text_model.{module.removeprefix('text_model.')}": pair for module, pair in own.items()}
            states[f"{name}_lora_layers"] = _state(outer)
    # One entry only: safetensors writes several in any order, and the same weights should be the same file.
    metadata = {NETWORK: facts_of(network, factors).model_dump_json()}
    backbone.pipeline.save_lora_weights(
        folder, **states, weight_name=FILE, save_function=partial(save_file, metadata=metadata)
    )
    return folder / FILE


def _state(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """Factors by the names of their matrices in a file."""
    return {
        f"{name}.lora_{letter}.weight": matrix
        for name, pair in factors.items()
        for letter, matrix in (("A", pair.down), ("B", pair.up))
    }


def export_kohya(file: Path, out: Path) -> None:
    """Write a LoRA that `save_lora` wrote to `out`, in the format of kohya's sd-scripts and ComfyUI (see kohya.py).

    The file is enough: the model is not loaded. Raises HafError for another file, and for modules without such names.
    """
    try:
        with safe_open(file, "pt") as opened:
            facts, tensors = (opened.metadata() or {}).get(NETWORK), {}
            for key in opened.keys():  # noqa: SIM118 (it is no mapping)
                tensors[key] = opened.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise HafError(f"{file} cannot be read as safetensors ({one_line(error)}).") from error
    if facts is None:
        raise HafError(f"{file} does not say which network it is for: it is not a LoRA that asap-train wrote.")
    names = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    try:
        parts: dict[str, dict[str, Factors]] = {}
        for name in sorted(names):
            part, _, module = name.partition(".")
            pair = Factors(tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"])
            parts.setdefault(part, {})[module] = pair
        network = next(parts.pop(part) for part in DENOISERS if part in parts)
        state = kohya_state(NetworkFacts.model_validate_json(facts), network, parts)
    except (LookupError, RuntimeError, StopIteration, ValueError) as error:
        raise HafError(f"{file} is damaged: its tensors and its description do not go together.") from error
    with tensor_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, lambda partial: save_file(state, partial, metadata={"format": "pt"}))


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
