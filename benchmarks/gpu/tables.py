"""docs/studies/gpu.md: the tables of all parts, with empty cells where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.results import Part, Results, Value
from hafbench.files import write_whole

BEGIN, END = "<!-- tables: python -m benchmarks.gpu -->", "<!-- end of tables -->"


def write(page: Path, parts: Sequence[Part], results: Results | None) -> None:
    """Put the tables between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_whole(page, f"{before}{BEGIN}\n\n{tables(parts, results)}\n{END}{after}")


def tables(parts: Sequence[Part], results: Results | None) -> str:
    """Markdown."""
    measured = results is not None and any(results.done(part.name) for part in parts)
    if results and measured and results.size == "true":
        lines = [f"Measured on {results.device}, torch {results.torch}.", ""]
    else:
        lines = ["**No GPU has measured these tables yet.**", ""]
        results = None
    for part in parts:
        lines += [f"## {part.title}", "", f"| {' | '.join(part.columns)} |", "|---" * len(part.columns) + "|"]
        outcome = results.parts.get(part.name) if results else None
        rows = outcome.rows if outcome else ()
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in part.columns)} |" for row in rows]
        if not rows:
            lines.append("|" + " |" * len(part.columns))
        if outcome and outcome.skipped:
            lines += ["", f"Not measured: {outcome.skipped}."]
        lines.append("")
    return "\n".join(lines)


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"
