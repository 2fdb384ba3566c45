"""Write report/index.html, report.md, summary.json and the plots from a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench import figures as fig
from hafbench.cards import source_of
from hafbench.files import disk_errors, write_whole
from hafbench.judges.figures import judge_figures
from hafbench.notes import left_out
from hafbench.reports.gallery import kinds_of, make_gallery
from hafbench.reports.page import render_page, render_text
from hafbench.reports.plots import card_plots, category_plot
from hafbench.reports.summary import summarize

if TYPE_CHECKING:
    from hafbench.labelling.estimates import PeopleFigures
    from hafbench.runs import Run


def build_report(run: Run, people: PeopleFigures | None = None) -> Path:
    """Write the report into FOLDER/report, with what people's labels say if they are given; returns the page's path."""
    folder = run.folder / "report"
    figures = fig.all_figures(run)
    categories = fig.category_figures(run)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        plot = category_plot(categories, folder)
    context: dict[str, Any] = {
        "manifest": run.manifest,
        "anatomy": [f for f in figures if f.role == "anatomy"],
        "quality": [f for f in figures if f.role == "quality"],
        "notes": (*run.manifest.notes, *left_out(run.manifest.scorers)),
        "missing": fig.shortfalls(figures),
        "categories": categories,
        "findings": fig.finding_rates(run),
        "counts": fig.count_rates(run),
        "judges": judge_figures(run),
        "uncalibrated": fig.uncalibrated(f.scorer for f in figures if f.rate and f.rate.scored and not f.card),
        "cards": [f.card for f in figures if f.card],
        "card_plots": {f.scorer: card_plots(f.card) for f in figures if f.card},
        "source": source_of(run),
        "people": people,
        "facts": facts(run),
        "weights": {name: one.weights for name, one in run.manifest.scorers.items() if one.weights},
        "settings": json.dumps(run.manifest.identity(), indent=2, ensure_ascii=False),
    }
    gallery = make_gallery(run)
    page = render_page(
        "report",
        "gallery.js",
        **context,
        plot=plot,
        gallery=gallery,
        kinds=kinds_of(finding for item in gallery.items for score in item.scores for finding in score.findings),
    )
    with disk_errors(folder):
        write_whole(folder / "report.md", render_text("report.md", **context, has_plot=plot is not None))
        write_whole(folder / "summary.json", summarize(run, figures, people).model_dump_json(indent=1) + "\n")
        return write_whole(folder / "index.html", page)


def facts(run: Run) -> list[tuple[str, str]]:
    """What was run and with what, in short lines."""
    manifest = run.manifest
    lines = [("hafbench", manifest.versions["hafbench"] + (f", {manifest.git[:12]}" if manifest.git else ""))]
    if suite := manifest.suite:
        limit = f", {fig.counted(suite.limit, 'prompt')}" if suite.limit else ""
        lines.append(("suite", f"{suite.name}{limit}, {fig.counted(suite.seeds, 'seed')} a prompt"))
    if generator := manifest.generator:
        settings = generator.settings
        arguments = ", ".join(f"{key} {value}" for key, value in settings.get("arguments", {}).items())
        lines.append(("model", f"{generator.name} ({settings.get('pipeline', 'generator')})"))
        if arguments:
            lines.append(("sampling", arguments))
        lines.append(("computed in", f"{settings.get('dtype', '?')} on {settings.get('device', '?')}"))
    if manifest.images:
        lines.append(("folder", manifest.images.folder))
    machine = manifest.machine
    cores = f", {fig.counted(machine.cores, 'core')}" if machine.cores else ""
    lines.append(("machine", machine.gpu or f"{machine.processor}{cores}"))
    lines.append(("time", f"{manifest.started} to {manifest.ended}"))
    return lines
