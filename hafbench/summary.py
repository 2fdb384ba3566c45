"""What the command line says at the end of a run: the headline figures of each scorer, as data and as a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hafbench.runs import Run


def summarize(run: Run, report: Path) -> dict[str, Any]:
    """Per scorer the error rate or the mean with its 95 % interval, coverage, and the reasons for what is missing."""
    from hafbench.statistics import error_rate, mean_interval

    scorers = []
    for name, about in run.manifest["scorers"].items():
        rows = run.records[run.records["scorer"] == name]
        statuses = Counter(rows["status"])
        entry: dict[str, Any] = {
            "scorer": name,
            "role": about["role"],
            "images": len(rows),
            **{status: statuses[status] for status in ("scored", "unknown", "unscored", "failed")},
        }
        clusters = rows["prompt_id"].tolist()
        if about["role"] == "anatomy":
            verdicts = [
                None if value is None or value != value else bool(value) for value in _objects(rows["is_error"])
            ]
            rate = error_rate(verdicts, clusters)
            entry |= {"errors": rate.errors, "estimate": rate.estimate, "low": rate.low, "high": rate.high}
        else:
            mean = mean_interval(rows["value"].tolist(), clusters)
            entry |= {"estimate": mean.estimate, "low": mean.low, "high": mean.high}
        entry["reasons"] = dict(Counter(rows["unscored"].dropna()).most_common(3))
        scorers.append(entry)
    return {
        "run": str(run.folder),
        "name": run.manifest["name"],
        "report": str(report),
        "counts": run.manifest["counts"],
        "scorers": scorers,
    }


def _objects(column: Any) -> list[Any]:
    return [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]


def print_summary(summary: dict[str, Any]) -> None:
    """The figures as a table on stdout, then where the report is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left", title=Text(summary["name"], style="bold"))
    for column in ("scorer", "figure", "95 % interval", "judged"):
        table.add_column(column)
    notes = []
    for entry in summary["scorers"]:
        figure, interval = "-", "-"
        if entry["estimate"] is not None:
            as_text = "{:.1%}".format if entry["role"] == "anatomy" else "{:.3f}".format
            kind = "error rate" if entry["role"] == "anatomy" else "mean"
            figure = f"{kind} {as_text(entry['estimate'])}"
            if entry["low"] is not None:
                interval = f"{as_text(entry['low'])} to {as_text(entry['high'])}"
        table.add_row(entry["scorer"], figure, interval, f"{entry['scored']} of {entry['images']} images")
        notes += [f"{entry['scorer']}: {count} x {reason}" for reason, count in entry["reasons"].items()]
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(Text(note, style="dim"))
    console.print(Text(f"Report: {summary['report']}"), soft_wrap=True)
