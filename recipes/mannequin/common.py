"""What the training of autoencoder and transformer share: processes, logs, the model.

One single-threaded process a core is quicker than many threads in one process: models are small.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import Regex, Tokenizer, models, normalizers, processors
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDTH, LAYERS, HEAD = 128, 8, 32
TEXT_WIDTHS, TEXT_LAYERS = (128, 64), 2
TOKENS = (16 // 2) ** 2


def _work(rank: int, workers: int, meeting: str, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    task(*arguments)
    dist.destroy_process_group()


def in_parallel(workers: int, task: Callable[..., None], *arguments: Any) -> None:
    """Run `task(*arguments)` in `workers` processes that know each other through torch.distributed."""
    # Libraries that are imported later would otherwise start a pool of threads in every process.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, (workers, f"{folder}/meeting", task, arguments), nprocs=workers)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in one exchange."""
    if dist.get_world_size() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for grad in grads:
        grad.copy_(flat[start : start + grad.numel()].view_as(grad))
        start += grad.numel()


def agreed(value: float) -> float:
    """The first process's value, so that all decide alike."""
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)


def append(path: Path, **facts: Any) -> None:
    """Add a line to a JSON-lines log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """`write(path)`, so that at any time the file at `path` is whole: the old one or the new one."""
    part = path.with_name(f"part-{path.name}")
    write(part)
    part.replace(path)


class JointAttention:
    """diffusers' JointAttnProcessor2_0, with a mask, and without computing what the last block throws away."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Image and text attend to both; `attention_mask` is added to the logits."""

        def heads(x: torch.Tensor, norm: Any = None) -> torch.Tensor:
            split = x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return split if norm is None else norm(split)

        image, text, count = hidden_states, encoder_hidden_states, hidden_states.shape[1]
        query = heads(attn.to_q(image), attn.norm_q)
        if not attn.context_pre_only:
            query = torch.cat([query, heads(attn.add_q_proj(text), attn.norm_added_q)], 2)
        key = torch.cat([heads(attn.to_k(image), attn.norm_k), heads(attn.add_k_proj(text), attn.norm_added_k)], 2)
        value = torch.cat([heads(attn.to_v(image)), heads(attn.add_v_proj(text))], 2)
        both = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask).transpose(1, 2).flatten(2)
        return attn.to_out[0](both[:, :count]), None if attn.context_pre_only else attn.to_add_out(both[:, count:])


def text_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModelWithProjection:
    """A small CLIP text encoder."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=width // 32,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def no_text_encoder() -> tuple[T5EncoderModel, PreTrainedTokenizerFast]:
    """A T5 that says zeros to everything, as the pipeline itself does without one.

    from_pretrained wants the third text encoder to be there, or to be passed as None by whoever calls it.
    """
    config = T5Config(vocab_size=2, d_model=sum(TEXT_WIDTHS), d_kv=1, d_ff=1, num_layers=0, num_heads=1)
    encoder = T5EncoderModel(config)
    torch.nn.init.zeros_(encoder.encoder.final_layer_norm.weight)
    nothing = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="<pad>"))  # noqa: S106
    nothing.normalizer = normalizers.Replace(Regex(r"[\s\S]+"), "")
    nothing.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return encoder, PreTrainedTokenizerFast(tokenizer_object=nothing, pad_token="<pad>", eos_token="</s>")  # noqa: S106


def build(vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
    """The untrained pipeline."""
    latents = vae.config.latent_channels
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=latents,
        out_channels=latents,
        num_layers=LAYERS,
        attention_head_dim=HEAD,
        num_attention_heads=WIDTH // HEAD,
        joint_attention_dim=sum(TEXT_WIDTHS),
        caption_projection_dim=WIDTH,
        pooled_projection_dim=sum(TEXT_WIDTHS),
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    transformer.set_attn_processor(JointAttention())
    # Start as the identity, with a prediction of 0: that trains much quicker than torch's default.
    for block in transformer.transformer_blocks:
        for norm in (block.norm1, block.norm1_context):
            torch.nn.init.zeros_(norm.linear.weight)
            torch.nn.init.zeros_(norm.linear.bias)
    for layer in (transformer.norm_out.linear, transformer.proj_out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    third, third_tokenizer = no_text_encoder()
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=text_encoder(tokenizer, TEXT_WIDTHS[0]),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder(tokenizer, TEXT_WIDTHS[1]),
        tokenizer_2=tokenizer,
        text_encoder_3=third,
        tokenizer_3=third_tokenizer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embed(pipe: StableDiffusion3Pipeline, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts as the pipeline's `encode_prompt` embeds them, less the zeros at the end, and with gradients."""
    length = pipe.tokenizer.model_max_length
    ids = pipe.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    outs = [encoder(ids, output_hidden_states=True) for encoder in (pipe.text_encoder, pipe.text_encoder_2)]
    return torch.cat([out.hidden_states[-2] for out in outs], -1), torch.cat([out.text_embeds for out in outs], -1)


def predict(
    pipe: StableDiffusion3Pipeline, noisy: torch.Tensor, share: torch.Tensor, texts: list[str], zeros: int
) -> torch.Tensor:
    """The velocity at a share of noise, as the pipeline computes it where `zeros` tokens of zeros follow the texts."""
    words, pooled = embed(pipe, texts)
    # Equal tokens stay equal in all layers: one of them, which weighs as many times, has the same effect.
    words = torch.cat([words, torch.zeros_like(words[:, :1])], 1)
    weights = torch.zeros(1, 1, 1, TOKENS + words.shape[1])
    weights[..., -1] = math.log(zeros)
    made: torch.Tensor = pipe.transformer(
        hidden_states=noisy,
        timestep=1000 * share,
        encoder_hidden_states=words,
        pooled_projections=pooled,
        joint_attention_kwargs={"attention_mask": weights},
        return_dict=False,
    )[0]
    return made
