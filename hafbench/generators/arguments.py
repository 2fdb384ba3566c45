"""The arguments of a pipeline's call: check them before the first image, and say what the defaults are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from hafbench.errors import HafError, nearest

OURS = frozenset({"prompt", "generator", "output_type", "return_dict", "num_images_per_prompt"})
AT_LEAST_ONE = frozenset({"num_inference_steps", "height", "width"})
AS_WRITTEN = {"enable_prompt_rewrite": False, "use_pe": False, "prompt_upsampling": False}
"""Some pipelines let a language model rewrite the prompt, with random numbers of its own. The suite's words are what
is measured, so this is off unless the spec turns it on."""


def resolve_arguments(pipeline: Any, preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline is called with, beside prompts and noise; raises HafError for what it does not take."""
    known = dict(inspect.signature(pipeline.__call__).parameters)
    _check_kind(pipeline, known)
    settable = [name for name in known if name not in OURS]
    for name, value in given.items():
        if name in OURS:
            raise HafError(f"model.arguments.{name}: hafbench sets this itself.")
        if name not in known:
            raise HafError(
                f"model.arguments.{name}: {type(pipeline).__name__} has no such argument; {nearest(name, settable)}"
            )
        _check_value(name, value, known[name].annotation)
    as_written = {name: value for name, value in AS_WRITTEN.items() if name in known}
    return {**as_written, **preset, **given}


def default_arguments(pipeline: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline's own defaults that shape an image and that nobody has set: they differ between versions."""
    parameters = inspect.signature(pipeline.__call__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in arguments and name not in OURS and isinstance(parameter.default, bool | int | float | str)
    }


def _check_kind(pipeline: Any, known: Mapping[str, inspect.Parameter]) -> None:
    named = [p for p in known.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needs = [p.name for p in named if p.default is p.empty and p.name != "prompt"]
    lacks = [name for name in ("prompt", "generator", "output_type") if name not in known]
    if needs or lacks:
        reason = f"it needs {needs[0]}" if needs else f"it takes no {lacks[0]}"
        raise HafError(f"{type(pipeline).__name__} does not make images from prompts alone: {reason}.")


def _check_value(name: str, value: Any, annotation: Any) -> None:
    kinds = set(get_args(annotation) or [annotation])
    if str in kinds and not kinds & {bool, int, float} and not isinstance(value, str | Sequence | Mapping | None):
        raise HafError(f"model.arguments.{name}={value}: this is a text; give it quotes that YAML reads: '\"no\"'.")
    numbers = kinds & {int, float}
    if not numbers or not kinds <= {int, float, type(None)} or (value is None and type(None) in kinds):
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (float in numbers and isinstance(value, float) and abs(value) != float("inf") and value == value)):
        raise HafError(f"model.arguments.{name}={value}: this is a {'number' if float in numbers else 'whole number'}.")
    if name in AT_LEAST_ONE and value < 1:
        raise HafError(f"model.arguments.{name}={value}: at least 1.")
