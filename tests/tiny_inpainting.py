"""Tiny inpainting pipelines and ControlNets with random weights, beside the text-to-image ones of tiny_pipelines."""

from pathlib import Path

import torch
from diffusers import (
    ControlNetModel,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxFillPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tiny_pipelines import build_sd15, build_sdxl, clip_text, clip_tokenizer, t5_text, t5_tokenizer, vae


def _nine_channels(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same network with the inputs of one made for inpainting: latents, mask, masked latents."""
    return UNet2DConditionModel.from_config({**unet.config, "in_channels": 9})


def build_sd15_inpaint(folder: Path) -> Path:
    base = StableDiffusionPipeline.from_pretrained(build_sd15(folder / "base"), use_safetensors=True)
    torch.manual_seed(1)
    parts = {**base.components, "unet": _nine_channels(base.unet)}
    StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False).save_pretrained(folder / "model")
    return folder / "model"


def build_sdxl_inpaint(folder: Path) -> Path:
    base = StableDiffusionXLPipeline.from_pretrained(build_sdxl(folder / "base"), use_safetensors=True)
    torch.manual_seed(1)
    parts = {**base.components, "unet": _nine_channels(base.unet)}
    StableDiffusionXLInpaintPipeline(**parts).save_pretrained(folder / "model")
    return folder / "model"


def build_flux_fill(folder: Path) -> Path:
    torch.manual_seed(1)
    FluxFillPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 + 4 + 16,  # packed latents, masked latents, and the mask of 2 x 2 cells of 2 x 2 pixels
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_text(),
        text_encoder_2=t5_text(),
        tokenizer=clip_tokenizer(folder / "clip"),
        tokenizer_2=t5_tokenizer(),
    ).save_pretrained(folder / "model")
    return folder / "model"


def control_of_unet(base: Path, folder: Path, noise: float = 0.1) -> Path:
    """A ControlNet for the UNet of a tiny pipeline; its output, which begins at zero, is made to be felt."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel.from_pretrained(base / "unet", use_safetensors=True)
    # Latents of the tiny autoencoder are half as large as the picture, so that one step of the embedding halves it.
    net = ControlNetModel.from_unet(unet, conditioning_channels=3, conditioning_embedding_out_channels=(16, 32))
    _made_to_be_felt(net, noise)
    net.save_pretrained(folder)
    return folder


def control_of_flux(base: Path, folder: Path, noise: float = 0.1) -> Path:
    torch.manual_seed(2)
    transformer = FluxTransformer2DModel.from_pretrained(base / "transformer", use_safetensors=True)
    net = FluxControlNetModel.from_transformer(
        transformer, num_layers=1, num_single_layers=0, attention_head_dim=16, num_attention_heads=2
    )
    _made_to_be_felt(net, noise)
    net.save_pretrained(folder)
    return folder


def _made_to_be_felt(net: torch.nn.Module, noise: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(0, noise)
