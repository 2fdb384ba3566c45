"""The settings of a fit: one typed object that the command line fills, YAML holds and a resumed fit compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, PlainSerializer, SerializeAsAny, ValidationInfo, field_validator, model_validator

from asap_train.backbones import BACKBONES, Layers
from asap_train.training.objectives import OBJECTIVES, LossSettings, NotNegative, Positive
from hafbench.files import write_whole
from hafbench.generators.quantize import Quantization
from hafbench.scorers import default_scorers
from hafbench.settings import KeyPath, Spec, parse_settings
from hafbench.specs import DIFFUSERS, Count, Place, RunSpec
from hafbench.stores import address_of
from hafbench.worlds import BUILT_IN, world_of

Share = Annotated[float, Field(ge=0, le=1)]

MANNEQUIN: Mapping[str, Any] = {
    "max_train_steps": 2000,
    "train_batch_size": 8,
    "lr_warmup_steps": 20,
    "learning_rate": 1e-3,
    "lora": {"layers": ("attention", "feed_forward")},
    "noise_draws": 2,
    "ema_decay": 0.99,
    "use_aspect_ratio_buckets": False,
}
"""Defaults for the built-in model: those of `ours` on a model of its size (docs/studies/experiment-hands.md)."""


DTYPES: Mapping[str, str] = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}
"""By mixed_precision that of the frozen weights, and of scoring; weights that are tuned are float32."""

ENCODING = frozenset(
    {
        *("prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3"),
        *("clip_skip", "text_encoder_out_layers", "caption_upsample_temperature"),
    }
)
"""Arguments of a pipeline's call that act on how prompts are encoded: the network in memory, whose prompts are encoded
without them, does not draw with them."""

FULL_CHECKPOINTS = 2
"""Of whole models, kept by default: one of FLUX.1 with its optimizer's state has 12e9 x 16 bytes, 192 GB."""


class LoraSettings(Spec):
    """A weight W becomes W + lora_alpha / rank B A (Hu et al., arXiv 2106.09685); names as in peft's LoraConfig.

    layers: the kinds of layers that are tuned, of all blocks. target_modules: modules by the ends of their names, in
    place of `layers`. lora_dropout: the share of the inputs of A that are zero in training. text_encoder: the attention
    of the CLIP text encoders is tuned, too, which must then stay in memory.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {
        "r": "rank",
        "alpha": "lora_alpha",
        "targets": "target_modules",
        "dropout": "lora_dropout",
    }

    rank: Count = 16
    lora_alpha: Positive = 16.0
    layers: Annotated[tuple[Layers, ...], Field(min_length=1)] = ("attention",)
    target_modules: tuple[str, ...] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    text_encoder: bool = False


class ScoreSettings(RunSpec):
    """How checkpoints are scored: a run of hafbench, in which `model` is the fit's own; it may say how it is sampled.

    every: steps between two scorings, a multiple of checkpointing_steps; the last step is always scored. selection: the
    share of the prompts by which the best checkpoint is chosen; figures are reported on the others. early_stop: stop
    after so many scorings without a better one; 0 never.
    """

    seeds: Count = 4
    every: Count = 500
    selection: Annotated[float, Field(gt=0, lt=1)] = 0.5
    early_stop: Place = 0

    def run_spec(self) -> RunSpec:
        """What is asked of hafbench, with suite, scorers and batch size where they follow the model."""
        return RunSpec(**{name: getattr(self, name) for name in RunSpec.model_fields}).resolved()


class ValidationSettings(Spec):
    """Images of fixed prompts and noises while a model is tuned, sampled as hafbench samples the model.

    prompts: None is the first of each category of the suite that suits the model. every: steps between two times; they
    are also drawn before the first step and after the last. seed: of their noises.
    """

    prompts: tuple[str, ...] | None = None
    every: Count = 500
    seed: Place = 0


PairsPath = Annotated[
    Path, PlainSerializer(lambda path: address_of(path) or str(path), return_type=str, when_used="json")
]
"""A data set, here or in a store; its address is written as one."""


class FitConfig(Spec):
    """One fit.

    Defaults of the method are the paper's as reported (arXiv 2605.25759), but for the margin and the guard of asap
    (AsapSettings); the others are ours.

    model, as `hafbench run --model`; pairs, a HAP data set or its address, of which the split `train` is used; out,
    the fit's folder. objective, a name of OBJECTIVES; loss, its numbers. lora: None tunes all weights of the network.

    max_train_steps, of the optimizer, each on train_batch_size x gradient_accumulation_steps x processes pairs.
    learning_rate; lr_scheduler, of diffusers; lr_warmup_steps; weight_decay, AdamW's; max_grad_norm, the largest norm
    of the gradient. optimizer: adamw is fused on a GPU. mixed_precision, as accelerate has it; residual_in_fp32: the
    residual stream and the last layers in single precision all the same (see widening.py). ema_decay: of an average of
    the tuned weights, which is then what checkpoints hold; 0 is none.

    quantization: of the frozen base, with LoRA only: the linear layers of its blocks in 4 bits (nf4, by bitsandbytes)
    or 8 (fp8, by torchao); reference, validation and scoring are of the same quantized model.
    gradient_checkpointing: activations within blocks are computed again instead of kept. two_passes: winners and losers
    go through the network one after the other, with the same gradient (without lora_dropout, whose masks then are those
    of both) at the activation memory of one branch, for one more forward pass of the loser. torch_compile: the blocks
    of the network are compiled, each kind once.

    noise_draws: noises and timesteps a pair, over which its errors are averaged before the objective; they go through
    the network one after the other, so that memory is that of one. time_range: the
    part of the timesteps that the family's own training draws, as quantiles: 0 has the least noise, 1 the most.
    caption_dropout: share of pairs with an empty caption. resolution: pixels of a side; None is the model's own.
    use_aspect_ratio_buckets: pairs are scaled to the nearest of a few sizes of about resolution^2 pixels, and a batch
    is of one size; False cuts squares.
    guidance_scale: what a model distilled with guidance is told while it is tuned; None is the family's own.
    max_sequence_length: tokens of the text encoder, for training and scoring; None is that of score.model.arguments,
    or else the pipeline's own.

    max_error_ratio: a mean error of so many times its running median stops the fit. checkpointing_steps: steps from
    one checkpoint to the next; checkpoints_total_limit: so many of the newest are kept; None all, which is the default
    with LoRA; of whole models it is 2. cache_dir: a folder to share between fits; None is OUT/cache. report_to: a
    tracker of accelerate. validation: None draws no images. score: None scores no checkpoint.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {
        "steps": "max_train_steps",
        "batch_size": "train_batch_size",
        "precision": "mixed_precision",
        "ema": "ema_decay",
        "size": "resolution",
        "log_with": "report_to",
    }

    model: str
    pairs: PairsPath
    out: Path
    objective: str = "asap"
    loss: SerializeAsAny[LossSettings] = Field(default_factory=LossSettings, validate_default=True)
    lora: LoraSettings | None = LoraSettings()
    max_train_steps: Count = 1000
    train_batch_size: Count = 8
    gradient_accumulation_steps: Count = 1
    learning_rate: Positive = 1e-4
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    lr_warmup_steps: Place = 50
    weight_decay: NotNegative = 0.01
    max_grad_norm: Positive = 1.0
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    residual_in_fp32: bool = True
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False
    two_passes: bool = False
    torch_compile: bool = False
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise_draws: Count = 1
    time_range: tuple[Share, Share] = (0.0, 1.0)
    caption_dropout: Share = 0.0
    resolution: Count | None = None
    use_aspect_ratio_buckets: bool = True
    guidance_scale: NotNegative | None = None
    max_sequence_length: Count | None = None
    seed: Place = 0
    max_error_ratio: Annotated[float, Field(gt=1)] = 100.0
    checkpointing_steps: Count = 100
    checkpoints_total_limit: Count | None = None
    cache_dir: Path | None = None
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    validation: ValidationSettings | None = Field(default_factory=ValidationSettings)
    score: ScoreSettings | None = Field(default_factory=ScoreSettings, validate_default=True)

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset(
        {"out", "pairs", "cache_dir", "checkpoints_total_limit", "report_to", "validation"}
    )
    """Fields that do not change the weights: a fit may be resumed with others. (Checksums say what the pairs are.)"""

    @classmethod
    def of(cls, model: str, pairs: Path | str, out: Path | str, **settings: Any) -> Self:
        """A fit with the defaults of the model's family; raises HafError for a value that cannot be."""
        return parse_settings(cls, {"model": model, "pairs": pairs, "out": out, **settings}, "The settings")

    @classmethod
    def with_defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings over the defaults of the model's family."""
        model = given.get("model")
        defaults = dict(family_defaults(model)) if isinstance(model, str) else {}
        if given.get("lora", {}) is None:
            defaults["checkpoints_total_limit"] = FULL_CHECKPOINTS
        nested = {
            key: {**value, **given[key]}
            for key, value in defaults.items()
            if isinstance(value, Mapping) and isinstance(given.get(key), Mapping)
        }
        return {**defaults, **given, **nested}

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """The scorers that suit the model."""
        home = world_of(str(given.get("model", BUILT_IN))).home
        return default_scorers(home) if place == ("score", "scorers") else None

    @field_validator("objective")
    @classmethod
    def _known(cls, name: str) -> str:
        OBJECTIVES.get(name)
        return name

    @field_validator("loss", mode="plain")
    @classmethod
    def _of_the_objective(cls, value: Any, info: ValidationInfo) -> LossSettings:
        model = OBJECTIVES.get(info.data.get("objective", "asap")).settings
        if isinstance(value, LossSettings):
            value = value.model_dump(exclude_unset=True)
        return parse_settings(model, value or {}, "loss")

    @field_validator("score", mode="before")
    @classmethod
    def _of_this_model(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, ScoreSettings):
            value = value.model_dump(exclude_unset=True)
        if not isinstance(value, Mapping) or not isinstance(value.get("model") or {}, str | Mapping):
            return value
        model, own = value.get("model") or {}, info.data.get("model")
        model = {"model": own, **({"model": model} if isinstance(model, str) else model)}
        if tokens := info.data.get("max_sequence_length"):
            model["arguments"] = {"max_sequence_length": tokens, **(model.get("arguments") or {})}
        # As it is tuned, so that the network in memory can draw, and the base is drawn in the same way.
        model = {"dtype": DTYPES.get(info.data.get("mixed_precision", "no"), "fp32"), **model}
        if (kind := info.data.get("quantization", "none")) != "none":
            model = {"quantization": kind, **model}
        if model["model"] != own or model.get("lora"):
            raise ValueError(
                "score.model: checkpoints are scored with the model that is tuned; leave out its `model` and `lora`"
            )
        return {**value, "model": model}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        low, high = self.time_range
        if low >= high:
            raise ValueError(f"time_range: {low} is not below {high}")
        if refused := OBJECTIVES.get(self.objective).refusal(self.loss):
            raise ValueError(refused)
        if self.quantization != "none" and self.lora is None:
            raise ValueError(f"quantization {self.quantization}: only a frozen base is quantized; tune it with LoRA")
        if self.score and self.score.every % self.checkpointing_steps:
            raise ValueError(
                f"score.every ({self.score.every}) must be a multiple of checkpointing_steps "
                f"({self.checkpointing_steps})"
            )
        return self

    @property
    def drawn_in_memory(self) -> bool:
        """Whether checkpoints are scored with images of the network in memory: not where other ones are asked for."""
        if self.score is None:
            return False
        model, score = self.score.model, self.score
        here = score.engine.engine == "local" and score.devices is None and score.device == "auto"
        same = (model.dtype, model.quantization) == (DTYPES[self.mixed_precision], self.quantization)
        texts = self.max_sequence_length in (None, model.arguments.get("max_sequence_length"))
        as_encoded = texts and ENCODING.isdisjoint(model.arguments)
        return same and here and as_encoded and model.generator == DIFFUSERS and model.offload == "none"

    def compared(self) -> dict[str, Any]:
        """What changes the weights or the scores, as JSON values: a fit is resumed with the same only."""
        plain = self.model_dump(mode="json", exclude=set(self.ELSEWHERE))
        return plain | {"score": self.score and {**self.score.compared(), "suite": self.score.suite}}


def as_plain(config: FitConfig) -> dict[str, Any]:
    """Settings as YAML and JSON have them; the model to be scored is left out, since it is the fit's."""
    return config.model_dump(mode="json", exclude={"score": {"model": {"model", "lora"}}})


def write_config(config: FitConfig, path: Path) -> None:
    """Write YAML that `read_settings` reads."""
    write_whole(path, yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))


def family_defaults(model: str) -> Mapping[str, Any]:
    """What differs from FitConfig's defaults for a model, by the class of its pipeline; nothing for an unknown one."""
    from hafbench.generators.kinds import pipeline_class
    from hafbench.generators.sources import find_source

    source = find_source(model)
    if source.preset and source.name == BUILT_IN:
        return MANNEQUIN
    pipeline = pipeline_class(source)
    return BACKBONES.get(pipeline).defaults if pipeline in BACKBONES.names() else {}
