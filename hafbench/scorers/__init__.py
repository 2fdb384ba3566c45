"""The scorers: one row each, one file each. A file has `load(options, device) -> Scorer` and its `Options`, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args

from hafbench.registry import Entry, Home, Options, Registry
from hafbench.types import Region, Role

if TYPE_CHECKING:
    from hafbench.types import Scorer


@dataclass(frozen=True)
class ScorerEntry(Entry):
    """A scorer: `role`, what it is made for (`home`, None for both), and in which regions it can see an error.

    `default`: it scores the pictures of its home unless other scorers are asked for. `gate`: so it does for the pairs
    that asap-train makes of them. `waits`: it mostly waits, as for an endpoint, and is always asked by the process that
    writes the run, which so counts its questions and keeps its answers.
    """

    role: Role = "anatomy"
    home: Home | None = None
    regions: tuple[Region, ...] = ()
    default: bool = False
    gate: bool = False
    waits: bool = False


def _row(
    name: str,
    role: Role,
    home: Home | None,
    regions: tuple[Region, ...],
    about: str,
    *,
    options: bool = True,
    default: bool = True,
    gate: bool = False,
    waits: bool = False,
) -> ScorerEntry:
    """A built-in row, by where its file has things."""
    module = f"hafbench.scorers.{name}"
    own = f"{module}:Options" if options else None
    return ScorerEntry(name, about, f"{module}:load", own, role, home, regions, default, gate, waits)


# fmt: off
_TABLE = (
    _row("hands", "anatomy", "photographs", ("hands",),
         "malformed hands, by a critic trained on localized errors", options=False, gate=True),
    _row("detectability", "anatomy", "photographs", ("hands",),
         "hands that hand detectors doubt", default=False),
    _row("digits", "anatomy", "mannequins", ("hands",),
         "count and shape of the digits of the built-in mannequins' hands"),
    _row("limbs", "anatomy", "photographs", ("limbs",),
         "limb proportions, missing and surplus limbs by pose"),
    _row("limb_count", "anatomy", "mannequins", ("limbs",),
         "count and shape of the built-in mannequins' limbs"),
    _row("judge", "anatomy", None, get_args(Region),
         "the verdict of a vision-language model: an endpoint, or one on this machine", default=False, waits=True),
    _row("clip", "quality", None, (), "agreement of image and prompt (open_clip cosine)"),
    _row("iqa", "quality", None, (), "image quality without a reference (pyiqa, default piqe)"),
)
# fmt: on
SCORERS: Registry[ScorerEntry] = Registry("scorer", "hafbench.scorers", ScorerEntry, _TABLE)


def default_scorers(home: Home) -> tuple[str, ...]:
    """The scorers of pictures of `home`, unless others are asked for."""
    return tuple(row.name for row in SCORERS.built_in.values() if row.default and row.home in (None, home))


def load_scorer(name: str, options: Options, device: str = "auto") -> Scorer:
    """Build a scorer; raises Unavailable, with the way out, where its weights are unavailable."""
    return cast("Scorer", SCORERS.get(name).load()(options, device))
