"""Stable Diffusion 3 and 3.5, and the built-in mannequin model: a rectified flow (Esser et al., arXiv 2403.03206)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from asap_train.backbones import Conditions, Loaded
from asap_train.backbones.flow import flow_times
from asap_train.backbones.latents import encode

if TYPE_CHECKING:
    from torch import Tensor

TEXT_TOKENS = 256
"""Of the third text encoder, as the pipeline's own default; one where it says only zeros."""


class StableDiffusion3:
    """x_t = (1 - s) x_0 + s n, the network predicts n - x_0, and is told t = 1000 s.

    As diffusers' train_dreambooth_lora_sd3.py with `--precondition_outputs 0`, from which `lora_targets` are, too: the
    attention's projections, of the image's tokens and of the text's.
    """

    lora_targets: Sequence[str] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )

    def __init__(self, loaded: Loaded) -> None:
        self.pipeline = loaded.pipeline
        self.network: torch.nn.Module = self.pipeline.transformer
        self.facts: Mapping[str, Any] = loaded.facts

    def encode_images(self, pixels: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, shifted and scaled."""
        return encode(self.pipeline.vae, pixels)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_texts(self, captions: Sequence[str], size: tuple[int, int]) -> Conditions:
        """`words` (b, tokens, width) and `pooled` (b, width), as the pipeline makes them."""
        tokens = TEXT_TOKENS if _has_t5(self.pipeline) else 1
        words, _, pooled, _ = self.pipeline.encode_prompt(
            list(captions), None, None, do_classifier_free_guidance=False, max_sequence_length=tokens
        )
        return {"words": words, "pooled": pooled}

    def draw_times(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted as the sampler shifts it."""
        config = self.pipeline.transformer.config
        height, width = grid or (config.sample_size, config.sample_size)
        tokens = (height // config.patch_size) * (width // config.patch_size)
        return flow_times(uniform, self.pipeline.scheduler, tokens)

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """(1 - s) x_0 + s n."""
        s = (times / 1000)[:, None, None, None]
        return (1 - s) * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """n - x_0, whatever the time."""
        return noise - latents

    def predict(self, noisy: Tensor, times: Tensor, conditions: Conditions) -> Tensor:
        """The velocity."""
        dtype = self.pipeline.transformer.dtype
        made: Tensor = self.network(
            hidden_states=noisy.to(dtype),
            timestep=times,
            encoder_hidden_states=conditions["words"].to(dtype),
            pooled_projections=conditions["pooled"].to(dtype),
            return_dict=False,
        )[0]
        return made


def _has_t5(pipeline: Any) -> bool:
    """Whether the third text encoder says anything: the mannequin model's has no layer, and says zeros."""
    encoder = pipeline.text_encoder_3
    return encoder is not None and encoder.config.num_layers > 0
