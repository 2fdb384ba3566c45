"""The numbers of a report, from a run's records: rates and means per scorer and per category, and what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hafbench.statistics import Mean, Rate, error_rate, mean_interval
from hafbench.types import STATUSES

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.runs import Run


@dataclass(frozen=True)
class ScorerFigures:
    """One scorer over a whole run or over one category; `rate` for anatomy scorers, `mean` for the others.

    `reasons` are those of each status but "scored", with how many images they hold for, most first.
    """

    scorer: str
    role: str
    about: str
    images: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, tuple[tuple[str, int], ...]]
    rate: Rate | None = None
    mean: Mean | None = None
    higher_is_better: bool | None = None

    @property
    def coverage(self) -> float:
        """The share of images that were judged."""
        return self.statuses["scored"] / self.images if self.images else 0.0


def scorer_figures(rows: pd.DataFrame, name: str, about: Mapping[str, Any]) -> ScorerFigures:
    """The figures of one scorer over its rows."""
    statuses = Counter(rows["status"])
    clusters = [value if isinstance(value, str) else None for value in rows["prompt_id"]]
    anatomy = about["role"] == "anatomy"
    verdicts = [
        None if missing else bool(v) for v, missing in zip(rows["is_error"], rows["is_error"].isna(), strict=True)
    ]
    return ScorerFigures(
        scorer=name,
        role=about["role"],
        about=about.get("about", ""),
        images=len(rows),
        statuses={status: statuses[status] for status in STATUSES},
        reasons={
            status: count_alike(rows["unscored"][rows["status"] == status].dropna())
            for status in STATUSES[1:]
            if statuses[status]
        },
        rate=error_rate(verdicts, clusters) if anatomy else None,
        mean=None if anatomy else mean_interval(rows["value"].tolist(), clusters),
        higher_is_better=about.get("higher_is_better"),
    )


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
                of = "" if count == figure.images else f" on {count} of {figure.images} images"
                said.setdefault(f"{word}{of}: {reason}", []).append(figure.scorer)
    return [(scorers, sentence) for sentence, scorers in said.items()]


def all_figures(run: Run) -> list[ScorerFigures]:
    """Every scorer of a run, in the order it was asked for."""
    return [
        scorer_figures(run.records[run.records["scorer"] == name], name, about)
        for name, about in run.manifest["scorers"].items()
    ]


def category_figures(run: Run) -> dict[str, list[ScorerFigures]]:
    """Every scorer within each category; empty for a run whose images have none, or only one."""
    from hafbench.suites import CATEGORIES

    present = set(run.records["category"].dropna())
    categories = [category for category in CATEGORIES if category in present]
    if len(categories) < 2:
        return {}
    found = {}
    for category in categories:
        rows = run.records[run.records["category"] == category]
        found[category] = [
            scorer_figures(rows[rows["scorer"] == name], name, about) for name, about in run.manifest["scorers"].items()
        ]
    return found


def finding_counts(run: Run) -> list[dict[str, Any]]:
    """How often each kind of error was found in each region, by which scorer, and in how many images; most first."""
    found: Counter[tuple[str, str, str]] = Counter()
    images: dict[tuple[str, str, str], set[str]] = {}
    for image, scorer, findings in zip(
        run.records["image"], run.records["scorer"], run.records["findings"], strict=True
    ):
        for finding in findings:
            key = (finding["region"], finding["kind"], scorer)
            found[key] += 1
            images.setdefault(key, set()).add(image)
    return [
        {
            "region": region,
            "kind": kind,
            "scorer": scorer,
            "findings": count,
            "images": len(images[region, kind, scorer]),
        }
        for (region, kind, scorer), count in found.most_common()
    ]


def percent(value: float | None) -> str:
    """0.1234 as 12.3 %."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g}"


def score(value: float, role: str) -> str:
    """A single image's value: a probability with two decimals, anything else with three significant digits."""
    return f"{value:.2f}" if role == "anatomy" else number(value)
