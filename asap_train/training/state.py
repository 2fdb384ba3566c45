"""A training as the state of a checkpoint, and back; and the weights that a checkpoint is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from asap_train.backbones import Backbone
from asap_train.training.checkpoints import PIPELINE, State
from asap_train.training.config import FitConfig
from asap_train.training.lora import save_lora
from asap_train.training.precision import DTYPES
from hafbench.errors import HafError, one_line
from hafbench.generators.pipelines import DENOISERS
from hafbench.runs import differences

if TYPE_CHECKING:
    from asap_train.training.cache import Cache
    from asap_train.training.setup import Training

OPTIMIZER = "optimizer"
"""What the names of its state begin with."""


def gather_state(training: Training, step: int) -> State:
    """Tuned weights, the optimizer's state, the average and the loss scale of fp16, after `step` steps.

    Random numbers, the order of the pairs and the learning rate are functions of the step, and need no state.
    """
    tensors: dict[str, torch.Tensor] = {f"weights.{name}": value for name, value in training.parameters}
    plain: dict[str, Any] = {}
    for index, state in training.optimizer.state_dict()["state"].items():
        for path, value in _leaves(state, f"{OPTIMIZER}/{index}"):
            kept: dict[str, Any] = tensors if isinstance(value, torch.Tensor) else plain
            kept[path] = value
    if training.ema:
        tensors |= {f"ema.{index}": value for index, value in enumerate(training.ema.shadow_params)}
        plain["ema"] = training.ema.optimization_step
    if training.accelerator.scaler:
        plain["scaler"] = training.accelerator.scaler.state_dict()
    return State(tensors, {"step": step, **origin(training.cache, training.pairs_a_step), **plain})


def restore_state(training: Training, state: State) -> int:
    """Bring a training to where a checkpoint was, and return its step.

    Raises HafError for one that has not all of the state. `check_origin` has been asked before.
    """
    step = int(state.plain["step"])
    try:
        _restore(training, state)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise HafError(
            f"{training.config.out}: the checkpoint of step {step} has another state than this fit "
            f"({type(error).__name__}: {one_line(error)}); delete it to resume from the one before."
        ) from error
    return step


def _restore(training: Training, state: State) -> None:
    with torch.no_grad():
        for name, parameter in training.parameters:
            parameter.copy_(state.tensors[f"weights.{name}"])
    found: dict[int, Any] = {}
    for path, value in [*state.tensors.items(), *state.plain.items()]:
        kind, *keys = path.split("/")
        if kind == OPTIMIZER:
            place = found.setdefault(int(keys[0]), {})
            for key in keys[1:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = value
    training.optimizer.load_state_dict(training.optimizer.state_dict() | {"state": found})
    if training.ema:
        training.ema.optimization_step = state.plain["ema"]
        for index, shadow in enumerate(training.ema.shadow_params):
            shadow.copy_(state.tensors[f"ema.{index}"])
    if training.accelerator.scaler:
        training.accelerator.scaler.load_state_dict(state.plain["scaler"])


def _leaves(state: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The values of an optimizer's state by their paths; that of bitsandbytes is nested."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}/{name}")
        else:
            yield f"{path}/{name}", value


def origin(cache: Cache, pairs_a_step: int) -> dict[str, Any]:
    """What must be the same beside the settings: pairs and model, by the cache's key, and the number of processes."""
    return {"pairs or model": cache.folder.name, "pairs a step": pairs_a_step}


def check_origin(out: Path, plain: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise HafError for a checkpoint, by its plain values, that is not of the `origin` that a fit has now."""
    if changes := differences({name: plain.get(name) for name in now}, now):
        raise HafError(f"{out}: its checkpoints have another origin ({'; '.join(changes)}); choose another --out.")


def write_weights(backbone: Backbone, config: FitConfig, folder: Path) -> None:
    """A LoRA's file, or after full fine-tuning a whole pipeline, whose other parts are read from the model again."""
    if config.lora:
        save_lora(backbone, folder)
        return
    from hafbench.generators.pipelines import load_pipeline
    from hafbench.generators.sources import find_source

    pipeline, _ = load_pipeline(find_source(config.model), DTYPES[config.mixed_precision])
    part = next(name for name in DENOISERS if getattr(pipeline, name, None) is not None)
    setattr(pipeline, part, getattr(backbone.pipeline, part))
    pipeline.save_pretrained(folder / PIPELINE)
