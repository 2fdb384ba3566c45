"""The headline figures of a run: report/summary.json, and the table that a command ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from hafbench.figures import ANATOMY, TOGETHER, counted, uncalibrated
from hafbench.manifest import Counts
from hafbench.notes import left_out
from hafbench.statistics import Corrected, LabelledRate
from hafbench.types import Role

if TYPE_CHECKING:
    from hafbench.figures import ScorerFigures
    from hafbench.labelling.estimates import PeopleFigures
    from hafbench.runs import Run


class ScorerSummary(BaseModel):
    """One scorer: the error rate, or for quality scorers the mean, with its 95 % interval, and how many were judged.

    The rate is errors / `scored`; `scored`, `unknown`, `unscored` and `failed` add up to `images`, and `absent` of the
    unknown show nothing that the scorer judges. `errors`, `calibrated` and `corrected` are of anatomy scorers: a
    calibrated one has a calibration card in this run. `left_out` says why it does not count in `anatomy`, all of them
    together. `about` says what is measured. `reasons` say why images were not judged, with how many each.
    """

    model_config = ConfigDict(frozen=True)

    scorer: str
    version: str | None = None
    role: Role
    about: str = ""
    left_out: str | None = None
    images: int
    scored: int
    unknown: int
    absent: int = 0
    unscored: int
    failed: int
    errors: int | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    calibrated: bool | None = None
    corrected: Corrected | None = None
    reasons: Mapping[str, int]


class PeopleSummary(BaseModel):
    """What people's labels say: their rate alone, and with the verdicts of each anatomy measure (`powered`).

    `effective` is how many independent labels would tell as much. Who labelled is not said, but for how many they are.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    clear: int
    errors: int
    unsure: int
    disputed: int
    raters: int
    human: LabelledRate
    powered: Mapping[str, LabelledRate]
    gained: float | None


class Summary(BaseModel):
    """A run in a few figures; `people` is there where labels were asked for."""

    model_config = ConfigDict(frozen=True)

    run: str
    name: str
    report: str
    notes: tuple[str, ...]
    counts: Counts
    scorers: tuple[ScorerSummary, ...]
    people: PeopleSummary | None = None


def summarize(run: Run, figures: Sequence[ScorerFigures], people: PeopleFigures | None = None) -> Summary:
    """The headline figures of a run."""
    return Summary(
        run=run.address,
        name=run.manifest.name,
        report=f"{run.address}/report/index.html",
        notes=(*run.manifest.notes, *left_out(run.manifest.scorers)),
        counts=run.manifest.counts,
        scorers=tuple(map(_scorer, figures)),
        people=_people(people) if people else None,
    )


def _people(people: PeopleFigures) -> PeopleSummary:
    return PeopleSummary(
        images=people.images,
        clear=people.clear,
        errors=people.errors,
        unsure=people.unsure,
        disputed=people.disputed,
        raters=len(people.raters),
        human=people.human,
        powered=people.powered,
        gained=people.gained,
    )


def _scorer(figures: ScorerFigures) -> ScorerSummary:
    found = figures.rate or figures.mean
    return ScorerSummary.model_validate(
        {
            "scorer": figures.scorer,
            "version": figures.version,
            "role": figures.role,
            "about": figures.about,
            "left_out": figures.left_out,
            "images": figures.images,
            **figures.statuses,
            "absent": figures.absent,
            "errors": figures.rate.errors if figures.rate else None,
            **({name: getattr(found, name) for name in ("estimate", "low", "high")} if found else {}),
            "calibrated": figures.calibrated,
            "corrected": figures.corrected,
            "reasons": {reason: count for group in figures.reasons.values() for reason, count in group},
        }
    )


def read_summary(run: Path) -> Summary:
    """The summary of a run folder that has a report."""
    return Summary.model_validate_json((run / "report" / "summary.json").read_text(encoding="utf-8"))


def print_summary(summary: Summary) -> None:
    """The figures as a table on stdout, then where the report is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left", title=Text(summary.name, style="bold"))
    for column in ("scorer", "figure", "95 % interval", "judged"):
        table.add_column(column)
    reasons = []
    for one in summary.scorers:
        figure, interval = "-", "-"
        if one.estimate is not None:
            as_text = "{:.1%}".format if one.role == "anatomy" else "{:.3f}".format
            kind = "error rate" if one.role == "anatomy" else "mean"
            figure = f"{kind} {as_text(one.estimate)}" + (", uncalibrated" if one.calibrated is False else "")
            if one.low is not None:
                interval = f"{as_text(one.low)} to {as_text(one.high)}"
        table.add_row(one.scorer, figure, interval, f"{one.scored} of {counted(one.images, 'image')}")
        reasons += [f"{one.scorer}: {count} x {reason}" for reason, count in list(one.reasons.items())[:3]]
    console = Console(highlight=False)
    console.print(table)
    if any(one.scorer == ANATOMY for one in summary.scorers):
        console.print(Text(f"{ANATOMY}: {TOGETHER.about}"))
    for one in summary.scorers:
        if one.scorer == "judge" and one.version:
            console.print(Text(f"judge: {one.version}"), soft_wrap=True)
        rate = one.corrected
        if rate and rate.estimate is not None and rate.low is not None:
            text = f"{rate.estimate:.1%}, {rate.low:.1%} to {rate.high:.1%}"
            console.print(Text(f"{one.scorer}: corrected for its mistakes by its calibration card {text}"))
    without = (one.scorer for one in summary.scorers if one.calibrated is False and one.estimate is not None)
    if said := uncalibrated(without):
        console.print(Text(f"Uncalibrated: {said}"))
    for note in summary.notes:
        console.print(Text(note))
    for reason in reasons:
        console.print(Text(reason, style="dim"))
    console.print(Text(f"Report: {summary.report}"), soft_wrap=True)
