"""Images of a few fixed prompts and noises as a fit goes on: FIT/validation/000100/00.png, and in the tracker.

The network that is tuned draws them itself. Its text encoders have left memory by then, so that the prompts are encoded
before; the autoencoder stays, outside of the GPU except while it decodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from asap_train.training.config import FitConfig, ValidationSettings
from asap_train.training.widening import without_autocast
from hafbench.generators.arguments import resolve_arguments
from hafbench.generators.sources import find_source
from hafbench.suites import load_suite
from hafbench.worlds import world_of

if TYPE_CHECKING:
    from asap_train.backbones import Backbone

FOLDER = "validation"


@dataclass(frozen=True)
class Validation:
    """What is drawn: prompts with their embeddings, and the other arguments of the pipeline's call."""

    settings: ValidationSettings
    prompts: tuple[str, ...]
    embeddings: tuple[Mapping[str, Any], ...]
    arguments: Mapping[str, Any]

    def due(self, step: int, last: int) -> bool:
        """Whether images are drawn after this step, of `last` steps; 0 is before the first."""
        return step % self.settings.every == 0 or step == last


def prompts_of(config: FitConfig, settings: ValidationSettings) -> tuple[str, ...]:
    """Those that were given, or the first of each category of the suite that suits the model."""
    if settings.prompts is not None:
        return settings.prompts
    first: dict[str, str] = {}
    for prompt in load_suite(world_of(config.model).suite).prompts:
        first.setdefault(prompt.category, prompt.text)
    return tuple(first.values())


def make_validation(config: FitConfig, backbone: Backbone) -> Validation | None:
    """Encode the prompts, while the text encoders are there; None where no images are asked for.

    Raises HafError for an argument of score.model.arguments that the pipeline does not take.
    """
    if config.validation is None:
        return None
    pipeline, source = backbone.pipeline, find_source(config.model)
    preset = source.preset.call() if source.preset else {}
    given = dict(config.score.model.arguments) if config.score else {}
    if config.resolution:
        given = {"height": config.resolution, "width": config.resolution, **given}
    arguments = dict(resolve_arguments(pipeline, preset, given))
    negative = arguments.pop("negative_prompt", None)
    prompts = prompts_of(config, config.validation)
    with torch.no_grad():
        encoded = tuple(backbone.encode_prompt(prompt, negative) for prompt in prompts)
    taken = inspect.signature(pipeline.__call__).parameters
    embeddings = tuple(
        send_to_device({name: value for name, value in one.items() if name in taken}, "cpu") for one in encoded
    )
    return Validation(config.validation, prompts, embeddings, arguments)


def validated(backbone: Backbone) -> None:
    """Have the autoencoder decode in single precision, as images are encoded: those in half precision overflow."""
    backbone.pipeline.vae.decode = partial(without_autocast, backbone.pipeline.vae.decode)


def drawn_steps(fit: Path) -> Sequence[Path]:
    """The folders of images that a fit has, by step."""
    return sorted(path for path in (fit / FOLDER).glob("[0-9]*") if path.is_dir() and path.name.isdigit())
