"""The weights of a tiny SD 1.5 as people share them: in one file, under the names of the original code."""

from pathlib import Path

import torch
from safetensors.torch import load_file

# The names that a tiny SD 1.5 has in diffusers, and in the one-file checkpoints that people share.
UNET_NAMES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0": "output_blocks.1.2",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET_NAMES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_NAMES = {
    **{f"encoder.down_blocks.{i}.resnets.0": f"encoder.down.{i}.block.0" for i in range(2)},
    "encoder.down_blocks.0.downsamplers.0": "encoder.down.0.downsample",
    **{f"decoder.up_blocks.{i}.resnets.{j}": f"decoder.up.{1 - i}.block.{j}" for i in range(2) for j in range(2)},
    "decoder.up_blocks.0.upsamplers.0": "decoder.up.1.upsample",
    **{
        f"{half}.mid_block.{old}": f"{half}.mid.{new}"
        for half in ("encoder", "decoder")
        for old, new in {"resnets.0": "block_1", "attentions.0": "attn_1", "resnets.1": "block_2"}.items()
    },
    **{f"{half}.conv_norm_out": f"{half}.norm_out" for half in ("encoder", "decoder")},
}
VAE_BLOCK_NAMES = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def as_one_file(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a tiny SD 1.5 folder under the names of an original checkpoint."""
    state = {}
    for name, value in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        inner = UNET_RESNET_NAMES if "resnets" in name else {}
        state["model.diffusion_model." + _renamed(name, UNET_NAMES, inner)] = value
    for name, value in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        renamed = _renamed(name, VAE_NAMES, VAE_BLOCK_NAMES)
        is_convolution = "attn_1" in renamed and value.ndim == 2
        state["first_stage_model." + renamed] = value[:, :, None, None].contiguous() if is_convolution else value
    for name, value in load_file(folder / "text_encoder" / "model.safetensors").items():
        state["cond_stage_model.transformer.text_model." + name] = value
    return state


def _renamed(name: str, outer: dict[str, str], inner: dict[str, str]) -> str:
    for old, new in outer.items():
        if name.startswith(f"{old}."):
            rest = name.removeprefix(f"{old}.")
            for part, replaced in inner.items():
                if rest.startswith(f"{part}."):
                    return f"{new}.{replaced}.{rest.removeprefix(f'{part}.')}"
            return f"{new}.{rest}"
    return name
