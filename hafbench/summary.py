"""What the command line says at the end of a run: the headline figures of each scorer, as data and as a table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hafbench.runs import Run


def summarize(run: Run, report: Path) -> dict[str, Any]:
    """Per scorer the error rate or the mean with its 95 % interval, coverage, and the reasons for what is missing."""
    from hafbench.figures import all_figures

    scorers = []
    for figures in all_figures(run):
        figure = figures.rate or figures.mean
        scorers.append(
            {
                "scorer": figures.scorer,
                "role": figures.role,
                "images": figures.images,
                **figures.statuses,
                **({"errors": figures.rate.errors} if figures.rate else {}),
                **({"estimate": figure.estimate, "low": figure.low, "high": figure.high} if figure else {}),
                **({"corrected": asdict(figures.corrected)} if figures.corrected else {}),
                "reasons": {reason: count for group in figures.reasons.values() for reason, count in group},
            }
        )
    return {
        "run": str(run.folder),
        "name": run.manifest["name"],
        "report": str(report),
        "notes": run.manifest.get("notes", []),
        "counts": run.manifest["counts"],
        "scorers": scorers,
    }


def print_summary(summary: dict[str, Any]) -> None:
    """The figures as a table on stdout, then where the report is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left", title=Text(summary["name"], style="bold"))
    for column in ("scorer", "figure", "95 % interval", "judged"):
        table.add_column(column)
    reasons = []
    for entry in summary["scorers"]:
        figure, interval = "-", "-"
        if entry["estimate"] is not None:
            as_text = "{:.1%}".format if entry["role"] == "anatomy" else "{:.3f}".format
            kind = "error rate" if entry["role"] == "anatomy" else "mean"
            figure = f"{kind} {as_text(entry['estimate'])}"
            if entry["low"] is not None:
                interval = f"{as_text(entry['low'])} to {as_text(entry['high'])}"
        table.add_row(entry["scorer"], figure, interval, f"{entry['scored']} of {entry['images']} images")
        reasons += [f"{entry['scorer']}: {count} x {reason}" for reason, count in list(entry["reasons"].items())[:3]]
    console = Console(highlight=False)
    console.print(table)
    for entry in summary["scorers"]:
        corrected = entry.get("corrected")
        if corrected and corrected["low"] is not None:
            rate = "{estimate:.1%}, {low:.1%} to {high:.1%}".format(**corrected)
            console.print(Text(f"{entry['scorer']}: corrected for its mistakes by its calibration card {rate}"))
    for note in summary["notes"]:
        console.print(Text(note))
    for reason in reasons:
        console.print(Text(reason, style="dim"))
    console.print(Text(f"Report: {summary['report']}"), soft_wrap=True)
