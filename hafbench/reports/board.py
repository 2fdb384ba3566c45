"""The page of a leaderboard: a table for each suite and set of scorers, with rank ranges and profiles by category."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hafbench.figures import ANATOMY, TOGETHER, number, p_value, percent, ratio, share
from hafbench.leaderboard import Entry, Place, Table
from hafbench.leaderboard.entries import LabelledFigure, PairFigures, RateFigure
from hafbench.provenance import sha256_of_json
from hafbench.reports.page import render_page
from hafbench.statistics import holm
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


PAIR_COLUMNS = ("model", "against", "judge", "win / tie / lose", "RSI", "p", "orders disagree", "first wins")


@dataclass(frozen=True)
class PairRow:
    """What a judge says of an entry's pairs against another run; `judge` has its protocol with it.

    The columns are PAIR_COLUMNS; `cells` are the figures.
    """

    entry: Entry
    against: str
    judge: str
    cells: tuple[Cell, ...]


PEOPLE_COLUMNS = ("model", "labels and verdicts", "labels alone", "labels", "worth", "raters", "run by")


@dataclass(frozen=True)
class PeopleRow:
    """What people say of an entry's images; the columns are PEOPLE_COLUMNS."""

    entry: Entry
    powered: LabelledFigure
    human: LabelledFigure
    labels: str
    worth: Cell
    raters: str


@dataclass(frozen=True)
class Board:
    """One table of the page, with what its entries share; `pairs` is empty where no judge was asked about any.

    `people` are the entries whose rates are anchored by people's labels, by that rate.

    `about` says what the rate is of, where several scorers count.
    """

    suite: str
    prompts: int
    ranked_by: str
    about: str | None
    judges: tuple[str, ...]
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    rows: tuple[Row, ...]
    pairs: tuple[PairRow, ...]
    people: tuple[PeopleRow, ...]


def build_board(tables: Sequence[Table], folder: Path) -> Path:
    """Write FOLDER/index.html and return its path."""
    from hafbench.files import disk_errors, write_whole

    entries = [entry for table in tables for entry in table.entries]
    names = {entry.made.records_sha256: entry.model.name for entry in entries}
    boards = [board(table, names) for table in tables]
    page = render_page(
        "leaderboard",
        "leaderboard.js",
        boards=boards,
        pair_columns=PAIR_COLUMNS,
        people_columns=PEOPLE_COLUMNS,
        suites=sorted({one.suite for one in boards}),
        licences=sorted({entry.model.licence for entry in entries if entry.model.licence}),
        notes=list(dict.fromkeys(note for entry in entries for note in entry.notes)),
    )
    with disk_errors(folder):
        write_whole(folder / "index.html", page)
    return folder / "index.html"


def board(table: Table, names: Mapping[str, str]) -> Board:
    """A table written out; `names` are the models of the page's entries by the hash of their records."""
    entries = table.entries
    first = entries[0]
    ranked_by = first.ranked_by
    others = [name for name in first.anatomy if name != ranked_by]
    judges = others if ranked_by == ANATOMY else [ranked_by, *others]
    quality = _quality_columns(entries)
    every = list(dict.fromkeys(name for entry in entries for name in entry.anatomy[ranked_by].by_category))
    return Board(
        suite=first.suite.name,
        prompts=first.suite.prompts,
        ranked_by=ranked_by,
        about=TOGETHER.about if ranked_by == ANATOMY else None,
        judges=tuple(
            f"{name} {first.anatomy[name].version or ''}".strip()
            + (" (left out of the rate)" if first.anatomy[name].left_out else "")
            for name in judges
        ),
        columns=(*others, "judged", *(f"{name} (claimed)" for name in quality.values())),
        categories=tuple(every),
        rows=tuple(_row(place, others, quality, every) for place in table.places),
        pairs=tuple(_pair_rows(entries, names)),
        people=tuple(
            sorted(_people_rows(entries), key=lambda row: (row.powered.estimate is None, row.powered.estimate))
        ),
    )


def _people_rows(entries: Iterable[Entry]) -> Iterable[PeopleRow]:
    for entry in entries:
        if (people := entry.people) is not None:
            counts = ", ".join(f"{rater.name or 'unnamed'}: {rater.answers}" for rater in people.raters)
            labels = f"{people.human.labels} of {entry.suite.images}, {'; '.join(people.chosen)}"
            worth = Cell(number(people.powered.effective), people.powered.effective)
            yield PeopleRow(entry, people.powered, people.human, labels, worth, counts)


def _pair_rows(entries: Iterable[Entry], names: Mapping[str, str]) -> Iterable[PairRow]:
    """The pairs of a table's entries, with p corrected by Holm over all of them."""
    found = [(entry, one) for entry in entries for one in entry.pairs]
    for (entry, one), p in zip(found, holm([one.p_value for _, one in found]), strict=True):
        wins = one.wins
        of = "" if one.inconsistent.n == one.pairs else f" of {one.pairs}"
        # The RSI as a share, by which an infinite one can be sorted, too.
        above = (wins.win + wins.tie) / total if (total := wins.win + wins.lose + 2 * wins.tie) else None
        yield PairRow(
            entry,
            names.get(one.baseline.records_sha256, f"{one.baseline.name} (no entry)"),
            f"{one.judge}, {one.protocol}",
            (
                Cell(f"{wins.win} / {wins.tie} / {wins.lose}{of}", wins.win - wins.lose),
                Cell(ratio(wins), above),
                Cell(p_value(p), p),
                Cell(share(one.inconsistent), one.inconsistent.estimate),
                Cell(share(one.first), one.first.estimate),
            ),
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
            Cell(f"{main.rate.scored} of {main.rate.total}", judged),
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
    for pair in entry.pairs:
        yield "pairs", _identity(pair)
    git = f", {entry.made.git[:12]}" if entry.made.git else ""
    yield "run by", f"{entry.made.by}, {entry.made.date}, hafbench {entry.made.hafbench}{git}, {entry.made.hardware}"
    yield "SHA-256 of the records", entry.made.records_sha256


def _identity(one: PairFigures) -> str:
    """Which baseline and which texts of questions a judge's pairs are of."""
    hashes = f"records {one.baseline.records_sha256}, {one.protocol} {one.protocol_sha256}"
    return f"against {one.baseline.name} by {one.judge}, {one.protocol}; SHA-256: {hashes}"
