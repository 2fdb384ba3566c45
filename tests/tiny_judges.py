"""Tiny vision-language models with random weights, of the same classes and in the same layout as the real ones."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

END = "<|im_end|>"
QWEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
}


def tokenizer(special: Sequence[str], **named: str) -> hf.PreTrainedTokenizerFast:
    """One token for each byte, so that any text has its tokens, and the special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|pad|>", "<|im_start|>", END, *special])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token="<|pad|>",
        padding_side="right",
        extra_special_tokens=named,
    )


def template(image: str) -> str:
    """The form of conversation of most families; the switch is there to be used by mistake."""
    return (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% for part in message.content %}"
        "{% if part.type == 'image' %}" + image + "{% else %}{{ part.text }}{% endif %}"
        "{% endfor %}" + END + "\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}{% endif %}"
    )


def save(folder: Path, model: Any, processor: Any) -> Path:
    """Write it as a folder; larger weights than those of training, so that pictures change what it says."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0.0, 0.02 if "lm_head" in name else 0.25, generator=generator)
    model.generation_config = hf.GenerationConfig(
        eos_token_id=processor.tokenizer.eos_token_id, do_sample=True, temperature=0.7, repetition_penalty=1.5
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _qwen(folder: Path, patch: int, video: Any, kind: Any, config: Callable[..., Any], **options: Any) -> Path:
    words = tokenizer(QWEN)
    image, video_pad, start, end = words.convert_tokens_to_ids(list(QWEN))
    processor = kind(
        hf.Qwen2VLImageProcessor(
            patch_size=patch, size={"shortest_edge": (2 * patch) ** 2, "longest_edge": 16 * (2 * patch) ** 2}
        ),
        words,
        video(),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    made = config(
        image_token_id=image,
        video_token_id=video_pad,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "patch_size": patch,
            "out_hidden_size": 32,
            **options.pop("vision", {}),
        },
        text_config={**TEXT, "vocab_size": len(words), "tie_word_embeddings": True, **options.pop("text")},
    )
    return save(folder, options["model"](made), processor)


def qwen2_5_vl(folder: Path) -> Path:
    return _qwen(
        folder,
        14,
        hf.Qwen2VLVideoProcessor,
        hf.Qwen2_5_VLProcessor,
        hf.Qwen2_5_VLConfig,
        model=hf.Qwen2_5_VLForConditionalGeneration,
        vision={"fullatt_block_indexes": [1], "window_size": 56},
        text={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}},
    )


def qwen3_vl(folder: Path) -> Path:
    return _qwen(
        folder,
        16,
        hf.Qwen3VLVideoProcessor,
        hf.Qwen3VLProcessor,
        hf.Qwen3VLConfig,
        model=hf.Qwen3VLForConditionalGeneration,
        vision={"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
        text={
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
    )


def qwen3_5(folder: Path) -> Path:
    return _qwen(
        folder,
        16,
        hf.Qwen3VLVideoProcessor,
        hf.Qwen3VLProcessor,
        hf.Qwen3_5Config,
        model=hf.Qwen3_5ForConditionalGeneration,
        vision={"num_position_embeddings": 16},
        text={
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
    )


def internvl(folder: Path) -> Path:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer([*names.values()], **names)
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size={"height": 28, "width": 28}, max_patches=4, crop_to_patches=True),
        words,
        hf.InternVLVideoProcessor(size={"height": 28, "width": 28}),
        image_seq_length=1,
        chat_template=template("<IMG_CONTEXT>\n"),
    )
    config = hf.InternVLConfig(
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": [28, 28],
            "patch_size": [14, 14],
        },
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
    )
    return save(folder, hf.InternVLForConditionalGeneration(config), processor)


def gemma3(folder: Path) -> Path:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer([*names.values()], **names)
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        words,
        chat_template=template("<start_of_image>"),
        image_seq_length=4,
    )
    config = hf.Gemma3Config(
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
        mm_tokens_per_image=4,
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 7,
        },
        # Windows that are shorter than the questions, as those of real ones may be.
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
    )
    return save(folder, hf.Gemma3ForConditionalGeneration(config), processor)


def gemma4(folder: Path) -> Path:
    names = {
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "image_token": "<|image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    words = tokenizer([*names.values(), "<|video|>"], **names)
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        hf.Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70, pooling_kernel_size=2),
        words,
        hf.Gemma4VideoProcessor(),
        chat_template=template("<|image|>"),
    )
    config = hf.Gemma4Config(
        **{f"{key}_id": words.convert_tokens_to_ids(value) for key, value in names.items() if key != "eoa_token"},
        eoa_token_index=words.convert_tokens_to_ids("<audio|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 512,
        },
        audio_config=None,
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "vocab_size_per_layer_input": len(words),
            "hidden_size_per_layer_input": 8,
            "head_dim": 8,
            "global_head_dim": 16,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "use_bidirectional_attention": "vision",
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
    )
    return save(folder, hf.Gemma4ForConditionalGeneration(config), processor)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "gemma3": gemma3,
    # The oldest transformers of pyproject.toml lacks these.
    **({"qwen3_5": qwen3_5} if hasattr(hf, "Qwen3_5Config") else {}),
    **({"gemma4": gemma4} if hasattr(hf, "Gemma4Config") else {}),
}
