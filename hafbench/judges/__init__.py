"""The judges: models that answer questions about an image, and come from other packages so far (docs/extending.md).

The scorer `judge` asks one of them: `--scorers judge --set scorers.judge.name=NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hafbench.registry import Entry, Registry

if TYPE_CHECKING:
    from hafbench.types import Judge

JUDGES: Registry[Entry] = Registry("judge", "hafbench.judges", Entry, ())


def load_judge(name: str, options: Mapping[str, Any], device: str = "auto") -> Judge:
    """Load a judge; its row's loader is a function of its Options and the device. Raises HafError or Unavailable."""
    from hafbench.settings import parse_settings

    entry = JUDGES.get(name)
    checked = parse_settings(entry.options_model, options, f"scorers.judge.options: judge {name}")
    return cast("Judge", entry.load()(checked, device))
