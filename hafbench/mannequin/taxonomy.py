"""The errors of the built-in world by their details, in the published taxonomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hafbench.types import Kind

# detail -> (kind, region) of the taxonomy.
DETAILS: dict[str, tuple[Kind, Literal["hands", "limbs"]]] = {
    "extra_digit": ("extra", "hands"),
    "missing_digit": ("missing", "hands"),
    "fused_digits": ("configuration", "hands"),
    "forked_digit": ("extra", "hands"),
    "bent_digit": ("configuration", "hands"),
    "long_digit": ("proportion", "hands"),
    "short_digit": ("proportion", "hands"),
    "two_thumbs": ("extra", "hands"),
    "turned_hand": ("orientation", "hands"),
    "extra_arm": ("extra", "limbs"),
    "missing_arm": ("missing", "limbs"),
    "detached_arm": ("configuration", "limbs"),
    "long_arm": ("proportion", "limbs"),
    "short_arm": ("proportion", "limbs"),
    "extra_leg": ("extra", "limbs"),
    "missing_leg": ("missing", "limbs"),
    "detached_leg": ("configuration", "limbs"),
    "long_leg": ("proportion", "limbs"),
    "short_leg": ("proportion", "limbs"),
}


@dataclass(frozen=True)
class Error:
    """One error in a scene; `part` is the hand (`hand0`) or limb (`left_arm`) that it is in."""

    detail: str
    part: str

    @property
    def kind(self) -> Kind:
        """How it is wrong, by the taxonomy."""
        return DETAILS[self.detail][0]

    @property
    def region(self) -> Literal["hands", "limbs"]:
        """Where it is wrong, by the taxonomy."""
        return DETAILS[self.detail][1]
