"""Write report/index.html, report.md and the plots from a finished run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.report import figures as fig
from hafbench.report.overlays import thumbnails
from hafbench.report.plots import category_plot

if TYPE_CHECKING:
    from hafbench.runs import Run

TEMPLATES = Path(__file__).parent / "templates"
GALLERY_SIZE = 200
"""Images on the page; 200 with overlays are about 10 MB."""


@dataclass(frozen=True)
class GalleryItem:
    """One image of the gallery with all its scores; `plain` and `marked` are data URIs."""

    image: str
    prompt: str | None
    category: str | None
    seed: int | None
    scores: tuple[dict[str, Any], ...]
    kinds: tuple[str, ...]
    worst: float
    plain: str | None
    marked: str | None

    @property
    def verdict(self) -> str:
        """error, sound, or unjudged: over all anatomy scorers."""
        verdicts = [score["is_error"] for score in self.scores if score["is_error"] is not None]
        return "unjudged" if not verdicts else "error" if any(verdicts) else "sound"


def build_report(run: Run) -> Path:
    """Write the report into FOLDER/report and return the page's path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from hafbench.runs import disk_errors

    folder = run.folder / "report"
    figures = fig.all_figures(run)
    categories = fig.category_figures(run)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        plot = category_plot(categories, folder)
    script = (TEMPLATES / "gallery.js").read_text(encoding="utf-8")
    context = {
        "manifest": run.manifest,
        "anatomy": [f for f in figures if f.role == "anatomy"],
        "quality": [f for f in figures if f.role == "quality"],
        "missing": [f for f in figures if f.statuses["unscored"] or f.statuses["failed"]],
        "categories": categories,
        "findings": fig.finding_counts(run),
        "facts": facts(run),
        "weights": {n: d["weights"] for n, d in run.manifest["scorers"].items() if d.get("weights")},
        "settings": json.dumps(run.manifest["request"], indent=2, ensure_ascii=False),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": fig.percent, "number": fig.number, "cell": _cell}
    gallery, left_out = gallery_items(run)
    page = environment.get_template("report.html.j2").render(
        **context,
        plot=plot,
        gallery=gallery,
        left_out=left_out,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    markdown = environment.overlay(autoescape=False).get_template("report.md.j2")
    with disk_errors(folder):
        (folder / "index.html").write_text(page, encoding="utf-8")
        (folder / "report.md").write_text(markdown.render(**context, has_plot=plot is not None), encoding="utf-8")
    return folder / "index.html"


def _cell(text: object) -> str:
    """A text within a Markdown table: on one line, without what would end the cell or start a tag."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


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
        lines.append(("folder", Path(images["folder"]).name))  # a report is shared, and paths name people
    machine = manifest["machine"]
    lines.append(("machine", machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"))
    lines.append(("time", f"{manifest['started']} to {manifest['ended']}"))
    return lines


def gallery_items(run: Run, size: int = GALLERY_SIZE) -> tuple[list[GalleryItem], int]:
    """The worst images first, then the sound, then the unjudged; and how many more there are."""
    roles = {name: about["role"] for name, about in run.manifest["scorers"].items()}
    order = []
    for image, rows in run.records.groupby("image", sort=False):
        scores = tuple(_score(row, roles) for row in rows.to_dict("records"))
        worst = max((s["value"] for s in scores if s["role"] == "anatomy" and s["value"] is not None), default=-1.0)
        error = any(s["is_error"] for s in scores)
        order.append(((not error, -worst), str(image), scores, rows.iloc[0]))
    order.sort(key=lambda entry: entry[0])
    return [_item(run, *entry) for entry in order[:size]], max(0, len(order) - size)


def _score(row: Mapping[Any, Any], roles: Mapping[str, str]) -> dict[str, Any]:
    import pandas as pd

    return {
        "scorer": row["scorer"],
        "role": roles[row["scorer"]],
        "status": row["status"],
        "value": None if pd.isna(row["value"]) else float(row["value"]),
        "is_error": None if pd.isna(row["is_error"]) else bool(row["is_error"]),
        "reason": row["unscored"] if isinstance(row["unscored"], str) else None,
        "findings": row["findings"],
    }


def _item(run: Run, rank: tuple[bool, float], image: str, scores: Sequence[dict[str, Any]], first: Any) -> GalleryItem:
    findings = [finding for score in scores for finding in score["findings"]]
    seen = thumbnails(run.image_root / image, findings)
    return GalleryItem(
        image=image,
        prompt=first["prompt"] if isinstance(first["prompt"], str) else None,
        category=first["category"] if isinstance(first["category"], str) else None,
        seed=_int(first["seed"]),
        scores=tuple(scores),
        kinds=tuple(dict.fromkeys(f"{finding['region']} {finding['kind']}" for finding in findings)),
        worst=-rank[1],
        plain=seen[0] if seen else None,
        marked=seen[1] if seen else None,
    )


def _int(value: Any) -> int | None:
    import pandas as pd

    return None if pd.isna(value) else int(value)
