"""Families of localized degradation: each takes a photo and a part of it, and gives the same photo with one error.

One row and one file each. A file has `load(options, device) -> Family` and its `Options`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hafbench.registry import Entry, Options, Registry

if TYPE_CHECKING:
    from asap_train.types import Family


@dataclass(frozen=True)
class FamilyEntry(Entry):
    """A family. `parallel`: it can be sent to worker processes; one whose model fills the device cannot."""

    parallel: bool = False


def _row(name: str, about: str, parallel: bool = False) -> FamilyEntry:
    """A built-in row, by where its file has things."""
    module = f"asap_train.degrade.{name}"
    return FamilyEntry(name, about, f"{module}:load", f"{module}:Options", parallel)


FAMILIES: Registry[FamilyEntry] = Registry(
    "family",
    "asap_train.families",
    FamilyEntry,
    (
        _row("image", "errors made from the photo's own pixels, without a model", parallel=True),
        _row("inpaint", "a part redrawn by an inpainting model that is asked for an error"),
        _row("skeleton", "a part redrawn by a ControlNet after its corrupted skeleton"),
    ),
)


def load_family(name: str, options: Options, device: str) -> Family:
    """Build a family; raises Unavailable, with the way out, where its weights are unavailable."""
    return cast("Family", FAMILIES.get(name).load()(options, device))
