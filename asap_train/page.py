"""Pages and texts from our own templates, in the look of hafbench's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hafbench.reports import page

TEMPLATES = Path(__file__).parent / "templates"

render_page = partial(page.render_page, folder=TEMPLATES)
render_text = partial(page.render_text, folder=TEMPLATES)
