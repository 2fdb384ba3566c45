"""One look for every page: a template, the shared style, and one script, in a single file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench import figures as fig

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache
def environment(folder: Path = TEMPLATES) -> Environment:
    """The templates, those of `folder` before ours, with HTML escaped, and how numbers are written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        name: getattr(fig, name) for name in ("counted", "percent", "number", "score", "share", "points", "p_value")
    }
    made.filters |= {"cell": _cell, "code": _code}
    return made


def render_page(template: str, script: str, *, folder: Path = TEMPLATES, **context: Any) -> str:
    """A self-contained HTML page from TEMPLATE.html.j2, the script of that name, and the shared style.

    Another package's pages lie in its own `folder`, with what their style needs beyond the shared one in TEMPLATE.css.
    """
    code = _read(folder, script) or (TEMPLATES / script).read_text(encoding="utf-8")
    return (
        environment(folder)
        .get_template(f"{template}.html.j2")
        .render(
            **context,
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8") + _read(folder, f"{template}.css"),
            script=code,
            script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        )
    )


def _read(folder: Path, name: str) -> str:
    """The text of a file, nothing if it is not there."""
    path = folder / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def render_text(template: str, *, folder: Path = TEMPLATES, **context: Any) -> str:
    """A text, such as Markdown, from TEMPLATE.j2: nothing is escaped but by the filter `cell`."""
    return environment(folder).overlay(autoescape=False).get_template(f"{template}.j2").render(**context)


def _cell(text: object) -> str:
    """A text within a Markdown table: on one line, without what would end the cell or start a tag."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    """A sentence as HTML, with what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 (it is escaped)
