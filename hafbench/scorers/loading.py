"""The scorers that are asked for, loaded, or why one is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hafbench.errors import HafError, Unavailable
from hafbench.scorers import load_scorer

if TYPE_CHECKING:
    from hafbench.specs import ScorerSpec
    from hafbench.types import Scorer


def load_scorers(
    specs: Sequence[ScorerSpec], device: str = "auto", require: Sequence[str] = ()
) -> dict[str, Scorer | Unavailable]:
    """The scorers by name, or why one is unavailable; a required one that is unavailable raises HafError."""
    loaded: dict[str, Scorer | Unavailable] = {}
    for spec in specs:
        try:
            loaded[spec.name] = load_scorer(spec.name, spec.options, device)
        except Unavailable as error:
            if spec.name in require:
                raise HafError(f"The scorer '{spec.name}' is required, but: {error}") from error
            loaded[spec.name] = error
    return loaded
