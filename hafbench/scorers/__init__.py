"""The scorers by name. A scorer's module is imported only when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from hafbench.errors import HafError, nearest
from hafbench.types import Role, Scorer
from hafbench.worlds import PHOTOGRAPHS


@dataclass(frozen=True)
class ScorerOptions:
    """What the command line can say about scorers; each reads the fields that concern it."""

    device: str = "auto"
    iqa: str = "piqe"
    clip: str = PHOTOGRAPHS.clip
    pose: str = PHOTOGRAPHS.pose
    hands_card: str | None = None


@dataclass(frozen=True)
class ScorerEntry:
    """One line of `hafbench scorers`; `module` has a function `load(options) -> Scorer`."""

    module: str
    role: Role
    summary: str


SCORERS: dict[str, ScorerEntry] = {
    "hands": ScorerEntry(
        "hafbench.scorers.hands", "anatomy", "hands that hand detectors doubt: a detectability anomaly"
    ),
    "digits": ScorerEntry(
        "hafbench.scorers.digits", "anatomy", "count and shape of the digits of the built-in mannequins' hands"
    ),
    "limbs": ScorerEntry(
        "hafbench.scorers.limbs",
        "anatomy",
        "limb proportions, missing and surplus limbs by pose; with --pose mannequin the count of mannequins' limbs",
    ),
    "clip": ScorerEntry("hafbench.scorers.clip", "quality", "agreement of image and prompt (open_clip cosine)"),
    "iqa": ScorerEntry("hafbench.scorers.iqa", "quality", "image quality without a reference (pyiqa, default piqe)"),
}
DEFAULT_SCORERS = PHOTOGRAPHS.scorers


def check_names(names: list[str]) -> None:
    """Raise HafError for a name that is no scorer."""
    for name in names:
        if name not in SCORERS:
            raise HafError(f"There is no scorer '{name}': {nearest(name, list(SCORERS))}")


def load_scorer(name: str, options: ScorerOptions) -> Scorer:
    """Build a scorer; raises Unavailable, with the way out, when its weights are not to be had."""
    check_names([name])
    return cast(Scorer, import_module(SCORERS[name].module).load(options))
