"""Calibration cards: how a scorer did on images that people, or a ground truth, labelled good or bad.

A card is a JSON file that `hafbench calibrate` writes. A run carries the cards of its scorers in RUN/cards/SCORER.json,
and everything that shows the run's rates shows them corrected by these cards, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from math import hypot
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
from hafbench.statistics import Accuracy, Rate
from hafbench.suites import ID_PATTERN
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from hafbench.manifest import ScorerFacts
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


def share_of(rate: Rate) -> Share:
    """A rate as a share of those that were judged."""
    return Share(estimate=rate.estimate, low=rate.low, high=rate.high, n=rate.scored)


JUDGED_SIZE, IMAGE_SIZE = "judged size", "size"


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


class KindShare(Frozen):
    """The sensitivity to the errors of one region and kind; `kind` is None for all errors of the region.

    `unknown` images have such an error, too, but the scorer could not judge them; `judged` is the share that it could,
    None on a card that was made without it.
    """

    region: Region
    kind: Kind | None
    sensitivity: Share
    unknown: Count
    judged: Share | None = None

    @property
    def counts(self) -> tuple[float, float, int]:
        """Images that were flagged, passed, and not judged."""
        flagged = (self.sensitivity.estimate or 0.0) * self.sensitivity.n
        return flagged, self.sensitivity.n - flagged, self.unknown


class Coverage(Frozen):
    """The shares of the good and of the bad images that the scorer could judge."""

    good: Share
    bad: Share

    @property
    def difference(self) -> tuple[float, float, float]:
        """Bad minus good in [-1, 1], with its 95 % interval; below 0 of a scorer that passes over bad images.

        The interval follows from those of the shares (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10).
        """
        bad, good = ((part.estimate or 0.0, part.low or 0.0, part.high or 0.0) for part in (self.bad, self.good))
        moved = bad[0] - good[0]
        below, above = hypot(bad[0] - bad[1], good[2] - good[0]), hypot(bad[2] - bad[0], good[0] - good[1])
        return moved, moved - below, moved + above

    @property
    def uneven(self) -> bool:
        """Whether the scorer is shown to judge one kind of image more often than the other."""
        _, low, high = self.difference
        return low > 0 or high < 0


class OrderShare(Frozen):
    """How a judge compared images with an error with sound ones, each pair in both orders, by a protocol.

    `sounder` is the share of pairs where it chose the sound image in both, `inconsistent` where the orders disagree,
    and `first` how often the first image won among its decisive replies: 50 % without a position bias.
    """

    judge: Words
    protocol: Words
    pairs: Count
    sounder: Share
    inconsistent: Share
    first: Share


class CalibrationCard(Frozen):
    """How a scorer did. Counts are of images that it judged; `unknown` are those that it could not.

    `effective_bad` and `effective_good` are the numbers of independent images that would tell as much, since images of
    one prompt are alike. `sensitivity` and `specificity` are at the scorer's own verdict. `roc` holds (false alarms,
    sensitivity, threshold), `baselines` the AUROC of size and sharpness alone: what the scorer has to beat. The size is
    that of what the scorer judged (JUDGED_SIZE) where it says so, else the image's. `coverage` is how many of the good
    and of the bad images it judged. `made_on` says in words what the images were, `sha256` identifies them with their
    labels, and `source` is that of a model's pictures (`source_of`), None for others. `kinds` are of the bad images
    whose region, or region and kind, of the error is known: each region as a whole, and its kinds. `order` is of
    judges, by pairs of a bad and a good image. `reasons` say why images could not be judged, with how many each. These
    three are empty, and `coverage` is None, on a card that was made without them. `identity` is a hash of the scorer's
    version, settings and weights (`identity_of`), of which the version alone says too little; None on older cards.
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
    kinds: tuple[KindShare, ...] = ()
    order: tuple[OrderShare, ...] = ()
    reasons: Mapping[Words, Count] = {}
    coverage: Coverage | None = None
    identity: Sha256 | None = None

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

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len({(row.region, row.kind) for row in self.kinds}) < len(self.kinds):
            raise ValueError("a region and kind of error is there twice")
        regions = {row.region: row for row in self.kinds if row.kind is None}
        if lone := {row.region for row in self.kinds} - set(regions):
            raise ValueError(f"the kinds of {min(lone)} are there, but not the region as a whole")
        bad = (self.flagged_bad, self.bad - self.flagged_bad, self.unknown_bad)
        _check_sums("the bad images", list(regions.values()), bad)
        for region, whole in regions.items():
            kinds = [row for row in self.kinds if row.region == region and row.kind is not None]
            _check_sums(f"its images with an error of the {region}", kinds, whole.counts)
        judged: list[tuple[str, Share | None, int, int]] = [
            (row.region, row.judged, row.sensitivity.n, row.unknown) for row in self.kinds
        ]
        if self.coverage:
            judged += [("good", self.coverage.good, self.good, self.unknown_good)]
            judged += [("bad", self.coverage.bad, self.bad, self.unknown_bad)]
        for name, part, count, unknown in judged:
            if part and (part.n != count + unknown or abs((part.estimate or 0.0) * part.n - count) > NEAR * part.n):
                raise ValueError(f"the share judged ({name}) is {part.estimate} of {part.n}, but {count} were judged")
        if self.reasons and sum(self.reasons.values()) != self.unknown_bad + self.unknown_good:
            raise ValueError("the reasons are not of as many images as could not be judged")
        return self

    @property
    def accuracy(self) -> Accuracy:
        """The counts as so many independent images, for correcting a rate."""
        bad = self.effective_bad / self.bad if self.bad else 0.0
        good = self.effective_good / self.good if self.good else 0.0
        return Accuracy(self.flagged_bad * bad, self.bad * bad, self.passed_good * good, self.good * good)


def _check_sums(what: str, parts: Iterable[KindShare], whole: tuple[float, float, int]) -> None:
    """Raises ValueError if the parts together have more flagged, passed or unknown images than the whole."""
    sums = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    if any(part > most * (1 + NEAR) + NEAR for part, most in zip(sums, whole, strict=False)):
        raise ValueError(f"the kinds of errors are of more than {what}")


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


def identity_of(facts: ScorerFacts) -> str:
    """A hash of all that two scorers have in common which give the same scores."""
    return sha256_of_json(facts.identity())


def cards_of(run: Run) -> dict[str, CalibrationCard]:
    """The cards that a run carries, by scorer, of the very scorers that scored it."""
    cards = [read_card(path) for path in sorted((run.folder / "cards").glob("*.json"))]
    return {card.scorer: card for card in cards if _misfit(card, run.manifest.scorers) is None}


def read_cards(given: Iterable[Path], scorers: Mapping[str, ScorerFacts]) -> list[CalibrationCard]:
    """The given cards; raises HafError for a file that is none, for a scorer not among these, and for two of one."""
    cards: list[CalibrationCard] = []
    for path in given:
        card = read_card(path)
        if any(one.scorer == card.scorer for one in cards):
            raise HafError(f"{path} is a second card of the scorer {card.scorer}; give one of each.")
        if misfit := _misfit(card, scorers):
            raise HafError(f"{path} is of the scorer {card.scorer} {misfit}; make a card with `hafbench calibrate`.")
        cards.append(card)
    return cards


def _misfit(card: CalibrationCard, scorers: Mapping[str, ScorerFacts]) -> str | None:
    """How a card's scorer differs from the run's; None where it is the same, as far as the card says."""
    facts = scorers.get(card.scorer)
    if facts is None or facts.version is None:
        return f"{card.scorer_version}, which did not score this run"
    if facts.version != card.scorer_version:
        return f"{card.scorer_version}, but this run was scored by its version {facts.version}"
    if card.identity not in (None, identity_of(facts)):
        return f"{card.scorer_version} with other settings or weights than those that scored this run"
    return None


def attach_cards(run: Run, given: Iterable[Path]) -> None:
    """Put the given cards, and for the other scorers the shipped ones, into a run's folder.

    Raises HafError as `read_cards`. Shipped cards go only to runs of the model and settings that they were made on.
    """
    for card in read_cards(given, run.manifest.scorers):
        write_card(card, run.folder / "cards" / f"{card.scorer}.json")
    source = source_of(run)
    for path in sorted(SHIPPED.glob("*.json")):
        card, place = read_card(path), run.folder / "cards" / path.name
        if source == card.source and _misfit(card, run.manifest.scorers) is None and not place.exists():
            write_card(card, place)


def source_of(run: Run) -> str | None:
    """What a run's pictures come from, as a hash: the model's weights and settings; None for a folder of images."""
    generator = run.manifest.generator
    if generator is None:
        return None
    kept = {key: value for key, value in generator.settings.items() if key not in ("device", "offload")}
    return sha256_of_json(kept)
