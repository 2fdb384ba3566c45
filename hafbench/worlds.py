"""What goes without saying: the suite, scorers and batch that suit a model, and what to say when others are asked for.

There are two worlds: photographs, and the built-in one of mannequins, whose model, CLIP and detectors come with the
package. A scorer of one world knows nothing of the other's pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import Unavailable

if TYPE_CHECKING:
    from hafbench.scorers import ScorerOptions

BUILT_IN = "mannequin"
"""The name of the built-in model, suite, CLIP and pose detector."""


@dataclass(frozen=True)
class World:
    """The defaults of a command; every one of them gives way to an option."""

    name: str
    suite: str
    scorers: tuple[str, ...]
    clip: str
    pose: str
    batch_size: int


PHOTOGRAPHS = World("photographs", "haf-50", ("hands", "limbs", "clip", "iqa"), "ViT-B-32", "mediapipe", 1)
MANNEQUINS = World(BUILT_IN, BUILT_IN, ("digits", "limbs", "clip", "iqa"), BUILT_IN, BUILT_IN, 10)


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


def notes(model: str, suite: str, scorers: Iterable[str], options: ScorerOptions) -> list[str]:
    """What a report has to say before any figure: that this is the built-in world, and who judges beyond their own."""
    world = world_of(model)
    strangers = [name for name in scorers if _home(name, options) not in (None, world)]
    said = []
    if world is MANNEQUINS:
        said.append(
            "This is the built-in world of mannequins, drawn by a small model that comes with hafbench: "
            "no figure here is a statement about photographs or about any other model. Its pictures are blurred, and "
            "digits and limbs flag about half of those that look right: their rates are too high (docs/mannequin.md)."
        )
        if strangers:
            said.append(f"{_listed(strangers)} only photographs: nothing follows from what is said of mannequins here.")
        if suite != MANNEQUINS.suite:
            said.append("The built-in model has learnt captions like those of the suite mannequin, and no other words.")
    elif strangers:
        said.append(f"{_listed(strangers)} only the built-in mannequins: nothing follows from what is said here.")
    return said


def _home(scorer: str, options: ScorerOptions) -> World | None:
    """The world that a scorer knows; None for one that is at home in both, or uses a model of the user's own."""
    homes = {"hands": PHOTOGRAPHS, "digits": MANNEQUINS}
    uses = {"limbs": options.pose, "clip": options.clip}
    if scorer in uses and not Path(uses[scorer]).exists():
        return MANNEQUINS if uses[scorer] == BUILT_IN else PHOTOGRAPHS
    return homes.get(scorer)


def _listed(names: Sequence[str]) -> str:
    head = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"The scorer{'s' if len(names) > 1 else ''} {head} know{'' if len(names) > 1 else 's'}"
