"""Tiny pipelines with random weights, of the same classes and in the same layout as the real models."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

LETTERS = [chr(c) for c in range(ord("!"), ord("~") + 1)]


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level vocabulary of single characters: every text has its own tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Characters as tokens, in the interface that T5 pipelines use."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{letter: i for i, letter in enumerate(LETTERS, 3)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def clip_text(projection: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        bos_token_id=2 * len(LETTERS),
        eos_token_id=2 * len(LETTERS) + 1,
        pad_token_id=2 * len(LETTERS) + 1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5_text() -> T5EncoderModel:
    config = T5Config(vocab_size=len(LETTERS) + 3, d_model=32, d_ff=37, d_kv=8, num_layers=2, num_heads=4)
    return T5EncoderModel(config)


def chat_tokenizer(content: str = "message.content") -> PreTrainedTokenizerFast:
    """Characters as tokens, with a form of conversation; `content` is the text of a user's message in it.

    System messages are left out: in characters they are longer than what encoders read.
    """
    tokenizer = t5_tokenizer()
    tokenizer.model_max_length = 2048
    tokenizer.chat_template = (
        "{% for message in messages if message.role == 'user' %}<u>{{ " + content + " }}</u>{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
        "{% if enable_thinking is defined and not enable_thinking %}<t></t>{% endif %}"
    )
    return tokenizer


LANGUAGE = {
    "vocab_size": len(LETTERS) + 3,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
"""What the language models of tiny text encoders have in common."""


def vae(channels: int, **options: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=channels,
        **options,
    )


def unet(cross: int, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        **options,
    )


def build_sd15(folder: Path) -> Path:
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(folder / "clip"),
        unet=unet(32, attention_head_dim=8),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def build_sdxl(folder: Path) -> Path:
    torch.manual_seed(0)
    StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projection=True),
        tokenizer=clip_tokenizer(folder / "clip"),
        tokenizer_2=clip_tokenizer(folder / "clip"),
        unet=unet(
            64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=80,
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False),
    ).save_pretrained(folder)
    return folder


def build_sd3(folder: Path) -> Path:
    torch.manual_seed(0)
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=64,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_text(projection=True),
        text_encoder_2=clip_text(projection=True),
        text_encoder_3=t5_text(),
        tokenizer=clip_tokenizer(folder / "clip"),
        tokenizer_2=clip_tokenizer(folder / "clip"),
        tokenizer_3=t5_tokenizer(),
    ).save_pretrained(folder)
    return folder


def build_flux(folder: Path, guidance: bool = True) -> Path:
    torch.manual_seed(0)
    FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_text(),
        text_encoder_2=t5_text(),
        tokenizer=clip_tokenizer(folder / "clip"),
        tokenizer_2=t5_tokenizer(),
    ).save_pretrained(folder)
    return folder


def vae_flux2() -> AutoencoderKLFlux2:
    """With statistics of latents that are not 0 and 1."""
    made = AutoencoderKLFlux2(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        latent_channels=1,
    )
    made.bn.running_mean = torch.tensor([0.1, -0.2, 0.3, 0.0])
    made.bn.running_var = torch.tensor([0.5, 1.5, 1.0, 2.0])
    return made


def transformer_flux2(guidance: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )


def build_flux2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Mistral3Config(
        text_config={"model_type": "mistral", "num_hidden_layers": 30, "sliding_window": None, **LANGUAGE},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 16,
            "image_size": 30,
            "patch_size": 6,
            "num_channels": 3,
        },
        image_token_index=2,
    )
    Flux2Pipeline(
        transformer=transformer_flux2(guidance=True),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae_flux2(),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=chat_tokenizer("message.content[0].text"),
    ).save_pretrained(folder)
    return folder


def build_flux2_klein(folder: Path) -> Path:
    torch.manual_seed(0)
    Flux2KleinPipeline(
        transformer=transformer_flux2(guidance=False),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae_flux2(),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(num_hidden_layers=27, head_dim=8, **LANGUAGE)),
        tokenizer=chat_tokenizer(),
    ).save_pretrained(folder)
    return folder


def build_qwen_image(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "num_hidden_layers": 2,
            **LANGUAGE,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
    )
    QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[0.5, 1.5, 1.0, 2.0],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=chat_tokenizer(),
    ).save_pretrained(folder)
    return folder


def build_z_image(folder: Path) -> Path:
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    ZImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=Qwen3Model(Qwen3Config(num_hidden_layers=3, head_dim=8, **LANGUAGE)),
        tokenizer=chat_tokenizer(),
    ).save_pretrained(folder)
    return folder


BUILDERS = {
    "sd15": build_sd15,
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "flux": build_flux,
    "flux2": build_flux2,
    "flux2-klein": build_flux2_klein,
    "qwen-image": build_qwen_image,
    "z-image": build_z_image,
}
