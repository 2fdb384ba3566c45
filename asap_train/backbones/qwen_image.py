"""Qwen-Image: a rectified flow with the words of a vision-language model (Wu et al., arXiv 2508.02324)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from asap_train.backbones import Conditions, Layers, Loaded
from asap_train.backbones.flow import RectifiedFlow, flow_timesteps
from asap_train.backbones.flux import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor


class QwenImage(RectifiedFlow):
    """A rectified flow whose network is given s: diffusers' train_dreambooth_lora_qwen_image.py.

    Height and width of the images are multiples of 16 pixels. Times are shifted by the image's size as the sampler
    does; that it also stretches the last steps of a sampling (`shift_terminal`) is left out.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {
            "attention": RectifiedFlow.lora_targets["attention"],
            "feed_forward": ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
        }
    )

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        # What the last block makes of the words goes nowhere.
        last = f"transformer_blocks.{len(self.pipeline.transformer.transformer_blocks) - 1}"
        self.idle = (f"{last}.attn.to_add_out", f"{last}.txt_mlp")

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_images(self, pixels: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, normalized channel by channel: images are videos of one frame."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(vae.device, vae.dtype)[:, :, None]).latent_dist.mean[:, :, 0].float()
        mean, std = (
            latents.new_tensor(value)[:, None, None] for value in (vae.config.latents_mean, vae.config.latents_std)
        )
        normalized: Tensor = (latents - mean) / std
        return normalized

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width) of the longest caption, and which of them are words, `words_mask` (b, tokens)."""
        words, mask = self._encode(list(captions))
        return {"words": words, "words_mask": mask}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and, if there is one, of the negative one: without, there is no guidance."""
        words, mask = self._encode([prompt])
        made = {"prompt_embeds": words, "prompt_embeds_mask": mask}
        if negative is not None:
            words, mask = self._encode([negative])
            made |= {"negative_prompt_embeds": words, "negative_prompt_embeds_mask": mask}
        return made

    def _encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        words, mask = self.pipeline.encode_prompt(texts, max_sequence_length=self.text_tokens)
        return words, words.new_ones(words.shape[:2], dtype=torch.bool) if mask is None else mask.bool()

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted as the sampler shifts it: the more, the larger the image."""
        height, width = grid or (self.pipeline.default_sample_size, self.pipeline.default_sample_size)
        return flow_timesteps(uniform, self.pipeline.scheduler, (height // 2) * (width // 2))

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The velocity (b, c, h, w)."""
        dtype, (batch, _, height, width) = self.pipeline.transformer.dtype, noisy.shape
        mask = conditions["words_mask"]
        made: Tensor = self.network(
            hidden_states=pack(noisy).to(dtype),
            timestep=timesteps / 1000,
            encoder_hidden_states=conditions["words"].to(dtype),
            # Without a mask, as in the pipeline where no text is padded, attention has faster kernels.
            encoder_hidden_states_mask=None if bool(mask.all()) else mask,
            img_shapes=[[(1, height // 2, width // 2)]] * batch,
            return_dict=False,
        )[0]
        return unpack(made, height, width)
