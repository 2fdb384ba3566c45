"""FLUX.1: a rectified flow on latents whose 2 x 2 blocks are tokens (Black Forest Labs, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from asap_train.backbones import Conditions, Layers, Loaded
from asap_train.backbones.flow import RectifiedFlow, flow_timesteps

if TYPE_CHECKING:
    from torch import Tensor

GUIDANCE = 3.5
"""That FLUX.1 dev, which is distilled with guidance, is given: the default of the pipeline and of diffusers' script."""


class Flux(RectifiedFlow):
    """A rectified flow whose network is given s: diffusers' train_dreambooth_lora_flux.py, the sampler's timesteps.

    Height and width of the images are multiples of 16 pixels.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {
            **RectifiedFlow.lora_targets,
            # The single blocks have their feed-forward layers beside the attention, and one way out of both.
            "feed_forward": (*RectifiedFlow.lora_targets["feed_forward"], "proj_mlp", "proj_out"),
        }
    )

    text_encoders: Mapping[str, int] = MappingProxyType({"text_encoder": 0})

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self.guidance = GUIDANCE if self.pipeline.transformer.config.guidance_embeds else None

    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width) of T5 and `pooled` (b, width) of CLIP, as the pipeline makes them."""
        words, pooled, _ = self.pipeline.encode_prompt(list(captions), max_sequence_length=self.text_tokens)
        return {"words": words, "pooled": pooled}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and, if there is one, of the negative one; guidance is an input of the network."""
        made: dict[str, Any] = {}
        for kind, text in (("", prompt), ("negative_", negative)):
            if text is not None:
                own = self.encode_texts([text])
                made |= {f"{kind}prompt_embeds": own["words"], f"{kind}pooled_prompt_embeds": own["pooled"]}
        return made

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted as the sampler shifts it: the more, the larger the image."""
        height, width = grid or (self.pipeline.default_sample_size, self.pipeline.default_sample_size)
        return flow_timesteps(uniform, self.pipeline.scheduler, (height // 2) * (width // 2))

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The velocity (b, c, h, w). Inside, tokens have ids: zeros for words, (0, row, column) for the image."""
        dtype, (batch, _, height, width) = self.pipeline.transformer.dtype, noisy.shape
        words = conditions["words"].to(dtype)
        made: Tensor = self.network(
            hidden_states=pack(noisy).to(dtype),
            timestep=timesteps / 1000,
            guidance=None if self.guidance is None else noisy.new_full((batch,), self.guidance, dtype=torch.float32),
            encoder_hidden_states=words,
            pooled_projections=conditions["pooled"].to(dtype),
            txt_ids=words.new_zeros(words.shape[1], 3),
            img_ids=image_ids(height // 2, width // 2).to(noisy.device, dtype),
            return_dict=False,
        )[0]
        return unpack(made, height, width)


def image_ids(rows: int, columns: int) -> Tensor:
    """Where each token of an image is, (rows columns, 3): (0, row, column)."""
    return torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), torch.arange(rows), torch.arange(columns))


def pack(latents: Tensor) -> Tensor:
    """Each 2 x 2 block as a token: (b, c, h, w) to (b, h/2 w/2, 4 c)."""
    return pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The other way: (b, h/2 w/2, 4 c) to (b, c, h, w)."""
    return pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)
