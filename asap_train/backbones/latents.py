"""What the encoders of all backbones have in common: images as latents, and frozen weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()  # type: ignore[untyped-decorator]
def mean_of(vae: Any, pixels: Tensor) -> Tensor:
    """The mean (b, c, h, w), in float32, of an AutoencoderKL's distribution for images (b, 3, H, W) in -1 .. 1.

    Autoencoders whose configuration asks for it (`force_upcast`, as SDXL's, which overflows in fp16) work in float32
    here, as the pipelines do when they decode.
    """
    dtype = vae.dtype
    upcast = dtype == torch.float16 and vae.config.get("force_upcast", False)
    if upcast:
        vae.to(torch.float32)
    mean: Tensor = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mean.float()
    if upcast:
        vae.to(dtype)
    return mean


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """(mean - shift) scale, (b, c, h, w) in float32."""
    scaled: Tensor = (mean_of(vae, pixels) - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return scaled


def freeze_encoders(pipeline: Any) -> None:
    """No gradient by weights of autoencoder and text encoders, of those that are there."""
    for name in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        part = getattr(pipeline, name, None)
        if part is not None:
            part.requires_grad_(False)
