"""SDXL and FLUX.1 dev with random weights, at the published sizes or tiny, built where they are to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from asap_train.backbones import Backbone, Loaded
from asap_train.backbones.flux import Flux
from asap_train.backbones.stable_diffusion import StableDiffusionXL
from asap_train.planning.architectures import ARCHITECTURES, Architecture

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(frozen=True, eq=False)
class Sizes:
    """Configurations of the parts, as in the published models, or tiny; `side` of the images in pixels."""

    side: int
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    clips: tuple[Mapping[str, Any], Mapping[str, Any]]
    flux: Mapping[str, Any]

    @property
    def cells(self) -> int:
        """Latents' side."""
        return self.side >> (len(self.vae["block_out_channels"]) - 1)

    @property
    def channels(self) -> int:
        """Of FLUX's latents."""
        return int(self.flux["in_channels"]) // 4

    @cached_property
    def architectures(self) -> Mapping[str, Architecture]:
        """SDXL and FLUX, as the planner has them."""
        return {kind: self._architecture(kind) for kind in ("sdxl", "flux")}

    def _architecture(self, kind: str) -> Architecture:
        if kind == "flux":
            texts = {"words": (512, self.flux["joint_attention_dim"]), "pooled": self.flux["pooled_projection_dim"]}
            published, config, channels = ARCHITECTURES["flux-dev"], self.flux, self.channels
        else:
            texts = {"words": (77, self.unet["cross_attention_dim"]), "pooled": self.clips[1]["projection_dim"]}
            published, config, channels = ARCHITECTURES["sdxl"], self.unet, 4
        cell = self.side // self.cells
        return replace(published, config=config, side=self.side, channels=channels, cell=cell, **texts)


def _clip(width: int, layers: int, heads: int, act: str, words: int = 49408) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width, "vocab_size": words}
    sizes |= {"bos_token_id": words - 2, "eos_token_id": words - 1}
    return {**sizes, "num_hidden_layers": layers, "num_attention_heads": heads, "hidden_act": act}


def _vae(*channels: int) -> dict[str, Any]:
    down, up = ("DownEncoderBlock2D",) * len(channels), ("UpDecoderBlock2D",) * len(channels)
    return {"block_out_channels": channels, "down_block_types": down, "up_block_types": up, "scaling_factor": 0.13025}


def _flux(
    layers: int, singles: int, heads: int, axes: tuple[int, int, int], channels: int, words: int, pooled: int
) -> Any:
    inner = {"num_layers": layers, "num_single_layers": singles, "num_attention_heads": heads}
    outer = {"in_channels": 4 * channels, "joint_attention_dim": words, "pooled_projection_dim": pooled}
    return {**inner, **outer, "attention_head_dim": sum(axes), "axes_dims_rope": axes, "guidance_embeds": True}


SIZES = {
    "true": Sizes(
        side=1024,
        unet=ARCHITECTURES["sdxl"].config,
        vae={**_vae(128, 256, 512, 512), "layers_per_block": 2},
        clips=(_clip(768, 12, 12, "quick_gelu"), _clip(1280, 32, 20, "gelu")),
        flux=ARCHITECTURES["flux-dev"].config,
    ),
    "small": Sizes(
        side=32,
        unet={
            "sample_size": 16,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
            "addition_embed_type": "text_time",
            "use_linear_projection": True,
        },
        vae=_vae(32, 64),
        clips=(_clip(32, 2, 4, "quick_gelu", 100), _clip(32, 2, 4, "gelu", 100)),
        flux=_flux(1, 1, 2, (4, 4, 8), 4, 32, 32),
    ),
}
"""SDXL 1.0 base and FLUX.1 dev."""


@contextmanager
def built(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules made within it lie on `device` in `dtype` from the start."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def sdxl(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Backbone:
    """SDXL's U-Net without its encoders."""
    with built(device, dtype):
        network = UNet2DConditionModel(**sizes.unet)
    return StableDiffusionXL(Loaded(StableDiffusionXLPipeline(*[None] * 5, network, DDPMScheduler(**SCHEDULE)), {}))


def flux(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> Backbone:
    """FLUX's transformer without its encoders."""
    with built(device, dtype):
        network = FluxTransformer2DModel(**sizes.flux)
    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return Flux(Loaded(FluxPipeline(schedule, *[None] * 5, network), {}))


def encoders(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """SDXL's autoencoder and both text encoders, frozen."""
    with built(device, dtype):
        vae = AutoencoderKL(**sizes.vae)
        texts = (
            CLIPTextModel(CLIPTextConfig(**sizes.clips[0])),
            CLIPTextModelWithProjection(CLIPTextConfig(**sizes.clips[1])),
        )
    one, two, three = (part.requires_grad_(False).eval() for part in (vae, *texts))
    return one, two, three
