"""The two kinds of pictures, and what suits each: photographs, and the built-in world of mannequins.

The model, CLIP and detectors of the mannequins come with the package. A scorer of one kind cannot judge the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hafbench.errors import Unavailable
from hafbench.registry import Home

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
