"""What a report says before any figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hafbench.figures import ANATOMY, TOGETHER, together
from hafbench.registry import Home
from hafbench.scorers import SCORERS
from hafbench.specs import RunSpec, ScorerSpec
from hafbench.worlds import BUILT_IN, MANNEQUINS, world_of

if TYPE_CHECKING:
    from hafbench.manifest import ScorerFacts


def notes(spec: RunSpec, suite: str) -> list[str]:
    """That this is the built-in world, and which scorers are made for another.

    `suite` is the name of the suite that was found.
    """
    world, is_built_in = world_of(spec.model.model), spec.model.model == BUILT_IN
    unsuited = [one.name for one in spec.scorers or () if _home(one) not in (None, world.home)]
    said = []
    if world is MANNEQUINS:
        drawn = ", drawn by a small model that comes with hafbench" if is_built_in else ""
        blurred = (
            " Its pictures are blurred, and digits and limb_count flag about half of those that look right: "
            "their rates are too high (docs/studies/mannequin.md)."
        )
        said.append(
            f"This is the built-in world of mannequins{drawn}: no figure here is a statement about photographs or "
            f"about any other model.{blurred if is_built_in else ''}"
        )
        if unsuited:
            said.append(f"{_listed(unsuited)} made for photographs: their results for mannequins are not meaningful.")
        if is_built_in and suite != MANNEQUINS.suite:
            said.append("The built-in model has learnt captions like those of the suite mannequin, and no other words.")
    elif unsuited:
        said.append(f"{_listed(unsuited)} made for the built-in mannequins: their results here are not meaningful.")
    return said


def _home(scorer: ScorerSpec) -> Home | None:
    """What a scorer is made for, by its options or else its row."""
    home: Home | None = scorer.options.home or SCORERS.get(scorer.name).home
    return home


def _listed(names: Sequence[str]) -> str:
    *head, last = names
    return f"The scorers {', '.join(head)} and {last} are" if head else f"The scorer {last} is"


def left_out(scorers: Mapping[str, ScorerFacts]) -> list[str]:
    """Which anatomy scorers do not count in the rate of all of them together, and why."""
    return [
        f"{name} is left out of the rate of all anatomy scorers together: {facts.left_out}."
        for name, facts in scorers.items()
        if facts.left_out and not facts.unavailable
    ]


def counted_together(scorers: Mapping[str, ScorerFacts]) -> list[str]:
    """What the rate of all anatomy scorers together is of, where several count, and which scorers are left out."""
    several = len(together(scorers)) > 1
    return [*([f"{ANATOMY}: {TOGETHER.about}"] if several else []), *left_out(scorers)]


def judged_by(scorers: Mapping[str, ScorerFacts]) -> list[str]:
    """Who the scorer judge is, without which none of its figures is shown; nothing where it is not among them."""
    judge = scorers.get("judge")
    return [f"judge is {judge.version}."] if judge and judge.version else []
