"""The page of a comparison: verdicts, forest plots, prompts as a scatter, and the pairs of images that changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.comparison.notes import judged_unevenly, judging, planning, special_cases, what_is_shared
from hafbench.comparison.people import PEOPLE_FOOT, people_lines, people_notes
from hafbench.comparison.tables import FOOT, JUDGED_FOOT, judged_lines, lines, to_json
from hafbench.record_tables import findings_of
from hafbench.reports.overlays import Thumbnails, thumbnails
from hafbench.reports.page import render_page
from hafbench.reports.plots import forest_plot, scatter_plot

if TYPE_CHECKING:
    from hafbench.comparison import Comparison, Versus
    from hafbench.runs import Run
    from hafbench.types import Finding

PAIRS = 24
"""Regressions, and improvements, shown of each candidate."""
PAGE_CHARACTERS = 13_000_000
"""Where the pairs stop, so that the page opens on a phone."""


@dataclass(frozen=True)
class Side:
    """One image of a pair; `pictures` is None if the file cannot be read."""

    image: str
    error: bool | None
    value: float | None
    kinds: tuple[str, ...]
    pictures: Thumbnails | None


@dataclass(frozen=True)
class PairItem:
    """An image of the baseline and one of the candidate for the same prompt; `change` is regression or improvement."""

    change: str
    prompt: str
    seed: str
    category: str
    baseline: Side
    candidate: Side

    @property
    def characters(self) -> int:
        """How much its pictures add to a page."""
        return sum(side.pictures.characters for side in (self.baseline, self.candidate) if side.pictures)


@dataclass(frozen=True)
class Section:
    """What the page says of one candidate; `shared` is what was compared, `sentences` what else must be known of it."""

    versus: Versus
    forest: str | None
    scatter: str | None
    pairs: tuple[PairItem, ...]
    left_out: int
    shared: str
    sentences: tuple[str, ...]


def build_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write FOLDER/index.html and comparison.json, and return the page's path."""
    import json

    from hafbench.files import disk_errors, write_whole

    room = PAGE_CHARACTERS // len(comparison.versus)
    sections = [_section(comparison, versus, room) for versus in comparison.versus]
    page = render_page(
        "compare",
        "compare.js",
        comparison=comparison,
        sections=sections,
        lines=lines(comparison),
        foot=FOOT,
        judged=judged_lines(comparison),
        judged_foot=JUDGED_FOOT,
        people=people_lines(comparison),
        people_foot=" ".join([PEOPLE_FOOT, *people_notes(comparison)]),
        notes=_notes(comparison),
    )
    with disk_errors(folder):
        write_whole(folder / "index.html", page)
        text = json.dumps(to_json(comparison), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(folder / "comparison.json", text + "\n")
    return folder / "index.html"


def _notes(comparison: Comparison) -> list[str]:
    """What the reports of the runs say before any figure, once."""
    runs = [comparison.baseline, *(versus.candidate for versus in comparison.versus)]
    return list(dict.fromkeys(note for run in runs for note in run.manifest.notes))


def _section(comparison: Comparison, versus: Versus, room: int) -> Section:
    import numpy as np

    one = versus.metrics[0]
    rate = one.role == "anatomy"
    table = versus.tables[one.name]
    column = "is_error" if rate else "value"
    numbers = table[["key"]].assign(
        **{end: table[f"{column}_{end}"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan) for end in "ab"}
    )
    means = numbers.groupby("key")[["a", "b"]].mean().dropna()
    scatter = None
    if len(means) > 1:
        labels = (comparison.label, versus.label)
        scatter = scatter_plot(means["a"].tolist(), means["b"].tolist(), labels, rate, one.higher_is_better)
    pairs, left_out = pair_items(comparison.baseline, versus, room)
    said = (*special_cases(versus), *map(judged_unevenly, versus.metrics[1:]), planning(versus, comparison.detect))
    said += tuple(judging(versus))
    forest = forest_plot(versus.metrics, versus.label)
    return Section(versus, forest, scatter, tuple(pairs), left_out, what_is_shared(versus), tuple(filter(None, said)))


def pair_items(baseline: Run, versus: Versus, room: int = PAGE_CHARACTERS) -> tuple[list[PairItem], int]:
    """The pairs whose verdict changed by the first metric: regressions first, those that moved most first.

    Of quality scores, the pairs that moved most. With them how many more there are. Runs of other seeds have no pairs.
    """
    one = versus.metrics[0]
    table = versus.tables[one.name]
    if not versus.shared.pairs:
        return [], 0
    worse = (table["value_b"] - table["value_a"]) * (-1 if one.higher_is_better else 1)
    if one.role == "anatomy":
        changed = table["is_error_b"].astype("Float64") - table["is_error_a"].astype("Float64")
    else:
        changed = worse
    moved = {"regression": -worse[changed.gt(0).fillna(False)], "improvement": worse[changed.lt(0).fillna(False)]}
    chosen = {change: table.loc[own.sort_values(kind="stable").head(PAIRS).index] for change, own in moved.items()}
    found = [
        _findings(run, [str(image) for rows in chosen.values() for image in rows[name]])
        for run, name in ((baseline, "image_a"), (versus.candidate, "image_b"))
    ]
    items: list[PairItem] = []
    for change, rows in chosen.items():
        # Each half of the list has half of the room, lest regressions leave none for improvements.
        used = 0
        for row in rows.to_dict("records"):
            item = _pair(change, row, baseline, versus.candidate, found)
            used += item.characters
            if items and used > room // 2:
                break
            items.append(item)
    return items, sum(map(len, moved.values())) - len(items)


def _findings(run: Run, images: Sequence[str]) -> dict[str, list[Finding]]:
    """What all scorers found, by image."""
    found: dict[str, list[Finding]] = {image: [] for image in images}
    for (image, _), own in findings_of(run.table, images).items():
        found[image] += own
    return found


def _pair(
    change: str, row: Mapping[Any, Any], baseline: Run, candidate: Run, found: list[dict[str, list[Finding]]]
) -> PairItem:
    sides = []
    for run, end, findings in ((baseline, "a", found[0]), (candidate, "b", found[1])):
        image = str(row[f"image_{end}"])
        sides.append(
            Side(
                image,
                None if row[f"is_error_{end}"] is None else _verdict(row[f"is_error_{end}"]),
                None if row[f"value_{end}"] != row[f"value_{end}"] else float(row[f"value_{end}"]),
                tuple(dict.fromkeys(f"{one.region}: {one.detail.replace('_', ' ')}" for one in findings[image])),
                thumbnails(run.source, image, findings[image]),
            )
        )
    prompt, category = row["prompt_a"], row["category_a"]
    return PairItem(
        change,
        prompt if isinstance(prompt, str) else str(row["image_a"]),
        "" if _missing(row["seed_a"]) else f"seed {int(row['seed_a'])}",
        category.replace("_", " ") if isinstance(category, str) and category != "uncategorized" else "",
        *sides,
    )


def _verdict(value: Any) -> bool | None:
    return None if _missing(value) else bool(value)


def _missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value))
