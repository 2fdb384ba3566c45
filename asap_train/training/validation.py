"""Images of a few fixed prompts and noises as a fit goes on: FIT/validation/000100/00.png, and in the tracker.

Beside them settings.json has the prompts and the seed: a fit may be resumed with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from asap_train.training.config import FitConfig, ValidationSettings
from hafbench.errors import HafError, first_problem
from hafbench.files import write_whole
from hafbench.generators.arguments import resolve_arguments
from hafbench.generators.sources import find_source
from hafbench.suites import load_suite
from hafbench.worlds import world_of

FOLDER = "validation"
SETTINGS = "settings.json"


def is_due(settings: ValidationSettings, step: int, last: int) -> bool:
    """Whether images are drawn after this step, of `last` steps; 0 is before the first."""
    return step % settings.every == 0 or step == last


def prompts_of(config: FitConfig, settings: ValidationSettings) -> tuple[str, ...]:
    """Those that were given, or the first of each category of the suite that suits the model."""
    if settings.prompts is not None:
        return settings.prompts
    first: dict[str, str] = {}
    for prompt in load_suite(world_of(config.model).suite).prompts:
        first.setdefault(prompt.category, prompt.text)
    return tuple(first.values())


def arguments_of(config: FitConfig, pipeline: Any) -> Mapping[str, Any]:
    """What images are drawn with: the arguments of scoring, at the size of training.

    Raises HafError for an argument of score.model.arguments that the pipeline does not take.
    """
    source = find_source(config.model)
    preset = source.preset.call() if source.preset else {}
    given = dict(config.score.model.arguments) if config.score else {}
    if config.resolution:
        given = {"height": config.resolution, "width": config.resolution, **given}
    return resolve_arguments(pipeline, preset, given)


def write_drawn(folder: Path, drawn: ValidationSettings) -> None:
    """Say in the folder of a step what its images are drawn with."""
    write_whole(folder / SETTINGS, drawn.model_dump_json(indent=1) + "\n")


def drawn_with(folder: Path) -> ValidationSettings | None:
    """What the images in the folder of a step were drawn with; None where an earlier version drew them.

    Raises HafError for a damaged file.
    """
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        return ValidationSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise HafError(f"{path} is damaged ({first_problem(error)}); move {folder} away.") from error


def drawn_steps(fit: Path) -> Sequence[Path]:
    """The folders of images that a fit has, by step."""
    return sorted(path for path in (fit / FOLDER).glob("[0-9]*") if path.is_dir() and path.name.isdigit())
