"""Calibration cards: how a scorer did on images that people, or a ground truth, labelled good or bad.

A card is a JSON file that `hafbench calibrate` writes. A run carries the cards of its scorers in RUN/cards/SCORER.json,
and everything that shows the run's rates shows them corrected by these cards, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hafbench.errors import HafError, first_problem
from hafbench.files import write_whole
from hafbench.provenance import sha256_of_json
from hafbench.statistics import Accuracy
from hafbench.suites import ID_PATTERN

if TYPE_CHECKING:
    from hafbench.runs import Run

SHIPPED = Path(__file__).parent / "scorers" / "cards" / "calibration"
"""Cards that come with the package, for the scorers of the built-in world."""


NEAR = 1e-6
"""How far a figure may lie from the same one computed anew: rounding differs between machines."""

M = TypeVar("M", bound=BaseModel)


def ordered(figure: M, estimate: float | None, low: float | None, high: float | None) -> M:
    """The figure; raises ValueError if its interval does not hold its estimate, or only one of its bounds is there."""
    if (low is None) != (high is None) or (estimate is None and low is not None):
        raise ValueError("an interval has an estimate and two bounds")
    if estimate is not None and low is not None and high is not None and not low - NEAR <= estimate <= high + NEAR:
        raise ValueError(f"the estimate {estimate} is not between {low} and {high}")
    return figure


def _on_the_calendar(day: str) -> str:
    date.fromisoformat(day)
    return day


class Frozen(BaseModel):
    """A part of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, le=10**12)]
Chance = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_on_the_calendar)]
Words = Annotated[str, StringConstraints(max_length=2000)]
Name = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""Of a scorer; it names files, too."""


class Share(Frozen):
    """A figure in [0, 1] with its 95 % interval; `n` images. None where there are too few."""

    estimate: Chance | None
    low: Chance | None
    high: Chance | None
    n: Count

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return ordered(self, self.estimate, self.low, self.high)


class Stratum(Frozen):
    """The AUROC within a part of the images that are alike in size, sharpness or source."""

    by: Words
    name: Words
    auroc: Share


class Bin(Frozen):
    """One point of the reliability curve: images whose value is in [low, high), and how many of them are bad."""

    low: Chance
    high: Chance
    value: Chance
    bad: Share


class Operating(Frozen):
    """What the scorer would do at another threshold, chosen for a rate of false alarms."""

    false_alarms: Chance
    threshold: float
    sensitivity: Share
    specificity: Share


class CalibrationCard(Frozen):
    """How a scorer did. Counts are of images that it judged; `unknown` are those that it could not.

    `effective_bad` and `effective_good` are the numbers of independent images that would tell as much, since images of
    one prompt are alike. `sensitivity` and `specificity` are at the scorer's own verdict. `roc` holds (false alarms,
    sensitivity, threshold), `baselines` the AUROC of the picture's size and sharpness alone: what the scorer has to
    beat. `made_on` says in words what the images were, `sha256` identifies them with their labels, and `source` is that
    of a model's pictures (`source_of`), None for others.
    """

    format: int = Field(1, ge=1, le=1)
    scorer: Name
    scorer_version: Words
    date: Date
    made_on: Words
    sha256: Sha256
    source: Sha256 | None
    flagged_bad: Count
    bad: Count
    passed_good: Count
    good: Count
    effective_bad: float = Field(ge=0)
    effective_good: float = Field(ge=0)
    unknown_bad: Count
    unknown_good: Count
    sensitivity: Share
    specificity: Share
    auroc: Share
    baselines: Mapping[str, Share]
    strata: tuple[Stratum, ...]
    reliability: tuple[Bin, ...]
    operating: tuple[Operating, ...]
    roc: tuple[tuple[Chance, Chance, float | None], ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sides = (
            ("sensitivity", self.sensitivity, self.flagged_bad, self.bad, self.effective_bad),
            ("specificity", self.specificity, self.passed_good, self.good, self.effective_good),
        )
        for name, share, right, count, effective in sides:
            if right > count or effective > count * (1 + NEAR):
                raise ValueError(f"the counts behind the {name} are more than its {count} images")
            if share.n != count or abs((share.estimate or 0.0) - (right / count if count else 0.0)) > NEAR:
                raise ValueError(f"the {name} is {share.estimate} of {share.n}, but the counts are {right} of {count}")
        return self

    @property
    def accuracy(self) -> Accuracy:
        """The counts as so many independent images, for correcting a rate."""
        bad = self.effective_bad / self.bad if self.bad else 0.0
        good = self.effective_good / self.good if self.good else 0.0
        return Accuracy(self.flagged_bad * bad, self.bad * bad, self.passed_good * good, self.good * good)


def read_card(path: Path) -> CalibrationCard:
    """Read a card; raises HafError if it is not one."""
    try:
        return CalibrationCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HafError(f"{path}: the card cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise HafError(f"{path} is not a calibration card: {first_problem(error)}.") from error


def write_card(card: CalibrationCard, path: Path) -> None:
    """Write a card, whole or not at all."""
    write_whole(path, card.model_dump_json(indent=1) + "\n")


def cards_of(run: Run) -> dict[str, CalibrationCard]:
    """The cards that a run carries, by scorer, of the versions that scored it."""
    versions = _versions(run)
    cards = [read_card(path) for path in sorted((run.folder / "cards").glob("*.json"))]
    return {card.scorer: card for card in cards if versions.get(card.scorer) == card.scorer_version}


def attach_cards(run: Run, given: Iterable[Path]) -> None:
    """Put the given cards, and for the other scorers the shipped ones, into a run's folder.

    Raises HafError for a given card whose scorer, or whose version of it, the run does not have. Shipped cards go only
    to runs of the model and settings that they were made on.
    """
    versions = _versions(run)
    for path in given:
        card = read_card(path)
        if versions.get(card.scorer) != card.scorer_version:
            has = versions.get(card.scorer)
            raise HafError(
                f"{path} is of the scorer {card.scorer} {card.scorer_version}, but {run.folder} was scored by "
                f"{f'its version {has}' if has else 'other scorers'}; make a card with `hafbench calibrate`."
            )
        write_card(card, run.folder / "cards" / f"{card.scorer}.json")
    source = source_of(run)
    for path in sorted(SHIPPED.glob("*.json")):
        card, place = read_card(path), run.folder / "cards" / path.name
        if source == card.source and versions.get(card.scorer) == card.scorer_version and not place.exists():
            write_card(card, place)


def source_of(run: Run) -> str | None:
    """What a run's pictures come from, as a hash: the model's weights and settings; None for a folder of images."""
    generator = run.manifest.generator
    if generator is None:
        return None
    kept = {key: value for key, value in generator.settings.items() if key not in ("device", "offload")}
    return sha256_of_json(kept)


def _versions(run: Run) -> dict[str, str | None]:
    return {name: facts.version for name, facts in run.manifest.scorers.items()}
