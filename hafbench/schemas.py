"""The JSON schemas of what hafbench reads and writes, by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from hafbench.errors import HafError, nearest
from hafbench.registry import Registry

Schemas = Mapping[str, tuple[str, str]]
"""By name a line about it, and where its pydantic model, or the registry of its components, is: `module:attribute`."""

SCHEMAS: Schemas = {
    "run": ("what `hafbench run --config` reads", "hafbench.specs:RunSpec"),
    "score": ("what `hafbench score --config` reads", "hafbench.specs:ScoreSpec"),
    "manifest": ("run.json", "hafbench.manifest:Manifest"),
    "record": ("a line of records.jsonl, a row of records.parquet", "hafbench.records:Record"),
    "summary": ("report/summary.json", "hafbench.reports.summary:Summary"),
    "card": ("a calibration card", "hafbench.cards:CalibrationCard"),
    "entry": ("an entry of a leaderboard", "hafbench.leaderboard.entries:Entry"),
    "prompt": ("a line of a suite", "hafbench.suites:Prompt"),
    "scorers": ("the options of each scorer, by its name", "hafbench.scorers:SCORERS"),
}


def schema_of(name: str, schemas: Schemas = SCHEMAS) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of that name; raises HafError if there is none."""
    if name not in schemas:
        raise HafError(f"There is no schema '{name}': {nearest(name, list(schemas))}")
    module, _, attribute = schemas[name][1].partition(":")
    owner = getattr(import_module(module), attribute)
    if isinstance(owner, Registry):
        found = {"type": "object", "properties": {row.name: row.options_model.model_json_schema() for row in owner}}
    else:
        found = owner.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
