"""Stable Diffusion 3 and 3.5, and the built-in mannequin model: a rectified flow (Esser et al., arXiv 2403.03206)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from asap_train.backbones import Conditions
from asap_train.backbones.flow import RectifiedFlow, flow_timesteps
from asap_train.backbones.stable_diffusion import EMBEDDINGS

if TYPE_CHECKING:
    from torch import Tensor


class StableDiffusion3(RectifiedFlow):
    """A rectified flow whose network is given t: diffusers' train_dreambooth_lora_sd3.py, --precondition_outputs 0."""

    text_encoders: Mapping[str, int] = MappingProxyType({"text_encoder": 0, "text_encoder_2": 0})

    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width) and `pooled` (b, width), as the pipeline makes them."""
        words, _, pooled, _ = self.pipeline.encode_prompt(
            list(captions), None, None, do_classifier_free_guidance=False, max_sequence_length=self.text_tokens
        )
        return {"words": words, "pooled": pooled}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and of the negative one, and what the first two encoders pool of them."""
        made = self.pipeline.encode_prompt(
            prompt, None, None, negative_prompt=negative, max_sequence_length=self.text_tokens
        )
        return dict(zip(EMBEDDINGS, made, strict=True))

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted as the sampler shifts it."""
        config = self.pipeline.transformer.config
        height, width = grid or (config.sample_size, config.sample_size)
        tokens = (height // config.patch_size) * (width // config.patch_size)
        return flow_timesteps(uniform, self.pipeline.scheduler, tokens)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The velocity."""
        dtype = self.pipeline.transformer.dtype
        made: Tensor = self.network(
            hidden_states=noisy.to(dtype),
            timestep=timesteps,
            encoder_hidden_states=conditions["words"].to(dtype),
            pooled_projections=conditions["pooled"].to(dtype),
            return_dict=False,
        )[0]
        return made
