"""The numbers of a run, from its records: rates and means per scorer and per category, and what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from typing import TYPE_CHECKING

from hafbench.cards import CalibrationCard, Share, cards_of
from hafbench.manifest import ScorerFacts
from hafbench.record_tables import read_findings, read_measures
from hafbench.records import COUNTS
from hafbench.statistics import (
    Corrected,
    LabelledRate,
    Mean,
    Rate,
    WinTieLoss,
    corrected_rate,
    error_rate,
    mean_interval,
)
from hafbench.types import STATUSES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from hafbench.runs import Run

ANATOMY = "anatomy"
"""The name of all anatomy scorers together."""
TOGETHER = ScorerFacts(
    role="anatomy",
    higher_is_better=False,
    about="All anatomy scorers together: an image is an error if any of them suspects one, and sound if at least one "
    "judges it so and none has something there that it cannot judge. The rate is errors / (errors + sound images); "
    "other images are not judged.",
)
UNCALIBRATED = (
    "no calibration card says how often these verdicts are wrong. A card is of one scorer: "
    "make it with `hafbench calibrate LABELS --scorer NAME`."
)
TOGETHER_UNCALIBRATED = f"a card is of one scorer, so the rate of all together ({ANATOMY}) has none."


@dataclass(frozen=True)
class ScorerFigures:
    """One scorer over a whole run or over one category; `rate` for anatomy scorers, `mean` for the others.

    `reasons` are those of each status but "scored", with how many images they hold for, most first; `absent` of the
    unknown images show nothing that it judges. `left_out` says why the rate of all anatomy scorers together leaves this
    one out. `corrected` is the rate corrected by the scorer's calibration `card`, if the run carries one.
    """

    scorer: str
    role: str
    about: str
    version: str | None
    images: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, tuple[tuple[str, int], ...]]
    absent: int = 0
    left_out: str | None = None
    rate: Rate | None = None
    mean: Mean | None = None
    higher_is_better: bool | None = None
    card: CalibrationCard | None = None
    corrected: Corrected | None = None

    @property
    def coverage(self) -> float:
        """The share of images that were judged."""
        return self.statuses["scored"] / self.images if self.images else 0.0

    @property
    def calibrated(self) -> bool | None:
        """Whether there is a calibration card; None for quality scorers, which have none."""
        return self.card is not None if self.role == "anatomy" else None


@dataclass(frozen=True)
class Metric:
    """What a scorer, or all anatomy scorers together, say of a run: its rows, and what the scorer is."""

    rows: pd.DataFrame
    facts: ScorerFacts


def scorer_figures(name: str, metric: Metric, card: CalibrationCard | None = None) -> ScorerFigures:
    """The figures of one scorer over its rows."""
    rows, facts = metric.rows, metric.facts
    statuses = Counter(rows["status"].value_counts().to_dict())
    rate = error_rate(rows["is_error"], rows["prompt_id"]) if facts.role == "anatomy" else None
    return ScorerFigures(
        scorer=name,
        role=facts.role,
        about=facts.about,
        version=facts.version,
        images=len(rows),
        statuses={status: statuses[status] for status in STATUSES},
        reasons={
            status: count_alike(rows["reason"][rows["status"] == status].dropna())
            for status in STATUSES[1:]
            if statuses[status]
        },
        absent=int((rows["cause"] == "absent").sum()),
        left_out=facts.left_out,
        rate=rate,
        mean=None if rate else mean_interval(rows["value"], rows["prompt_id"]),
        higher_is_better=facts.higher_is_better,
        card=card,
        corrected=corrected_rate(rate, card.accuracy) if rate and card else None,
    )


def uncalibrated(without: Iterable[str]) -> str | None:
    """What to say, after the word "Uncalibrated", of the scorers whose rates have no card; None where all have one.

    Only what a scorer alone lacks can be made: no card is of all anatomy scorers together.
    """
    names = set(without)
    if names == {ANATOMY}:
        return TOGETHER_UNCALIBRATED
    return UNCALIBRATED if names else None


def together(scorers: Mapping[str, ScorerFacts]) -> list[str]:
    """The anatomy scorers that count together: those that scored the run, and are not left out."""
    return [
        name
        for name, facts in scorers.items()
        if facts.role == "anatomy" and not facts.unavailable and facts.left_out is None
    ]


def whole_pictures(records: pd.DataFrame, scorers: Sequence[str]) -> pd.DataFrame:
    """One row an image for these anatomy scorers together, with the records' columns.

    `is_error` is True where any of them suspects an error, False where at least one judged and the others found nothing
    of theirs there (the cause absent). Else one of them could not judge what is there, and the error may be in it: the
    row has the status, reason and cause of the first such scorer, or of the first where all causes are absent. `value`
    is the highest of theirs, where the image is judged.
    """
    import numpy as np
    import pandas as pd

    rows = records[records["scorer"].isin(scorers)]
    codes, images = pd.factorize(rows["image"])

    def any_of(own: pd.Series) -> NDArray[np.bool_]:
        return np.bincount(codes, own.to_numpy(), len(images)) > 0

    verdicts, absent = rows["is_error"], rows["cause"] == "absent"
    missing = verdicts.isna() & ~absent
    error, sound = (any_of((verdicts == verdict).fillna(False).astype(bool)) for verdict in (True, False))
    judged = error | (sound & ~any_of(missing))
    value = np.full(len(images), np.nan)
    np.fmax.at(value, codes, rows["value"].to_numpy())
    # Of each image the first row that says why it is not judged, or else the first.
    chosen = np.empty(len(images), dtype=np.int64)
    for those in (np.arange(len(rows)), np.flatnonzero(missing)):
        chosen[codes[those[::-1]]] = those[::-1]
    first = rows.take(chosen).reset_index(drop=True)
    unjudged = first[~judged]
    why = pd.Series(None, first.index, dtype=object)
    why[~judged] = [f"{one}: {reason}" for one, reason in zip(unjudged["scorer"], unjudged["reason"], strict=True)]
    return first.assign(
        scorer=ANATOMY,
        scorer_version=None,
        is_error=pd.arrays.BooleanArray(error, ~judged),
        value=np.where(judged, value, np.nan),
        status=first["status"].astype("str").where(~judged, "scored"),
        reason=why,
        cause=first["cause"].where(~judged),
    )


def metrics_of(run: Run) -> dict[str, Metric]:
    """The metric of each scorer by name, with the headline first.

    That is all anatomy scorers that count together, or the only one. Then come the others in the order of the request.
    """
    scorers = run.manifest.scorers
    names = together(scorers)
    order = [*names, *(name for name in scorers if name not in names)]
    found = {name: Metric(run.records[run.records["scorer"] == name], scorers[name]) for name in order}
    if len(names) > 1:
        found = {ANATOMY: Metric(whole_pictures(run.records, names), TOGETHER), **found}
    return found


def count_alike(reasons: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Reasons that differ only in whole numbers are one, "26 to 53" in place of the number; most common first."""
    number = r"(?<!\S)\d+(?:\.\d+)?(?!\S)"
    groups: dict[str, list[list[str]]] = {}
    for reason in reasons:
        groups.setdefault(re.sub(number, "\0", reason), []).append(re.findall(number, reason))
    counted = []
    for pattern, values in groups.items():
        text = pattern
        for column in zip(*values, strict=True):
            low, high = min(column, key=float), max(column, key=float)
            text = text.replace("\0", low if low == high else f"{low} to {high}", 1)
        counted.append((text, len(values)))
    return tuple(sorted(counted, key=lambda entry: -entry[1]))


def shortfalls(figures: Iterable[ScorerFigures]) -> list[tuple[list[str], str]]:
    """What must be said before any figure: scorers that were not available or broke, as (scorers, sentence)."""
    said: dict[str, list[str]] = {}
    for figure in figures:
        for status, word in (("unscored", "not scored"), ("failed", "failed")):
            count = figure.statuses[status]
            if count:
                reason = figure.reasons[status][0][0] if figure.reasons[status] else ""
                of = "" if count == figure.images else f" on {count} of {counted(figure.images, 'image')}"
                said.setdefault(f"{word}{of}: {reason}", []).append(figure.scorer)
    return [(scorers, sentence) for sentence, scorers in said.items()]


def all_figures(run: Run) -> list[ScorerFigures]:
    """Every metric of a run, the headline first (see `metrics_of`)."""
    cards = cards_of(run)
    return [scorer_figures(name, metric, cards.get(name)) for name, metric in metrics_of(run).items()]


def category_figures(run: Run) -> dict[str, list[ScorerFigures]]:
    """Every scorer within each category; empty for a run whose images have none, or only one."""
    categories = categories_of(run.records)
    if len(categories) < 2:
        return {}
    every = metrics_of(run)
    return {
        category: [
            scorer_figures(name, Metric(one.rows[one.rows["category"] == category], one.facts))
            for name, one in every.items()
        ]
        for category in categories
    }


def categories_of(records: pd.DataFrame) -> list[str]:
    """The categories that are there, in the suites' order."""
    return in_order(records["category"].dropna().unique())


def in_order(categories: Iterable[str]) -> list[str]:
    """Categories in the suites' order."""
    from hafbench.suites import CATEGORIES

    present = set(categories)
    return [category for category in CATEGORIES if category in present]


@dataclass(frozen=True)
class FoundRate:
    """How often a scorer found one kind of error in one region: `rate` is the share of the images that it judged.

    `kind` is None for all kinds of the region together. `findings` counts them all, of which an image may have several.
    """

    region: str
    kind: str | None
    scorer: str
    findings: int
    rate: Rate


def finding_rates(run: Run) -> list[FoundRate]:
    """The rate of each region, and of each kind in it where there are several; the most frequent first."""
    import numpy as np

    findings = read_findings(run.table, ("region", "kind", "detail", "score"))
    findings["scorer"] = run.records["scorer"].array[findings["row"].to_numpy()]
    regions: list[list[FoundRate]] = []
    for keys, found in findings.groupby(["scorer", "region"], sort=False, observed=True):
        scorer, region = (str(key) for key in keys)
        own = (run.records["scorer"] == scorer).to_numpy()
        judged, prompts = run.records["is_error"][own].notna().to_numpy(), run.records["prompt_id"][own]
        kinds = [str(kind) for kind in found["kind"].value_counts().index]
        whole: list[str | None] = [None] if len(kinds) > 1 else []
        parts = [(kind, found[found["kind"] == kind] if kind else found) for kind in [*whole, *kinds]]
        rates = []
        for kind, part in parts:
            has = np.zeros(len(run.records))
            has[part["row"]] = 1
            rate = error_rate(np.where(judged, has[own], np.nan), prompts)
            rates.append(FoundRate(region, kind, scorer, len(part), rate))
        regions.append(rates)
    return [rate for rates in sorted(regions, key=lambda rates: -rates[0].rate.errors) for rate in rates]


@dataclass(frozen=True)
class CountRate:
    """How often a scorer's count cannot be what the prompt says: fewer people or hands, another number of arms."""

    scorer: str
    what: str
    wrong: Rate
    more: int
    fewer: int


def count_rates(run: Run) -> list[CountRate]:
    """For each scorer that counts: over the images of prompts that say the number (`Prompt.expect`)."""
    found = []
    columns = [column for what in COUNTS for column in (what, f"{what}_expected")]
    measures = read_measures(run.table, columns)
    for name in run.manifest.scorers:
        own = (run.records["scorer"] == name).to_numpy()
        prompts, measured = run.records["prompt_id"][own].reset_index(drop=True), measures[own].reset_index(drop=True)
        for what in COUNTS:
            apart = measured[what] - measured[f"{what}_expected"]
            if apart.notna().any():
                # A background may hold more people, and a second hand may be visible (`Expect`).
                wrong = (apart != 0 if what == "arms" else apart < 0).astype("boolean").where(apart.notna())
                rate = error_rate(wrong, prompts)
                found.append(CountRate(name, what, rate, int((apart > 0).sum()), int((apart < 0).sum())))
    return found


def counted(number: int, noun: str) -> str:
    """A number of things whose plural ends in s or es: "1 prompt", "2 prompts", "3 losses"."""
    return f"{number} {noun if number == 1 else noun + ('es' if noun.endswith('s') else 's')}"


def percent(value: float | None) -> str:
    """0.1234 as 12.3 %."""
    return "–" if value is None else f"{100 * value:.1f} %"


def share(value: Share | Rate | Corrected | LabelledRate) -> str:
    """A share with its interval, such as 82.1 % [74.0, 88.1]."""
    interval = "" if value.low is None or value.high is None else f" [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    return percent(value.estimate) + interval


def number(value: float | None) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def points(value: float | None) -> str:
    """A difference of rates in percentage points: 0.1234 as +12.3."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """Three decimals, and what is below them as such."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def score(value: float, role: str) -> str:
    """A single image's value: a probability with two decimals, anything else with three significant digits."""
    return f"{value:.2f}" if role == "anatomy" else number(value)


def ratio(wins: WinTieLoss | None) -> str:
    """The RSI with its interval, two decimals."""
    if wins is None or wins.rsi is None:
        return "–"
    ends = (wins.rsi, wins.rsi_low, wins.rsi_high)
    parts = ["∞" if value is not None and isinf(value) else f"{value or 0:.2f}" for value in ends]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]" if wins.rsi_low is not None else parts[0]
