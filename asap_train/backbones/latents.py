"""Images as latents: what the autoencoders of all backbones have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()  # type: ignore[untyped-decorator]
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """(m - shift) scale, (b, c, h, w) in float32, with m the mean of the AutoencoderKL's distribution.

    `pixels` are (b, 3, H, W) in -1 .. 1. Autoencoders whose configuration asks for it (`force_upcast`, as SDXL's, which
    overflows in fp16) work in float32 here, as the pipelines do when they decode.
    """
    dtype = vae.dtype
    upcast = dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(torch.float32)
    mean = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mean.float()
    if upcast:
        vae.to(dtype)
    scaled: Tensor = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return scaled
