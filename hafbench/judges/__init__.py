"""Judges: models that answer questions about images, such as vision-language models behind an endpoint.

    picture, prompt -> protocol -> questions -> (store | judge) -> replies -> score

A row of the registry is one file: what answers questions. `protocols` holds the texts that are asked, `asking` the
machinery, `parts` what is cut out of a picture, `pairs` the comparison of two runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hafbench.registry import Entry, Registry

if TYPE_CHECKING:
    from hafbench.types import Judge

# fmt: off
_TABLE = (
    Entry("endpoint", "a model behind an OpenAI-compatible endpoint: vLLM, SGLang, Ollama, hosted ones",
          "hafbench.judges.endpoint:load", "hafbench.judges.endpoint:Options"),
    Entry("local", "a vision-language model on this machine, by transformers",
          "hafbench.judges.local:load", "hafbench.judges.local:Options"),
)
# fmt: on
JUDGES: Registry[Entry] = Registry("judge", "hafbench.judges", Entry, _TABLE)


def load_judge(name: str, options: Mapping[str, Any], device: str = "auto") -> Judge:
    """Load a judge; its row's loader is a function of its Options and the device. Raises HafError or Unavailable."""
    from hafbench.settings import parse_settings

    entry = JUDGES.get(name)
    checked = parse_settings(entry.options_model, options, f"judge {name}")
    return cast("Judge", entry.load()(checked, device))
