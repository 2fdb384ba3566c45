"""LoRA under the names that kohya's sd-scripts write and ComfyUI reads: `lora_unet_` and the original model's modules.

These are the modules of the authors' own code, in which one matrix often holds several of diffusers' (queries, keys and
values), except for Stable Diffusion 1.x and 2.x, where sd-scripts trains on diffusers' U-Net itself, and Qwen-Image,
whose authors' modules are diffusers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict

from hafbench.errors import HafError

if TYPE_CHECKING:
    from torch import Tensor


class Factors(NamedTuple):
    """What LoRA adds to a weight, up @ down: (rank, in) and (out, rank); convolutions have four axes."""

    down: Tensor
    up: Tensor


class NetworkFacts(BaseModel):
    """What these names depend on beside the modules' own: small enough to travel with a LoRA's file.

    kind: the network's class. stability: the names are those of Stability's code, as with SDXL. layers: a U-Net's
    layers_per_block. widths: out_features of the modules that lie in one matrix with tuned ones and are not tuned.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    stability: bool = False
    layers: int = 0
    widths: dict[str, int] = {}


def _qkv(attention: str, names: Sequence[str] = ("to_q", "to_k", "to_v")) -> tuple[str, ...]:
    return tuple(f"{attention}.{name}" for name in names)


ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_DOUBLE, _SINGLE = "transformer_blocks.{}", "single_transformer_blocks.{}"

SD3: Mapping[str, tuple[str, ...]] = {
    "joint_blocks.{}.x_block.attn.qkv": _qkv(f"{_DOUBLE}.attn"),
    "joint_blocks.{}.x_block.attn.proj": (f"{_DOUBLE}.attn.to_out.0",),
    "joint_blocks.{}.x_block.attn2.qkv": _qkv(f"{_DOUBLE}.attn2"),
    "joint_blocks.{}.x_block.attn2.proj": (f"{_DOUBLE}.attn2.to_out.0",),
    "joint_blocks.{}.x_block.mlp.fc1": (f"{_DOUBLE}.ff.net.0.proj",),
    "joint_blocks.{}.x_block.mlp.fc2": (f"{_DOUBLE}.ff.net.2",),
    "joint_blocks.{}.context_block.attn.qkv": _qkv(f"{_DOUBLE}.attn", ADDED),
    "joint_blocks.{}.context_block.attn.proj": (f"{_DOUBLE}.attn.to_add_out",),
    "joint_blocks.{}.context_block.mlp.fc1": (f"{_DOUBLE}.ff_context.net.0.proj",),
    "joint_blocks.{}.context_block.mlp.fc2": (f"{_DOUBLE}.ff_context.net.2",),
}
FLUX: Mapping[str, tuple[str, ...]] = {
    "double_blocks.{}.img_attn.qkv": _qkv(f"{_DOUBLE}.attn"),
    "double_blocks.{}.img_attn.proj": (f"{_DOUBLE}.attn.to_out.0",),
    "double_blocks.{}.img_mlp.0": (f"{_DOUBLE}.ff.net.0.proj",),
    "double_blocks.{}.img_mlp.2": (f"{_DOUBLE}.ff.net.2",),
    "double_blocks.{}.txt_attn.qkv": _qkv(f"{_DOUBLE}.attn", ADDED),
    "double_blocks.{}.txt_attn.proj": (f"{_DOUBLE}.attn.to_add_out",),
    "double_blocks.{}.txt_mlp.0": (f"{_DOUBLE}.ff_context.net.0.proj",),
    "double_blocks.{}.txt_mlp.2": (f"{_DOUBLE}.ff_context.net.2",),
    "single_blocks.{}.linear1": (*_qkv(f"{_SINGLE}.attn"), f"{_SINGLE}.proj_mlp"),
    "single_blocks.{}.linear2": (f"{_SINGLE}.proj_out",),
}
FLUX2: Mapping[str, tuple[str, ...]] = {
    **{name: parts for name, parts in FLUX.items() if "attn" in name},
    "double_blocks.{}.img_mlp.0": (f"{_DOUBLE}.ff.linear_in",),
    "double_blocks.{}.img_mlp.2": (f"{_DOUBLE}.ff.linear_out",),
    "double_blocks.{}.txt_mlp.0": (f"{_DOUBLE}.ff_context.linear_in",),
    "double_blocks.{}.txt_mlp.2": (f"{_DOUBLE}.ff_context.linear_out",),
    "single_blocks.{}.linear1": (f"{_SINGLE}.attn.to_qkv_mlp_proj",),
    "single_blocks.{}.linear2": (f"{_SINGLE}.attn.to_out",),
}
_JOINT = (*_qkv("attn"), *_qkv("attn", ADDED), "attn.to_out.0", "attn.to_add_out")
QWEN_IMAGE: Mapping[str, tuple[str, ...]] = {
    f"{_DOUBLE}.{name}": (f"{_DOUBLE}.{name}",)
    for name in (*_JOINT, *(f"{mlp}.net.{end}" for mlp in ("img_mlp", "txt_mlp") for end in ("0.proj", "2")))
}
Z_IMAGE: Mapping[str, tuple[str, ...]] = {
    f"{blocks}.{{}}.{original}": tuple(f"{blocks}.{{}}.{part}" for part in parts)
    for blocks in ("layers", "noise_refiner", "context_refiner")
    for original, parts in {
        "attention.qkv": _qkv("attention"),
        "attention.out": ("attention.to_out.0",),
        **{f"feed_forward.{name}": (f"feed_forward.{name}",) for name in ("w1", "w2", "w3")},
    }.items()
}
TRANSFORMERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "SD3Transformer2DModel": SD3,
    "FluxTransformer2DModel": FLUX,
    "Flux2Transformer2DModel": FLUX2,
    "QwenImageTransformer2DModel": QWEN_IMAGE,
    "ZImageTransformer2DModel": Z_IMAGE,
}
"""By the network's class: the original module, and the modules of diffusers of which it is made, top to bottom."""


def facts_of(network: Any, factors: Mapping[str, Factors]) -> NetworkFacts:
    """The facts of a network for the LoRA whose factors these are."""
    kind = type(network).__name__
    if table := TRANSFORMERS.get(kind):
        missing = {part for parts in _mates(factors, table).values() for part in parts if part not in factors}
        widths = {part: int(network.get_submodule(part).out_features) for part in sorted(missing)}
        return NetworkFacts(kind=kind, widths=widths)
    config = network.config
    layers = config.layers_per_block if isinstance(config.layers_per_block, int) else 0
    return NetworkFacts(kind=kind, stability=config.addition_embed_type == "text_time", layers=layers)


def kohya_state(
    facts: NetworkFacts,
    factors: Mapping[str, Factors],
    texts: Mapping[str, Mapping[str, Factors]] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """The tensors of such a file, from the factors by module, scaled as they act; alpha is the rank.

    `texts` has by the names of text encoders, as the pipeline has them, the factors of theirs.

    Raises HafError for a module that has no name in this format: one outside attention and feed-forward blocks.
    """
    # Stable Diffusion 1.x and 2.x have one text encoder; where there may be several, they are numbered.
    several = facts.stability or facts.kind in TRANSFORMERS
    numbers = {"text_encoder": "1", "text_encoder_2": "2"}
    named = {f"lora_unet_{name}": pair for name, pair in _original(facts, factors).items()}
    for part, own in texts.items():
        named |= {f"lora_te{numbers[part] if several else ''}_{name}": pair for name, pair in own.items()}
    state = {}
    for name, (down, up) in named.items():
        layer = name.replace(".", "_")
        state[f"{layer}.lora_down.weight"] = down.contiguous()
        state[f"{layer}.lora_up.weight"] = up.contiguous()
        state[f"{layer}.alpha"] = torch.tensor(float(down.shape[0]))
    return state


def _original(facts: NetworkFacts, factors: Mapping[str, Factors]) -> Mapping[str, Factors]:
    """The factors by the original model's modules."""
    if table := TRANSFORMERS.get(facts.kind):
        return _fused(facts, factors, table)
    if facts.stability:
        return {_of_sdxl(name, facts.layers): pair for name, pair in factors.items()}
    return factors


def _of_sdxl(module: str, layers: int) -> str:
    """A module of SDXL's U-Net in Stability's code, which counts the blocks of all levels through."""
    found = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.attentions\.(\d+)\.(.+)", module)
    if not found:
        raise _nameless(module)
    where, level, index, rest = found[1], int(found[2] or 0), int(found[3]), found[4]
    count = level * (layers + 1) + index
    block = {"down": f"input_blocks.{1 + count}", "mid": "middle_block", "up": f"output_blocks.{count}"}[where]
    return f"{block}.1.{rest}"


def _fused(
    facts: NetworkFacts, factors: Mapping[str, Factors], table: Mapping[str, tuple[str, ...]]
) -> dict[str, Factors]:
    """Factors of matrices that are one matrix in the original, side by side, as sd-scripts' convert_flux_lora.py does.

    The downs are stacked and the ups stand on a diagonal: ranks add up. A matrix that is not tuned has zeros.
    """
    fused = {}
    for original, parts in _mates(factors, table).items():
        if original is None:
            raise _nameless(parts[0])
        like = next(factors[part] for part in parts if part in factors)
        pairs = [factors.get(part) or _nothing(like, facts.widths[part]) for part in parts]
        fused[original] = Factors(torch.cat([pair.down for pair in pairs]), torch.block_diag(*(p.up for p in pairs)))
    return fused


def _mates(factors: Mapping[str, Factors], table: Mapping[str, tuple[str, ...]]) -> dict[str | None, tuple[str, ...]]:
    """By original matrix the modules that lie in it, tuned or not; under None one that has no such matrix, if any."""
    owners = {part: original for original, parts in table.items() for part in parts}
    found: dict[str | None, tuple[str, ...]] = {}
    for module in factors:
        number = re.search(r"\.(\d+)\.", module)
        original = owners.get(module.replace(number[0], ".{}.", 1)) if number else None
        if not number or not original:
            found[None] = (module,)
        else:
            found[original.format(number[1])] = tuple(part.format(number[1]) for part in table[original])
    return found


def _nothing(like: Factors, width: int) -> Factors:
    return Factors(torch.zeros_like(like.down), like.up.new_zeros(width, like.up.shape[1]))


def _nameless(module: str) -> HafError:
    return HafError(
        f"{module} has no name in kohya's format here; tune attention and feed-forward layers only, "
        "or use pytorch_lora_weights.safetensors instead."
    )
