"""The published sizes of the models that have a preset, as their files have them: plans need no weights.

Configurations of denoisers are those of the repositories' config.json (for FLUX.2 dev, Qwen-Image and Z-Image, the
defaults of diffusers' classes). Numbers of weights of encoders are those of the model cards, in billions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CLIP_L, CLIP_G, T5_XXL = 0.123, 0.695, 4.762
QWEN3_4B, QWEN25_VL_7B, MISTRAL_24B = 4.022, 8.292, 24.011


@dataclass(frozen=True, eq=False)
class Architecture:
    """A text-to-image model's sizes.

    network: the denoiser's class in diffusers, and its configuration. side: pixels of an image. channels, cell: of the
    latents as the backbone has them, and how many pixels a cell of them is. words: (tokens, width) of a text's
    embedding; pooled: the width of the vector beside it, 0 for none. encoders: billions of weights of each text
    encoder; autoencoder: its class in diffusers. conditions: further ones of the network, by name, with their shapes.
    blocks: the network's lists of equal blocks, in the order of the forward pass, and what the configuration calls
    their lengths; nothing where they are not equal.
    """

    pipeline: str
    network: str
    config: Mapping[str, Any]
    side: int
    channels: int
    cell: int
    words: tuple[int, int]
    pooled: int = 0
    encoders: tuple[float, ...] = ()
    autoencoder: str = "AutoencoderKL"
    conditions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    blocks: Mapping[str, str] = field(default_factory=dict)


UNET_XL: Mapping[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
UNET_15: Mapping[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def _flux(guided: bool) -> Mapping[str, Any]:
    heads = {"num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128}
    texts = {"joint_attention_dim": 4096, "pooled_projection_dim": 768}
    return {**heads, **texts, "in_channels": 64, "guidance_embeds": guided}


def _sd3(layers: int, heads: int, positions: int, dual: tuple[int, ...] = ()) -> Mapping[str, Any]:
    width = {"num_layers": layers, "num_attention_heads": heads, "caption_projection_dim": 64 * heads}
    kept = {"pos_embed_max_size": positions, "dual_attention_layers": dual, "qk_norm": "rms_norm"}
    return {**width, **kept, "attention_head_dim": 64}


_KLEIN: Mapping[str, Any] = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}
_FLUX_TEXTS = (CLIP_L, T5_XXL)
_SD3_TEXTS = (CLIP_L, CLIP_G, T5_XXL)


_DOUBLE: Mapping[str, str] = {"transformer_blocks": "num_layers"}
_BOTH: Mapping[str, str] = {**_DOUBLE, "single_transformer_blocks": "num_single_layers"}


def _of_flux(guided: bool, tokens: int) -> Architecture:
    texts = ((tokens, 4096), 768, _FLUX_TEXTS)
    return Architecture("FluxPipeline", "FluxTransformer2DModel", _flux(guided), 1024, 16, 8, *texts, blocks=_BOTH)


def _of_sd3(config: Mapping[str, Any], blocks: Mapping[str, str] | None = None) -> Architecture:
    texts = ((333, 4096), 2048, _SD3_TEXTS)  # 77 of both CLIPs together, 256 of T5
    return Architecture(
        "StableDiffusion3Pipeline", "SD3Transformer2DModel", config, 1024, 16, 8, *texts, blocks=blocks or {}
    )


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "sd15": Architecture(
            "StableDiffusionPipeline", "UNet2DConditionModel", UNET_15, 512, 4, 8, (77, 768), 0, (CLIP_L,)
        ),
        "sdxl": Architecture(
            *("StableDiffusionXLPipeline", "UNet2DConditionModel", UNET_XL, 1024, 4, 8, (77, 2048), 1280),
            encoders=(CLIP_L, CLIP_G),
            conditions={"time_ids": (6,)},
        ),
        "sd35-medium": _of_sd3(_sd3(24, 24, 384, tuple(range(13)))),
        "sd35-large": _of_sd3(_sd3(38, 38, 192)),
        "flux-dev": _of_flux(True, 512),
        "flux-krea": _of_flux(True, 512),
        "flux-schnell": _of_flux(False, 256),
        "flux2-dev": Architecture(
            *("Flux2Pipeline", "Flux2Transformer2DModel", {}, 1024, 128, 16, (512, 15360), 0, (MISTRAL_24B,)),
            autoencoder="AutoencoderKLFlux2",
            blocks=_BOTH,
        ),
        "flux2-klein": Architecture(
            *("Flux2KleinPipeline", "Flux2Transformer2DModel", _KLEIN, 1024, 128, 16, (512, 7680), 0, (QWEN3_4B,)),
            autoencoder="AutoencoderKLFlux2",
            blocks=_BOTH,
        ),
        "qwen-image": Architecture(
            *("QwenImagePipeline", "QwenImageTransformer2DModel", {}, 1328, 16, 8, (512, 3584), 0, (QWEN25_VL_7B,)),
            autoencoder="AutoencoderKLQwenImage",
            blocks=_DOUBLE,
        ),
        "z-image": Architecture(
            *("ZImagePipeline", "ZImageTransformer2DModel", {}, 1024, 16, 8, (512, 2560), 0, (QWEN3_4B,)),
            blocks={"layers": "n_layers"},
        ),
        "z-image-turbo": Architecture(
            *("ZImagePipeline", "ZImageTransformer2DModel", {}, 1024, 16, 8, (512, 2560), 0, (QWEN3_4B,)),
            blocks={"layers": "n_layers"},
        ),
    }
)
"""By the names of presets."""
