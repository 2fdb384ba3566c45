"""Z-Image and Z-Image-Turbo: a rectified flow on one sequence of words and image (Z-Image Team, arXiv 2511.22699)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from asap_train.backbones import Conditions, Layers
from asap_train.backbones.flow import RectifiedFlow, flow_timesteps

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 1024
"""Pixels of a side, which the pipeline's call has by default."""


class ZImage(RectifiedFlow):
    """A rectified flow whose network is given 1 - s and predicts x_0 - n: diffusers' train_dreambooth_lora_z_image.py.

    Height and width of the images are multiples of 16 pixels.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {
            "attention": tuple(f"attention.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
            "feed_forward": tuple(f"feed_forward.{name}" for name in ("w1", "w2", "w3")),
        }
    )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width) of the longest caption, and which of them are words, `words_mask` (b, tokens)."""
        rows = self._encode(captions)
        masks = [row.new_ones(len(row), dtype=torch.bool) for row in rows]
        return {"words": pad_sequence(rows, batch_first=True), "words_mask": pad_sequence(masks, batch_first=True)}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and of the negative one, which the pipeline takes as lists."""
        return {"prompt_embeds": self._encode([prompt]), "negative_prompt_embeds": self._encode([negative or ""])}

    def _encode(self, texts: Sequence[str]) -> list[Tensor]:
        rows: list[Tensor]
        rows, _ = self.pipeline.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self.text_tokens
        )
        return rows

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted as the sampler shifts it."""
        side = SIDE // self.pipeline.vae_scale_factor
        height, width = grid or (side, side)
        return flow_timesteps(uniform, self.pipeline.scheduler, (height // 2) * (width // 2))

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The velocity n - x_0 (b, c, h, w). The network takes lists: each image, of one frame, with its own words."""
        dtype = self.pipeline.transformer.dtype
        words = conditions["words"].to(dtype)
        made: list[Tensor] = self.network(
            list(noisy.to(dtype)[:, :, None]),
            (1000 - timesteps) / 1000,
            [row[kept] for row, kept in zip(words, conditions["words_mask"], strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(made)[:, :, 0]
