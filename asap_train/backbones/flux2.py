"""FLUX.2 dev and klein: a rectified flow on normalized latents whose 2 x 2 blocks are channels (Black Forest Labs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pixel_unshuffle

from asap_train.backbones import Conditions, Layers, Loaded
from asap_train.backbones.flow import RectifiedFlow, flow_timesteps
from asap_train.backbones.latents import mean_of

if TYPE_CHECKING:
    from torch import Tensor

GUIDANCE = 4.0
"""That FLUX.2 dev, which is distilled with guidance, is given: the pipeline's default (diffusers' script has 3.5)."""


class Flux2(RectifiedFlow):
    """A rectified flow whose network is given s: diffusers' train_dreambooth_lora_flux2.py.

    A cell of the latents is 16 pixels. Times are shifted as FLUX.1's: the sampler's shift depends on the number of
    steps, and with many steps it is that (`compute_empirical_mu` of the pipeline).

    The single blocks have one matrix into attention and feed-forward layers, and one out of both: they count as both
    kinds.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {
            "attention": (*RectifiedFlow.lora_targets["attention"], "attn.to_qkv_mlp_proj", "attn.to_out"),
            "feed_forward": (
                *("ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out"),
                *("attn.to_qkv_mlp_proj", "attn.to_out"),
            ),
        }
    )

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self.guidance = GUIDANCE if self.pipeline.transformer.config.guidance_embeds else None

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_images(self, pixels: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, 2 x 2 blocks as channels, normalized by its running statistics.

        (b, 4 c, H / 16, W / 16); mean and variance are those of the autoencoder's batch normalization.
        """
        vae = self.pipeline.vae
        blocks = pixel_unshuffle(mean_of(vae, pixels), 2)
        mean, variance = (value.float()[:, None, None] for value in (vae.bn.running_mean, vae.bn.running_var))
        normalized: Tensor = (blocks - mean) / (variance + vae.config.batch_norm_eps).sqrt()
        return normalized

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """`words` (b, tokens, width), padding included: the network has no mask, and was trained with it."""
        words, _ = self.pipeline.encode_prompt(list(captions), max_sequence_length=self.text_tokens)
        return {"words": words}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt; guidance is an input of the network."""
        return {"prompt_embeds": self.encode_texts([prompt])["words"]}

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """1000 s, s logit-normal and shifted: the more, the larger the image."""
        side = self.pipeline.default_sample_size // 2
        height, width = grid or (side, side)
        return flow_timesteps(uniform, self.pipeline.scheduler, height * width)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The velocity (b, c, h, w). Inside, tokens have ids: (0, 0, 0, place) for words, (0, row, column, 0) else."""
        dtype, (batch, _, height, width) = self.pipeline.transformer.dtype, noisy.shape
        words = conditions["words"].to(dtype)
        made: Tensor = self.network(
            hidden_states=noisy.flatten(2).transpose(1, 2).to(dtype),
            timestep=timesteps / 1000,
            guidance=None if self.guidance is None else noisy.new_full((batch,), self.guidance, dtype=torch.float32),
            encoder_hidden_states=words,
            txt_ids=_ids(1, 1, words.shape[1]).to(noisy.device),
            img_ids=_ids(height, width, 1).to(noisy.device),
            return_dict=False,
        )[0]
        return made.transpose(1, 2).unflatten(2, (height, width))


class Flux2Klein(Flux2):
    """FLUX.2 klein, whose pipeline samples with guidance unless the model is distilled."""

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """Embeddings of the prompt and of the empty one, which alone the pipeline takes guidance from."""
        words, empty = self.encode_texts([prompt, negative or ""])["words"].chunk(2)
        return {"prompt_embeds": words, "negative_prompt_embeds": empty}


def _ids(rows: int, columns: int, places: int) -> Tensor:
    """Where tokens are, (rows columns places, 4): image, row, column, and place in the text."""
    return torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), *map(torch.arange, (rows, columns, places)))
