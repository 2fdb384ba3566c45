"""The card of the built-in world's anatomy scorers: from a detector's confidences to chances.

`cards/mannequin.json` is written by `recipes/mannequin/calibrate.py`; docs/studies/mannequin.md says how well it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hafbench.errors import HafError, first_problem
from hafbench.types import Finding, Score

SHIPPED = Path(__file__).parent / "cards" / "mannequin.json"
THRESHOLD = 0.5
"""The chance from which a finding is an error."""
EDGE = 0.005
"""Suspicions nearer to 0 or 1 say no more than this."""


class Curve(BaseModel):
    """Platt's scaling of one kind of error: the logit of its chance is slope x logit(suspicion) + offset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(ge=0)
    offset: float


class MannequinCard(BaseModel):
    """How sure to be of each kind of error, and from which confidence a digit or limb is counted.

    A kind without a curve is not judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    counted: float = Field(gt=0, lt=1)
    curves: Mapping[str, Curve]
    fitted_on: str

    def chance(self, detail: str, suspicion: float) -> float:
        """The chance in [0, 1] of an error, by a suspicion in [0, 1] of it."""
        curve = self.curves[detail]
        held = min(max(suspicion, EDGE), 1 - EDGE)
        return 1 / (1 + math.exp(-curve.slope * math.log(held / (1 - held)) - curve.offset))

    def score(self, suspicions: Iterable[Finding], measures: Mapping[str, float]) -> Score:
        """A picture's score: the worst chance, and all that reach the threshold as findings, worst first."""
        judged = (one for one in suspicions if one.detail in self.curves)
        found = [replace(one, score=round(self.chance(one.detail, one.score), 4)) for one in judged]
        found.sort(key=lambda finding: -finding.score)
        value = found[0].score if found else 0.0
        shown = tuple(finding for finding in found if finding.score >= THRESHOLD)
        return Score("scored", value, value >= THRESHOLD, findings=shown, measures=measures)


def load_mannequin_card(path: Path = SHIPPED) -> MannequinCard:
    """Read a card; raises HafError if it is not one."""
    try:
        return MannequinCard.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HafError(f"{path}: the card cannot be read ({error}).") from error
    except ValidationError as error:
        raise HafError(f"{path} is not a card of the built-in world's scorers: {first_problem(error)}.") from error
