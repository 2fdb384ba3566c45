"""A comparison as a table: rows of text for the terminal, Markdown and LaTeX, and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hafbench.comparison.metrics import Comparison, MetricComparison, Versus
from hafbench.comparison.notes import notes, notes_of
from hafbench.comparison.people import PEOPLE_COLUMNS, PEOPLE_FOOT, cells, people_lines, people_notes, people_table
from hafbench.figures import number, p_value, percent, points, ratio, share
from hafbench.images import sha256_of

if TYPE_CHECKING:
    from rich.table import Table

    from hafbench.comparison.pair_figures import JudgedPairs
    from hafbench.runs import Run

COLUMNS = ("model", "metric", "baseline", "model's", "difference", "p", "win / tie / lose", "RSI", "verdict")


@dataclass(frozen=True)
class Line:
    """A metric of one candidate, written out; `verdict` is that of `MetricComparison`."""

    model: str
    metric: str
    baseline: str
    candidate: str
    difference: str
    p: str
    counts: str
    rsi: str
    verdict: str


def lines(comparison: Comparison) -> list[Line]:
    """One line a candidate and metric."""
    return [line(versus.label, one) for versus in comparison.versus for one in versus.metrics]


def line(label: str, one: MetricComparison) -> Line:
    """A metric written out: rates in percent and differences in points, other scores in their own units."""
    rate = one.role == "anatomy"
    write = percent if rate else number
    apart = points if rate else signed
    found = one.difference
    interval = "" if found.low is None else f" [{apart(found.low)}, {apart(found.high)}]"
    wins = one.win_tie_loss
    return Line(
        label,
        one.name,
        write(found.baseline),
        write(found.candidate),
        apart(found.estimate) + interval,
        p_value(one.corrected_p),
        f"{wins.win} / {wins.tie} / {wins.lose}" if wins else "–",
        ratio(wins),
        one.verdict,
    )


@dataclass(frozen=True)
class JudgedLine:
    """What one judge says of a candidate's pairs, written out."""

    model: str
    judge: str
    counts: str
    rsi: str
    p: str
    inconsistent: str
    first: str
    verdict: str


def judged_lines(comparison: Comparison) -> list[JudgedLine]:
    """One line a candidate and judge; none where no judge was asked."""
    return [
        JudgedLine(
            versus.label,
            f"{one.judge}, {one.protocol}",
            f"{one.wins.win} / {one.wins.tie} / {one.wins.lose}",
            ratio(one.wins),
            p_value(one.corrected_p),
            share(one.inconsistent) if one.inconsistent else "–",
            share(one.first) if one.first else "–",
            one.verdict,
        )
        for versus in comparison.versus
        for one in versus.judged
    ]


def signed(value: float | None) -> str:
    """Three significant digits with a sign."""
    return "–" if value is None else f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


FOOT = (
    "Differences in percentage points for rates, with 95 % intervals of a bootstrap over prompts; p of a permutation "
    "test over prompts, corrected by Holm. RSI = (win + tie) / (lose + tie), 1 is parity."
)


def print_comparison(comparison: Comparison) -> None:
    """The table on stdout, its notes, and where the page is. A narrow terminal folds cells, but no verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for versus in comparison.versus:
        title = Text.assemble((versus.label, "bold"), f" against {comparison.label}")
        table = Table(box=None, pad_edge=False, title_justify="left", title=title)
        for column in ("metric", "from", "to", "difference", "p", "verdict"):
            table.add_column(column, overflow="fold", no_wrap=column == "verdict")
        for one in versus.metrics:
            row = line(versus.label, one)
            style = {"worse": "red", "better": "green"}.get(one.verdict, "")
            table.add_row(one.name, row.baseline, row.candidate, row.difference, row.p, row.verdict, style=style)
        console.print(table)
        if versus.judged:
            console.print(judged_table(versus, comparison))
        first = line(versus.label, versus.metrics[0])
        if versus.metrics[0].win_tie_loss:
            console.print(Text(f"{first.metric}: win / tie / lose {first.counts}, RSI {first.rsi}"))
        for sentence in notes_of(versus, comparison.detect):
            console.print(Text(sentence, style="dim"))
        console.print()
    if comparison.people:
        console.print(people_table(comparison))
        console.print()
    console.print(Text(FOOT, style="dim"))
    if comparison.people:
        console.print(Text(" ".join([PEOPLE_FOOT, *people_notes(comparison)]), style="dim"))
    if judged_lines(comparison):
        console.print(Text(JUDGED_FOOT, style="dim"))
    console.print(Text(f"Page: {comparison.page}"), soft_wrap=True)


JUDGED_COLUMNS = ("model", "judge", "win / tie / lose", "RSI", "p", "orders disagree", "first wins", "verdict")
JUDGED_FOOT = (
    "Judged pairs: of the same prompt and seed, each in both orders; a picture wins only if it does in both, and orders"
    " that disagree are a tie. First: how often the first picture wins among decisive replies, 50 % without a position "
    "bias. A bias makes ties, and favours neither model. p as above, corrected by Holm over judges and models."
)


def judged_table(versus: Versus, comparison: Comparison) -> Table:
    """What judges say of a candidate's pairs, for the terminal."""
    from rich.table import Table
    from rich.text import Text

    title = f"\nPairs by judges, {versus.judged[0].protocol}"
    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    for column in ("judge", "W / T / L", "RSI", "p", "disagree", "first", "verdict"):
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    rows = [row for row in judged_lines(comparison) if row.model == versus.label]
    for one, row in zip(versus.judged, rows, strict=True):
        shares = [percent(rate.estimate) if rate else "–" for rate in (one.inconsistent, one.first)]
        style = {"worse": "red", "better": "green"}.get(row.verdict, "")
        table.add_row(Text(one.judge), row.counts, row.rsi, row.p, *shares, row.verdict, style=style)
    return table


def to_markdown(comparison: Comparison) -> str:
    """A Markdown table with its notes."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    rows += ["| " + " | ".join(_cell(text) for text in asdict(line).values()) + " |" for line in lines(comparison)]
    judged = judged_lines(comparison)
    if judged:
        rows += ["", "| " + " | ".join(JUDGED_COLUMNS) + " |", "|" + "---|" * len(JUDGED_COLUMNS)]
        rows += ["| " + " | ".join(_cell(text) for text in asdict(one).values()) + " |" for one in judged]
    if comparison.people:
        rows += ["", "| " + " | ".join(PEOPLE_COLUMNS) + " |", "|" + "---|" * len(PEOPLE_COLUMNS)]
        rows += ["| " + " | ".join(map(_cell, cells(one))) + " |" for one in people_lines(comparison)]
    foot = [
        FOOT,
        *([JUDGED_FOOT] if judged else []),
        *([PEOPLE_FOOT, *people_notes(comparison)] if comparison.people else []),
    ]
    return "\n".join([*rows, "", *(f"- {_cell(sentence)}" for sentence in notes(comparison)), "", *foot])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "\N{MINUS SIGN}": r"$-$",
    "–": "--",
    "∞": r"$\infty$",
    "±": r"$\pm$",
}


def to_latex(comparison: Comparison) -> str:
    """A table of the booktabs package, fit for a paper, with a caption that says how it was made."""
    heads = (
        "Model",
        "Metric",
        "Baseline",
        "Model's",
        r"Difference [95\,\% CI]",
        "$p$",
        "W / T / L",
        r"RSI [95\,\% CI]",
    )
    body = []
    for versus in comparison.versus:
        for one in versus.metrics:
            cells = list(asdict(line(versus.label, one)).values())[:-1]
            body.append("    " + " & ".join(escape(cell) for cell in cells) + r" \\")
        for row in judged_lines(comparison):
            if row.model == versus.label:
                cells = [row.model, f"pairs by {row.judge}", "–", "–", "–", row.p, row.counts, row.rsi]
                body.append("    " + " & ".join(escape(cell) for cell in cells) + r" \\")
        for own in people_lines(comparison):
            if own.model == versus.label:
                row_cells = [own.model, f"people, {own.by}", "–", "–", own.difference, own.p, own.counts, own.rsi]
                body.append("    " + " & ".join(map(escape, row_cells)) + r" \\")
        body.append(r"    \addlinespace")
    feet = [FOOT, *([JUDGED_FOOT] if judged_lines(comparison) else [])]
    feet += [PEOPLE_FOOT] if comparison.people else []
    caption = " ".join(
        escape(sentence) for sentence in (*(s for s in notes(comparison) if "one-sided" not in s), *feet)
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            r"  \begin{tabular}{llrrlrll}",
            r"    \toprule",
            "    " + " & ".join(heads) + r" \\",
            r"    \midrule",
            *body[:-1],
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def escape(text: str) -> str:
    """A text with LaTeX's special characters written out."""
    return "".join(LATEX.get(character, character) for character in text)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything that was computed, as JSON values; an infinite RSI is the string "inf"."""
    return {
        "baseline": {"label": comparison.label, **_run(comparison.baseline)},
        "candidates": [
            {
                "label": versus.label,
                **_run(versus.candidate),
                "shared": asdict(versus.shared),
                "judged": [
                    _plain(asdict(one) | {"verdict": one.verdict, "replies": _replies(versus, one)})
                    for one in versus.judged
                ],
                "agreements": [_plain(asdict(one)) for one in versus.agreements],
                "metrics": [
                    _plain(asdict(one) | {"verdict": one.verdict, "smallest": one.power and one.power.smallest})
                    for one in versus.metrics
                ],
            }
            for versus in comparison.versus
        ],
        "people": [_plain(asdict(one)) for one in comparison.people],
    }


def _run(run: Run) -> dict[str, str]:
    """Which run it is, by the hash of its records as in a leaderboard's entry."""
    records_sha256 = sha256_of(run.table)
    return {"run": run.address, "name": run.manifest.name, "records_sha256": records_sha256}


def _replies(versus: Versus, one: JudgedPairs) -> dict[str, str]:
    """The letters of each pair by the candidate's image; none for a majority."""
    images = next(iter(versus.tables.values()))["image_b"]
    return dict(zip(map(str, images), one.replies, strict=True)) if one.replies else {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    return value
