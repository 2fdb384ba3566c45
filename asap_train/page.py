"""Pages and texts from our own templates, in the look of hafbench's."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.report import page

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache
def environment() -> Environment:
    """hafbench's, HTML escaped, which finds our templates first."""
    from jinja2 import ChoiceLoader, FileSystemLoader

    return page.environment().overlay(
        loader=ChoiceLoader([FileSystemLoader(TEMPLATES), FileSystemLoader(page.TEMPLATES)])
    )


def render_page(name: str, script: Path | None = None, **context: Any) -> str:
    """A self-contained HTML page from NAME.html.j2, NAME.css (after the shared style) and `script`, or NAME.js."""
    code = (script or TEMPLATES / f"{name}.js").read_text(encoding="utf-8")
    style = (folder / file for folder, file in ((page.TEMPLATES, "style.css"), (TEMPLATES, f"{name}.css")))
    return (
        environment()
        .get_template(f"{name}.html.j2")
        .render(
            **context,
            style="".join(path.read_text(encoding="utf-8") for path in style),
            script=code,
            script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        )
    )


def render_text(name: str, **context: Any) -> str:
    """A text, such as Markdown, from NAME.j2: nothing is escaped but by the filter `cell`."""
    return environment().overlay(autoescape=False).get_template(f"{name}.j2").render(**context)
