"""The numbers of a report, from a run's records: rates and means per scorer and per category, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hafbench.statistics import Mean, Rate, error_rate, mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.runs import Run

STATUSES = ("scored", "unknown", "unscored", "failed")


@dataclass(frozen=True)
class ScorerFigures:
    """One scorer over a whole run or over one category; `rate` for anatomy scorers, `mean` for the others."""

    scorer: str
    role: str
    about: str
    images: int
    statuses: Mapping[str, int]
    reasons: tuple[tuple[str, int], ...]
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
        reasons=tuple(Counter(rows["unscored"].dropna()).most_common(4)),
        rate=error_rate(verdicts, clusters) if anatomy else None,
        mean=None if anatomy else mean_interval(rows["value"].tolist(), clusters),
        higher_is_better=about.get("higher_is_better"),
    )


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
