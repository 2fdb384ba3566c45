"""What a fit is told: one typed value, from a YAML file and KEY=VALUE texts over the defaults of the model's family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from asap_train.training.lora import LoraSettings
from asap_train.training.objectives import GUARDS, OBJECTIVES, Weights
from hafbench.errors import HafError, first_problem, nearest

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

Optimizer = Literal["adamw", "adamw8bit"]
Precision = Literal["no", "bf16", "fp16"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine"]
Tracker = Literal["none", "tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class ScoreSettings:
    """How checkpoints are scored by hafbench.

    every: steps between two scorings, a multiple of checkpoint_every; the last step is always scored. suite and
    scorers: as `hafbench run`; None takes those that suit the model. seeds: images a prompt. limit: at most so many
    prompts, over all categories. selection: the share of the prompts by which the best checkpoint is picked; figures
    are reported on the others. early_stop: stop after so many scorings without a better one; 0 never.
    """

    every: Count = 500
    suite: str | None = None
    seeds: Count = 4
    limit: Count | None = None
    selection: Annotated[float, Field(gt=0, lt=1)] = 0.5
    early_stop: Annotated[int, Field(ge=0)] = 0
    scorers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FitConfig:
    """One fit. Defaults of the method are the paper's as reported (arXiv 2605.25759); the others are ours.

    model, as `hafbench run --model`; pairs, a HAP data set, of which the split `train` is used; out, the fit's folder.
    objective, a name of OBJECTIVES; weights, its numbers. lora: None tunes all weights of the network.

    steps, of the optimizer, each on batch_size x accumulate x processes pairs. learning_rate; schedule, of diffusers;
    warmup, in steps; weight_decay, AdamW's; clip, the largest norm of the gradient. optimizer: adamw is fused on a GPU.
    ema: decay of an average of the tuned weights, which is then what checkpoints hold; 0 is none.

    noise_draws: noises and times a pair, over which its errors are averaged before the objective. time_range: the part
    of the times that the family's own training draws, as quantiles: 0 has the least noise, 1 the most.
    caption_dropout: share of pairs with an empty caption. size: pixels of a side; None is the model's own.

    explode: a mean error of so many times its running median stops the fit. checkpoint_every, in steps; keep: so many
    of the newest checkpoints; None all. cache: a folder to share between fits; None is OUT/cache.
    """

    model: str
    pairs: Path
    out: Path
    objective: str = "asap"
    weights: Weights = field(default_factory=Weights)
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    steps: Count = 1000
    batch_size: Count = 8
    accumulate: Count = 1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    schedule: Schedule = "constant_with_warmup"
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: Number = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    optimizer: Optimizer = "adamw"
    precision: Precision = "no"
    gradient_checkpointing: bool = False
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise_draws: Count = 1
    time_range: tuple[Share, Share] = (0.0, 1.0)
    caption_dropout: Share = 0.0
    size: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    explode: Annotated[float, Field(gt=1)] = 100.0
    checkpoint_every: Count = 100
    keep: Count | None = None
    cache: Path | None = None
    log_with: Tracker = "none"
    score: ScoreSettings | None = field(default_factory=ScoreSettings)


MAY_BE_ZERO = frozenset({"weights.alpha", "weights.tau", "weights.guard_weight", "lora.alpha", "lora.dropout"})
"""Of the numbers in Weights and LoraSettings, which have no bounds of their own."""

ELSEWHERE = frozenset({"out", "pairs", "cache", "keep", "log_with"})
"""Settings that do not shape the weights: a fit may go on with others. (What the pairs are, their checksums say.)"""

_BIG = {"precision": "bf16", "gradient_checkpointing": True, "batch_size": 1, "accumulate": 8}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mannequin": {"batch_size": 8, "warmup": 20, "learning_rate": 3e-4, "weights": {"tau": 0.1}},
    "StableDiffusionPipeline": {"precision": "fp16", "batch_size": 4, "accumulate": 2},
    "StableDiffusionXLPipeline": {**_BIG, "learning_rate": 5e-5},
    "StableDiffusion3Pipeline": _BIG,
    "FluxPipeline": _BIG,
}
"""What differs from FitConfig's defaults, by the model's preset or else its pipeline's class.

Objective, alpha, tau and beta are the paper's, but for the mannequins: with tau = 0.01 nothing moves there
(docs/experiment.md). Rates, sizes of batches and the rank of LoRA it is not known to report: these are ours, chosen so
that a step fits a GPU of 24 GB (FLUX: 80 GB), and are not tuned.
"""


def read_config(path: Path | None, overrides: Iterable[str] = ()) -> FitConfig:
    """The settings of a YAML file, and KEY=VALUE over them (`weights.alpha=5`, `lora=null`); the rest by PRESETS.

    Raises HafError for an unknown key, a wrong type, or a value that cannot be.
    """
    given: dict[str, Any] = _read_yaml(path) if path else {}
    where = str(path) if path else "The settings"
    _check_keys(given, FitConfig, where)
    for text in overrides:
        given = _merged(given, _override(text))
    model = given.get("model")
    return from_dict(_merged(preset_of(model) if isinstance(model, str) else {}, given), where)


def from_dict(values: Mapping[str, Any], where: str = "The settings") -> FitConfig:
    """Settings as plain values, checked; those that are not given are FitConfig's defaults. Raises HafError."""
    _check_keys(values, FitConfig, where)
    try:
        config = TypeAdapter(FitConfig).validate_python(dict(values))
    except ValidationError as error:
        raise HafError(f"{where}: {first_problem(error)}.") from error
    for key, name, known in (
        ("objective", config.objective, OBJECTIVES),
        ("weights.guard", config.weights.guard, GUARDS),
    ):
        if name not in known:
            raise HafError(f"{where}: {key} {name}: {nearest(name, list(known))}")
    low, high = config.time_range
    if low >= high:
        raise HafError(f"{where}: time_range: {low} is not below {high}.")
    for key, value in _numbers(config):
        if not isfinite(value) or value < 0 or (value == 0 and key not in MAY_BE_ZERO):
            raise HafError(f"{where}: {key}: {value} is too small, or not finite.")
    if config.weights.guard == "ceiling" and not OBJECTIVES[config.objective].reference:
        raise HafError(f"{where}: the guard 'ceiling' needs a reference, which {config.objective} does not have.")
    if config.score and config.score.every % config.checkpoint_every:
        raise HafError(
            f"{where}: score.every ({config.score.every}) must be a multiple of checkpoint_every "
            f"({config.checkpoint_every})."
        )
    return config


def as_dict(config: FitConfig) -> dict[str, Any]:
    """Settings as plain values, as YAML and JSON have them; `from_dict` gives the same settings back."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def write_config(config: FitConfig, path: Path) -> None:
    """Write YAML that `read_config` reads, whole or not at all."""
    from hafbench.files import write_whole

    write_whole(path, yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))


def preset_of(model: str) -> Mapping[str, Any]:
    """The entry of PRESETS for a model; none where its family cannot be told before it is loaded."""
    from hafbench.generators.sources import find_source, read_index

    source = find_source(model)
    if source.preset:
        return PRESETS.get(source.name) or PRESETS.get(source.preset.pipeline, {})
    if source.path and source.path.is_dir():
        return PRESETS.get(str(read_index(source.path).get("_class_name")), {})
    return {}


def _numbers(config: FitConfig) -> Iterator[tuple[str, float]]:
    for name in ("weights", "lora"):
        for key, value in asdict(part).items() if (part := getattr(config, name)) else ():
            if isinstance(value, (int, float)):
                yield f"{name}.{key}", value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HafError(f"{path} cannot be read as YAML ({' '.join(str(error).split())[:200]}).") from error
    if not isinstance(values, dict):
        raise HafError(f"{path}: settings are lines of KEY: VALUE, such as `steps: 1000`.")
    return values


def _override(text: str) -> dict[str, Any]:
    """`weights.alpha=5` as {"weights": {"alpha": 5}}; the value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or not all(part.isidentifier() for part in key.split(".")):
        raise HafError(f"--set {text}: write KEY=VALUE, for example --set steps=500 or --set weights.alpha=5.")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise HafError(f"--set {text}: the value cannot be read as YAML.") from error
    for part in reversed(key.split(".")):
        nested = {part: nested}
    _check_keys(nested, FitConfig, f"--set {text}")
    return dict(nested)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`, nested settings one by one."""
    both = {key: _merged(old[key], new[key]) for key in new if _nested(old.get(key)) and _nested(new[key])}
    return {**old, **new, **both}


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping)


def _check_keys(values: Mapping[str, Any], kind: type, where: str, prefix: str = "") -> None:
    known = [f.name for f in fields(kind)]
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in known:
            tail = nearest(str(key), known)
            raise HafError(f"{where}: there is no setting '{prefix}{key}'; {tail}")
        inner = next((one for one in (hints[key], *get_args(hints[key])) if is_dataclass(one)), None)
        if inner is not None and _nested(value):
            _check_keys(value, inner, where, f"{prefix}{key}.")  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
