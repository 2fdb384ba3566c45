"""Model presets, as data: what to load and with which settings its authors sample it.

None means the pipeline's own default. Sources: the model cards and the examples in diffusers' pipeline docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One line of `hafbench models`; `built_in` is its folder in the built-in world's weights, if it comes with us."""

    name: str
    hub_id: str | None
    licence: str
    gated: bool
    pipeline: str
    dtype: str
    size: int
    steps: int | None = None
    guidance: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    variant: str | None = None
    built_in: str | None = None

    def call(self) -> dict[str, Any]:
        """The arguments of the pipeline's call."""
        named = {"num_inference_steps": self.steps, "guidance_scale": self.guidance}
        size = {"height": self.size, "width": self.size}
        return {**{key: value for key, value in named.items() if value is not None}, **size, **self.arguments}


_OPEN, _GATED = False, True
_FLUX_NC, _STABILITY = "FLUX non-commercial", "Stability AI Community"
_CARD = "see the model card"

# fmt: off
_TABLE = (
    Preset("mannequin", None, "Apache-2.0", _OPEN, "StableDiffusion3Pipeline", "fp32", 128, 12, 2.5,
           arguments={"max_sequence_length": 1}, built_in="diffusion"),
    Preset("flux-dev", "black-forest-labs/FLUX.1-dev", _FLUX_NC, _GATED, "FluxPipeline", "bf16", 1024, 50, 3.5),
    Preset("flux-schnell", "black-forest-labs/FLUX.1-schnell", "Apache-2.0", _GATED, "FluxPipeline", "bf16", 1024,
           4, 0.0, arguments={"max_sequence_length": 256}),
    Preset("flux-krea", "black-forest-labs/FLUX.1-Krea-dev", _FLUX_NC, _GATED, "FluxPipeline", "bf16", 1024, 28, 4.5),
    Preset("flux2-dev", "black-forest-labs/FLUX.2-dev", _FLUX_NC, _GATED, "Flux2Pipeline", "bf16", 1024, 50, 4.0),
    Preset("flux2-klein", "black-forest-labs/FLUX.2-klein-4B", "Apache-2.0", _OPEN, "Flux2KleinPipeline", "bf16", 1024,
           4, 1.0),
    Preset("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", _OPEN,
           "StableDiffusionPipeline", "fp16", 512, 50, 7.5),
    Preset("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "CreativeML OpenRAIL++-M", _OPEN,
           "StableDiffusionXLPipeline", "fp16", 1024, 50, 5.0, variant="fp16"),
    Preset("sd35-medium", "stabilityai/stable-diffusion-3.5-medium", _STABILITY, _GATED, "StableDiffusion3Pipeline",
           "bf16", 1024, 40, 4.5),
    Preset("sd35-large", "stabilityai/stable-diffusion-3.5-large", _STABILITY, _GATED, "StableDiffusion3Pipeline",
           "bf16", 1024, 28, 3.5),
    Preset("qwen-image", "Qwen/Qwen-Image", "Apache-2.0", _OPEN, "QwenImagePipeline", "bf16", 1328, 50,
           arguments={"true_cfg_scale": 4.0, "negative_prompt": " "}),
    Preset("z-image-turbo", "Tongyi-MAI/Z-Image-Turbo", "Apache-2.0", _OPEN, "ZImagePipeline", "bf16", 1024, 8, 0.0),
    Preset("z-image", "Tongyi-MAI/Z-Image", "Apache-2.0", _OPEN, "ZImagePipeline", "bf16", 1024, 50, 5.0),
    Preset("sana", "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "NVIDIA NSCL v2-custom", _OPEN,
           "SanaPipeline", "bf16", 1024, 20, 4.5, variant="bf16"),
    Preset("pixart-sigma", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "CreativeML OpenRAIL++-M", _OPEN,
           "PixArtSigmaPipeline", "fp16", 1024, 20, 4.5),
    Preset("lumina2", "Alpha-VLLM/Lumina-Image-2.0", "Apache-2.0", _OPEN, "Lumina2Pipeline", "bf16", 1024),
    Preset("chroma", "lodestones/Chroma1-HD", "Apache-2.0", _OPEN, "ChromaPipeline", "bf16", 1024, 40, 3.0),
    Preset("cogview4", "THUDM/CogView4-6B", "Apache-2.0", _OPEN, "CogView4Pipeline", "bf16", 1024),
    Preset("hunyuan-image", "hunyuanvideo-community/HunyuanImage-2.1-Diffusers", _CARD, _OPEN, "HunyuanImagePipeline",
           "bf16", 2048),
)
# fmt: on
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _TABLE}
