"""The errors of the second built-in world: one table, by their details, in the published taxonomy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hafbench.people import figure_defects as figures
from hafbench.people import hand_defects as hands
from hafbench.people.figure_defects import ARM, LEG
from hafbench.people.hand_defects import Error
from hafbench.people.scene import View
from hafbench.types import Kind, Region

Place = Literal["hand", "arm", "leg", "head"]


@dataclass(frozen=True)
class Defect:
    """An error that can be put into a person.

    place: what of a person has to be seen for it. share: how much of the picture has to change, at least. weight: how
    often it is drawn beside the others.
    """

    detail: str
    kind: Kind
    region: Region
    view: View
    place: Place
    change: Error = field(repr=False, compare=False)
    share: float = 0.006
    weight: float = 1.0


def _table(*rows: Defect) -> Mapping[str, Defect]:
    return {row.detail: row for row in rows}


DEFECTS = _table(
    Defect("extra_digit", "extra", "hands", "hand", "hand", hands.extra_digit, weight=3.0),
    Defect("two_thumbs", "extra", "hands", "hand", "hand", hands.two_thumbs),
    Defect("forked_digit", "extra", "hands", "hand", "hand", hands.forked_digit),
    Defect("missing_digit", "missing", "hands", "hand", "hand", hands.missing_digit, weight=1.2),
    Defect("fused_digits", "configuration", "hands", "hand", "hand", hands.fused_digits, weight=2.5),
    Defect("melted_digits", "configuration", "hands", "hand", "hand", hands.melted_digits, weight=3.0),
    Defect("bent_back_digit", "configuration", "hands", "hand", "hand", hands.bent_back),
    Defect("bent_digit", "configuration", "hands", "hand", "hand", hands.bent_digit),
    Defect("long_digit", "proportion", "hands", "hand", "hand", hands.resized_digit((1.45, 1.85), (0.95, 1.1))),
    Defect("short_digit", "proportion", "hands", "hand", "hand", hands.resized_digit((0.42, 0.58), (0.95, 1.05))),
    Defect("thick_digit", "proportion", "hands", "hand", "hand", hands.resized_digit((1.0, 1.12), (1.6, 2.0))),
    Defect("turned_hand", "orientation", "hands", "hand", "hand", hands.turned_hand, weight=0.5),
    Defect("large_hand", "proportion", "hands", "figure", "arm", hands.resized_hand((1.7, 2.1)), 0.005),
    Defect("small_hand", "proportion", "hands", "figure", "arm", hands.resized_hand((0.42, 0.52)), 0.002, 0.5),
    Defect("missing_hand", "missing", "hands", "figure", "arm", figures.missing(ARM, "wrist", (0.0, 0.2)), 0.001),
    Defect("extra_arm", "extra", "limbs", "figure", "arm", figures.extra_limb(ARM), weight=2.0),
    Defect("extra_leg", "extra", "limbs", "figure", "leg", figures.extra_limb(LEG), weight=2.0),
    Defect("missing_arm", "missing", "limbs", "figure", "arm", figures.missing(ARM, "upperarm01", (0.4, 0.7))),
    Defect("missing_forearm", "missing", "limbs", "figure", "arm", figures.missing(ARM, "lowerarm01", (0.1, 0.4))),
    Defect("missing_leg", "missing", "limbs", "figure", "leg", figures.missing(LEG, "upperleg01", (0.5, 0.75))),
    Defect("missing_lower_leg", "missing", "limbs", "figure", "leg", figures.missing(LEG, "lowerleg01", (0.1, 0.4))),
    Defect("long_arm", "proportion", "limbs", "figure", "arm", figures.stretched(ARM, (1.4, 1.65))),
    Defect("short_arm", "proportion", "limbs", "figure", "arm", figures.stretched(ARM, (0.5, 0.62))),
    Defect("short_leg", "proportion", "limbs", "figure", "leg", figures.stretched(LEG, (0.55, 0.7))),
    Defect("bent_arm", "configuration", "limbs", "figure", "arm", figures.broken(ARM), 0.004),
    Defect("bent_leg", "configuration", "limbs", "figure", "leg", figures.broken(LEG)),
    Defect("bent_knee", "configuration", "limbs", "figure", "leg", figures.bent_knee),
    Defect("missing_foot", "missing", "feet", "figure", "leg", figures.missing(LEG, "lowerleg01", (0.72, 0.85)), 0.002),
    Defect("turned_foot", "orientation", "feet", "figure", "leg", figures.turned_foot, 0.0015),
    Defect("large_feet", "proportion", "feet", "figure", "leg", figures.scaled(("foot.L", "foot.R"), (1.7, 2)), 0.003),
    Defect("turned_head", "orientation", "face", "figure", "head", figures.turned_head, 0.002),
    Defect("large_head", "proportion", "face", "figure", "head", figures.scaled(("head",), (1.5, 1.8)), 0.004),
    Defect("small_head", "proportion", "face", "figure", "head", figures.scaled(("head",), (0.5, 0.62)), 0.003),
)  # fmt: skip
"""By detail, whose words are those of the first built-in world where it has the same error."""


def of_view(view: View) -> tuple[Defect, ...]:
    """The errors that a view can show."""
    return tuple(row for row in DEFECTS.values() if row.view == view)
