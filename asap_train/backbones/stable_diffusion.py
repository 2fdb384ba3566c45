"""Stable Diffusion 1.x, 2.x and XL: a U-Net on a discrete noise schedule (Ho et al., arXiv 2006.11239)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDPMScheduler

from asap_train.backbones import Conditions, Crop, Layers, Loaded
from asap_train.backbones.latents import encode, freeze_encoders
from hafbench.errors import HafError

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDINGS = (
    *("prompt_embeds", "negative_prompt_embeds"),
    *("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
)
"""What `encode_prompt` of SDXL's and SD3's pipelines gives, by the names of their calls."""
PREDICTS = ("epsilon", "v_prediction")


class StableDiffusion:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) n with a_t, `alphas_cumprod`, of t = 0 .. 999.

    The network predicts n, or v = sqrt(a_t) n - sqrt(1 - a_t) x_0 (Salimans and Ho, arXiv 2202.00512), whichever the
    scheduler's `prediction_type` says; HafError for a third, and for a scheduler without betas, as those of EDM. As
    diffusers' train_text_to_image_lora.py, from which the attention's `lora_targets` are, too: the projections of self
    and cross attention.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {"attention": ("to_q", "to_k", "to_v", "to_out.0"), "feed_forward": ("ff.net.0.proj", "ff.net.2")}
    )
    idle: Sequence[str] = ()
    text_encoders: Mapping[str, int] = MappingProxyType({"text_encoder": 0})
    guidance: float | None = None
    text_tokens: int | None = None

    def __init__(self, loaded: Loaded) -> None:
        self.pipeline = loaded.pipeline
        freeze_encoders(self.pipeline)
        self.network: torch.nn.Module = self.pipeline.unet
        halvings = len(self.pipeline.unet.config.block_out_channels) - 1
        self.multiple = int(self.pipeline.vae_scale_factor) * 2**halvings
        self.facts: Mapping[str, Any] = loaded.facts
        config = self.pipeline.scheduler.config
        if "beta_start" not in config:  # DDPMScheduler would take its own defaults for them
            raise HafError(
                f"The model's scheduler, {type(self.pipeline.scheduler).__name__}, has no schedule of betas: a model "
                "of this kind (EDM) cannot be tuned."
            )
        schedule = DDPMScheduler.from_config(config)
        self._predicts = schedule.config.prediction_type
        if self._predicts not in PREDICTS:
            raise HafError(
                f"The model's scheduler has the prediction_type {self._predicts}; known: {', '.join(PREDICTS)}."
            )
        self._alphas: Tensor = schedule.alphas_cumprod

    def encode_images(self, pixels: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, scaled."""
        return encode(self.pipeline.vae, pixels)

    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width), as the pipeline makes them."""
        words, _ = self.pipeline.encode_prompt(list(captions), self.pipeline.device, 1, False)
        return {"words": words}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and of the negative one."""
        words, empty = self.pipeline.encode_prompt(prompt, self.pipeline.device, 1, True, negative)
        return {"prompt_embeds": words, "negative_prompt_embeds": empty}

    def encode_crops(self, crops: Sequence[Crop]) -> Conditions:
        """Nothing: Stable Diffusion 1.x and 2.x know no crops."""
        return {}

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Each of the timesteps 0 .. 999 as often as any other."""
        steps = len(self._alphas)
        return (uniform * steps).long().clamp_max(steps - 1)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(a_t) x_0 + sqrt(1 - a_t) n."""
        signal, spread = self._scales(timesteps)
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """n, or sqrt(a_t) n - sqrt(1 - a_t) x_0."""
        signal, spread = self._scales(timesteps)
        return signal * noise - spread * latents if self._predicts == "v_prediction" else noise

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The noise, or v. Conditions other than `words` go in by the names that the U-Net has for them."""
        dtype = self.pipeline.unet.dtype
        given = {name: value.to(dtype) for name, value in conditions.items()}
        words = given.pop("words")
        made: Tensor = self.network(
            noisy.to(dtype), timesteps, encoder_hidden_states=words, added_cond_kwargs=given, return_dict=False
        )[0]
        return made

    def _scales(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a_t) and sqrt(1 - a_t), (b, 1, 1, 1)."""
        a = self._alphas.to(timesteps.device)[timesteps.long()][:, None, None, None]
        return a.sqrt(), (1 - a).sqrt()


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (Podell et al., arXiv 2307.01952), given also its pooled caption and how an image was cut.

    As diffusers' train_text_to_image_lora_sdxl.py. A cut presented as a whole image would teach the model to cut feet
    off images that are asked to be whole (section 2.2 of the paper).
    """

    # What the last layer of the first encoder makes is left out.
    text_encoders: Mapping[str, int] = MappingProxyType({"text_encoder": 1, "text_encoder_2": 0})

    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width) and `text_embeds` (b, width) of the second encoder.

        An empty caption is zeros where the model was trained so (`force_zeros_for_empty_prompt`): a dropped caption
        then teaches the very branch that guidance takes away from.
        """
        pipeline = self.pipeline
        words, _, pooled, _ = pipeline.encode_prompt(list(captions), None, None, 1, False)
        if pipeline.config.force_zeros_for_empty_prompt:
            said = torch.tensor([bool(caption) for caption in captions], device=words.device)
            words, pooled = words * said[:, None, None], pooled * said[:, None]
        return {"words": words, "text_embeds": pooled}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and of the negative one, and what the second encoder pools of them."""
        made = self.pipeline.encode_prompt(prompt, None, None, 1, True, negative)
        return dict(zip(EMBEDDINGS, made, strict=True))

    def encode_crops(self, crops: Sequence[Crop]) -> Conditions:
        """`time_ids` (b, 6): height and width before scaling, top and left of the cut, its height and width."""
        return {"time_ids": torch.tensor([(*c.original, *c.corner, *c.size) for c in crops], dtype=torch.float32)}
