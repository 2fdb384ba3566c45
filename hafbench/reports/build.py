"""Write report/index.html, report.md and the plots from a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench import figures as fig
from hafbench.cards import source_of
from hafbench.reports.gallery import gallery_items, kinds_of
from hafbench.reports.page import render_page, render_text
from hafbench.reports.plots import card_plots, category_plot

if TYPE_CHECKING:
    from hafbench.runs import Run


def build_report(run: Run) -> Path:
    """Write the report into FOLDER/report and return the page's path."""
    from hafbench.files import disk_errors

    folder = run.folder / "report"
    figures = fig.all_figures(run)
    categories = fig.category_figures(run)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        plot = category_plot(categories, folder)
    context = {
        "manifest": run.manifest,
        "anatomy": [f for f in figures if f.role == "anatomy"],
        "quality": [f for f in figures if f.role == "quality"],
        "notes": run.manifest.get("notes", []),
        "missing": fig.shortfalls(figures),
        "categories": categories,
        "findings": fig.finding_rates(run),
        "cards": [f.card for f in figures if f.card],
        "card_plots": {f.scorer: card_plots(f.card) for f in figures if f.card},
        "source": source_of(run.manifest),
        "facts": facts(run),
        "weights": {n: d["weights"] for n, d in run.manifest["scorers"].items() if d.get("weights")},
        "settings": json.dumps(run.manifest["request"], indent=2, ensure_ascii=False),
    }
    gallery, left_out = gallery_items(run)
    page = render_page(
        "report",
        "gallery.js",
        **context,
        plot=plot,
        gallery=gallery,
        left_out=left_out,
        kinds=kinds_of(finding for item in gallery for score in item.scores for finding in score["findings"]),
    )
    markdown = render_text("report.md", **context, has_plot=plot is not None)
    with disk_errors(folder):
        (folder / "index.html").write_text(page, encoding="utf-8")
        (folder / "report.md").write_text(markdown, encoding="utf-8")
    return folder / "index.html"


def facts(run: Run) -> list[tuple[str, str]]:
    """What was run and with what, in short lines."""
    manifest, request = run.manifest, run.manifest["request"]
    lines = [("hafbench", manifest["versions"]["hafbench"] + (f", {manifest['git'][:12]}" if manifest["git"] else ""))]
    if suite := request.get("suite"):
        limit = f", {suite['limit']} prompts" if suite["limit"] else ""
        lines.append(
            ("suite", f"{suite['name']}{limit}, {request['seeds']} seed{'s' if request['seeds'] > 1 else ''} a prompt")
        )
    if generator := request.get("generator"):
        arguments = ", ".join(f"{key} {value}" for key, value in generator.get("arguments", {}).items())
        lines.append(("model", f"{generator['name']} ({generator.get('pipeline', 'generator')})"))
        if arguments:
            lines.append(("sampling", arguments))
        lines.append(("computed in", f"{generator.get('dtype', '?')} on {generator.get('device', '?')}"))
    if images := request.get("images"):
        lines.append(("folder", images["folder"]))
    machine = manifest["machine"]
    lines.append(("machine", machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"))
    lines.append(("time", f"{manifest['started']} to {manifest['ended']}"))
    return lines
