"""The parts of a fit: accelerate, the model with what is tuned of it, its frozen reference, the pairs' cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from asap_train.backbones import Backbone
from asap_train.backbones.parts import AUTOENCODER, TEXT_ENCODERS, Parts, open_backbone
from asap_train.hap.manifest import LAYOUT
from asap_train.training import cache as caches
from asap_train.training import noise
from asap_train.training.config import DTYPES, FitConfig, as_plain
from asap_train.training.launch import check_launch
from asap_train.training.lora import add_lora, check_targets, check_text_encoders, freeze_idle, trained_parameters
from asap_train.training.objectives import OBJECTIVES
from asap_train.training.optimizers import make_optimizer, rate_factor
from asap_train.training.order import Order
from asap_train.training.prompts import LivePrompts, Prompts
from asap_train.training.residuals import Policy, compile_blocks, frozen
from asap_train.training.state import check_origin, origin
from asap_train.training.texts import TunedTexts
from asap_train.training.validation import arguments_of, prompts_of
from asap_train.training.widening import widen
from hafbench.errors import HafError
from hafbench.evaluate import spread
from hafbench.generators.sources import find_source
from hafbench.stores import kept_copy
from hafbench.suites import load_suite

if TYPE_CHECKING:
    from torch.nn import Parameter

    from asap_train.training.residuals import Predict

LONGEST_WAIT = timedelta(days=1)
"""Of one process for the others: one of them may be filling the cache, or scoring."""


@dataclass
class Training:
    """All that a step needs. `policy` and `optimizer` are wrapped by accelerate, `parameters` are what is tuned."""

    config: FitConfig
    accelerator: Accelerator
    cache: caches.Cache
    backbone: Backbone
    policy: Any
    refer: Predict | None
    parameters: list[tuple[str, Parameter]]
    optimizer: Any
    factor: Callable[[int], float]
    ema: Any
    prompts: Prompts | LivePrompts | None = None

    @property
    def pairs_a_step(self) -> int:
        """Of all processes together."""
        return pairs_a_step(self.config, self.accelerator)

    @property
    def values(self) -> list[Parameter]:
        """The parameters without their names."""
        return [value for _, value in self.parameters]

    def ids(self, step: int) -> list[str]:
        """The pairs of a step."""
        batches = self.pairs_a_step // self.config.train_batch_size
        numbers = range(step * batches, (step + 1) * batches)
        return [self.cache.ids[place] for number in numbers for place in self.order.batch(number)]

    @cached_property
    def order(self) -> Order:
        """Which pairs each batch has."""
        return Order(self.config.seed, self.config.train_batch_size, self.cache.buckets)


def pairs_a_step(config: FitConfig, accelerator: Accelerator) -> int:
    """The pairs of a step, of all processes together."""
    return config.train_batch_size * config.gradient_accumulation_steps * int(accelerator.num_processes)


def make_accelerator(config: FitConfig) -> Accelerator:
    """An Accelerator with the settings of the config and of `accelerate launch`; raises as `check_launch` does."""
    check_launch(config)
    # A process may fit several times, with other settings.
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=None if config.report_to == "none" else config.report_to,
        project_dir=config.out / "trackers",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # the loop here accumulates itself
    )


def open_model(config: FitConfig, device: Any = "cpu") -> Parts:
    """The model of a fit, none of whose weights are loaded yet; raises HafError for settings that do not suit it."""
    parts = open_backbone(config.model, DTYPES[config.mixed_precision], device)
    backbone = parts.backbone
    if config.guidance_scale is not None:
        if backbone.guidance is None:
            raise HafError(f"guidance_scale: {config.model} takes no guidance of its own; leave it out.")
        backbone.guidance = config.guidance_scale
    if config.max_sequence_length is not None and backbone.text_tokens is None:
        raise HafError(f"max_sequence_length: the texts of {config.model} have no other length; leave it out.")
    # As images are drawn: the base's, and those of the network that is tuned.
    drawn = arguments_of(config, backbone.pipeline).get("max_sequence_length")
    backbone.text_tokens = config.max_sequence_length or drawn or backbone.text_tokens
    if config.lora:
        check_targets(backbone.network, config.lora)
        if config.lora.text_encoder:
            check_text_encoders(backbone, parts.components.empty)
    if config.resolution and config.resolution % backbone.multiple:
        below = config.resolution // backbone.multiple * backbone.multiple
        near = " or ".join(str(side) for side in (below, below + backbone.multiple) if side)
        raise HafError(
            f"resolution {config.resolution}: the sides of {config.model} are multiples of {backbone.multiple} pixels; "
            f"set {near}."
        )
    return parts


def size_of(model: str) -> int | None:
    """The side of the images that the model's preset draws; None without a preset."""
    preset = find_source(model).preset
    return preset.size if preset else None


def prepare(config: FitConfig, accelerator: Accelerator, resumed: Mapping[str, Any] | None = None) -> Training:
    """Load the model, fill the cache, free the encoders, and prepare what is tuned.

    `resumed` are the plain values of the checkpoint that the fit will go on from. Raises HafError for one of another
    origin, before anything is encoded, and as `open_model` does.
    """
    parts = open_model(config, accelerator.device)
    backbone = parts.backbone
    tunes_texts = config.lora is not None and config.lora.text_encoder
    size = config.resolution or size_of(config.model) or caches.native_size(backbone)
    stored = torch.float32 if config.mixed_precision == "no" else torch.float16
    root, pairs = config.cache_dir or config.out / "cache", kept_copy(config.pairs, LAYOUT)
    cache = caches.find_cache(
        root, pairs, backbone, size, stored, config.use_aspect_ratio_buckets, encodes_texts=not tunes_texts
    )
    if resumed is not None:
        check_origin(config.out, resumed, origin(cache, pairs_a_step(config, accelerator)))
    prompts = _encode(config, parts, cache, accelerator)
    accelerator.wait_for_everyone()
    if config.cache_dir is None and accelerator.is_main_process:
        caches.forget_others(cache)
    if drawn_prompts(config):
        parts.load_autoencoder()
    parts.load_network(config.quantization, None if config.lora else torch.float32)
    texts = None
    if tunes_texts:
        parts.load_text_encoders()
        texts = TunedTexts(backbone, list(cache.texts))

    refer = None
    if OBJECTIVES.get(config.objective).reference:
        refer = frozen(
            backbone, config.lora is not None, accelerator.autocast, _is_widened(config), config.torch_compile, texts
        )
    if config.lora:
        add_lora(backbone, config.lora, noise.hashed(config.seed, "lora"))
    else:
        freeze_idle(backbone)
    if _is_widened(config):
        widen(backbone.network)
    if config.gradient_checkpointing:
        backbone.network.enable_gradient_checkpointing()
    if config.torch_compile:
        compile_blocks(backbone.network)
    policy = Policy(backbone, texts)
    policy.train()
    parameters = trained_parameters(backbone)
    values = [value for _, value in parameters]
    policy, optimizer = accelerator.prepare(policy, make_optimizer(values, config))
    if config.report_to != "none":
        accelerator.init_trackers("asap-train", {key: str(value) for key, value in as_plain(config).items()})
    return Training(
        config,
        accelerator,
        cache,
        backbone,
        policy,
        refer,
        parameters,
        optimizer,
        rate_factor(config),
        _ema(config, values),
        prompts,
    )


def _encode(config: FitConfig, parts: Parts, cache: caches.Cache, accelerator: Accelerator) -> Prompts | LivePrompts:
    """Fill this process's share of the cache, and encode prompts, with one kind of encoder at a time.

    Nothing is loaded where nothing is missing.
    """
    share = (accelerator.process_index, accelerator.num_processes)
    prompts = Prompts(cache.folder, negative_prompt(config, parts))
    todo = caches.missing(cache, "texts", share)
    asked = prompts.missing(drawn_prompts(config)[share[0] :: share[1]]) if cache.encodes_texts else []
    if todo or asked:
        with parts.loaded(TEXT_ENCODERS):
            caches.fill_texts(cache, parts.backbone, todo)
            prompts.write(parts.backbone, asked)
    if todo := caches.missing(cache, "pairs", share):
        # In single precision whatever the network's: this is done once, and half-precision autoencoders overflow.
        with parts.loaded(AUTOENCODER, torch.float32):
            caches.fill_pairs(cache, parts.backbone, todo)
    return prompts if cache.encodes_texts else LivePrompts(parts.backbone, prompts.negative)


def drawn_prompts(config: FitConfig) -> list[str]:
    """The prompts of which the network that is tuned will draw images."""
    texts = list(prompts_of(config, config.validation)) if config.validation else []
    if config.score and config.drawn_in_memory:
        spec = config.score.run_spec()
        texts += [prompt.text for prompt in spread(load_suite(spec.suite or "").prompts, spec.limit)]
    return list(dict.fromkeys(texts))


def negative_prompt(config: FitConfig, parts: Parts) -> str | None:
    """The negative prompt of scoring, and of validation as well."""
    asked = arguments_of(config, parts.backbone.pipeline).get("negative_prompt")
    return None if asked is None else str(asked)


def _is_widened(config: FitConfig) -> bool:
    return config.residual_in_fp32 and config.mixed_precision != "no"


def _ema(config: FitConfig, values: Sequence[Parameter]) -> Any:
    from diffusers.training_utils import EMAModel

    return EMAModel(values, decay=config.ema_decay, foreach=True) if config.ema_decay else None
