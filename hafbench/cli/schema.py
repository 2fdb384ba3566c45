"""`hafbench schema`: the JSON schemas of what hafbench reads and writes."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="run, score, manifest, record, entry, card, scorers, ...")
    ] = None,
) -> None:
    """Print a JSON schema; without a name, the names."""
    from hafbench.schemas import SCHEMAS, schema_of

    if name is None:
        for known, (about, _) in SCHEMAS.items():
            typer.echo(f"{known:10} {about}")
        return
    typer.echo(json.dumps(schema_of(name), indent=1))
