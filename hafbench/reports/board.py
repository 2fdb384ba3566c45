"""The page of a leaderboard: a table for each suite and set of scorers, with rank ranges and profiles by category."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hafbench.figures import number, percent
from hafbench.leaderboard import Entry, Place, Table
from hafbench.leaderboard.entries import RateFigure
from hafbench.provenance import sha256_of_json
from hafbench.reports.page import render_page
from hafbench.suites import suite_names


@dataclass(frozen=True)
class Cell:
    """A figure as text, and the number that it is sorted by; None sorts last."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Row:
    """An entry's place; `cells` belong to the board's columns, `profile` to its categories.

    `facts` follow from the verdicts, `claims` are what whoever made the entry says.
    """

    place: Place
    rate: RateFigure
    cells: tuple[Cell, ...]
    profile: tuple[RateFigure | None, ...]
    facts: tuple[tuple[str, str], ...]
    claims: tuple[tuple[str, str], ...]
    settings: str

    @property
    def entry(self) -> Entry:
        """What the row is about."""
        return self.place.entry


@dataclass(frozen=True)
class Board:
    """One table of the page, with what its entries share."""

    suite: str
    prompts: int
    ranked_by: str
    judges: tuple[str, ...]
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    rows: tuple[Row, ...]


def build_board(tables: Sequence[Table], folder: Path) -> Path:
    """Write FOLDER/index.html and return its path."""
    from hafbench.files import disk_errors, write_whole

    boards = [board(table) for table in tables]
    entries = [entry for table in tables for entry in table.entries]
    page = render_page(
        "leaderboard",
        "leaderboard.js",
        boards=boards,
        suites=sorted({one.suite for one in boards}),
        licences=sorted({entry.model.licence for entry in entries if entry.model.licence}),
        notes=list(dict.fromkeys(note for entry in entries for note in entry.notes)),
    )
    with disk_errors(folder):
        write_whole(folder / "index.html", page)
    return folder / "index.html"


def board(table: Table) -> Board:
    """A table written out."""
    entries = table.entries
    first = entries[0]
    ranked_by = first.ranked_by
    others = [name for name in first.anatomy if name != ranked_by]
    judges = others or [ranked_by]
    quality = _quality_columns(entries)
    every = list(dict.fromkeys(name for entry in entries for name in entry.anatomy[ranked_by].by_category))
    return Board(
        suite=first.suite.name,
        prompts=first.suite.prompts,
        ranked_by=ranked_by,
        judges=tuple(f"{name} {first.anatomy[name].version or ''}".strip() for name in judges),
        columns=(*others, "judged", *(f"{name} (claimed)" for name in quality.values())),
        categories=tuple(every),
        rows=tuple(_row(place, others, quality, every) for place in table.places),
    )


def _quality_columns(entries: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """The heading of each quality scorer: those of one name but other settings or weights have columns of their own."""
    keys = list(dict.fromkeys(key for entry in entries for key in _quality_keys(entry)))
    names = [name for name, _ in keys]
    return {key: key[0] if names.count(key[0]) == 1 else f"{key[0]} {key[1][:6]}" for key in keys}


def _quality_keys(entry: Entry) -> dict[tuple[str, str], float | None]:
    means: dict[tuple[str, str], float | None] = {}
    for name, one in entry.quality.items():
        identity = sha256_of_json([one.version, dict(one.settings), dict(one.weights)])
        means[name, identity] = one.mean.estimate
    return means


def _row(place: Place, others: Sequence[str], quality: Iterable[tuple[str, str]], categories: Sequence[str]) -> Row:
    entry = place.entry
    main = entry.anatomy[entry.ranked_by]
    rates = [entry.anatomy[name].rate.estimate for name in others]
    judged = main.rate.scored / main.rate.total
    means = _quality_keys(entry)
    return Row(
        place=place,
        rate=main.rate,
        cells=(
            *(Cell(percent(value), value) for value in rates),
            Cell(percent(judged), judged),
            *(Cell(number(means.get(key)), means.get(key)) for key in quality),
        ),
        profile=tuple(main.by_category.get(name) for name in categories),
        facts=tuple(_facts(entry)),
        claims=tuple(_claims(entry)),
        settings=json.dumps(dict(entry.model.settings), indent=1, ensure_ascii=False),
    )


def _facts(entry: Entry) -> Iterable[tuple[str, str]]:
    """What else follows from an entry's verdicts."""
    seeds = entry.suite.seeds
    which = f", seeds {', '.join(map(str, seeds[:8]))}{' ...' if len(seeds) > 8 else ''}" if seeds else ""
    yield "images", f"{entry.suite.images}{which}"
    for name, one in entry.anatomy.items():
        if one.card is not None and one.corrected is not None and one.corrected.low is not None:
            interval = f"[{100 * (one.corrected.low or 0):.1f}, {100 * (one.corrected.high or 0):.1f}]"
            own = "" if one.card.same_pictures else ", a card made on other pictures"
            yield f"{name}, corrected by its card", f"{percent(one.corrected.estimate)} {interval}{own}"


def _claims(entry: Entry) -> Iterable[tuple[str, str]]:
    """What cannot be computed from the verdicts."""
    if entry.model.licence:
        yield "licence", entry.model.licence
    for name, one in entry.anatomy.items():
        if one.card is not None:
            shares = [percent(share.estimate) for share in (one.card.sensitivity, one.card.specificity)]
            images = f"{one.card.bad} bad and {one.card.good} good images"
            yield f"card of {name}", f"sensitivity {shares[0]}, specificity {shares[1]}, on {images}"
    if entry.suite.name not in suite_names():
        yield "SHA-256 of the prompts", entry.suite.sha256
    git = f", {entry.made.git[:12]}" if entry.made.git else ""
    yield "run by", f"{entry.made.by}, {entry.made.date}, hafbench {entry.made.hafbench}{git}, {entry.made.hardware}"
    yield "SHA-256 of the records", entry.made.records_sha256
