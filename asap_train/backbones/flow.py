"""Rectified flows: their arithmetic, and timesteps drawn as the model's own sampler shifts them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from asap_train.backbones import Conditions, Crop, Layers, Loaded
from asap_train.backbones.latents import encode, freeze_encoders

if TYPE_CHECKING:
    from torch import Tensor


PATCH = 2
"""Cells of latents that make one side of a token, in all of these families."""


class RectifiedFlow:
    """x_t = (1 - s) x_0 + s n, t = 1000 s; the network predicts the velocity n - x_0 (Esser et al., arXiv 2403.03206).

    What the families of rectified flows have in common; a family adds its texts, its timesteps and its call of the
    network. `lora_targets` are the projections of attention, of the image's tokens and of the text's, and the
    feed-forward layers: together those of diffusers' train_dreambooth_lora_flux.py; of its train_dreambooth_lora_sd3.py
    the former.
    """

    lora_targets: Mapping[Layers, Sequence[str]] = MappingProxyType(
        {
            "attention": (
                *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
                *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
            ),
            "feed_forward": ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
        }
    )
    idle: Sequence[str] = ()
    text_encoders: Mapping[str, int] = MappingProxyType({})
    guidance: float | None = None

    def __init__(self, loaded: Loaded) -> None:
        self.pipeline = loaded.pipeline
        freeze_encoders(self.pipeline)
        self.network: torch.nn.Module = self.pipeline.transformer
        self.multiple = PATCH * int(self.pipeline.vae_scale_factor)
        self.facts: Mapping[str, Any] = loaded.facts
        self.text_tokens: int | None = _default_tokens(self.pipeline)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, shifted and scaled."""
        return encode(self.pipeline.vae, pixels)

    def encode_crops(self, crops: Sequence[Crop]) -> Conditions:
        """Nothing: these families know no crops."""
        return {}

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(1 - s) x_0 + s n."""
        s = (timesteps / 1000)[:, None, None, None]
        return (1 - s) * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """n - x_0, whatever the timestep."""
        return noise - latents


def _default_tokens(pipeline: Any) -> int | None:
    """The max_sequence_length that the pipeline's call has by default; None where it has no such argument."""
    parameter = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    return None if parameter is None else int(parameter.default)


def flow_timesteps(uniform: Tensor, scheduler: Any, tokens: int) -> Tensor:
    """1000 s, (b,), from uniform numbers (b,); it grows with them, and so does the noise.

    s = sigmoid(z), z normal (Esser et al., arXiv 2403.03206, section 3.1), is led on to shift s / (1 + (shift - 1) s)
    (eq. 23). The shift is the scheduler's own, or e^mu with mu linear in the number of `tokens` of the image where the
    scheduler shifts by it, as FLUX's does. Schedulers of other kinds of models call it `flow_shift`.
    """
    s = torch.sigmoid(torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6)))
    config = scheduler.config
    if config.get("use_dynamic_shifting"):
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
        s = scheduler.time_shift(mu, 1.0, s)
    else:
        shift = config.get("shift", config.get("flow_shift", 1.0))
        s = shift * s / (1 + (shift - 1) * s)
    return (1000 * s).float()
