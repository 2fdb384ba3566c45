"""What people's labels say of a comparison, written out for the terminal, tables and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafbench.figures import p_value, percent, points, ratio

if TYPE_CHECKING:
    from rich.table import Table

    from hafbench.comparison.metrics import Comparison
    from hafbench.statistics import LabelledDifference, WinTieLoss

PEOPLE_COLUMNS = ("model", "by people", "labels", "difference", "p", "win / tie / lose", "RSI", "sign test")
PEOPLE_FOOT = (
    "By people: the difference of error rates by their labels alone, and with the verdicts of all shared images "
    "(PPI++, by whole prompts; p of a t test on prompts); pairs that they compared, sides drawn by chance (p of the "
    "permutation test over prompts, and the exact sign test, which takes pairs as independent). No p by people is "
    "corrected for several candidates."
)


@dataclass(frozen=True)
class PeopleLine:
    """One row of PEOPLE_COLUMNS."""

    model: str
    by: str
    labels: str
    difference: str
    p: str
    counts: str
    rsi: str
    sign: str


def people_lines(comparison: Comparison) -> list[PeopleLine]:
    """The rows of all candidates; none without labels."""
    found = []
    for one in comparison.people:
        for by, apart in (("labels alone", one.human), ("labels and verdicts", one.powered)):
            if apart is not None:
                found.append(_difference(one.label, by, apart))
        if one.pairs is not None:
            wins: WinTieLoss = one.pairs.wins
            unclear = one.pairs.pairs - wins.win - wins.tie - wins.lose
            found.append(
                PeopleLine(
                    one.label,
                    one.pairs.judge,
                    f"{one.pairs.pairs} pairs" + (f", {unclear} to be settled" if unclear else ""),
                    "–",
                    p_value(one.pairs.p_value),
                    f"{wins.win} / {wins.tie} / {wins.lose}",
                    ratio(wins),
                    p_value(wins.mcnemar),
                )
            )
    return found


def _difference(label: str, by: str, apart: LabelledDifference) -> PeopleLine:
    interval = "" if apart.low is None else f" [{points(apart.low)}, {points(apart.high)}]"
    said = points(apart.estimate) + interval if apart.estimate is not None else apart.reason or "–"
    counts = " and ".join(map(str, apart.labels))
    return PeopleLine(label, by, counts, said, p_value(apart.p_value), "–", "–", "–")


def people_notes(comparison: Comparison) -> list[str]:
    """What else to know: how often the left image was chosen, which says whether people favour a side."""
    return [
        f"{one.label}: where people decided, they chose the left image in {percent(one.first)}."
        for one in comparison.people
        if one.first is not None
    ]


def people_table(comparison: Comparison) -> Table:
    """The rows for the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left", title="By people")
    for column in ("model", "by", "labels", "difference", "p", "W / T / L", "RSI", "sign"):
        table.add_column(column, overflow="fold")
    for line in people_lines(comparison):
        table.add_row(*map(Text, cells(line)))
    return table


def cells(line: PeopleLine) -> tuple[str, ...]:
    """The row as texts, in the order of PEOPLE_COLUMNS."""
    return (line.model, line.by, line.labels, line.difference, line.p, line.counts, line.rsi, line.sign)
