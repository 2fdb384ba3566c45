"""The two kinds of pictures, and what suits each: photographs, and the built-in world of mannequins.

The model, CLIP and detectors of the mannequins come with the package. A scorer of one kind cannot judge the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import Unavailable
from hafbench.registry import Home

if TYPE_CHECKING:
    from hafbench.specs import RunSpec, ScorerSpec

BUILT_IN = "mannequin"
"""The name of the built-in model, suite and CLIP."""


@dataclass(frozen=True)
class World:
    """The defaults of a command for pictures of `home`; its scorers are those of the registry."""

    home: Home
    suite: str
    batch_size: int


PHOTOGRAPHS = World("photographs", "haf-50", 1)
MANNEQUINS = World("mannequins", BUILT_IN, 10)
WORLDS = {world.home: world for world in (PHOTOGRAPHS, MANNEQUINS)}


def world_of(model: str) -> World:
    """The world of --model MODEL: mannequins for `mannequin` and `mannequin=PATH`, else photographs."""
    return MANNEQUINS if model.partition("=")[0] == BUILT_IN else PHOTOGRAPHS


def built_in(part: str) -> Path:
    """The folder or file of the built-in world's weights; raises Unavailable if the installation lacks it."""
    path = Path(__file__).parent / "mannequin" / "weights" / part
    if not path.exists():
        raise Unavailable(
            f"The built-in world's {part} is not in this installation (hafbench/mannequin/weights/{part}); "
            "install hafbench from its repository again."
        )
    return path


def notes(spec: RunSpec, suite: str) -> list[str]:
    """What a report says before any figure: that this is the built-in world, and which scorers are made for another.

    `suite` is the name of the suite that was found.
    """
    world = world_of(spec.model.model)
    unsuited = [one.name for one in spec.scorers or () if _home(one) not in (None, world.home)]
    said = []
    if world is MANNEQUINS:
        said.append(
            "This is the built-in world of mannequins, drawn by a small model that comes with hafbench: "
            "no figure here is a statement about photographs or about any other model. Its pictures are blurred, and "
            "digits and limb_count flag about half of those that look right: their rates are too high "
            "(docs/mannequin.md)."
        )
        if unsuited:
            said.append(f"{_listed(unsuited)} made for photographs: their results for mannequins are not meaningful.")
        if suite != MANNEQUINS.suite:
            said.append("The built-in model has learnt captions like those of the suite mannequin, and no other words.")
    elif unsuited:
        said.append(f"{_listed(unsuited)} made for the built-in mannequins: their results here are not meaningful.")
    return said


def _home(scorer: ScorerSpec) -> Home | None:
    """What a scorer is made for, by its options or else its row."""
    from hafbench.scorers import SCORERS

    home: Home | None = scorer.options.home or SCORERS.get(scorer.name).home
    return home


def _listed(names: Sequence[str]) -> str:
    *head, last = names
    return f"The scorers {', '.join(head)} and {last} are" if head else f"The scorer {last} is"
